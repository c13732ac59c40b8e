"""QUESTION: which mitigation keeps what votes are good for, and at what cost?

    python -m experiments.mitigations
    python -m experiments.mitigations "+arms.anneal='mixture.ramp_steps=10,20,40,80'" mixture.weights.thumbs_up=0.2

Every mitigation is turned through its range in the same random worlds (by default the launch's: memory for everybody,
fresher data, a thumbs-up weight of 0.3) and drawn as a path of true quality against sycophancy. An arm is a name with
settings; the setting with several values is its knob, and an arm without one is followed along its training. With the
defaults expect: regressing agreement out of the votes keeps nearly all of their benefit, lowering their weight a tenth,
and a tighter leash none.
"""

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
import xarray as xr
from tqdm import tqdm

from experiments.app import command
from experiments.minimal_penalty import simulate_penalties
from experiments.mitigation_scores import frontier_table, headline_numbers, score_table, shown_scores
from experiments.studies import publish, refuse_multirun, seed_list, show_table
from sim.config import Chat, InputError, Settings, knob
from sim.plots.mitigations import Frontier, frontier_figure, score_figure
from sim.plots.report import writable
from sim.variants import Arm, Variant, apply, final, read_arm, simulate_variants
from sim.world.arrays import Array

WEIGHTS = "mixture.weights.thumbs_up=0,0.05,0.1,0.15,0.2,0.3,0.4,0.6"
ARMS = {
    "lower_weight": WEIGHTS,
    "higher_kl_coef": "kl_coef=0.05,0.07,0.1,0.14,0.2,0.3,0.5,1",
    "early_stopping": "training.record_every=1",
    "agreement_penalty": "mixture.weights.candor=0,0.02,0.04,0.07,0.1,0.15,0.25,0.4",
    "agreement_regressed_out": f"feedback.remove_agreement=true {WEIGHTS}",
    "satisfaction_instead": "mixture.weights.thumbs_up=0 mixture.added=satisfaction "
    "mixture.weights.satisfaction=0,0.05,0.1,0.15,0.2,0.3,0.4,0.6",
    "thumbs_down_only": f"feedback.counted=down {WEIGHTS}",
    "ensemble_mean": f"feedback.members=5 {WEIGHTS}",
    "ensemble_worst_case": f"feedback.members=5 feedback.combine=worst {WEIGHTS}",
    "ensemble_less_variance": f"feedback.members=5 feedback.combine=mean_minus_variance {WEIGHTS}",
    "probe_constraint": "mixture.weights.candor=0 mixture.constraint_metrics.candor=sycophancy/rate "
    "mixture.constraints.candor=0.15,0.2,0.25,0.3,0.35,0.4,0.45",
    "votes_late": "mixture.from_step=0,20,40,60,75,85,92,97",
}
MINIMAL_PENALTY = "minimal_penalty"
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0)
PLACES = np.r_[1, 2:10:2, 10:30:5, 30:1000:10]  # recorded steps at which a path along training is looked at
# Settings that act on the votes' signal alone: without votes they do nothing.
VOTES_ONLY = ("feedback.", "mixture.added", "mixture.from_step", "mixture.ramp_steps", "mixture.until_step")


FRONTIER_CAPTION = (
    "Paths of true quality against sycophancy as each knob is turned; up and to the left is better. Means over worlds."
)
SCORE_CAPTION = (
    "Left: hypervolume, the area of the path that is better than the unmitigated update in sycophancy and than the "
    "reference policy in true quality. Middle and right: at the setting that gives the most true quality without more "
    "sycophancy than the reference policy, the true quality over training without votes, and how much of it the votes "
    "bring (with votes minus without, under the same mitigation), as a share of what unbiased votes bring."
)


@dataclass
class Mitigations(Settings):
    """The run that is to be mitigated, and the ways of doing it."""

    arms: dict[str, str] = knob(ARMS, "arm: KEY=VALUE, separated by spaces; KEY=V1,V2,... is its knob")
    minimal_penalty: bool = knob(True, "true: the agreement penalty that theory says is enough is an arm as well")
    unbiased: str = knob(f"users.appetite=0 {WEIGHTS}", "arm whose votes tell nothing of being agreed with")
    margin: float = knob(0.0, "sycophancy rate that is allowed above that of the reference policy", low=-1, high=1)
    seeds: int = knob(16, "random worlds", low=2)
    out: str = knob("results/mitigations", "folder for the figures, the report and the tables")


