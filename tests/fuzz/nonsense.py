"""What a hostile or broken machine, cloud or proxy may send: values, mutated bodies, texts. Hypothesis strategies.

Knows no cloud. GPUJOB_FUZZ_EXAMPLES multiplies how many examples each test tries.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

Json = Any
Test = TypeVar("Test", bound=Callable[..., None])

SCALE = max(0.05, float(os.environ.get("GPUJOB_FUZZ_EXAMPLES", "1")))
DEEP = "[" * 100_000  # nested beyond what a parser follows
HTML = "<html><head><title>502 Bad Gateway</title></head><body><h1>502</h1>cloudflare</body></html>"

# Words that have broken parsers: digits that are no numbers to int(), numbers that are none to Decimal, long ones,
# escapes of terminals, half a surrogate pair, a command line's option, a date beyond the calendar.
WORDS = (
    "", " ", "\0", "²", "٣", "9" * 5000, "-1", "+1", "1_0", "NaN", "sNaN", "Infinity", "-Infinity", "1e999999", "0x10",
    "1e-999999", "\x1b[31mred\x1b]0;title\x07", "\x9b31m", "\u202egpj.exe", "\ud800", "🦊" * 50, "-oProxyCommand=x",
    "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "<script>alert(1)</script>", "a\nb\r\nc", "%s%n{0}", "..",
    "A" * 20_000, "true", "null", "[]",
)  # fmt: skip
NUMBERS = (
    0, -0.0, -1, 0.5, 1e-300, 1e16, 1e300, 10**30, -(10**30), 10**4000, 2**63, 2**64, float("nan"), float("inf"),
    float("-inf"), 253402300800, 1e18, 65536, 0.1 + 0.2,
)  # fmt: skip
WHOLLY_OTHER: tuple[Json, ...] = (None, True, False, [], {}, [None], [[]], {"": None}, {"a": [1, {"b": "c"}]}, [0, ""])

junk: st.SearchStrategy[Json] = st.one_of(
    st.sampled_from(WORDS),
    st.sampled_from(NUMBERS),
    st.sampled_from(WHOLLY_OTHER),
    st.text(max_size=20),
    st.integers(),
    st.floats(),
)


def examples(count: int) -> Callable[[Test], Test]:
    """How often a test is tried; the same examples every time, so that nobody's change fails for another's luck."""
    return settings(
        max_examples=max(1, int(count * SCALE)),
        derandomize=True,
        database=None,
        deadline=None,  # a busy computer is slow; what takes for ever ends in pytest's own time-out
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
    )


@st.composite
def mutated(draw: st.DrawFn, body: Json) -> Json:
    """A realistic body with one to three things changed: left out, replaced, doubled or wrapped."""
    found = {"": copy.deepcopy(body)}
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(found))
        holder, key = places[draw(st.integers(0, len(places) - 1))]
        change = draw(st.sampled_from(("replace", "replace", "replace", "drop", "double", "wrap")))
        if change == "drop" and holder is not found:
            del holder[key]
        elif change == "double" and isinstance(holder, list):
            holder.append(copy.deepcopy(holder[key]))
        elif change == "wrap":
            holder[key] = [holder[key]]
        else:
            holder[key] = copy.deepcopy(draw(junk))
    return found[""]


def rows(body: dict[str, Json]) -> st.SearchStrategy[dict[str, Json]]:
    """An object that is still one."""
    return mutated(body).filter(lambda found: isinstance(found, dict))


@st.composite
def replies(draw: st.DrawFn, body: Json) -> str:
    """What comes over the wire in its place: mostly JSON, cut, followed by something, or something wholly other."""
    kind = draw(st.sampled_from(("json", "json", "json", "json", "cut", "more", "other")))
    if kind == "other":
        texts = ("", HTML, DEEP, '{"a":' * 5000, "\ufeff{}", "null", "[]", '"x"', "1e99999999999999999999", "NaN", "\0")
        return draw(st.one_of(st.sampled_from(texts), st.text(max_size=200)))
    text = written(draw(mutated(body)))
    if kind == "cut":
        return text[: draw(st.integers(0, len(text)))]
    return text + "}{" if kind == "more" else text


def written(body: Json) -> str:
    """JSON, with the constants that Python's parser takes and numbers as long as they come."""
    return json.dumps(body)


statuses = st.one_of(
    st.sampled_from(
        (200, 201, 204, 301, 302, 400, 401, 402, 403, 404, 408, 409, 410, 422, 429, 500, 502, 503, 504, 524)
    ),
    st.integers(100, 599),
)
headers = st.fixed_dictionaries(
    {},
    optional={
        "Retry-After": st.sampled_from(
            ("1", "0", "-5", "²", "9" * 400, "NaN", "inf", "Wed, 21 Oct 2026 07:28:00 GMT", "")
        )
    },
)


def _places(holder: Any) -> Iterator[tuple[Any, Any]]:
    for key in list(holder) if isinstance(holder, dict) else range(len(holder)):
        yield holder, key
        if isinstance(holder[key], (dict, list)):
            yield from _places(holder[key])


@st.composite
def reworded(draw: st.DrawFn, body: dict[str, Json]) -> dict[str, Json]:
    """An object of which one to three words are others or are left out: types hold, as a parser by a model has it."""
    found = copy.deepcopy(body)
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(found))
        if not places:
            break
        holder, key = places[draw(st.integers(0, len(places) - 1))]
        if isinstance(holder[key], str):
            holder[key] = draw(st.one_of(st.sampled_from(WORDS), st.text(max_size=20)))
        elif isinstance(holder, dict):
            del holder[key]
    return found
