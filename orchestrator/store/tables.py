"""The tables as they are now, for building statements. A column has the name of its record's field.

How they came to be is `migrations.py`; a test holds the two together. This file knows no connection.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, ForeignKey, Integer, MetaData, Table, text

from orchestrator.records import AttemptOutcome, ChargeKind, FiringKind, Missed, Outcome, Overlap, Phase
from orchestrator.store.columns import AnyText, Flag, JsonText, Money, UtcTime, Word

metadata = MetaData()

runs = Table(
    "runs",
    metadata,
    Column("id", AnyText, primary_key=True),
    Column("name", AnyText, nullable=False),
    Column("owner", AnyText, nullable=False),
    Column("project", AnyText, nullable=False),
    Column("spec", JsonText, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("phase", Word(Phase), nullable=False),
    Column("phase_since", UtcTime, nullable=False),
    Column("due_at", UtcTime),
    Column("scheduled_at", UtcTime, nullable=False),  # what the clock said when due_at was set
    Column("attempt", Integer, nullable=False),
    Column("outcome", Word(Outcome)),
    Column("exit_code", Integer),
    Column("error", AnyText),
    Column("cancel_requested_at", UtcTime),
    Column("nudged_at", UtcTime),
    Column("started_at", UtcTime),
    Column("ended_at", UtcTime),
    Column("artifacts_complete", Flag),
    Column("possibly_billing", Flag, nullable=False),
    Column("notes", JsonText, nullable=False),
    Column("lease_owner", AnyText),
    Column("lease_until", UtcTime),
    Column("claims", BigInteger, nullable=False, server_default=text("0")),  # the fence of a lease
    Column("wakes", BigInteger, nullable=False, server_default=text("0")),  # how often a look at once was asked for
)

attempts = Table(
    "attempts",
    metadata,
    Column("run_id", AnyText, ForeignKey(runs.c.id), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("machine", AnyText, nullable=False, unique=True),
    Column("provider", AnyText, nullable=False),
    Column("offer", JsonText, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("instance_id", AnyText),
    Column("host_id", AnyText, nullable=False),
    Column("usd_per_hour", Money, nullable=False),
    Column("meters", JsonText, nullable=False),
    Column("billing_from", UtcTime),
    Column("running_from", UtcTime),
    Column("started_at", UtcTime),
    Column("exited_at", UtcTime),
    Column("terminate_asked_at", UtcTime),
    Column("gone_at", UtcTime),
    Column("outcome", Word(AttemptOutcome)),
    Column("error", AnyText),
    Column("exit", JsonText),
    Column("facts", JsonText),
    Column("tries", JsonText, nullable=False),
    Column("notes", JsonText, nullable=False),
    Column("running_until", UtcTime),
    Column("settle_at", UtcTime),
)

events = Table(
    "events",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("run_id", AnyText, ForeignKey(runs.c.id), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("phase", Word(Phase), nullable=False),
    Column("kind", AnyText, nullable=False),
    Column("text", AnyText, nullable=False),
    Column("details", JsonText, nullable=False),
)

charges = Table(
    "charges",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("run_id", AnyText, ForeignKey(runs.c.id), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("provider", AnyText, nullable=False),
    Column("meter", AnyText, nullable=False),
    Column("quantity", Money, nullable=False),
    Column("unit", AnyText, nullable=False),
    Column("rate_usd", Money, nullable=False),
    Column("amount_usd", Money, nullable=False),
    Column("source", AnyText, nullable=False),
    Column("kind", Word(ChargeKind), nullable=False),
    Column("start", UtcTime, nullable=False),
    Column("end", UtcTime, nullable=False),
    Column("at", UtcTime, nullable=False),
)

remembered = Table(
    "remembered",
    metadata,
    Column("provider", AnyText, primary_key=True),
    Column("subject", AnyText, primary_key=True),
    Column("reason", AnyText, nullable=False),
    Column("until", UtcTime, nullable=False),
)

controllers = Table(
    "controllers",
    metadata,
    Column("id", AnyText, primary_key=True),
    Column("host", AnyText, nullable=False),
    Column("pid", BigInteger, nullable=False),
    Column("started_at", UtcTime, nullable=False),
    Column("seen_at", UtcTime, nullable=False),
)

# Of budgets: the project is "" where all runs of the store are meant; a month is UTC and written 2026-11.

budgets = Table(
    "budgets",
    metadata,
    Column("project", AnyText, primary_key=True),
    Column("monthly_usd", Money, nullable=False),
    Column("soft_usd", Money),
    Column("webhook", AnyText),
    Column("command", JsonText),
    Column("set_at", UtcTime, nullable=False),
    Column("apprise", AnyText),
)

booked_months = Table(
    "booked_months",
    metadata,
    Column("month", AnyText, primary_key=True),
    Column("project", AnyText, primary_key=True),
    Column("usd", Money, nullable=False),  # the sum of the charges that start in it
)

reservations = Table(
    "reservations",
    metadata,
    Column("run_id", AnyText, primary_key=True),
    Column("machine", AnyText, nullable=False),
    Column("usd", Money, nullable=False),  # the most that this machine may cost
)

notices = Table(
    "notices",
    metadata,
    Column("month", AnyText, primary_key=True),
    Column("project", AnyText, primary_key=True),
    Column("kind", AnyText, primary_key=True),
    Column("text", AnyText, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("due_at", UtcTime),  # None: nobody waits for it (any more)
    Column("tries", Integer, nullable=False),
)

schedules = Table(
    "schedules",
    metadata,
    Column("id", AnyText, primary_key=True),
    Column("name", AnyText, nullable=False, unique=True),
    Column("host", AnyText, nullable=False),  # where it was added
    Column("file", AnyText, nullable=False),  # the train.yaml, an absolute path there
    Column("overrides", JsonText, nullable=False),  # what stands in for parts of it
    Column("frozen", JsonText),  # spec and notes of the runs, when the job was taken as it was
    Column("any_size", Flag, nullable=False),
    Column("cron", AnyText, nullable=False),
    Column("tz", AnyText, nullable=False),
    Column("missed", Word(Missed), nullable=False),
    Column("overlap", Word(Overlap), nullable=False),
    Column("jitter_seconds", Integer, nullable=False),
    Column("monthly_usd", Money),
    Column("added_at", UtcTime, nullable=False),
    Column("paused_at", UtcTime),
    Column("planned_at", UtcTime),  # the next time; None: there is none any more
    Column("waiting_at", UtcTime),  # the time whose run waits for the end of another
    Column("due_at", UtcTime),  # when somebody has to look
    Column("lease_until", UtcTime),
    Column("claims", BigInteger, nullable=False, server_default=text("0")),  # the fence of a turn
    Column("webhook", AnyText),
    Column("command", JsonText),
    Column("apprise", AnyText),
)

firings = Table(
    "firings",
    metadata,
    Column("schedule_id", AnyText, ForeignKey(schedules.c.id), primary_key=True),
    Column("planned_at", UtcTime, primary_key=True),
    Column("at", UtcTime, nullable=False),
    Column("kind", Word(FiringKind), nullable=False),
    Column("run_id", AnyText),
    Column("text", AnyText, nullable=False),
    Column("sweep_id", AnyText),
    Column("tell_at", UtcTime),  # when it may be told, once its runs are over; None: nobody waits for it (any more)
    Column("tries", Integer, nullable=False),
)

# Of benchmarks: a sweep is a suite that was run once, a cell one job of it, a result what one metric of it came to.

sweeps = Table(
    "sweeps",
    metadata,
    Column("id", AnyText, primary_key=True),
    Column("suite", AnyText, nullable=False),
    Column("file", AnyText, nullable=False),
    Column("host", AnyText, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("commit", AnyText),
    Column("cap_usd", Money),
    Column("until", UtcTime),  # nothing of it is begun after that
)

cells = Table(
    "cells",
    metadata,
    Column("sweep_id", AnyText, ForeignKey(sweeps.c.id), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("run_id", AnyText, ForeignKey(runs.c.id), nullable=False, unique=True),
    Column("task", AnyText, nullable=False),
    Column("target", AnyText, nullable=False),
    Column("gpu", AnyText, nullable=False),
    Column("provider", AnyText, nullable=False),  # "" where any would do
)

results = Table(
    "results",
    metadata,
    Column("run_id", AnyText, ForeignKey(runs.c.id), primary_key=True),
    Column("metric", AnyText, primary_key=True),
    Column("sweep_id", AnyText, nullable=False),
    Column("suite", AnyText, nullable=False),
    Column("task", AnyText, nullable=False),
    Column("target", AnyText, nullable=False),
    Column("provider", AnyText, nullable=False),
    Column("machine", AnyText, nullable=False),  # its type; of one's own computers their name; "" where there is none
    Column("gpu", AnyText),
    Column("gpu_count", Integer, nullable=False),
    Column("is_simulated", Flag, nullable=False),
    Column("unit", AnyText, nullable=False),
    Column("better", AnyText, nullable=False),
    Column("work", AnyText),
    Column("is_main", Flag, nullable=False),
    Column("repeats", JsonText, nullable=False),
    Column("value", Float, nullable=False),  # their median
    Column("usd_per_hour", Money, nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("testbed", JsonText, nullable=False),
)

changes = Table(
    "changes",
    metadata,
    Column("run_id", AnyText, ForeignKey(runs.c.id), primary_key=True),  # the first one of the new level
    Column("metric", AnyText, primary_key=True),
    Column("suite", AnyText, nullable=False),
    Column("series", AnyText, nullable=False),
    Column("noticed_by", AnyText, nullable=False),  # the run whose result told
    Column("noticed_at", UtcTime, nullable=False),
    Column("before", Float, nullable=False),
    Column("after", Float, nullable=False),
    Column("p_value", Float, nullable=False),
    Column("is_worse", Flag, nullable=False),
    Column("differs", JsonText, nullable=False),  # of the testbeds: what -> [before, after]
)