@command("mitigations", Mitigations)
def main(settings: Mitigations) -> None:
    """Train every arm, print and write its frontier, its hypervolume and what it keeps of the votes' benefit."""
    refuse_multirun("mitigations")
    if not isinstance(settings.world, Chat):
        raise InputError("world.kind = scores: nobody knows the true quality of a score table; use the chat world")
    arms = {name.replace("_", " "): read_arm(settings, f"arms.{name}", text) for name, text in settings.arms.items()}
    seeds = seed_list(settings, settings.seeds)
    writable(settings.out)
    settings.training.ledger, settings.training.record_every = False, settings.training.steps
    ends, frontiers = run_arms(settings, arms, seeds)
    scores = score_table(frontiers, ends, settings.margin)
    show_table("mitigations (90 % intervals over worlds)", shown_scores(scores))
    figures = [
        (frontier_figure(frontiers, ends, settings.margin), "frontiers", FRONTIER_CAPTION),
        (score_figure(scores), "scores", SCORE_CAPTION),
    ]
    question = (__doc__ or "").splitlines()[0]
    tables = {"scores": scores, "frontiers": frontier_table(frontiers)}
    headlines = headline_numbers(scores, ends, settings.margin)
    publish(settings, "mitigations", "Thumbscale: mitigations", question, headlines, figures, tables)


def run_arms(
    settings: Mitigations, arms: dict[str, Arm], seeds: npt.NDArray[np.int64]
) -> tuple[dict[str, Frontier], dict[str, Frontier]]:
    """Return what all arms are compared with, and the frontier of each arm."""
    fixed = {
        "unmitigated": Arm([{}], "", []),
        "without votes": Arm([without_votes(settings, {})], "", []),
        "unbiased votes": read_arm(settings, "unbiased", settings.unbiased),
    }
    everything = fixed | arms
    plain = without_votes(settings, {})
    twins = {name: [own_twin(settings, variant) for variant in arm.variants] for name, arm in everything.items()}
    variants = [plain]
    for name, arm in everything.items():
        variants += [variant for variant in [*arm.variants, *twins[name]] if variant not in variants]
    strengths = STRENGTHS if settings.minimal_penalty else ()
    with tqdm(total=(len(variants) + 2 * len(strengths)) * len(seeds), desc="training", unit="run") as bar:
        data = simulate_variants(settings, variants, seeds, bar.update)
        frontiers = {
            name: read_frontier(
                arm, [data[variants.index(v)] for v in arm.variants], [data[variants.index(v)] for v in twins[name]]
            )
            for name, arm in everything.items()
        }
        if strengths:
            run, knob = settings_only(settings), Arm([], "strength", list(strengths))
            both = [simulate_penalties(apply(run, v), strengths, seeds, bar.update) for v in ({}, plain)]
            frontiers[MINIMAL_PENALTY.replace("_", " ")] = read_frontier(knob, *both)
    return {name: frontiers.pop(name) for name in fixed}, frontiers


def without_votes(settings: Settings, variant: Variant) -> Variant:
    """Return the variant with the votes' weight at 0."""
    added = variant.get("mixture.added", settings.mixture.added)
    return {**variant, f"mixture.weights.{added}": 0.0}


def own_twin(settings: Settings, variant: Variant) -> Variant:
    """Return the same mitigation without votes; plain training where the mitigation acts on the votes alone."""
    twin = without_votes(settings, variant)
    acts = [key for key in twin if twin[key] != 0.0 and not key.startswith(VOTES_ONLY)]
    return twin if acts else without_votes(settings, {})


def settings_only(settings: Settings) -> Settings:
    """Return the run's settings without those of the study."""
    return Settings(**{item.name: getattr(settings, item.name) for item in fields(Settings)})


def read_frontier(arm: Arm, data: list[xr.Dataset], twins: list[xr.Dataset]) -> Frontier:
    """Return the path of an arm, beside the same without votes."""
    recorded = PLACES[data[0].sizes["step"] > PLACES]

    def path(data: list[xr.Dataset], name: str) -> Array:
        return data[0][name].values[:, recorded] if arm.key == "step" else final(data, name)

    def gained(data: list[xr.Dataset]) -> Array:
        return path(data, "true/quality") - data[0]["true/quality"].values[:, :1]

    values = data[0]["step"].values[recorded] if arm.key == "step" else np.array(arm.values or [0.0])
    others = {name: path(data, f"sycophancy/{name}") for name in ("endorses_right", "overcorrection")}
    reference = data[0]["sycophancy/rate"].values[:, 0]
    rate, quality = path(data, "sycophancy/rate"), gained(data)
    return Frontier(
        arm.key, values.astype(float), rate, quality, np.broadcast_to(gained(twins), quality.shape), reference, others
    )


if __name__ == "__main__":
    main()
