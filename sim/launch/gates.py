"""Gates: what a reading has to show, and the verdict it gets.

With the effect turned so that up is worse, and a margin m that is accepted, two one-sided tests stand behind a verdict:

* alarm: effect <= m is rejected, the change for the worse is shown;
* clear: effect >= m is rejected, the change for the worse is ruled out.

A launch needs all clear claims at once, which needs no correction (an intersection-union test; Berger 1982). It is
stopped by any one alarm, so the alarms of a review are corrected as a family (Holm, unless set otherwise), muted gates
aside. Without data no gate passes.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sim.config import InputError, unknown_name
from sim.launch.readings import Reading
from sim.launch.settings import Gate
from sim.world.arrays import Array

PASS, INVESTIGATE, FAIL = 0, 1, 2
VERDICTS = ("pass", "investigate", "fail")
Codes = npt.NDArray[np.int64]


class Judged(NamedTuple):
    """What G gates say of R candidates.

    gates: name -> Gate, in the order of the rows.
    verdict: [G, R] index into `VERDICTS`.
    effect, low, high, size: [G, R] the reading, its interval and its observations.
    alarm: [G, R] p-value of the alarm, corrected.
    correction: the name of the correction.
    """

    gates: Mapping[str, Gate]
    verdict: Codes
    effect: Array
    low: Array
    high: Array
    size: Array
    alarm: Array
    correction: str

    def counted(self, role: str) -> Codes:
        """Return the rows of the gates that have a role."""
        return np.array([row for row, gate in enumerate(self.gates.values()) if gate.role == role], dtype=int)


def gate_problems(gates: Mapping[str, Gate], metrics: Mapping[str, object], where: str = "review.gates") -> list[str]:
    """Return one line for each gate that cannot work: an unknown metric, or a margin with the wrong sign."""
    found = []
    for name, gate in gates.items():
        if gate.metric not in metrics:
            found.append(f"{where}.{name}.metric: {unknown_name('metric', gate.metric, list(metrics))}")
        sign, wanted = (1, ">= 0") if gate.direction == "lower" else (-1, "<= 0")
        if sign * gate.margin < 0:
            found.append(
                f"{where}.{name}.margin = {gate.margin}: must be {wanted}, since {gate.direction} is better and the "
                "margin is a change for the worse"
            )
    return found


def judge(
    gates: Mapping[str, Gate], readings: Mapping[str, Reading], level: float = 0.05, correction: str = "holm"
) -> Judged:
    """Return the verdict of each gate on each candidate.

    Args:
        gates: name -> Gate.
        readings: metric -> Reading.
        level: one-sided error of each verdict; intervals have it on each side.
        correction: of the alarms: "holm", "bonferroni" or "none".

    Raises:
        InputError: for a gate that cannot work.
    """
    problems = gate_problems(gates, readings)
    if problems:
        raise InputError(*problems)
    used = [_known(readings[gate.metric]) for gate in gates.values()]
    sides = [1 if gate.direction == "lower" else -1 for gate in gates.values()]
    raw = np.stack([
        reading._replace(effect=side * reading.effect).tail(side * gate.margin)
        for gate, reading, side in zip(gates.values(), used, sides, strict=True)
    ])  # fmt: skip
    family = np.array([gate.role != "muted" for gate in gates.values()])
    alarm = corrected(raw, family, correction)
    needs_clear = np.array([gate.test == "noninferior" for gate in gates.values()])[:, None]
    must_have = np.array([gate.must_have_data for gate in gates.values()])[:, None]
    verdict = np.where(needs_clear & (1 - raw > level), INVESTIGATE, PASS)
    verdict = np.where(alarm <= level, FAIL, verdict)
    verdict = np.where(np.isnan(raw), np.where(must_have, FAIL, INVESTIGATE), verdict)
    ends = [reading.interval(level) for reading in used]
    return Judged(
        gates,
        verdict,
        np.stack([reading.effect for reading in used]),
        np.stack([low for low, _ in ends]),
        np.stack([high for _, high in ends]),
        np.stack([reading.size for reading in used]),
        alarm,
        correction,
    )


def corrected(raw: Array, family: npt.NDArray[np.bool_], correction: str) -> Array:
    """Return p-values [G, R] corrected over the gates of the family; NaN (no data) takes no part.

        Holm:  the i-th smallest of m becomes  max over j <= i of min(1, (m - j + 1) p_(j))

    All candidates at once: statsmodels' `multipletests`, the oracle of the test, takes one family a call and collects
    garbage each time.

    Args:
        raw: [G, R].
        family: [G] whether a gate takes part.
        correction: "holm" (Holm 1979), "bonferroni" or "none".
    """
    found = raw.copy()
    tested = np.where(family[:, None], raw, np.nan)
    count = (~np.isnan(tested)).sum(axis=0)
    if correction == "bonferroni":
        found[family] = np.minimum(raw[family] * count, 1)
    if correction == "holm":
        order = np.argsort(tested, axis=0)  # NaN last
        steps = np.take_along_axis(tested, order, axis=0) * (count - np.arange(len(raw))[:, None])
        stepped = np.minimum(np.maximum.accumulate(steps, axis=0), 1)
        back = np.empty_like(stepped)
        np.put_along_axis(back, order, stepped, axis=0)
        found[family] = back[family]
    return found


def _known(reading: Reading) -> Reading:
    """Return the reading with NaN wherever either number is missing or infinite."""
    missing = ~(np.isfinite(reading.effect) & np.isfinite(reading.error))
    return reading._replace(
        effect=np.where(missing, np.nan, reading.effect), error=np.where(missing, np.nan, reading.error)
    )
