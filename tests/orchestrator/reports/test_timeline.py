"""How long each phase took, from events alone."""

from __future__ import annotations

from datetime import timedelta

from orchestrator.records import Phase
from orchestrator.reports.timeline import by_phase, spans
from tests.orchestrator.reports.samples import SECONDS, START, event, phases


def test_a_phase_lasts_until_the_next_and_a_quote_belongs_to_the_attempt_that_follows() -> None:
    whole = sum(SECONDS.values())
    events = [*phases(1), event(5, Phase.BOOT, "machine", "noise"), *phases(2, at=whole, watch=10)]
    found = by_phase(spans(events, until=START + timedelta(seconds=2 * whole)))
    assert list(found) == [1, 2]
    assert found[1] == SECONDS
    assert (found[2][Phase.QUOTE], found[2][Phase.WATCH]) == (1.4, 10.0)


def test_the_last_phase_is_open_until_the_run_is_over() -> None:
    (quote, boot) = spans(
        [event(0, Phase.QUOTE, "phase", "submitted", 0), event(2, Phase.BOOT, "phase", "boot")],
        until=START + timedelta(seconds=12),
    )
    assert (quote.seconds, quote.open, boot.seconds, boot.open) == (2.0, False, 10.0, True)
    over = spans([event(0, Phase.SETTLE, "phase", "settle"), event(3, Phase.DONE, "phase", "done")], until=START)
    assert [(span.phase, span.seconds) for span in over] == [(Phase.SETTLE, 3.0)]


def test_going_back_to_quote_for_another_offer_adds_up_in_one_attempt() -> None:
    marks = [
        (0, Phase.QUOTE, 0),
        (2, Phase.PROVISION, 1),
        (3, Phase.QUOTE, 1),
        (7, Phase.PROVISION, 1),
        (8, Phase.BOOT, 1),
    ]
    events = [event(at, phase, "phase", phase.value, number) for at, phase, number in marks]
    found = by_phase(spans(events, until=START + timedelta(seconds=9)))
    assert found == {1: {Phase.QUOTE: 6.0, Phase.PROVISION: 2.0, Phase.BOOT: 1.0}}


def test_a_clock_that_went_back_gives_no_negative_time() -> None:
    found = spans([event(5, Phase.QUOTE, "phase", "quote"), event(2, Phase.BOOT, "phase", "boot")], until=START)
    assert [span.seconds for span in found] == [0.0, 0.0]


def test_no_events() -> None:
    assert spans([], until=START) == []
