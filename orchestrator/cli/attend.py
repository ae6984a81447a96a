"""Staying with a run until it is over: progress on stderr, the job's bytes on stdout, the exit code of the run."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from orchestrator.cli import exit_codes
from orchestrator.cli.documents import show_document
from orchestrator.cli.output import RawOutput, data_json, say
from orchestrator.cli.progress import Silent, Teller, teller
from orchestrator.cli.session import Session
from orchestrator.cli.show import summary
from orchestrator.follow import Happened, Output, Over, Progress, Update
from orchestrator.records import Phase, Run


def attend(session: Session, run_id: str, *, quiet: bool, as_json: bool, ends_with_us: bool = False) -> int:
    """Follow the run. Ctrl-C leaves it alone and says how to come back, unless it cannot go on without us."""
    output = None if quiet or as_json else RawOutput()
    told: Teller = Silent() if quiet else teller(shares_screen=output is not None and sys.stdout.isatty())
    try:
        with heard_ctrl_c() as heard:
            run = _follow(session, run_id, told, output, heard)
    except KeyboardInterrupt:
        told.close()
        if not ends_with_us:
            say(f"\nDetached: the run goes on.\n  gpujob logs -f {run_id}\n  gpujob cancel {run_id}")
        return exit_codes.INTERRUPTED
    finally:
        told.close()
    if as_json:
        data_json(show_document(session, run))
    else:
        say(summary(session, run, terminal=sys.stderr.isatty()))
    return exit_codes.exit_code(run)


@contextmanager
def heard_ctrl_c() -> Iterator[threading.Event]:
    """Set by Ctrl-C. KeyboardInterrupt alone can be lost: Python drops one that comes in a finalizer."""
    heard = threading.Event()

    def hear(*_: object) -> None:
        heard.set()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, hear)
    try:
        yield heard
    finally:
        signal.signal(signal.SIGINT, before)


def _follow(session: Session, run_id: str, told: Teller, output: RawOutput | None, interrupted: threading.Event) -> Run:
    for update in session.follow(run_id):
        if interrupted.is_set():
            raise KeyboardInterrupt
        if isinstance(update, Over):
            return update.run
        if isinstance(update, Output):
            _show(update, told, output)
        else:
            _tell(update, told, output)
    raise AssertionError("a run is followed until it is over")


def _show(update: Output, told: Teller, output: RawOutput | None) -> None:
    if output is not None:
        told.make_room()
        output.write(update.chunk)


def _tell(update: Update, told: Teller, output: RawOutput | None) -> None:
    if isinstance(update, Progress):
        if output is not None and update.run.phase not in (Phase.START, Phase.WATCH):
            output.end_line()
        told.progress(update)
    elif isinstance(update, Happened):
        if output is not None:
            output.end_line()
        told.happened(update.event)
