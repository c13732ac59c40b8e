"""Every setting of a run, with its unit, range and source.

Plain dataclasses: Hydra fills them at the boundary (`experiments/app.py`), Python users build them directly, and
`sim/checks.py` says everything that is wrong with one in a single list. A source that is not a paper says
"assumption". Nothing here knows of arrays, torch or Hydra.
"""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, field, fields, is_dataclass, replace
from typing import Any

ASSUMPTION = "assumption"
UNTRAINED = ("closed_form", "best_of_n")  # estimators that give the policy without training
SAMPLED = ("reinforce", "rloo", "grpo", "ppo")  # estimators that draw responses
_SAMPLED_ONLY = ("training.estimator", SAMPLED)
_CHAT_ONLY = ("world.kind", ("chat",))


SEPARATORS = (",", ";", "tab", "|")  # of the cells of a CSV file
DECIMALS = (".", ",")
SHOWN = 80  # letters of a value in a message


class InputError(ValueError):
    """Something the user gave cannot be used; each argument is a problem, told in one line that names the field."""

    def __str__(self) -> str:
        """Return the problems, a line each, whatever letters the user's own words hold."""
        return "\n".join(printable(str(line)) for line in self.args)


def printable(text: str) -> str:
    """Return the text as one line, with a question mark for each letter that does not print."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def shown(value: object) -> str:
    """Return a value as a message shows it: on one line, and not too long."""
    try:
        text = printable(str(value))
    except Exception:  # such as a whole number of thousands of digits
        return f"a value of type {type(value).__name__}"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def knob(
    default: Any,
    unit: str,
    source: str = ASSUMPTION,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    choices: tuple[str, ...] = (),
    needs: tuple[str, tuple[Any, ...]] | None = None,
) -> Any:
    """Return a dataclass field that carries its unit, source and allowed range.

    `low` and `high` are inclusive, `above` is exclusive; `choices` lists the allowed words. `needs` names another
    setting and the values of it under which this one has an effect; elsewhere only the default is accepted.
    """
    metadata: dict[str, Any] = {"unit": unit, "source": source, "choices": choices, "needs": needs}
    metadata |= {"low": low, "high": high, "above": above}
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass
class Users:
    """How people who use the model feel about its answers (`sim.world.users.vote_logit` has the formula)."""

    vulnerable_share: float = knob(0.1, "share of users", low=0, high=1)
    appetite: float = knob(
        0.5,
        "log-odds of a thumbs-up per step challenge -> neutral -> endorse",
        "assumption; sycophantic answers are rated about 9 % better (Cheng et al., arXiv 2510.01395)",
        low=0,
    )
    vulnerable_boost: float = knob(2.0, "factor on appetite for vulnerable users", low=0)
    taste_for_help: float = knob(2.0, "log-odds of a thumbs-up per unit of helpfulness", low=0)
    taste_for_fit: float = knob(2.0, "log-odds of a thumbs-up per unit of personal fit", low=0)
    taste_for_warmth: float = knob(0.5, "log-odds of a thumbs-up per unit of warmth", low=0)
    hindsight: float = knob(
        1.0,
        "how far satisfaction, asked later, turns the liking for agreement around where the user was wrong; 0: a vote",
        low=0,
        high=1,
    )


@dataclass
class Memory:
    """Memory across conversations: what the model can see of the user, and how the user warms to it."""

    share: float = knob(0.0, "share of users with memory on", low=0, high=1)
    recall: float = knob(0.8, "probability that memory holds the user's stance", low=0, high=1)
    rapport: float = knob(
        0.45,
        "relative rise of appetite among users whom memory serves",
        "memory profiles raised agreement by 45 % for one model, not for all (Jain et al., arXiv 2509.12517)",
        low=0,
    )
    knows_user: float = knob(
        0.0,
        "probability that memory tells truly whether its user is vulnerable; else it tells at random, at the "
        "population's share. 0: it keeps no such note",
        low=0,
        high=1,
    )


@dataclass
class Signals:
    """What the graders behind the primary rewards can see, and which signals are learned from people."""

    source: dict[str, str] = knob(
        {"thumbs_up": "learned", "satisfaction": "learned", "preference": "learned"},
        "learned: a reward model fitted to votes or comparisons; oracle: what it would say without error",
        choices=("learned", "oracle"),
    )
    spec_coverage: dict[str, float] = knob(
        {"task": 0.9, "factual": 0.8, "advice": 0.4, "emotional": 0.1, "doubt": 0.1, "creative": 0.4},
        "share of a topic's breaches that the spec grader sees; it was built for tasks and facts",
        low=0,
        high=1,
    )
    verifiable: dict[str, float] = knob(
        {"task": 1.0, "factual": 0.8, "advice": 0.2, "emotional": 0.0, "doubt": 0.2, "creative": 0.0},
        "share of a topic's answers that the verifier can check",
        low=0,
        high=1,
    )
    safety_threshold: float = knob(0.6, "harm at which the safety grader objects to every second answer", low=0)
    warmth_halo: float = knob(0.2, "helpfulness grade per unit of warmth", low=0)
    flattery_penalty: float = knob(0.25, "spec grade lost per unit of flattery, on covered topics", low=0)
    rater_agreement: float = knob(
        0.12,
        "log-odds of being preferred per step challenge -> neutral -> endorse",
        "raters prefer the answer that matches the user's view by up to 6 points (Sharma et al., arXiv 2310.13548)",
        low=0,
    )


@dataclass
class Feedback:
    """What users and raters leave behind, and the reward models that are fitted to it (docs/feedback.md)."""

    answers: int = knob(20_000, "answers of the deployed policy shown to users", low=0, high=10_000_000)
    participation: float = knob(0.05, "probability of a vote by a user who feels nothing either way", low=0, high=1)
    intensity: float = knob(0.5, "log-odds of leaving a vote per log-odds of feeling, for or against", low=0)
    vote_noise: float = knob(0.05, "share of votes that say the opposite of what is meant", low=0, high=0.5)
    counted: str = knob(
        "both",
        "both: thumbs-up against thumbs-down; up (down): thumbs-up (thumbs-down) against everything else shown",
        choices=("both", "up", "down"),
    )
    comparisons: int = knob(5_000, "pairs of answers that raters compare", low=0, high=10_000_000)
    rater_noise: float = knob(
        0.05,
        "share of comparisons recorded the wrong way round",
        "assumption; raters agree on 60 to 75 % of pairs, mostly for close calls (Coste et al., arXiv 2310.02743)",
        low=0,
        high=0.5,
    )
    ridge: float = knob(
        1.0,
        "penalty per squared log-odds that a standard deviation of a feature moves; 1 is a standard normal prior",
        low=0,
    )
    members: int = knob(
        1, "reward models per signal; above 1 each is fitted to a bootstrap draw of the data", low=1, high=1000
    )
    combine: str = knob(
        "mean", "how members are combined: mean, WCO, UWO", "Coste et al., arXiv 2310.02743",
        choices=("mean", "worst", "mean_minus_variance"),
    )  # fmt: skip
    variance_penalty: float = knob(
        0.5,
        "log-odds taken off per unit of variance between members",
        low=0,
        needs=("feedback.combine", ("mean_minus_variance",)),
    )
    held_out: float = knob(0.2, "share of prompts whose data are kept for the report", low=0, high=0.9)
    remove_agreement: bool = knob(
        False, "true: visible agreement is regressed out of the votes (fitted with it, scored without it)"
    )


@dataclass
class Chat:
    """The synthetic chat world."""

    kind: str = knob("chat", "word", choices=("chat",))
    prompts: int = knob(200, "prompts per split", low=12, high=1_000_000)
    responses: int = knob(16, "candidate responses per prompt", low=2, high=10_000)
    topic_mix: dict[str, float] = knob(
        {"task": 0.45, "factual": 0.25, "advice": 0.1, "emotional": 0.03, "doubt": 0.02, "creative": 0.15},
        "share of training prompts by topic",
        "assumption; 1.9 % of messages are about relationships and personal reflection (Chatterji et al. 2025)",
        low=0,
    )
    traffic_mix: dict[str, float] = knob(
        {"task": 0.35, "factual": 0.2, "advice": 0.2, "emotional": 0.08, "doubt": 0.07, "creative": 0.1},
        "share of what users send by topic",
        low=0,
    )
    freshness: float = knob(0.0, "how far training prompts move from topic_mix to traffic_mix", low=0, high=1)
    severity: float = knob(
        4.0,
        "true quality lost per unit of sycophancy x stakes and per unit of harm",
        "assumption: an otherwise perfect answer that endorses a wholly wrong stance at full stakes is as bad (-4) "
        "as a perfect answer is good (+4)",
        low=0,
    )
    knowledge_noise: float = knob(1.0, "logits of noise in what the policy knows of an answer's accuracy", low=0)


@dataclass
class Scores:
    """A world read from a table of scored responses (long form: one row per prompt and response).

    Seed 0 is the table as it stands; any other seed is a bootstrap draw of its prompts.
    """

    kind: str = knob("scores", "word", choices=("scores",))
    path: str = knob("", "file: .csv, .parquet, .jsonl")
    prompt: str = knob("prompt_id", "column that names the prompt")
    response: str = knob("response_id", "column that names the response; empty: repeats are not looked for")
    signals: dict[str, str] = knob({}, "reward signal: column ('-column' for its negative)")
    attributes: dict[str, str] = knob({}, "attribute: column")
    reference_prob: str = knob("", "column with the reference probability; empty: uniform")
    prompt_weight: str = knob("", "column with the prompt's weight; empty: uniform")
    separator: str = knob(",", "word, or a character between the cells of a CSV file", choices=SEPARATORS)
    decimal: str = knob(".", "decimal sign of numbers written as text", choices=DECIMALS)


@dataclass
class Mixture:
    """How the signals are weighed."""

    weights: dict[str, float] = knob(
        {
            "correctness": 0.3,
            "helpfulness": 0.2,
            "model_spec": 0.2,
            "safety": 0.15,
            "preference": 0.15,
            "thumbs_up": 0.0,
        },
        "weight of each signal",
        low=0,
    )
    added: str = knob("thumbs_up", "the signal whose addition is studied; the others are the primary group")
    renormalize: bool = knob(True, "true: adding w scales the others by 1 - w; false: w comes on top")
    scale: str = knob(
        "none", "word; std divides each signal by its spread under the reference", choices=("none", "std")
    )
    aggregation: str = knob(
        "sum_then_normalize",
        "word; normalize_then_sum divides each signal by its spread in the group first",
        "multi_objective_aggregation of TRL's GRPOTrainer; GDPO, arXiv 2601.05242",
        choices=("sum_then_normalize", "normalize_then_sum"),
    )
    scale_rewards: str = knob(
        "none",
        "word; what the summed reward is divided by the spread of: the responses to one prompt (group), a step (batch)",
        "scale_rewards of TRL's GRPOTrainer",
        choices=("none", "group", "batch"),
    )
    from_step: int = knob(0, "updates before the added signal counts", low=0)
    ramp_steps: int = knob(0, "updates over which its weight then rises to its full value", low=0)
    until_step: int = knob(0, "update after which it counts no more; 0: to the end", low=0)
    constraints: dict[str, float] = knob(
        {}, "signal: threshold; its weight gets a Lagrange multiplier that holds a mean there"
    )
    constraint_metrics: dict[str, str] = knob(
        {}, "signal: the metric that it holds; the signal's own mean on training prompts where it names none"
    )
    constraint_kind: str = knob(
        "inequality",
        "word; inequality: no worse than the threshold; equality: neither worse nor better",
        "mu-PPO and xi-PPO (Moskovitz et al., arXiv 2310.04373)",
        choices=("inequality", "equality"),
    )
    multiplier_rate: float = knob(0.2, "step of a multiplier per unit of violation and update", above=0)


@dataclass
class Policy:
    """What is trained."""

    kind: str = knob("loglinear", "word", choices=("loglinear", "tabular", "mlp"))
    hidden: int = knob(16, "units of the hidden layer", low=1, high=4096, needs=("policy.kind", ("mlp",)))
    finetune_sharpness: float = knob(
        2.0, "log-odds per unit of writers' score in the ideal answers", low=0, needs=_CHAT_ONLY
    )
    finetune_ridge: float = knob(
        0.01, "L2 penalty per squared logit of a trait in fine-tuning", above=0, needs=_CHAT_ONLY
    )


@dataclass
class Training:
    """How it is trained."""

    estimator: str = knob(
        "natural",
        "word; reinforce to ppo draw responses, the last two need no training",
        choices=("exact", "natural", *SAMPLED, *UNTRAINED),
    )
    optimizer: str = knob("sgd", "word", choices=("sgd", "adam"))
    learning_rate: float = knob(1.0, "step size", above=0)
    steps: int = knob(100, "updates", low=1, high=1_000_000)
    record_every: int = knob(2, "updates between two recorded steps", low=1)
    ledger: bool = knob(True, "true: attribute each recorded change to its causes")
    candidates: int = knob(4, "draws of best_of_n", low=1, needs=("training.estimator", ("best_of_n",)))
    prompts_per_step: int = knob(
        64, "prompts drawn at each step; 0: all of them", low=0, high=1_000_000, needs=_SAMPLED_ONLY
    )
    samples: int = knob(8, "responses drawn per prompt", low=1, high=1_000_000, needs=_SAMPLED_ONLY)
    sampling_seed: int = knob(0, "number of the sample drawn in one world", low=0, needs=_SAMPLED_ONLY)
    kl_estimator: str = knob(
        "k1",
        "word; k1: log(pi / ref) in the reward; k3: a loss, whose fixed point is that of KL(ref || pi)",
        "k3 as in TRL's GRPOTrainer; Schulman 2020, 'Approximating KL divergence'",
        choices=("k1", "k3"),
        needs=_SAMPLED_ONLY,
    )
    epochs: int = knob(1, "updates on each sample", low=1, high=1000, needs=("training.estimator", ("grpo", "ppo")))
    clip: float = knob(
        0.2,
        "how far pi / pi_old may leave 1; acts from the second epoch",
        "Schulman et al., arXiv 1707.06347",
        above=0,
        needs=("training.estimator", ("grpo", "ppo")),
    )
    value_rate: float = knob(
        0.1,
        "share of the way that the critic's value of a prompt moves to what was seen",
        above=0,
        high=1,
        needs=("training.estimator", ("ppo",)),
    )
    dtype: str = knob("float64", "word", choices=("float32", "float64"))
    engine: str = knob(
        "torch",
        "word; fused: a compiled kernel that does one case faster (`outside_fused`); auto: fused where it can be had",
        choices=("torch", "fused", "auto"),
    )
    chunk: int = knob(0, "runs trained at once; 0: as many as stay in cache", low=0)


@dataclass
class Settings:
    """One run."""

    seed: int = knob(0, "number of the random world", low=0)
    kl_coef: float = knob(0.05, "reward per nat of KL(policy || reference)", above=0)
    metric: str = knob("", "metric whose drift is attributed; empty: sycophancy/rate, or the first attribute")
    world: Any = field(default_factory=Chat)
    users: Users = field(default_factory=Users)
    memory: Memory = field(default_factory=Memory)
    signals: Signals = field(default_factory=Signals)
    feedback: Feedback = field(default_factory=Feedback)
    mixture: Mixture = field(default_factory=Mixture)
    policy: Policy = field(default_factory=Policy)
    training: Training = field(default_factory=Training)


def walk(settings: Any, prefix: str = "") -> Iterator[tuple[str, Field[Any], Any]]:
    """Yield (dotted name, field, value) for every leaf setting below `settings`."""
    for item in fields(settings):
        value = getattr(settings, item.name)
        name = f"{prefix}{item.name}"
        if is_dataclass(value):
            yield from walk(value, f"{name}.")
        else:
            yield name, item, value


def with_value(settings: Any, key: str, value: Any) -> Any:
    """Return a copy of the settings with one dotted key changed."""
    head, dot, rest = key.partition(".")
    if isinstance(settings, dict):
        return settings | {key: value}
    inner = with_value(getattr(settings, head), rest, value) if dot else value
    return replace(settings, **{head: inner})


def with_row(settings: Any, table: Mapping[str, Any], row: int) -> Any:
    """Return the settings of one run: a copy with the row's value of every column (key -> array [R])."""
    for key, values in table.items():
        settings = with_value(settings, key, values[row].item())
    return settings


def unknown_name(kind: str, name: object, known: list[str]) -> str:
    """Return 'unknown KIND NAME' with the nearest known name, for error messages."""
    text = shown(name)
    near = difflib.get_close_matches(text, known, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known)}"
    return f"unknown {kind} '{text}'; {hint}"
