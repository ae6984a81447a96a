"""What happens in a round, drawn from its seed: a cloud, a job, what the cloud does wrong, who is killed and when.

Pure: the same seed is the same plan on every computer. Knows the words of faults.py, and no process and no cloud.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from providers.rehearsal.faults import Fault
from tests.chaos.troubles import COUPLES, TROUBLES, Trouble

CLOUDS = ("aws", "runpod", "vast")
WITH_SPOT = ("aws", "vast")

CALLS = {"create": 8, "terminate": 4, "get": 3, "list": 1, "offers": 2, "other": 1, "charges": 1}  # and how likely
PHASES = ("quote", "provision", "boot", "probe", "ship", "start", "watch", "collect", "teardown", "settle")
USES_UP_AN_OFFER = ("no_capacity", "offer_gone", "quota", "no_gpu", "wrong_gpu", "failed_boot")  # RunPod has two
_HOW_MANY = {0: 3, 1: 9, 2: 5, 3: 2}


@dataclass(frozen=True, kw_only=True)
class When:
    """`seconds` after the nth call of that name was done at the cloud, after a phase was first seen, or the submission.

    After a call with 0 seconds is exact: the cloud has done it and nobody has heard so.
    """

    after: str  # call, phase, submission
    name: str = ""  # of the call or the phase
    nth: int = 1
    seconds: float = 0.0

    def __str__(self) -> str:
        what = {"call": f"call {self.nth} of {self.name}", "phase": f"phase {self.name}"}
        return f"{self.seconds:g} s after {what.get(self.after, self.after)}"


@dataclass(frozen=True, kw_only=True)
class Strike:
    """Something that is done to a process. `seconds`: how long nobody serves afterwards, or the cut lasts."""

    kind: str  # controller, agent, agents, sessions, silence
    when: When
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"{self.kind} ({self.seconds:g} s) {self.when}"


@dataclass(frozen=True, kw_only=True)
class Job:
    """What runs, and so what must come back (job.py)."""

    seed: int
    lines: int
    seconds: float
    files: tuple[int, ...]
    exit_code: int = 0
    checkpointed: bool = False


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One round. `expected` are the outcomes that it may end with, besides the job's own."""

    seed: int
    cloud: str
    spot: bool
    job: Job
    faults: tuple[Fault, ...]
    strikes: tuple[Strike, ...]
    cancel: When | None
    expected: frozenset[str]
    deadline_seconds: float

    def __str__(self) -> str:
        faults = [_words(fault) for fault in self.faults]
        strikes = [str(strike) for strike in self.strikes]
        cancel = [f"cancelled {self.cancel}"] if self.cancel else []
        where = f"{self.cloud}{' spot' if self.spot else ''}"
        return f"seed {self.seed}: {where}, {self.job}; " + "; ".join([*faults, *strikes, *cancel] or ["nothing"])


def draw(seed: int, clouds: Sequence[str] = CLOUDS) -> Plan:
    """The plan of this seed. With fewer clouds it is another one."""
    dice = random.Random(f"chaos {seed}")
    cloud = dice.choice(clouds)
    troubles = _troubles(dice, cloud)
    spot = cloud in WITH_SPOT and (any(trouble.spot for trouble in troubles) or dice.random() < 0.2)
    faults = [fault for trouble in troubles for fault in trouble.draw(dice)]
    expected = frozenset(outcome for trouble in troubles for outcome in trouble.ends)
    if sum(fault.times for fault in faults if fault.kind in USES_UP_AN_OFFER) > 1:
        expected |= {"no_capacity"}
    cancel = _cancel(dice, troubles)
    return Plan(
        seed=seed,
        cloud=cloud,
        spot=spot,
        job=_job(dice, seed),
        faults=tuple(faults),
        strikes=_strikes(dice),
        cancel=cancel,
        expected=expected | ({"cancelled"} if cancel else frozenset()),
        deadline_seconds=max([240.0, *(trouble.deadline_seconds for trouble in troubles)]),
    )


