"""Every case that is known independently of this code, run from one place.

`CASES` names them; `validate` runs some or all. For a problem of your own call the function of its family, such as
`sim.validation.mixing.mixing_law("mine", TwoClasses(...), at=(0.1, 0.3))`: it takes the problem and returns checks.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import groupby

from sim.config import InputError, shown, unknown_name
from sim.training.threads import use_one_thread
from sim.validation import (
    best_of_n,
    dynamics,
    gates,
    mixing,
    normalization,
    overoptimization,
    published,
    review_statistics,
    reward_models,
    targeting,
    tilts,
)
from sim.validation.check import Check, rows
from sim.validation.published import NOT_REPRODUCED
from sim.validation.small import DRAWN


def v1a() -> list[Check]:
    """Return the checks of the mixing law with two signals."""
    points, on_top = published.V1A_POINTS, published.V1A_ON_TOP
    return [
        *mixing.mixing_law("V1a", published.V1A, tuple(points), tuple(points.values())),
        *mixing.mixing_law("V1a", published.V1A, tuple(on_top), tuple(on_top.values()), False, DRAWN),
        *mixing.critical_weight("V1a", published.V1A, published.V1A_CRITICAL),
        *mixing.critical_weight("V1a", published.V1A, published.V1A_CRITICAL_ON_TOP, renormalize=False),
    ]


def v1b() -> list[Check]:
    """Return the checks of the mixing law with six signals."""
    points = published.V1B_POINTS
    return [
        *mixing.mixing_law("V1b", published.V1B, tuple(points), tuple(points.values()), drawn=DRAWN),
        *mixing.critical_weight("V1b", published.V1B, published.V1B_CRITICAL),
    ]


def v1c() -> list[Check]:
    """Return the checks of super-additivity."""
    return mixing.super_additivity("V1c", 0.05, 1.0, tuple(published.V1C), tuple(published.V1C.values()))


def v2() -> list[Check]:
    """Return the checks of the fit to published preferences."""
    return reward_models.opposite_signs("V2", published.V2, *published.V2_PRINTED)


def v3() -> list[Check]:
    """Return the checks of the minimal penalty."""
    found = tilts.minimal_penalty("V3", published.V3, published.V3_KL_COEF, published.V3_PRINTED)
    return found + tilts.nothing_closer("V3", problems=100, candidates=5, kl_coef=0.8)


def v4() -> list[Check]:
    """Return the checks of the covariance identity and of the sign flip."""
    points = published.V4_POINTS
    flip = tilts.sign_flip("V4", published.V4, tuple(points), tuple(points.values()), published.V4_FLIP)
    return tilts.covariance_identity("V4", problems=1000, candidates=6, kl_coef=0.7) + flip


def v5() -> list[Check]:
    """Return the checks of over-optimisation."""
    return overoptimization.gaussian_frontier("V5", overoptimization.Gaussian(published.V5_BEND))


def v6() -> list[Check]:
    """Return the checks of who is targeted."""
    return [
        *targeting.final_rates("V6", published.V6, published.V6_SHARES, published.V6_SHARES[:2]),
        *targeting.final_rates("V6", replace(published.V6, visible=False), published.V6_SHARES, ()),
        *targeting.others_never_rise("V6", published.V6, published.V6_SHARES),
        *targeting.training_time("V6", published.V6, published.V6_SHARES),
        *targeting.benchmark("V6", replace(published.V6, others=0.0), published.V6_SHARES[-1], 0.02),
    ]


def v7() -> list[Check]:
    """Return the checks of learning dynamics."""
    two, points = dynamics.TwoActions(*published.V7), published.V7_POINTS
    return [
        *dynamics.vanilla_flow("V7", two, tuple(points), tuple(points.values())),
        *dynamics.natural_path("V7", prompts=5, candidates=4, rate=0.25, steps=8),
        *dynamics.contraction("V7", two, kl_coef=0.4, rate=0.3, steps=10),
    ]


def v8() -> list[Check]:
    """Return the checks of the geometric mean."""
    return mixing.geometric_mean("V8", published.V1B, at=0.4, apart=0.01)


def v9() -> list[Check]:
    """Return the checks of best-of-n."""
    return best_of_n.best_of_n("V9", published.V9, published.V9_DRAWS, published.V9_PRINTED)


def v10() -> list[Check]:
    """Return the checks of normalisation."""
    return [
        *normalization.two_rollouts("V10", published.V10_REWARDS, published.V10_APART),
        *normalization.dilution("V10", published.V10_WEIGHTS),
        *normalization.never_above("V10", published.V10_WEIGHTS),
    ]


def v11() -> list[Check]:
    """Return the checks of ensembles."""
    return reward_models.ensemble_slopes("V11", tuple(published.V11), tuple(published.V11.values()))


def v12() -> list[Check]:
    """Return the checks of review statistics."""
    peeks, arms = published.V12_PEEKS, published.V12_ARMS
    return [
        *review_statistics.peeking("V12", tuple(peeks), tuple(peeks.values())),
        *review_statistics.pocock("V12", *published.V12_POCOCK),
        *review_statistics.always_valid("V12", (0.02, 0.3)),
        *review_statistics.arm_sizes("V12", tuple(arms), tuple(arms.values())),
        *review_statistics.questions("V12", *published.V12_QUESTIONS),
    ]


def v13() -> list[Check]:
    """Return the checks of gates."""
    prompts = published.V12_QUESTIONS[-1]
    return gates.blocked_by_one_gate("V13", published.V1B, published.V13_WEIGHT, prompts, published.V13_MARGIN)


CASES: dict[str, Callable[[], list[Check]]] = {
    "V1a": v1a, "V1b": v1b, "V1c": v1c, "V2": v2, "V3": v3, "V4": v4, "V5": v5, "V6": v6, "V7": v7, "V8": v8,
    "V9": v9, "V10": v10, "V11": v11, "V12": v12, "V13": v13,
}  # fmt: skip


def validate(names: Iterable[str] | None = None, progress: Callable[[str], object] | None = None) -> list[Check]:
    """Return the checks of some cases, or of all.

    Args:
        names: of `CASES`; None: all.
        progress: called with the name of each case that is done.

    Raises:
        InputError: for a case that is not known.
    """
    use_one_thread()  # the problems are so small that threads would only wait for each other
    if names is not None and not isinstance(names, Iterable):
        raise InputError(f"cases = {shown(names)}: must be names, such as [V1a,V9]")
    wanted = list(CASES if names is None else names)
    for name in wanted:
        if not isinstance(name, str) or name not in CASES:
            raise InputError(f"cases: {unknown_name('case', name, list(CASES))}")
    found = []
    for name in wanted:
        found += CASES[name]()
        if progress is not None:
            progress(name)
    return found


def table(checks: Iterable[Check], every: bool = False) -> list[list[str]]:
    """Return the rows under `HEADER`: a row a check, showing the number that is farthest off, or a row a number.

    What is published and not reproduced stands at the end of its case, with the reason.
    """
    found: list[list[str]] = []
    for name, group in groupby(checks, key=lambda check: check.case):
        source = published.SOURCES.get(name, "")
        for check in group:
            found += rows(check, source, every)
        found += [
            [name, what, why, source, "", "", "", "not reproduced"]
            for case, what, why in NOT_REPRODUCED
            if case == name
        ]
    return found
