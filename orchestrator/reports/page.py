"""The frame of every page that gpujob writes: one file that needs no network, no script and no server.

Whatever a job, a machine, a cloud or a user wrote goes through `safe`; the page also forbids the browser to load
anything. Knows nothing of what is on the page.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from importlib.resources import files

from jobs.reported import without_escapes

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def page(title: str, body: Iterable[str]) -> str:
    """`title` is text, `body` the parts as HTML; empty ones are left out."""
    style = files("orchestrator.reports").joinpath("report.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(_POLICY)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{safe(title)} · gpujob</title>\n<style>\n{style}</style></head>\n"
        f"<body><main>\n{chr(10).join(part for part in body if part)}\n</main></body></html>\n"
    )


def safe(text: object) -> str:
    """Text as HTML shows it: markup escaped, control characters replaced."""
    plain = "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in without_escapes(str(text)))
    return escape(plain)
