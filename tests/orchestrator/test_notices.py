"""Notices of budgets: at least once, never for ever, never in a visit's way, and without the address in any log."""

from __future__ import annotations

import importlib.util
import json
import logging
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from orchestrator import notices, services
from orchestrator.budgets import month_starts
from orchestrator.store.rows import BudgetRow, NoticeRow
from orchestrator.world import World
from tests.fakes.fake_machine import Script
from tests.fakes.memory_provider import offer
from tests.orchestrator.living import Living

URL = "https://hooks.example.org/services/${HOOK_KEY}"


@pytest.fixture
def living(tmp_path: Path) -> Living:
    return Living(tmp_path, offers=[offer("one", usd_per_hour="36")], script=Script(seconds=10**6))


@pytest.fixture
def world(living: Living) -> World:
    return World(store=living.store, home=living.home, env={"HOOK_KEY": "hunter2"}, clock=living.clock)


def budget(living: Living, **changes: Any) -> BudgetRow:
    row = BudgetRow(project="", monthly_usd=Decimal(3), soft_usd=Decimal(1), set_at=living.clock())
    row = replace(row, **changes)
    living.store.accounts.set_budget(row, month_starts(living.clock()))
    return row


def due(living: Living, kind: str = "soft") -> None:
    now = living.clock()
    living.store.accounts.add_notice(
        NoticeRow(month="2026-11", project="", kind=kind, text="half is gone", at=now, due_at=now)
    )


def test_soft_and_hard_are_told_once_each_for_all_runs_of_the_month(
    living: Living, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notices, "deliver_beside", lambda _world: None)
    budget(living, webhook=URL)
    for number in range(3):
        living.submit(f"r-{number}", limits={"max_cost": "1000", "max_duration": "100h"})
    living.seconds(400)
    told: list[tuple[str, str]] = []
    notices.deliver_due(world, lambda _budget, notice, _world: told.append((notice.kind, notice.text)))
    notices.deliver_due(world, lambda _budget, notice, _world: told.append((notice.kind, notice.text)))
    assert sorted(kind for kind, _ in told) == ["hard", "soft"]
    assert all("the budget of all runs for 2026-11 ($3.00)" in text for _, text in told)


def test_a_new_controller_tells_nobody_twice(living: Living, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notices, "deliver_beside", lambda _world: None)
    budget(living, webhook=URL, monthly_usd=Decimal(100))
    living.submit(limits={"max_cost": "1000", "max_duration": "100h"})
    living.seconds(150)
    assert len(living.store.accounts.claim_notices(10**6)) == 1
    living.controller = living.new_controller()
    living.seconds(30)
    assert living.store.accounts.claim_notices(10**6) == []


def test_it_is_tried_again_until_it_is_taken_and_the_log_has_no_secret(
    living: Living, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    budget(living, webhook=URL)
    due(living)
    tries: list[str] = []

    def send(budget: BudgetRow, notice: NoticeRow, world: World) -> None:
        tries.append(notice.text)
        if len(tries) < 3:
            raise notices.NotDelivered("the webhook answers 503")

    with caplog.at_level(logging.INFO):
        for _ in range(10):
            notices.deliver_due(world, send)
            living.clock.advance(3600)
    assert len(tries) == 3
    assert "answers 503" in caplog.text and "hunter2" not in caplog.text and "hooks" not in caplog.text


def test_a_notice_that_nobody_ever_takes_is_given_up(living: Living, world: World) -> None:
    budget(living, webhook=URL)
    due(living)
    tries = 0

    def send(*_: object) -> None:
        nonlocal tries
        tries += 1
        raise notices.NotDelivered("no")

    for _ in range(notices.MOST_TRIES + 10):
        notices.deliver_due(world, send)
        living.clock.advance(10**5)
    assert tries == notices.MOST_TRIES


def test_a_secret_that_is_not_set_is_named(living: Living, world: World, caplog: pytest.LogCaptureFixture) -> None:
    budget(living, webhook=URL)
    due(living)
    notices.deliver_due(replace(world, env={}))
    assert "HOOK_KEY is not set where the controller runs" in caplog.text


def test_what_an_address_shows() -> None:
    assert (
        notices.place("https://ada:pw@hooks.example.org:8443/services/T0/B0?key=x") == "https://hooks.example.org/..."
    )


@pytest.mark.parametrize("url", ["ftp://x/y", "file:///etc/passwd", "hooks.example.org", "https://", ""])
def test_what_cannot_be_called_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="https://"):
        notices.checked_webhook(url)


class Hook:
    """A web server that keeps what it was sent."""

    def __init__(self) -> None:
        self.answers: list[int] = []
        self.got: list[tuple[str, dict[str, Any]]] = []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hook.got.append((self.path, json.loads(body)))
                self.send_response(hook.answers.pop(0) if hook.answers else 200)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.mark.process
