"""`sim.audit`: from a table of scored samples to a report of what a mixture would do, in three passes.

1. the candidates under the reference: spreads, correlations, pushes, shares of influence;
2. the pressure: which kl_coef moves the primary mixture by the KL that is planned, and the penalties that undo it;
3. what each mixture would pick, by the closed form and by best-of-n, and the pushes at that pressure.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from sim.auditing.assemble import assemble, main_draws
from sim.auditing.critical import mixture_lines
from sim.auditing.gate import Condition, judge, parse_all
from sim.auditing.measures import (
    TINY,
    at_reference,
    decisions_changed,
    moments,
    reference_shapes,
    under_best_of,
    under_tilts,
)
from sim.auditing.numbers import Numbers, Plan, cut
from sim.auditing.options import DEFAULT_KL, Audit, check_audit
from sim.auditing.result import METRICS, AuditResult
from sim.auditing.sample import Block, Sample, make_sample, wanted_columns
from sim.auditing.scan import Progress, Scan, group_means, scan, tell
from sim.auditing.shared import shared_pushes
from sim.auditing.solve import coefficient_for_kl, minimal_penalty, most_kl, penalised
from sim.config import InputError
from sim.training.theory import tilt
from sim.world.arrays import Array
from sim.world.tables.reading import naming, read_columns

PRESSURES = 2.0 ** np.arange(-3, 4)  # multiples of the planned pressure 1 / kl_coef that are looked at
BEST_OF = (2, 4, 8, 16, 32, 64)  # as far as the candidates reach
SELECTION = 4  # n of the best-of-n whose decisions are counted


def audit(
    frame: Any,
    signals: Mapping[str, float] | Sequence[str] | None = None,
    add: str = "",
    attribute: str | Sequence[str] = "",
    fail_on: Any = None,
    progress: Progress | None = None,
    **options: Any,
) -> AuditResult:
    """Return what adding a signal to a mixture would do to an attribute, found from scored samples alone.

        result = sim.audit(frame, signals={"helpful": 0.5, "correct": 0.5}, add="thumbs_up", attribute="sycophancy")
        print(result)
        result.to_json("audit.json")

    Args:
        frame: a pandas or Arrow table, or the path of a .csv, .parquet or .jsonl file; a row per prompt and response.
        signals: column -> weight of the primary signals, or just their columns, for equal weights.
        add: column of the signal whose addition is studied.
        attribute: column of what must not rise; of several, the first is that one.
        fail_on: conditions of a gate, such as "critical_weight<0.2"; see `AuditResult.failed`.
        progress: called as (stage, its total or 0, how much more is done).
        options: the other fields of `sim.auditing.options.Audit`.

    Raises:
        InputError: for a column, row or option that cannot be used, in a line that names it.
    """
    known = [item.name for item in dataclasses.fields(Audit)]
    for name in options:
        if name not in known:
            raise InputError(f"audit: unknown option '{name}'; known: {', '.join(known)}")
    asked: dict[str, Any] = {"signals": signals, "add": add, "attribute": attribute, **options}
    return run_audit(frame, Audit(**asked), parse_all(fail_on), progress)


def run_audit(
    frame: Any, options: Audit, conditions: Sequence[Condition] = (), progress: Progress | None = None
) -> AuditResult:
    """Return the audit of a table; see `audit`."""
    options = check_audit(options)
    judge(conditions, dict.fromkeys(METRICS))  # an unknown metric is told before the work
    columns = read_columns(frame, wanted_columns(options), "scores", tell(progress, "rows read", 0))
    with naming(frame, "scores"):
        sample = make_sample(columns, options)
    numbers, notes = measure_all(sample, options, progress)
    report = assemble(numbers, notes)
    return AuditResult(report, judge(conditions, report["metrics"]), main_draws(numbers))


def measure_all(sample: Sample, options: Audit, progress: Progress | None = None) -> tuple[Numbers, list[str]]:
    """Return everything that the report is made of, and what is to be said about it."""
    whole, size = sample, len(options.signal_columns) + len(options.attributes)
    sample = whole._replace(values=whole.values[:size])  # what follows the attributes is features
    base = np.array(list(options.signals.values()), dtype=float)
    weights = np.unique(np.append(np.linspace(0, options.max_weight, options.points), options.weight).round(12))
    planned = int(np.argmin(np.abs(weights - options.weight)))
    nominal = mixture_lines(base, weights, options.renormalize)
    first, slices, shapes = _first_pass(sample, options, nominal, planned, progress)
    mean, cov, apart, varies, together, shares = cut(first, shapes)[1:]

    count = nominal.shape[1]
    if cov[0, count, count] <= TINY:
        name = options.attributes[0]
        raise InputError(f"attribute: '{name}' is the same for all answers of a prompt; nothing can move it")
    unit = _units(cov[0], count, options.scale)
    told = tell(progress, "passes to find the pressure", 0)
    kl_coef, notes = _pressure(sample, (nominal / unit)[0], options, told)
    best_of = [n for n in BEST_OF if n <= np.median(np.diff(sample.start))] or [2]
    rows = sorted({0, planned, len(weights) - 1})
    plan = Plan(weights, planned, nominal, unit, np.asarray(kl_coef / PRESSURES), rows, best_of)

    told = tell(progress, "passes to find the penalties", 0)
    penalty, _ = minimal_penalty(sample, plan.lines[planned], plan.kl_coefs, count, told)
    excess = penalised(plan.lines[planned], plan.kl_coefs, count, np.nan_to_num(penalty))
    undone = scan(sample, excess, 2 * len(penalty), options.resamples, options.seed)
    third, shapes = _third_pass(sample, options, plan, progress)
    features = list(range(size, len(whole.values)))
    shared = shared_pushes(whole, features, count, count, options.resamples, options.seed) if features else None
    along, pressed, best, tilted_cov, changed = cut(third, shapes)
    return Numbers(
        sample, options, plan, mean, cov, apart, varies, together, shares, along, pressed, best, tilted_cov, changed,
        penalty, cut(undone, [(len(penalty), 2)])[0], slices, first.kept, shared,
    ), notes  # fmt: skip


def _first_pass(
    sample: Sample, options: Audit, nominal: Array, planned: int, progress: Progress | None
) -> tuple[Scan, dict[str, tuple[Array, Array, Array]], list[tuple[int, ...]]]:
    count = nominal.shape[1]
    shapes = reference_shapes(len(sample.values), count, len(nominal))

    def measure(block: Block) -> Array:
        return at_reference(block, count, nominal, planned)

    found = scan(
        sample,
        measure,
        _columns(shapes),
        options.resamples,
        options.seed,
        count,
        _told(sample, progress, "prompts under the reference"),
    )
    slices = {
        name: group_means(sample, found.kept, groups, options.resamples, options.seed)
        for name, groups in sample.slices.items()
    }
    return found, slices, shapes


def _third_pass(
    sample: Sample, options: Audit, plan: Plan, progress: Progress | None
) -> tuple[Scan, list[tuple[int, ...]]]:
    size, count = len(sample.values), len(plan.unit)
    shapes: list[tuple[int, ...]] = [
        (len(plan.weights), size + 3),
        (len(plan.rows), len(plan.kl_coefs), size + 3),
        (len(plan.weights), len(plan.draws), size + 3),
        (size, size),
        (count,),
    ]
    lines = plan.lines

    def measure(block: Block) -> Array:
        reward = np.tensordot(lines[0], block.values[:count], axes=1)
        parts = [
            under_tilts(block, lines, plan.kl_coef),
            under_tilts(block, lines[plan.rows], plan.kl_coefs),
            under_best_of(block, lines, plan.draws),
            moments(block.values, tilt(block.log_ref, reward, plan.kl_coef))[1],
            decisions_changed(block, lines[plan.planned], min(SELECTION, plan.draws[-1])),
        ]
        return np.concatenate([part.reshape(len(block.place), -1) for part in parts], axis=1)

    told = _told(sample, progress, "prompts under the mixtures")
    return scan(sample, measure, _columns(shapes), options.resamples, options.seed, 0, told), shapes


def _told(sample: Sample, progress: Progress | None, stage: str) -> Callable[[int], object] | None:
    return tell(progress, stage, len(sample.prompt_prob))


def _columns(shapes: list[tuple[int, ...]]) -> int:
    return sum(int(np.prod(shape)) for shape in shapes)


def _units(cov: Array, count: int, scale: str) -> Array:
    """Return what each signal is divided by, [S]: 1, or with `scale=std` its spread within prompts (as in training)."""
    variance = np.diag(cov)[:count]
    return np.where((variance > TINY) & (scale == "std"), np.sqrt(np.maximum(variance, 0)), 1.0)


def _pressure(
    sample: Sample, line: Array, options: Audit, progress: Callable[[int], object] | None
) -> tuple[float, list[str]]:
    """Return the planned kl_coef and what is to be said about it."""
    if options.kl_coef is not None:
        return float(options.kl_coef), []
    limit = most_kl(sample, line)
    if limit <= 0:
        raise InputError("signals: every answer of a prompt has the same mixed score, so nothing moves; give kl_coef")
    if options.kl is None and limit <= 2 * DEFAULT_KL:
        note = f"The candidates allow at most {limit:.3g} nats: the audit looks at half of that, not at {DEFAULT_KL}."
        return coefficient_for_kl(sample, line, limit / 2, progress), [note]
    return coefficient_for_kl(sample, line, float(options.kl or DEFAULT_KL), progress), []
