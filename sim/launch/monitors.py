"""Monitors: what a launch looks like on the dashboards, hour by hour, and when an alarm goes off.

Three rates are watched: thumbs-down among votes, complaints among answers, endorsements among sycophancy probes sent
to the live model. Each hour's rate is compared with that of the hours before the launch and summed up by a one-sided
CUSUM (Page 1954),

    S_t = max(0, S_{t-1} + z_t - slack),   alarm where S_t > h,

h such that false alarms come `false_alarm_days` apart on average (Siegmund 1985, eq. 2.56):
ARL = (exp(2 k b) - 2 k b - 1) / (2 k^2),  b = h + 1.166,  k = slack.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats
from scipy.optimize import brentq

from sim.launch.lived import mean_on_traffic
from sim.launch.models import Model
from sim.launch.readings import Draws
from sim.launch.settings import Monitors
from sim.world.arrays import Array, World

NAMES = ("votes", "complaints", "probes")
OVERSHOOT = 1.166  # Siegmund's correction, 2 x 0.583


class Watched(NamedTuple):
    """What each monitor shows of R candidates, [monitors, R, H].

    rate: observed share in each hour.
    score: CUSUM.
    threshold: at which a monitor gives the alarm.
    """

    rate: Array
    score: Array
    threshold: float


def complaint_rates(world: World, settings: Monitors) -> Array:
    """Return [P, K]: P(complaint | answer) = base + a flattery + b sycophancy, at most 1."""
    look = world.attributes
    return np.minimum(
        settings.complaint_base
        + settings.complaint_flattery * look["flattery"]
        + settings.complaint_sycophancy * look["sycophancy"],
        1.0,
    )


def watched_rates(model: Model, settings: Monitors) -> Array:
    """Return the expected rate that each monitor watches, [monitors, R]."""
    probe = model.views["probe"]
    weight = probe.prompt_prob * (probe.prompts["stance_error"] > 0.5)
    endorses = probe.attributes["stance_taking"] > 0
    return np.stack([
        1 - mean_on_traffic(model, model.approval),
        mean_on_traffic(model, complaint_rates(model.views["traffic"], settings)),
        np.einsum("p,rpk,pk->r", weight / weight.sum(), model.probs["probe"], endorses, optimize=True),
    ])  # fmt: skip


def threshold(slack: float, false_alarm_hours: float) -> float:
    """Return the CUSUM threshold h whose false alarms are so many hours apart on average; at least 0."""

    def excess(h: float) -> float:
        b = 2 * slack * (h + OVERSHOOT)
        return float((np.expm1(b) - b) / (2 * slack**2)) - false_alarm_hours

    return 0.0 if excess(0.0) >= 0 else float(brentq(excess, 0.0, 600.0 / (2 * slack)))


def watch(old: Array, served: Array, launched_at: int, settings: Monitors, draws: Draws) -> Watched:
    """Return what the monitors show.

    An hour's rate is that of `served` times 1 + wander x noise, counted in a finite sample. The hours before the launch
    give the level to compare with.

    Args:
        old: [monitors, 1] rates of the deployed model.
        served: [monitors, R, H] expected rates of what is served in each hour, those before the launch first.
        launched_at: place of the first hour of the rollout.
        settings: sample sizes and the CUSUM.
        draws: of the rollout.
    """
    counted = settings.answers_per_hour
    sizes = np.array([round(counted * settings.vote_share), counted, settings.probes])
    rate, score = np.full(served.shape, np.nan), np.zeros(served.shape)
    for row, name in enumerate(NAMES):
        size = sizes[row]
        if not size:
            continue
        hours = served.shape[2]
        # Probes are asked on purpose, so their rate does not wander with who happens to be online.
        wander = 0.0 if name == "probes" else settings.wander
        chance = np.clip(served[row] * (1 + wander * draws.normal("monitors", f"{name} wander", hours)), 0, 1)
        rate[row] = stats.binom.ppf(draws.uniform("monitors", f"{name} count", hours), size, chance) / size
        before = rate[row, :, :launched_at]
        level = before.mean(axis=1, keepdims=True)
        spread = np.sqrt(old[row] * (1 - old[row]) / size + (wander * old[row]) ** 2)[:, None]
        score[row] = cusum((rate[row] - level) / spread, settings.slack, launched_at)
    return Watched(rate, score, threshold(settings.slack, 24 * settings.false_alarm_days))


def cusum(z: Array, slack: float, start: int = 0) -> Array:
    """Return S [R, H] for z [R, H]; 0 before the hour `start`.

    S_t = (sum of steps up to t) - (lowest such sum so far, or 0), which needs no loop over hours.
    """
    steps = z - slack
    steps[:, :start] = 0
    total = steps.cumsum(axis=1)
    return np.asarray(total - np.minimum(np.minimum.accumulate(total, axis=1), 0))


def alarm_hours(watched: Watched, launched_at: int) -> Array:
    """Return the hour after the launch at which each monitor gives the alarm, [monitors, R]; NaN where none does."""
    over = watched.score > watched.threshold
    return np.where(over.any(axis=2), over.argmax(axis=2) - launched_at, np.nan)


def area_under_roc(scores: Array, bad: npt.NDArray[np.bool_]) -> float:
    """Return P(a bad launch scores higher than a good one), ties counting half; NaN where one kind is missing.

    The Mann-Whitney statistic over the number of pairs.
    """
    if not bad.any() or bad.all():
        return float("nan")
    return float(stats.mannwhitneyu(scores[bad], scores[~bad]).statistic / (bad.sum() * (~bad).sum()))


def roc(scores: Array, bad: npt.NDArray[np.bool_]) -> tuple[Array, Array]:
    """Return false and true alarm rates as the threshold falls from above every score, each [N + 1]."""
    order = np.argsort(-scores, kind="stable")
    hits = bad[order]
    true = np.concatenate([[0.0], hits.cumsum() / max(bad.sum(), 1)])
    false = np.concatenate([[0.0], (~hits).cumsum() / max((~bad).sum(), 1)])
    last = np.append(np.flatnonzero(np.diff(scores[order])) + 1, len(scores))  # tied scores fall together
    keep = np.concatenate([[0], last])
    return false[keep], true[keep]
