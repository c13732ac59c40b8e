"""Settings of the review and of the rollout.

Only dates and an order of events were published about April 2025: no sample size, cost, margin or rate. So nearly every
constant here is an assumption, and says so. The two review processes differ in `Gates` and `Review` alone; both run the
same checks on the same draws.
"""

from dataclasses import dataclass, field
from typing import Any

from sim.config import knob

POST = "OpenAI, 'Expanding on what we missed with sycophancy', 2 May 2025"
OFF_SCALE = "feel points: share of sycophantic answers plus mean flattery"


@dataclass
class Evals:
    """Offline tests with a grader: questions from a split, one answer of each model to each."""

    offline: int = knob(14_042, "questions", "MMLU's test set (Hendrycks et al., arXiv 2009.03300)", low=0)
    safety: int = knob(2_000, "questions", low=0)
    sycophancy: int = knob(969, "probes", "Miller, arXiv 2411.00640: 80 % power to see 0.03", low=0)
    model_spec: int = knob(969, "probes", "as the sycophancy eval", low=0)
    grader_noise: float = knob(0.1, "standard deviation of the grade of one answer", low=0)
    days: float = knob(1.0, "days", low=0)
    hours_each: float = knob(0.002, "person-hours per question", low=0)


@dataclass
class RedTeam:
    """An adversarial search over prompts for harm, then a fresh count on the worst that were found."""

    tries: int = knob(200, "prompts tried", low=0)
    answers: int = knob(8, "answers drawn per try", low=1)
    worst: int = knob(20, "worst prompts kept", low=2)
    confirm: int = knob(50, "fresh answers on each prompt kept", low=1)
    days: float = knob(3.0, "days", low=0)
    hours: float = knob(80.0, "person-hours", low=0)


@dataclass
class SpotChecks:
    """A few experts talk to both models and say how the candidate feels."""

    experts: int = knob(5, "experts", low=0)
    chats: int = knob(20, "chats of each expert with each model", low=1)
    noise: float = knob(0.3, "standard deviation of how one chat feels, " + OFF_SCALE, low=0)
    taste: float = knob(0.05, "standard deviation of experts' own leaning, " + OFF_SCALE, low=0)
    slightly_off: float = knob(0.05, "panel mean from which the candidate is called slightly off", low=0)
    too_agreeable: float = knob(0.2, "panel mean from which it is called too agreeable", low=0)
    days: float = knob(2.0, "days", low=0)
    hours_each: float = knob(0.1, "person-hours per chat", low=0)


@dataclass
class Alpha:
    """Volunteers use the candidate first and are asked whether it only told them what they wished to hear."""

    volunteers: int = knob(400, "volunteers", low=0)
    answers: int = knob(25, "answers rated by each", low=1)
    notices: float = knob(0.3, "probability of flagging a sycophantic answer", low=0, high=1)
    false_flags: float = knob(0.02, "probability of flagging any other answer", low=0, high=1)
    days: float = knob(7.0, "days", low=0)
    hours: float = knob(40.0, "person-hours", low=0)


@dataclass
class ABTest:
    """A small share of users gets the candidate."""

    users: int = knob(5_000, "users per arm", low=0)
    days: float = knob(7.0, "days", above=0)
    chats_per_day: float = knob(3.0, "answers per user and day", above=0)
    vote_share: float = knob(0.1, "share of answers that get a vote", low=0, high=1)
    pairs: int = knob(2_000, "side-by-side comparisons", low=0)
    design: str = knob("fixed", "word", "assumption", choices=("fixed", "pocock", "obrien_fleming", "always_valid"))
    looks: int = knob(5, "looks at the data, evenly spaced", low=1, high=10)
    mixing: float = knob(0.02, "spread of effects that the always-valid test expects, rate points", above=0)
    hours: float = knob(20.0, "person-hours", low=0)


@dataclass
class Checks:
    """Every check of a candidate against the deployed model."""

    evals: Evals = field(default_factory=Evals)
    red_team: RedTeam = field(default_factory=RedTeam)
    spot_checks: SpotChecks = field(default_factory=SpotChecks)
    alpha: Alpha = field(default_factory=Alpha)
    ab_test: ABTest = field(default_factory=ABTest)


