"""From an exception to an exit code and one clear message. A bug leaves its traceback in a file under GPUJOB_HOME.

Knows exceptions by their names, so that nothing has to be imported to recognize one.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from orchestrator.cli import exit_codes

# Class name -> exit code, for exceptions of our own packages.
EXPECTED = {
    "SpecError": exit_codes.USAGE,
    "BundleError": exit_codes.USAGE,
    "SubmissionError": exit_codes.USAGE,
    "UnknownName": exit_codes.USAGE,
    "SecretMissing": exit_codes.USAGE,
    "SecretsFileOpen": exit_codes.USAGE,
    "RunNotFound": exit_codes.USAGE,
    "RunAmbiguous": exit_codes.USAGE,
    "NoCapacity": exit_codes.NOTHING_TO_RENT,
    "OfferGone": exit_codes.NOTHING_TO_RENT,
    "BadHost": exit_codes.NOTHING_TO_RENT,
    "QuotaExceeded": exit_codes.REFUSED,
    "AuthFailed": exit_codes.REFUSED,
    "NoFunds": exit_codes.REFUSED,
    "Rejected": exit_codes.USAGE,
    "ProviderError": exit_codes.JOB_FAILED,
    "KeyFileError": exit_codes.JOB_FAILED,
    "KnownHostsDamaged": exit_codes.JOB_FAILED,
    "TransportError": exit_codes.JOB_FAILED,
    "AgentError": exit_codes.JOB_FAILED,
    "StoreError": exit_codes.JOB_FAILED,
}
_OURS = ("orchestrator.", "providers.", "jobs.")


class Stop(click.ClickException):
    """A command ends here, with words for a person and a code for a program."""

    def __init__(self, message: str, code: int = exit_codes.USAGE) -> None:
        super().__init__(message)
        self.code = code


def guarded(group: click.Group, arguments: Sequence[str] | None, session: object | None) -> int:
    """Run the group; whatever goes wrong ends in an exit code, never in a traceback."""
    try:
        result = group.main(arguments, prog_name="gpujob", standalone_mode=False, obj=session)
    except click.UsageError as error:
        error.show()
        return error.exit_code
    except Stop as stop:
        return _say(stop.message, stop.code)
    except click.ClickException as error:
        return _say(error.message, error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        return exit_codes.INTERRUPTED
    except Exception as error:
        return _explain(error)
    return result if isinstance(result, int) else exit_codes.DONE


def _explain(error: Exception) -> int:
    for base in type(error).__mro__:
        if base.__name__ in EXPECTED and base.__module__.startswith(_OURS):
            return _say(str(error), EXPECTED[base.__name__], begins="" if base.__name__ == "SpecError" else "gpujob: ")
    if isinstance(error, OSError) and error.strerror:
        where = f": {error.filename}" if error.filename else ""
        return _say(f"{error.strerror}{where}", exit_codes.JOB_FAILED)
    return _say(f"a bug in gpujob: {type(error).__name__}: {error}{_keep_traceback(error)}", exit_codes.JOB_FAILED)


def _keep_traceback(error: Exception) -> str:
    import traceback
    from datetime import UTC, datetime
    from os import getpid

    from orchestrator.home import Home

    text = "".join(traceback.format_exception(error))
    folder = Home.find().root / "crash"
    path = folder / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{getpid()}.txt"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_text(f"gpujob {' '.join(sys.argv[1:2])}\n{text}")
    except OSError:
        return f"\n{text}"
    return f"; please report it with {path}"


def _say(message: str, code: int, *, begins: str = "gpujob: ") -> int:
    """Problems of a file begin with its name, as those of a compiler do: editors find the place."""
    from orchestrator.cli.output import harmless

    click.echo(f"{begins}{harmless(message)}", err=True)
    return code
