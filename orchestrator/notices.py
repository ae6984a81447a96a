"""Tells people something, such as that a budget's limit is reached: a web address is called, a command run, apprise.

At least once: a notice stays in the store until somebody has taken it, and is tried again later. Every try has an end,
and no visit of a run waits for one. What an address holds is never logged. Knows no limits, no schedules and no runs.
"""

from __future__ import annotations

import json
import logging
import re
import shlex
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from orchestrator import secrets, services
from orchestrator.records import Json
from orchestrator.reports.words import money
from orchestrator.services import Kind
from orchestrator.store.rows import BudgetRow, NoticeRow, Told
from orchestrator.store.store import Store
from orchestrator.world import World

TRY_SECONDS = 20.0  # for one address or command
AGAIN_SECONDS = 60.0  # until the second try; twice as long until the third, and so on
MOST_TRIES = 30

log = logging.getLogger("gpujob.controller")

_NAMED = re.compile(r"\$\{(\w+)\}")
_at_work: dict[str, threading.Lock] = {}


@dataclass(frozen=True)
class Notice:
    """What is told: a text for people, and what a program may want to know of it besides."""

    text: str
    kind: Kind
    facts: Json


class NotDelivered(Exception):
    """Nobody has taken the notice; the message says why without the address."""


def checked_webhook(url: str) -> str:
    """The address, when it is one that can be called. Raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("write an address that begins with https:// or http://")
    return url


def checked_apprise(url: str) -> str:
    """The address of a service, when apprise can be asked to write to it. Raises ValueError."""
    return services.checked(url, is_whole=_NAMED.search(url) is None)


def checked_command(line: str) -> list[str]:
    """The words of a command line. Raises ValueError."""
    words = shlex.split(line)
    if not words:
        raise ValueError("write a program and its arguments")
    return words


def names_in(to: Told) -> list[str]:
    """The secrets that its addresses name."""
    return [name for url in (to.webhook, to.apprise) if url is not None for name in _NAMED.findall(url)]


def place(url: str) -> str:
    """As much of an address as may be shown: the rest of it may be a secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}/..."


def deliver_beside(world: World) -> None:
    """See to it that what is due of budgets is delivered, in a thread of its own."""
    if world.store.accounts.has_notices():
        beside("notices of budgets", lambda: deliver_due(world))


def beside(what: str, deliver: Callable[[], None]) -> None:
    """Deliver in a thread of its own; nothing happens while one is at work for the same.

    The thread ends by itself, and a process waits for it before it ends.
    """
    lock = _at_work.setdefault(what, threading.Lock())
    if not lock.acquire(blocking=False):
        return

    def at_work() -> None:
        try:
            deliver()
        except Exception:
            log.exception("%s: tried again later", what)
        finally:
            lock.release()

    threading.Thread(target=at_work, name="notices").start()


def deliver_due(world: World, send: Callable[[BudgetRow, NoticeRow, World], None] | None = None) -> None:
    """One try for each notice of a budget that is due."""
    store: Store = world.store
    budgets = {budget.project: budget for budget in store.accounts.budgets()}
    for notice in store.accounts.claim_notices(AGAIN_SECONDS):
        budget = budgets.get(notice.project)
        if budget is not None:
            try:
                (send or _send_of_budget)(budget, notice, world)
            except NotDelivered as error:
                log.warning("a notice of a budget was not delivered (try %d): %s", notice.tries, error)
                if notice.tries < MOST_TRIES:
                    continue
        store.accounts.notice_delivered(notice)


def send(to: Told, notice: Notice, world: World) -> None:
    """To all that are named; as long as one fails, all get it again. Raises NotDelivered."""
    content = json.dumps({"text": f"gpujob: {notice.text}", **notice.facts}).encode()
    failures = []
    if (webhook := to.webhook) is not None:
        failures.append(_bounded("the webhook", lambda: _post(_filled_in("the webhook", webhook, world), content)))
    if (service := to.apprise) is not None:
        failures.append(_bounded("apprise", lambda: _write(_filled_in("apprise", service, world), notice)))
    if to.command:
        command, env = list(to.command), world.env
        failures.append(_bounded("the command", lambda: _run(command, content, env)))
    if words := [failure for failure in failures if failure]:
        raise NotDelivered("; ".join(words))


def _send_of_budget(budget: BudgetRow, notice: NoticeRow, world: World) -> None:
    kind: Kind = "failure" if notice.kind == "hard" else "warning"
    send(budget, Notice(notice.text, kind, _facts(budget, notice)), world)


def _facts(budget: BudgetRow, notice: NoticeRow) -> Json:
    return {
        "kind": notice.kind,
        "project": notice.project or None,
        "month": notice.month,
        "monthly_usd": str(budget.monthly_usd),
        "monthly": money(budget.monthly_usd),
        "at": notice.at.isoformat(),
    }


def _filled_in(what: str, url: str, world: World) -> str:
    """The address with the values of the secrets that it names as ${NAME}."""
    names = _NAMED.findall(url)
    values = secrets.at_hand("", names, world.home, world.env) if names else {}
    if missing := [name for name in names if name not in values]:
        raise NotDelivered(f"{what}: {', '.join(missing)} is not set where the controller runs")
    return _NAMED.sub(lambda match: values[match[1]], url)


def _bounded(what: str, step: Callable[[], None]) -> str | None:
    """Why it did not work, None when it did; a server that dribbles is left behind."""
    said: list[str | None] = []

    def attempt() -> None:
        try:
            step()
        except NotDelivered as error:
            said.append(str(error))
        except Exception as error:  # its words may hold the address
            said.append(f"{what}: {type(error).__name__}")
        else:
            said.append(None)

    worker = threading.Thread(target=attempt, name=what, daemon=True)
    worker.start()
    worker.join(TRY_SECONDS)
    return said[0] if said else f"{what} takes longer than {TRY_SECONDS:g} s"


def _post(url: str, content: bytes) -> None:
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    request = Request(url, data=content, headers={"Content-Type": "application/json"}, method="POST")
    try:
        urlopen(request, timeout=TRY_SECONDS / 2).close()
    except HTTPError as error:
        raise NotDelivered(f"the webhook answers {error.code}") from None


def _write(url: str, notice: Notice) -> None:
    try:
        services.send(url, title="gpujob", text=notice.text, kind=notice.kind)
    except services.NotSent as error:
        raise NotDelivered(str(error)) from None


def _run(command: Sequence[str], content: bytes, env: Mapping[str, str]) -> None:
    done = subprocess.run(
        command,
        input=content,
        env=dict(env),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=TRY_SECONDS / 2,
        check=False,
    )
    if done.returncode:
        raise NotDelivered(f"the command ended with exit code {done.returncode}")
