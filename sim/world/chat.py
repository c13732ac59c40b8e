"""The synthetic chat world: prompts with user stances, and candidate responses that endorse, ignore or challenge them.

One response generator serves every split. The candidates of a prompt do not depend on memory or on what the model
sees: seeing a stance only lets the policy *tell* the endorsing candidates from the others, through its features. That
is how memory acts here: one cannot agree with a stance that one does not know.
"""

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from sim import rng
from sim.config import Chat, Memory, Users
from sim.world.arrays import Array, World
from sim.world.users import STYLES, Fields, draw_users, topic_column, topic_weights

# Constants of the response generator, in logits unless said otherwise. All are assumptions.
ENDORSE_SHARE, CHALLENGE_SHARE = 0.4, 0.3  # of the candidates, where the user takes a stance; the rest are neutral
ACCURACY_BASE, MERIT_EFFECT = 0.5, 1.5  # siding with the truth adds, siding against it costs
HELP_WITH_ACCURACY = 0.3  # accurate answers help more
# "somewhat correlated": 0.3 gives a correlation of about 0.25 with taking the user's side
WARMTH_WITH_AGREEMENT, FLATTERY_WITH_AGREEMENT, FLATTERY_BASE = 0.3, 0.3, -1.0
HARM_BASE = 0.1  # largest harm that does not come from endorsing, in units of harm
SPLITS = ("finetune", "train", "probe", "benchmark", "traffic")
AGREEMENT_FEATURES = slice(0, 5)  # the policy's features that say whether an answer sides with the user


def make_chat(chat: Chat, users: Users, memory: Memory, seed: int) -> dict[str, World]:
    """Return the splits of one random chat world, under a uniform reference (see `sim/training/finetune.py`).

    Fine-tuning answers are written before memory exists and on the old topic mix, so that neither change moves the
    reference policy.
    """
    old = topic_weights(chat.topic_mix, "world.topic_mix")
    traffic = topic_weights(chat.traffic_mix, "world.traffic_mix")
    fresh = (1 - chat.freshness) * old + chat.freshness * traffic
    no_memory = Memory(share=0.0)
    return {
        "finetune": _make_split(chat, users, no_memory, seed, "finetune", old),
        "train": _make_split(chat, users, memory, seed, "train", fresh),
        "probe": _make_probes(chat, users, memory, seed, traffic * topic_column(np.arange(len(old)), "stance")),
        "benchmark": _make_split(chat, users, memory, seed, "benchmark", old, stances=False),
        "traffic": _make_split(chat, users, memory, seed, "traffic", traffic),
    }


def _make_split(
    chat: Chat, users: Users, memory: Memory, seed: int, split: str, mix: Array, stances: bool = True
) -> World:
    topics = np.arange(chat.prompts) % len(mix)
    prompts = draw_users(topics, users, memory, seed, split)
    if not stances:
        nobody = np.zeros(chat.prompts, dtype=bool)
        prompts |= {"has_stance": nobody, "stance_in_prompt": nobody, "visible": nobody}
    return _assemble(chat, prompts, _draw_noise(chat, chat.prompts, seed, split), mix)


def _make_probes(chat: Chat, users: Users, memory: Memory, seed: int, mix: Array) -> World:
    """Return mirrored pairs: prompts i and i + P/2 share user and answers, but the user is wrong only in the first."""
    pairs = chat.prompts // 2
    topics = np.flatnonzero(mix > 0)[np.arange(pairs) % np.count_nonzero(mix)]
    prompts = draw_users(topics, users, memory, seed, "probe")
    everybody = np.ones(pairs, dtype=bool)
    prompts |= {"has_stance": everybody, "stance_in_prompt": everybody, "visible": everybody}
    wrong = 0.5 + np.abs(prompts["stance_error"] - 0.5)
    prompts = {name: np.concatenate([column, column]) for name, column in prompts.items()}
    prompts["stance_error"] = np.concatenate([wrong, 1 - wrong])
    noise = {name: np.concatenate([array, array]) for name, array in _draw_noise(chat, pairs, seed, "probe").items()}
    return _assemble(chat, prompts, noise, mix)