@dataclass
class Gate:
    """What one reading has to show.

    `noninferior`: passes once a change for the worse beyond the margin is ruled out, fails once it is shown.
    `alarm`: fails once it is shown, passes otherwise.
    """

    metric: str = knob("", "name of a reading")
    direction: str = knob("lower", "word: which way is better", choices=("higher", "lower"))
    margin: float = knob(0.0, "change for the worse that is accepted: >= 0 where lower is better, else <= 0")
    test: str = knob("noninferior", "word", choices=("noninferior", "alarm"))
    role: str = knob("muted", "word", choices=("blocking", "advisory", "muted"))
    must_have_data: bool = knob(True, "true: fails without data; false: investigate without data")


def _gate(metric: str, direction: str, margin: float, test: str, role: str) -> Any:
    return field(default_factory=lambda: Gate(metric, direction, margin, test, role))


@dataclass
class Gates:
    """All gates, with the roles of April 2025; margins are assumptions but for the sycophancy eval's (V13)."""

    offline: Gate = _gate("launch/offline", "higher", -0.02, "noninferior", "blocking")
    safety: Gate = _gate("launch/safety", "lower", 0.02, "noninferior", "blocking")
    red_team: Gate = _gate("launch/red_team", "lower", 0.05, "alarm", "blocking")
    sycophancy: Gate = _gate("launch/sycophancy", "lower", 0.03, "noninferior", "muted")
    overcorrection: Gate = _gate("launch/overcorrection", "lower", 0.03, "alarm", "muted")
    model_spec: Gate = _gate("launch/model_spec", "lower", 0.03, "noninferior", "muted")
    spot_checks: Gate = _gate("launch/spot_checks", "lower", 0.0, "alarm", "advisory")
    alpha: Gate = _gate("launch/alpha", "lower", 0.005, "noninferior", "muted")
    votes: Gate = _gate("launch/votes", "higher", -0.01, "noninferior", "blocking")
    preference: Gate = _gate("launch/preference", "higher", -0.02, "noninferior", "blocking")
    usage: Gate = _gate("launch/usage", "higher", -0.01, "alarm", "advisory")


@dataclass
class Review:
    """A review process: its checks, its gates, and how verdicts become a decision."""

    name: str = knob("april_2025", "word", POST)
    checks: Checks = field(default_factory=Checks)
    gates: Gates = field(default_factory=Gates)
    level: float = knob(0.05, "one-sided error of each verdict", "convention", above=0, high=0.5)
    correction: str = knob(
        "holm", "word, over the alarms of one review", "Holm 1979", choices=("holm", "bonferroni", "none")
    )
    conflict: str = knob(
        "ignore", "word: A/B in favour but experts call it off", POST, choices=("ignore", "investigate")
    )
    second_look: float = knob(4.0, "times the first sample, where the verdict is investigate; 0: no second look", low=0)


def april_2025() -> Review:
    """Return the process of April 2025: safety blocks, A/B and offline evals decide, spot checks only advise."""
    return Review()


def improved() -> Review:
    """Return the process that the post announces: behaviour blocks, qualitative signals too.

    Sycophancy and model-spec evals, an alpha phase, spot checks that count, larger evals and an A/B test long enough
    for users to find out; where A/B and experts disagree, a second look.
    """
    review = Review(name="improved", conflict="investigate")
    gates = review.gates
    for gate in (gates.sycophancy, gates.overcorrection, gates.model_spec, gates.spot_checks, gates.alpha, gates.usage):
        gate.role = "blocking"
    review.checks.evals.sycophancy = review.checks.evals.model_spec = 2_000
    review.checks.ab_test.days = 28.0
    review.checks.ab_test.design = "obrien_fleming"
    return review


# What each improvement alone takes over from the improved process.
IMPROVEMENTS = {
    "sycophancy evals": ("gates.sycophancy", "gates.overcorrection", "checks.evals"),
    "model-spec evals": ("gates.model_spec", "checks.evals"),
    "spot checks count": ("gates.spot_checks", "conflict"),
    "alpha phase": ("gates.alpha", "checks.alpha"),
    "longer A/B": ("gates.usage", "checks.ab_test"),
}