def without_strikes(plan: Plan) -> Plan:
    """The same day with nobody killed: to see whose fault a failure is."""
    return replace(plan, strikes=())


def _troubles(dice: random.Random, cloud: str) -> list[Trouble]:
    possible = [trouble for trouble in (*TROUBLES, *COUPLES) if cloud in trouble.clouds]
    [count] = dice.choices(list(_HOW_MANY), list(_HOW_MANY.values()))
    return dice.choices(possible, [trouble.weight for trouble in possible], k=count)


def _job(dice: random.Random, seed: int) -> Job:
    checkpointed = dice.random() < 0.25
    talkative = dice.random() < 0.15
    return Job(
        seed=seed,
        lines=dice.randint(2000, 6000) if talkative else dice.randint(0, 60),
        seconds=round(dice.uniform(2.0, 4.0) if checkpointed else dice.uniform(0.2, 3.0), 1),
        files=tuple(_size(dice) for _ in range(dice.randint(0, 3))),
        exit_code=dice.choice((1, 7, 77)) if dice.random() < 0.1 else 0,
        checkpointed=checkpointed,
    )


def _size(dice: random.Random) -> int:
    return dice.choice((0, 1, dice.randint(2, 5000), dice.randint(5000, 400_000)))


def _strikes(dice: random.Random) -> tuple[Strike, ...]:
    [kills] = dice.choices((0, 1, 2, 3), (2, 5, 3, 1))
    strikes = [Strike(kind="controller", when=_moment(dice), seconds=_pause(dice)) for _ in range(kills)]
    chance = dice.random()
    running = When(after="phase", name="watch", seconds=round(dice.uniform(0.0, 1.5), 2))
    spoken_to = When(after="phase", name=dice.choice(PHASES[2:8]), seconds=round(dice.uniform(0.0, 0.5), 2))
    if chance < 0.08:
        strikes.append(Strike(kind=dice.choice(("agent", "agents")), when=running))
    elif chance < 0.16:
        strikes.append(Strike(kind="sessions", when=spoken_to, seconds=round(dice.uniform(0.0, 3.0), 1)))
    elif chance < 0.22:
        strikes.append(Strike(kind="silence", when=spoken_to, seconds=round(dice.uniform(0.5, 8.0), 1)))
    return tuple(strikes)


def _moment(dice: random.Random) -> When:
    chance = dice.random()
    if chance < 0.5:
        [call] = dice.choices(list(CALLS), list(CALLS.values()))
        later = 0.0 if dice.random() < 0.7 else round(dice.uniform(0.0, 0.3), 3)
        return When(after="call", name=call, nth=dice.choice((1, 1, 1, 2)), seconds=later)
    if chance < 0.8:
        return When(after="phase", name=dice.choice(PHASES), seconds=round(dice.uniform(0.0, 0.5), 3))
    return When(after="submission", seconds=round(dice.uniform(0.0, 8.0), 2))


def _pause(dice: random.Random) -> float:
    """Mostly somebody starts the next one at once."""
    return 0.0 if dice.random() < 0.6 else round(dice.uniform(0.1, 4.0), 1)


def _cancel(dice: random.Random, troubles: Sequence[Trouble]) -> When | None:
    if any(trouble.needs_cancel for trouble in troubles):
        return When(after="submission", seconds=round(dice.uniform(6.0, 14.0), 1))
    if dice.random() < 0.06:
        return When(after="phase", name=dice.choice(PHASES[:8]), seconds=round(dice.uniform(0.0, 1.0), 2))
    return None


def _words(fault: Fault) -> str:
    said = {name: value for name, value in fault.to_json().items() if name != "kind" and value}
    if fault.times == 1:
        del said["times"]
    return f"{fault.kind}({', '.join(f'{name}={value}' for name, value in said.items())})"