def _draw_noise(chat: Chat, prompts: int, seed: int, split: str) -> dict[str, Array]:
    """Return the random draws behind the responses of a split, one stream each."""
    shape = (prompts, chat.responses)
    noise = {"stance": rng.stream(seed, "chat", split, "stance").random(shape)}
    for name in ("accuracy", "known_accuracy", "helpfulness", "warmth", "flattery", "risk"):
        noise[name] = rng.stream(seed, "chat", split, name).standard_normal(shape)
    noise["style"] = rng.stream(seed, "chat", split, "style").standard_normal((*shape, STYLES))
    return noise


def _assemble(chat: Chat, prompts: Fields, noise: dict[str, Array], mix: Array) -> World:
    """Return the world that follows from its prompts and its noise."""
    error, stakes = (prompts[name][:, None] for name in ("stance_error", "stakes"))
    has_stance = prompts["has_stance"][:, None]
    drawn = np.where(noise["stance"] < ENDORSE_SHARE, 1.0, np.where(noise["stance"] > 1 - CHALLENGE_SHARE, -1.0, 0.0))
    stance_taking = np.where(has_stance, drawn, 0.0)
    endorses_wrong = (stance_taking > 0) & (error > 0.5)

    accuracy_logit = ACCURACY_BASE + noise["accuracy"] + MERIT_EFFECT * stance_taking * (1 - 2 * error)
    helpfulness_logit = noise["helpfulness"] + HELP_WITH_ACCURACY * noise["accuracy"]
    warmth_logit = noise["warmth"] + WARMTH_WITH_AGREEMENT * stance_taking
    flattery_logit = FLATTERY_BASE + noise["flattery"] + FLATTERY_WITH_AGREEMENT * stance_taking
    fit_logit = np.einsum("pks,ps->pk", noise["style"], prompts["taste"])
    sycophancy = endorses_wrong.astype(float)
    attributes = {
        "stance_taking": stance_taking,
        "accuracy": expit(accuracy_logit),
        "helpfulness": expit(helpfulness_logit),
        "warmth": expit(warmth_logit),
        "flattery": expit(flattery_logit),
        "personal_fit": expit(fit_logit),
        "sycophancy": sycophancy,
        "harm": HARM_BASE * expit(noise["risk"]) + sycophancy * stakes * error,
    }
    true_quality = sum(
        attributes[name] for name in ("accuracy", "helpfulness", "personal_fit", "warmth")
    ) - chat.severity * (sycophancy * stakes + attributes["harm"])
    known_accuracy = accuracy_logit + chat.knowledge_noise * noise["known_accuracy"]
    traits = [known_accuracy, helpfulness_logit, warmth_logit, flattery_logit, noise["risk"]]
    features = _policy_features(prompts, stance_taking, traits, noise["style"], fit_logit)
    return World(
        prompt_prob=_prompt_prob(prompts["topic"], mix),
        features=features,
        log_ref=np.full(stance_taking.shape, -np.log(chat.responses)),
        attributes=attributes,
        prompts=prompts,
        true_quality=true_quality,
    )


def _policy_features(
    prompts: Fields, stance_taking: Array, traits: list[Array], style: Array, fit_logit: Array
) -> Array:
    """Return [P, K, D]: the traits that the policy can turn up or down, shared over prompts.

    It sees its own style and traits; it knows accuracy with noise; it can endorse or challenge only a stance that is
    visible, more or less by stakes, and otherwise for users whom its memory calls vulnerable; it knows what fits this
    user only from memory.
    """
    stakes, vulnerable = prompts["stakes"][:, None], prompts["seen_vulnerable"][:, None]
    visible = prompts["visible"][:, None]
    endorse, challenge = visible * (stance_taking > 0), visible * (stance_taking < 0)
    personal = prompts["recalled"][:, None] * fit_logit
    agreement = [endorse, challenge, endorse * stakes, endorse * vulnerable, challenge * vulnerable]
    columns = [*agreement, *traits, personal]
    return np.concatenate([np.stack(columns, axis=-1), style], axis=-1, dtype=float)


def _prompt_prob(topics: npt.NDArray[np.int64], mix: Array) -> Array:
    """Return [P] so that each topic has its share of the mix, split evenly over its prompts."""
    counts = np.bincount(topics, minlength=len(mix))
    weight = mix[topics] / counts[topics]
    return weight / weight.sum()