@dataclass
class Lived:
    """Approval now, trust later: how answers change whether a user comes back."""

    return_base: float = knob(0.6, "probability that a user comes back on a day", above=0, high=0.999)
    approval_effect: float = knob(
        2.0,
        "log-odds of coming back per unit of approval of recent answers",
        "assumption; a sycophantic answer raises the wish to return by about 13 % (Cheng et al., arXiv 2510.01395)",
        low=0,
    )
    trust_loss: float = knob(0.5, "log-odds of coming back lost per unit of stakes on which one was misled", low=0)
    finds_out_days: float = knob(7.0, "days until one finds out", low=0)
    recent_days: float = knob(2.0, "days over which approval is remembered", above=0)


@dataclass
class Monitors:
    """What is watched hour by hour after a launch, against the days before it."""

    baseline_hours: int = knob(72, "hours before the launch", low=2, high=8784)
    answers_per_hour: int = knob(
        1_000_000,
        "answers per hour that are counted",
        "assumption; users send 2.5 billion messages a day (Chatterji et al. 2025)",
        low=1,
    )
    vote_share: float = knob(0.1, "share of answers that get a vote", low=0, high=1)
    probes: int = knob(100, "sycophancy probes sent per hour; 0: none", low=0)
    wander: float = knob(0.02, "standard deviation of an hour's rate, relative, that has no cause", low=0)
    complaint_base: float = knob(0.001, "complaints per answer, whatever it is like", low=0, high=1)
    complaint_flattery: float = knob(0.002, "complaints per unit of flattery in an answer", low=0, high=1)
    complaint_sycophancy: float = knob(0.004, "complaints per sycophantic answer", low=0, high=1)
    slack: float = knob(0.25, "standard errors an hour may drift unnoticed (CUSUM)", "Page 1954", above=0)
    false_alarm_days: float = knob(90.0, "days between false alarms of one monitor", above=0.05)


@dataclass
class Rollout:
    """The hourly clock of a launch; dates are published, hours of the day and the number of users are not."""

    users: int = knob(10_000, "simulated users, each standing for many", low=1)
    start: str = knob("2025-04-24 10:00", "date and hour", f"day: {POST}; hour: assumption")
    complete: str = knob("2025-04-25 16:00", "date and hour", f"day: {POST}; hour: assumption")
    patch: str = knob("2025-04-27 20:00", "date and hour; empty: none", f"Sunday evening: {POST}; hour: assumption")
    rollback: str = knob("2025-04-28 09:00", "date and hour; empty: none", f"Monday: {POST}; hour: assumption")
    rollback_hours: int = knob(24, "hours", f"'about 24 hours': {POST}", low=1, high=8784)
    end: str = knob("2025-04-30 00:00", "date and hour at which the clock stops")
    pause: str = knob("", "date and hour at which the ramp is held; empty: never")
    resume: str = knob("", "date and hour at which it goes on; empty: never")
    follow_days: int = knob(21, "days after the end, for trust to show", low=0, high=366)
    respond: str = knob(
        "published", "word: dates as published, or when a monitor fires", choices=("published", "monitors")
    )
    monitor: str = knob("probes", "word: the monitor that is acted on", choices=("votes", "complaints", "probes"))
    patch_delay: int = knob(6, "hours from alarm to patch", low=0, high=8784)
    rollback_delay: int = knob(12, "hours from alarm to rollback", low=0, high=8784)
    patch_mean: float = knob(-1.0, "log-odds of endorsing that a patch adds, mean", low=-20, high=20)
    patch_spread: float = knob(0.75, "standard deviation of it; above 0 the patch backfires", low=0)
    chats_per_day: float = knob(3.0, "answers per user and day", above=0, high=24)
    vote_share: float = knob(0.1, "share of answers that get a vote", low=0, high=1)


@dataclass
class Bundles:
    """Random candidate updates, and what counts as a bad one."""

    candidates: int = knob(2_048, "candidate updates", low=8)
    worlds: int = knob(16, "random worlds that they are spread over", low=1)
    votes_share: float = knob(0.5, "share of updates that add the votes of users", low=0, high=1)
    max_weight: float = knob(0.3, "largest weight of the votes", above=0, high=1)
    memory_share: float = knob(0.5, "share of updates that turn memory on for everybody", low=0, high=1)
    fresh_share: float = knob(0.5, "share of updates with fresher data", low=0, high=1)
    spread: float = knob(0.2, "spread of every other weight and of kl_coef, in logs", low=0)
    tolerated_rise: float = knob(0.03, "rise of the sycophancy rate above which an update is bad", low=0)
