"""What the tests of bad input share: a count of what was really tried, and what a refusal has to look like."""

import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sim.config import InputError

LONGEST = 2000  # letters of a line that somebody still reads
SHARED_TEXT = st.text(max_size=12)
OTHER = st.one_of(st.none(), st.binary(max_size=3), st.lists(st.integers(), max_size=2), st.complex_numbers())
NOT_FINITE = st.sampled_from([math.nan, math.inf, -math.inf])
HUGE = st.integers(54, 14_000).flatmap(lambda bits: st.sampled_from([2**bits, -(2**bits)]))


def tried(check, strategy, examples):
    """Call `check` on generated inputs, the same ones each time, and return how many were distinct."""
    seen = set()

    @settings(max_examples=examples, derandomize=True, deadline=None, database=None, suppress_health_check=HealthCheck)
    @given(strategy)
    def run(bad):
        seen.add(repr(bad))
        check(bad)

    run()
    return len(seen)


def refusal(call, *arguments, **options):
    """Return the lines of the `InputError` that a call must raise; any other exception, or none, fails the test."""
    with pytest.raises(InputError) as caught:
        call(*arguments, **options)
    lines = str(caught.value).split("\n")
    assert all(line.isprintable() and 0 < len(line) < LONGEST for line in lines), lines
    return lines


def wrong(item, value):
    """Return values that a knob cannot take: of another kind, outside its range, not one of its words."""
    limits = item.metadata
    if isinstance(value, dict):
        kind = next(iter(value.values()), "" if "column" in limits["unit"] or "metric" in limits["unit"] else 0.0)
        entry = _wrong_scalar(limits, kind)
        return st.one_of(
            OTHER,
            SHARED_TEXT,
            st.dictionaries(SHARED_TEXT, entry, min_size=1, max_size=2),
            st.dictionaries(st.sampled_from([0, None, 1.5, (), b"x"]), st.just(kind), min_size=1),
        )
    return _wrong_scalar(limits, value)


def _wrong_scalar(limits, value):
    if isinstance(value, bool):
        return st.one_of(OTHER, SHARED_TEXT, st.integers(), st.floats())
    if isinstance(value, str):
        words = SHARED_TEXT.filter(lambda text: text not in limits["choices"])
        return st.one_of(OTHER, st.booleans(), st.integers(), st.floats(), *([words] if limits["choices"] else []))
    outside = [OTHER, SHARED_TEXT, st.booleans(), NOT_FINITE, HUGE]
    if isinstance(value, int):
        outside.append(st.floats())
    if limits["low"] is not None:
        outside.append(st.floats(max_value=limits["low"], exclude_max=True, allow_infinity=False))
        outside.append(st.integers(max_value=math.ceil(limits["low"]) - 1))
    if limits["above"] is not None:
        outside.append(st.floats(max_value=limits["above"], allow_infinity=False))
    if limits["high"] is not None:
        outside.append(st.floats(min_value=limits["high"], exclude_min=True, allow_infinity=False))
        outside.append(st.integers(min_value=math.floor(limits["high"]) + 1))
    return st.one_of(outside)
