"""Who would have noticed: the same update before two review processes, each check made anew at every movement.

The update is what the sliders say, held against the model before it: the same world, trained without votes, memory
and fresher data. Both processes meet the same luck in their checks, so they differ by what they ask and what counts.
"""

from collections.abc import Mapping
from html import escape
from typing import NamedTuple

from experiments.page.charts import signed, values_attribute
from experiments.page.sliders import settings_of
from sim.launch.gates import VERDICTS
from sim.launch.models import train_models
from sim.launch.process import Decision, decide
from sim.launch.readings import Draws
from sim.launch.settings import Lived, Review, april_2025, improved
from sim.launch.stages import METRICS, STAGES

BEFORE = {"weight": 0.0, "memory": 0.0, "freshness": 0.0}
WORLD = 0  # the first of the page's worlds
CHECKS = {
    "offline": "Offline evals",
    "safety": "Safety evals",
    "sycophancy": "Sycophancy evals",
    "overcorrection": "Over-correction evals",
    "model_spec": "Model-spec evals",
    "red_team": "Red team",
    "spot_checks": "Experts' spot checks",
    "alpha": "Alpha testers",
    "votes": "A/B test: votes",
    "preference": "A/B test: side by side",
    "usage": "A/B test: return visits",
}
TITLES = {"april_2025": "As in April 2025", "improved": "Improved"}
WORDS = {"pass": "passes", "investigate": "unclear", "fail": "fails"}
NOT_ASKED, NOT_REACHED = "not asked", "not reached"


class Verdict(NamedTuple):
    """What one check says in one process.

    word: one of `VERDICTS`, "not asked" or "not reached".
    effect: the update minus the model before it; NaN where the check was not made.
    advice: it has a say but no veto.
    """

    word: str
    effect: float
    advice: bool


def decisions(values: Mapping[str, float]) -> dict[str, Decision]:
    """Return what each process decides about the update that the sliders describe, by the process's name."""
    update, _ = train_models(settings_of(values), {}, WORLD)
    deployed, _ = train_models(settings_of(dict(values) | BEFORE), {}, WORLD)
    return {review.name: decide(update, deployed, review, Lived(), Draws(WORLD, ("update",))) for review in reviews()}


def reviews() -> tuple[Review, Review]:
    """Return the two processes."""
    return april_2025(), improved()


def verdicts(decision: Decision) -> dict[str, Verdict]:
    """Return gate -> verdict of one process; checks of stages that the update did not live to see were not made."""
    gates = decision.last.gates
    order = list(STAGES)
    caught = gates.get(str(decision.caught[0]))
    # A second look comes after every check of the first.
    cut_short = caught is not None and not decision.second[0]
    reached = order.index(METRICS[caught.metric]) if caught and cut_short else len(order)
    found = {}
    for row, (name, gate) in enumerate(gates.items()):
        word = VERDICTS[decision.last.verdict[row, 0]]
        if gate.role == "muted":
            word = NOT_ASKED
        elif order.index(METRICS[gate.metric]) > reached:
            word = NOT_REACHED
        made = word in VERDICTS
        effect = float(decision.last.effect[row, 0]) if made else float("nan")
        found[name] = Verdict(word, effect, made and gate.role == "advisory")
    return found


def outcome(decision: Decision) -> str:
    """Return what became of the update, in a few words."""
    days = f"{decision.days[0]:.0f} day{'' if round(decision.days[0]) == 1 else 's'}"
    if decision.launched[0]:
        return f"Launched after {days}"
    by = CHECKS.get(str(decision.caught[0]), "experts, against the votes")
    return f"Blocked after {days}: {by[0].lower() + by[1:]}"


def panel(values: Mapping[str, float]) -> str:
    """Return the table for one position of the sliders: a row for each check, a column for each process."""
    made = decisions(values)
    columns = {name: verdicts(decision) for name, decision in made.items()}
    head = "".join(f"<th>{escape(TITLES[name])}</th>" for name in made)
    rows = "".join(
        f'<tr id="g-{gate}"><th>{escape(label)}</th>{"".join(cell(column[gate]) for column in columns.values())}</tr>'
        for gate, label in CHECKS.items()
    )
    last = "".join(
        f'<td id="o-{name}" data-launched="{str(bool(decision.launched[0])).lower()}">{escape(outcome(decision))}</td>'
        for name, decision in made.items()
    )
    return (
        '<div class="page"><section class="gates" id="gates" '
        f'data-values="{values_attribute(values)}"><div class="title" role="heading" aria-level="2">'
        "Who would have noticed?</div><p>Your update against the model "
        "before it (no votes, no memory, old data), in the first world. In brackets: what the check measured, update "
        "minus before. Both processes have the same luck in their samples.</p><table><thead><tr><th></th>"
        f'{head}</tr></thead><tbody>{rows}<tr class="outcome"><th>Decision</th>{last}</tr></tbody></table>'
        "</section></div>"
    )


def cell(verdict: Verdict) -> str:
    """Return one cell; the word says it, the mark beside it repeats it."""
    words = WORDS.get(verdict.word, verdict.word)
    effect = f" ({signed(verdict.effect)})" if verdict.effect == verdict.effect else ""
    advice = ", advice only" if verdict.advice else ""
    kind = verdict.word.replace(" ", "-")
    return f'<td class="{kind}" data-effect="{verdict.effect!r}">{escape(words + effect + advice)}</td>'