def test_a_webhook_gets_json_with_its_key_and_again_when_it_fails(
    living: Living, world: World, hook: Hook, caplog: pytest.LogCaptureFixture
) -> None:
    budget(living, webhook=hook.url + "/services/${HOOK_KEY}")
    due(living)
    hook.answers = [503]
    notices.deliver_due(world)
    living.clock.advance(60)
    notices.deliver_due(world)
    assert [path for path, _ in hook.got] == ["/services/hunter2"] * 2
    sent = hook.got[1][1]
    assert (sent["text"], sent["kind"], sent["project"], sent["month"]) == (
        "gpujob: half is gone",
        "soft",
        None,
        "2026-11",
    )
    assert "answers 503" in caplog.text and "hunter2" not in caplog.text


@pytest.mark.process
def test_nobody_answers_and_nothing_of_the_address_is_said(
    living: Living, world: World, hook: Hook, caplog: pytest.LogCaptureFixture
) -> None:
    budget(living, webhook="http://127.0.0.1:1/${HOOK_KEY}")
    due(living)
    notices.deliver_due(world)
    assert "URLError" in caplog.text and "hunter2" not in caplog.text


@pytest.mark.process
def test_a_command_gets_it_on_its_stdin(living: Living, world: World, tmp_path: Path) -> None:
    target = tmp_path / "got.json"
    program = f"import sys, pathlib; pathlib.Path({str(target)!r}).write_text(sys.stdin.read())"
    budget(living, command=[sys.executable, "-c", program])
    due(living)
    notices.deliver_due(world)
    assert json.loads(target.read_text())["text"] == "gpujob: half is gone"
    assert not living.store.accounts.has_notices()


@pytest.mark.process
def test_a_command_that_hangs_holds_no_run_up(
    living: Living, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(notices, "TRY_SECONDS", 1.0)
    budget(living, command=["sleep", "100"])
    living.submit(limits={"max_cost": "1000", "max_duration": "100h"})
    living.seconds(400)
    assert living.run().is_over
    for thread in threading.enumerate():
        if thread.name == "notices":
            thread.join(10)
            assert not thread.is_alive()
    assert "TimeoutExpired" in caplog.text


def test_apprise_gets_the_text_and_its_secret_and_again_when_it_fails(
    living: Living, world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    budget(living, apprise="slack://${HOOK_KEY}/#gpu")
    due(living, "soft")
    due(living, "hard")
    sent: list[tuple[str, str, str]] = []

    def send(url: str, *, title: str, text: str, kind: str) -> None:
        sent.append((url, f"{title}: {text}", kind))
        if len(sent) == 1:
            raise services.NotSent("slack://... has not taken it")

    monkeypatch.setattr(services, "send", send)
    notices.deliver_due(world)
    living.clock.advance(60)
    notices.deliver_due(world)
    assert {url for url, _, _ in sent} == {"slack://hunter2/#gpu"}
    assert {text for _, text, _ in sent} == {"gpujob: half is gone"}
    assert {kind for _, _, kind in sent} == {"warning", "failure"} and len(sent) == 3
    assert not living.store.accounts.has_notices()
    assert "has not taken it" in caplog.text and "hunter2" not in caplog.text


@pytest.mark.process
def test_apprise_itself_writes_to_a_service_and_keeps_its_address_out_of_the_log(
    living: Living, world: World, hook: Hook, caplog: pytest.LogCaptureFixture
) -> None:
    budget(living, apprise=hook.url.replace("http://", "json://") + "/services/${HOOK_KEY}")
    due(living, "hard")
    hook.answers = [503]
    with caplog.at_level(logging.DEBUG):
        notices.deliver_due(world)
        living.clock.advance(60)
        notices.deliver_due(world)
    assert [path.rstrip("/") for path, _ in hook.got] == ["/services/hunter2"] * 2
    assert (hook.got[1][1]["title"], hook.got[1][1]["message"]) == ("gpujob", "half is gone")
    assert hook.got[1][1]["type"] == "failure"
    assert not living.store.accounts.has_notices()
    ours = [record.getMessage() for record in caplog.records if not record.name.startswith("urllib3")]
    assert any("json://... has not taken it" in text for text in ours)
    assert not any("hunter2" in text for text in ours)


def test_where_apprise_is_missing_the_notice_waits_and_says_so(
    living: Living, world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    budget(living, apprise="json://localhost/${HOOK_KEY}")
    due(living)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    notices.deliver_due(world)
    living.clock.advance(3600)
    assert "its extra `apprise`" in caplog.text and living.store.accounts.has_notices()


@pytest.mark.parametrize(
    ("url", "shown"),
    [("slack://T1/A2/C3", "slack://..."), ("mailto://me:pw@example.org", "mailto://..."), ("${WHERE}", "...")],
)
def test_what_an_address_of_apprises_shows(url: str, shown: str) -> None:
    assert services.place(url) == shown


@pytest.mark.parametrize("url", ["json://localhost/x", "slack://${TOKENS}/#gpu", "${WHERE}", "mailto://u:p@gmail.com"])
def test_what_apprise_knows_is_taken(url: str) -> None:
    assert notices.checked_apprise(url) == url


@pytest.mark.parametrize("url", ["nope://x", "nope://${X}", "slack://x", "hooks.example.org", "x${Y}", ""])
def test_what_apprise_does_not_know_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="apprise"):
        notices.checked_apprise(url)
