"""The audit of scored samples: closed forms through its own path, then direct numpy, then what it writes."""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sim
from sim import rng
from sim.analysis.critical_weight import local_pushes
from sim.auditing.critical import percentiles, turning_point, turning_weight
from sim.auditing.measures import best_of_many, decisions_changed
from sim.auditing.options import Audit
from sim.auditing.sample import CHUNK, Block, make_sample, wanted_columns
from sim.auditing.scan import chunk_totals, scan
from sim.auditing.solve import coefficient_for_kl, minimal_penalty
from sim.config import InputError, Scores
from sim.training import theory
from sim.validation import published
from sim.world.arrays import normalize_log
from sim.world.scores import make_scores
from sim.world.tables.reading import read_columns

ROOT = Path(__file__).parent.parent
JUDGES = ROOT.parent / "shared" / "data" / "judge_scores.csv"
CHAT = ROOT / "experiments" / "data" / "chat_scores.csv"
needs_judges = pytest.mark.skipif(not JUDGES.is_file(), reason="the judge scores in shared/data are not here")
QUICK = {"points": 3, "resamples": 100}
ASK_CHAT = {
    "signals": {"correctness": 0.4, "helpfulness": 0.3, "model_spec": 0.3},
    "add": "thumbs_up",
    "attribute": ["sycophancy", "flattery"],
}
ASK_JUDGES = {
    "signals": {"judge_gpt4_turbo": 0.8, "-log_chars": 0.2},
    "add": "judge_gpt4",
    "attribute": ["log_chars", "list_lines", "exclamations", "eager_opening", "apology"],
}


def finite_choice(ref, columns):
    """A table of one prompt whose candidates are all the answers there are, with their probabilities."""
    return pd.DataFrame({"prompt_id": "p", "response_id": range(len(ref)), "ref": ref, **columns})


def audit_choice(table, signals, add="added", weight=0.0, **options):
    ask = {"attribute": "A", "reference_prob": "ref", "resamples": 100, "points": 21, **options}
    return sim.audit(table, signals=signals, add=add, weight=weight, **ask)


def random_table(prompts=40, answers=(3, 9), seed=0, columns=("a", "b", "c", "harm")):
    random = rng.stream(seed, "tests", "audit", "table")
    sizes = random.integers(*answers, prompts)
    ids = np.repeat([f"p{i}" for i in range(prompts)], sizes)
    table = pd.DataFrame({name: random.standard_normal(len(ids)) for name in columns})
    table["harm"] += 0.6 * table["c"] - 0.4 * table["a"]
    return table.assign(
        prompt_id=ids,
        response_id=np.concatenate([np.arange(k) for k in sizes]),
        prob=random.uniform(0.2, 1, len(ids)),
        share=np.repeat(random.uniform(0.5, 2, prompts), sizes),
        topic=np.repeat(random.choice(["x", "y"], prompts), sizes),
    )


ASK = {"signals": {"a": 0.6, "b": 0.4}, "add": "c", "attribute": "harm"}
WEIGHTED = {"reference_prob": "prob", "prompt_weight": "share"}


def direct(table, weighted=True):
    """Return the mean over prompts of the within-prompt covariance matrix, by a plain loop over numpy's own."""
    names = ["a", "b", "c", "harm"]
    total, weights = np.zeros((4, 4)), 0.0
    for _, rows in table.groupby("prompt_id", sort=False):
        weight = rows["share"].iloc[0] if weighted else 1.0
        prob = rows["prob"].to_numpy() if weighted else np.ones(len(rows))
        total += weight * np.cov(rows[names].to_numpy().T, aweights=prob / prob.sum(), ddof=0)
        weights += weight
    return pd.DataFrame(total / weights, names, names)


def predicted(result, column="A", **wanted):
    table = result.to_dataframe()
    rows = table[table["column"] == column]
    for key, value in wanted.items():
        rows = rows[np.isclose(rows[key].astype(float), value)]
    return rows["predicted"].to_numpy()


# ---------------------------------------------------------------- closed forms, through the audit's own path


def test_v1a_mixing_law_and_critical_weight():
    table = finite_choice([0.2, 0.8], {"A": [1, 0], "primary": [-1.0, 0], "added": [2.0, 0]})
    found = audit_choice(table, {"primary": 1.0}, weight=1 / 3, kl_coef=0.5)
    for weight, expected in published.V1A_POINTS.items():
        assert predicted(found, weight=weight, kl_coef=0.5) == pytest.approx([expected], abs=1e-6)
    metrics = found.report["metrics"]
    assert metrics["critical_weight"] == pytest.approx(1 / 3, abs=1e-12)
    assert metrics["critical_weight_at_kl"] == pytest.approx(1 / 3, abs=1e-12)
    assert metrics["critical_weight_trained"] == pytest.approx(1 / 3, abs=1e-9)
    on_top = audit_choice(table, {"primary": 1.0}, weight=0.2, kl_coef=0.5, renormalize=False)
    assert on_top.report["metrics"]["critical_weight"] == pytest.approx(0.5, abs=1e-12)
    assert predicted(on_top, weight=0.2, kl_coef=0.5) == pytest.approx([published.V1A_ON_TOP[0.2]], abs=1e-6)


def test_v1b_six_signals():
    names = ("correctness", "helpfulness", "spec", "safety", "preference", "added")
    gaps = dict(zip(names, published.V1B.gaps, strict=True))
    base = dict(zip(names[:-1], published.V1B.base, strict=False))
    table = finite_choice([0.15, 0.85], {"A": [1, 0], **{name: [gap, 0.0] for name, gap in gaps.items()}})
    found = audit_choice(table, base, kl_coef=0.25)
    for weight, expected in published.V1B_POINTS.items():
        assert predicted(found, weight=weight, kl_coef=0.25) == pytest.approx([expected], abs=1e-6)
    assert found.report["metrics"]["critical_weight"] == pytest.approx(published.V1B_CRITICAL, abs=1e-6)


def test_v3_minimal_penalty():
    table = finite_choice(
        [0.15, 0.05, 0.5, 0.3], {"A": [1, 1, 0, 0], "reward": [1.5, 3, 0.5, -0.2], "added": [0.0, 1, 2, 3]}
    )
    found = audit_choice(table, {"reward": 1.0}, kl_coef=1 / 1.3)
    assert predicted(found, weight=0, kl_coef=1 / 1.3) == pytest.approx([published.V3_PRINTED[0]], abs=1e-6)
    assert found.report["metrics"]["penalty"] == pytest.approx(published.V3_PRINTED[1], abs=1e-6)
    corrected = table.assign(reward=table["reward"] - found.report["metrics"]["penalty"] * table["A"])
    again = audit_choice(corrected, {"reward": 1.0}, kl_coef=1 / 1.3)
    assert predicted(again, weight=0, kl_coef=1 / 1.3) == pytest.approx([0.2], abs=1e-9)


def test_v4_sign_flip_with_pressure():
    table = finite_choice([0.3, 0.07, 0.63], {"A": [1, 0, 0], "reward": [1.0, 5, 0], "added": [0.0, 1, 2]})
    for pressure, expected in published.V4_POINTS.items():
        found = audit_choice(table, {"reward": 1.0}, kl_coef=1 / pressure)
        assert predicted(found, weight=0, kl_coef=1 / pressure) == pytest.approx([expected], abs=1e-6)
        assert found.report["metrics"]["push"] > 0
    assert any("different things" in warning for warning in found.report["warnings"])


def test_v4_drift_is_a_covariance_under_the_reference():
    for seed in range(20):
        table = random_table(prompts=5, seed=seed)
        found = sim.audit(table, **ASK, weight=0.3, kl_coef=0.4, **WEIGHTED, **QUICK).report["metrics"]["drift"]
        total = 0.0
        for _, rows in table.groupby("prompt_id"):
            ref = np.log(rows["prob"] / rows["prob"].sum()).to_numpy()[None]
            reward = (0.7 * (0.6 * rows["a"] + 0.4 * rows["b"]) + 0.3 * rows["c"]).to_numpy()[None]
            total += rows["share"].iloc[0] * theory.tilt_shift(ref, reward, rows["harm"].to_numpy()[None], 0.4)[0]
        assert found == pytest.approx(total / table.groupby("prompt_id")["share"].first().sum(), abs=1e-10)


V9 = {"ref": list(published.V9.ref_probs), "reward": list(published.V9.reward), "A": list(published.V9.inside)}
V9_POINTS = dict(zip(published.V9_DRAWS, zip(*published.V9_PRINTED, strict=True), strict=True))


def test_v9_best_of_n():
    table = finite_choice(V9["ref"], {"A": V9["A"], "reward": V9["reward"], "added": [0.0, 1, 2, 3, 4]})
    found = audit_choice(table, {"reward": 1.0}, kl_coef=1.0)
    for n in (2, 4):  # five candidates: the audit goes no further
        assert predicted(found, weight=0, n=n) == pytest.approx([V9_POINTS[n][0]], abs=1e-6)
        row = found.to_dataframe().query("weight == 0 and n == @n and column == 'A'")
        assert row["kl"].iloc[0] == pytest.approx(V9_POINTS[n][1], abs=1e-6)
    log_ref = np.log([V9["ref"]])
    for n, log_best in zip(V9_POINTS, best_of_many(log_ref, np.array([V9["reward"]]), list(V9_POINTS)), strict=True):
        assert np.exp(log_best) @ V9["A"] == pytest.approx([V9_POINTS[n][0]], abs=1e-6)


@given(st.integers(0, 10_000), st.integers(2, 9), st.booleans())
def test_best_of_many_is_best_of_n_ties_included(seed, answers, ties):
    random = rng.stream(seed, "tests", "best")
    log_ref = normalize_log(random.standard_normal((4, answers)))
    reward = random.integers(0, 3, log_ref.shape).astype(float) if ties else random.standard_normal(log_ref.shape)
    for n, found in zip((1, 2, 5, 32), best_of_many(log_ref, reward, [1, 2, 5, 32]), strict=True):
        np.testing.assert_allclose(np.exp(found), np.exp(theory.best_of_n(log_ref, reward, n)), atol=1e-12)


# ---------------------------------------------------------------- against direct calculation


@pytest.mark.parametrize("weighted", [True, False])
def test_covariances_are_numpys(weighted):
    table = random_table()
    cov = direct(table, weighted)
    report = sim.audit(table, **ASK, weight=0.25, **QUICK, **(WEIGHTED if weighted else {})).report
    for row in report["signals"]:
        name = row["signal"]
        assert row["push"]["harm"]["value"] == pytest.approx(cov.loc[name, "harm"], abs=1e-12)
        assert row["spread"]["value"] == pytest.approx(np.sqrt(cov.loc[name, name]), abs=1e-12)
        for other, value in row["correlation"].items():
            expected = cov.loc[name, other] / np.sqrt(cov.loc[name, name] * cov.loc[other, other])
            assert value == pytest.approx(expected, abs=1e-12)
    primary, extra = 0.6 * cov.loc["a", "harm"] + 0.4 * cov.loc["b", "harm"], cov.loc["c", "harm"]
    metrics = report["metrics"]
    assert metrics["critical_weight"] == pytest.approx(primary / (primary - extra), abs=1e-12)
    assert metrics["push"] == pytest.approx(0.75 * primary + 0.25 * extra, abs=1e-12)
    assert metrics["check_strength"] == pytest.approx(-0.75 * primary / (0.25 * extra), abs=1e-12)
    assert report["penalty"][0]["penalty"]["value"] == pytest.approx(
        max(metrics["push"], 0) / cov.loc["harm", "harm"], abs=1e-12
    )


@needs_judges
def test_judge_scores_agree_with_numpy_and_with_the_simulator():
    frame = pd.read_csv(JUDGES)
    result = sim.audit(str(JUDGES), **ASK_JUDGES, kl_coef=0.1, weight=0.2, slices="subset", **QUICK)
    columns = {"judge_gpt4_turbo": 1, "-log_chars": -1, "judge_gpt4": 1}
    pushes = np.zeros((3, 5))
    for i, (name, sign) in enumerate(columns.items()):
        for j, attribute in enumerate(ASK_JUDGES["attribute"]):
            by_prompt = [
                np.cov(rows[name.removeprefix("-")], rows[attribute], ddof=0)[0, 1]
                for _, rows in frame.groupby("prompt_id")
            ]
            pushes[i, j] = sign * np.mean(by_prompt)
            found = result.report["signals"][i]["push"][attribute]
            assert found["value"] == pytest.approx(pushes[i, j], abs=1e-12)
            assert found["low"] <= found["value"] <= found["high"]
    for j, row in enumerate(r for r in result.report["critical_weight"] if r["at"] == "at the reference"):
        assert row["value"] == pytest.approx(turning_weight(pushes[:, j], np.array([0.8, 0.2]), True), abs=1e-12)
    # The number that docs/drift.md quotes for the same question.
    assert result.report["metrics"]["critical_weight"] == pytest.approx(0.412, abs=5e-4)
    wanted = Scores(path="x.csv", signals={name: name for name in columns}, attributes={"log_chars": "log_chars"})
    world, scored = make_scores(wanted, frame)
    stacked = np.stack([scored[name] for name in columns])
    mine, draws = local_pushes(world, stacked, world, world.attributes["log_chars"], "tabular", 1000)
    np.testing.assert_allclose(pushes[:, 0], mine, atol=1e-12)
    wide = sim.audit(frame, **ASK_JUDGES, kl_coef=0.1, points=3).report["signals"][2]["push"]["log_chars"]
    low, high = np.quantile(draws[:, 2], [0.05, 0.95])
    assert [wide["low"], wide["high"]] == pytest.approx([low, high], abs=0.1 * (high - low))


def halves(frame, seed):
    """Split every prompt's answers at random into two equal halves."""
    key = pd.Series(rng.stream(seed, "tests", "halves").random(len(frame)), frame.index)
    rank = key.groupby(frame["prompt_id"]).rank()
    return frame[rank <= 8], frame[(rank > 8) & (rank <= 16)]


@needs_judges
@pytest.mark.slow
def test_half_of_the_candidates_predicts_the_other_half_at_the_stated_rate():
    # Both halves see the same prompts, so their audits share their draws, and the interval of the difference is that
    # of the differences of draws. 120 splits x 15 numbers; the standard error of one number's coverage is 0.027.
    frame, held = pd.read_csv(JUDGES), []
    for seed in range(120):
        first, second = (
            sim.audit(half, **ASK_JUDGES, kl_coef=0.2, points=3, resamples=300, seed=seed)
            for half in halves(frame, seed)
        )
        names = [name for name in first.draws if not name.startswith("critical")]
        ends = [np.quantile(first.draws[name] - second.draws[name], [0.05, 0.95]) for name in names]
        held.append([low <= 0 <= high for low, high in ends])
    coverage = np.mean(held, axis=0)
    assert len(coverage) == 15
    assert 0.85 <= coverage.mean() <= 0.95
    assert coverage.min() >= 0.85 - 3 * 0.027


@needs_judges
@pytest.mark.slow
def test_half_of_the_prompts_predicts_the_other_half_at_the_stated_rate():
    frame, held = pd.read_csv(JUDGES), []
    ids = frame["prompt_id"].unique()
    for seed in range(120):
        random = rng.stream(seed, "tests", "prompt halves")
        mine = frame["prompt_id"].isin(random.permutation(ids)[: len(ids) // 2])
        first, second = (
            sim.audit(frame[rows], **ASK_JUDGES, kl_coef=0.2, points=3, resamples=300, seed=seed + 1000 * place)
            for place, rows in enumerate((mine, ~mine))
        )
        names = [name for name in first.draws if not name.startswith("critical")]
        ends = [np.quantile(first.draws[name] - second.draws[name], [0.05, 0.95]) for name in names]
        held.append([low <= 0 <= high for low, high in ends])
    coverage = np.mean(held, axis=0)
    assert 0.85 <= coverage.mean() <= 0.95
    assert coverage.min() >= 0.85 - 3 * 0.027


# ---------------------------------------------------------------- the passes


def sample_of(table, **ask):
    options = Audit(**(ASK | ask))
    return make_sample(read_columns(table, wanted_columns(options)), options), options


def test_chunks_and_ragged_prompts_change_nothing():
    table = random_table(prompts=3 * CHUNK + 17, answers=(1, 6))
    found = sim.audit(table, **ASK, **QUICK).report
    alone = table.groupby("prompt_id")["prob"].transform("size")
    assert found["sample"]["single_response_prompts"] == (alone == 1).sum()
    cov = direct(table, weighted=False)
    assert found["signals"][2]["push"]["harm"]["value"] == pytest.approx(cov.loc["c", "harm"], abs=1e-12)
    shuffled = table.sample(frac=1, random_state=1)
    again = sim.audit(shuffled, **ASK, **QUICK).report["metrics"]
    for name in ("critical_weight", "drift", "penalty", "decisions_changed", "kl"):
        assert again[name] == pytest.approx(found["metrics"][name], abs=1e-9)


def test_bootstrap_draws_whole_prompts():
    table = random_table(prompts=2 * CHUNK + 5, answers=(2, 3))
    sample, options = sample_of(table)

    def measure(block):
        return np.stack([np.ones(len(block.place)), block.values[0].sum(axis=1)], axis=1)

    found = scan(sample, measure, 2, resamples=2000, keep=2)
    np.testing.assert_allclose(found.draws[:, 0], 1, rtol=1e-6)
    expected = found.kept[:, 1].std() / np.sqrt(len(found.kept))
    assert found.draws[:, 1].std() == pytest.approx(expected, rel=3 / np.sqrt(2 * 2000))
    assert found.draws[:, 1].mean() == pytest.approx(found.point[1], abs=3 * expected / np.sqrt(2000))
    assert (chunk_totals(len(found.kept), 50, 0).sum(axis=1) == len(found.kept)).all()
    assert options.resamples == 1000


def test_a_bootstrap_draw_is_divided_by_the_weight_that_it_drew():
    sample, _ = sample_of(random_table(), **WEIGHTED)
    found = scan(sample, lambda block: np.ones((len(block.place), 1)), 1, resamples=100)
    np.testing.assert_allclose(found.draws, 1, rtol=1e-6)


def test_one_prompt_has_no_interval():
    table = random_table(prompts=1)
    found = sim.audit(table, **ASK, **QUICK).report
    assert np.isnan(found["metrics"]["push_low"])
    assert any("Only 1 prompts" in warning for warning in found["warnings"])


def test_chosen_kl_is_reached_and_what_is_out_of_reach_is_told():
    table = random_table()
    for kl in (0.01, 0.3, 1.0):
        found = sim.audit(table, **ASK, kl=kl, weight=0.0, **QUICK).report
        assert found["metrics"]["kl"] == pytest.approx(kl, rel=1e-9)
    with pytest.raises(InputError, match=r"kl = 3: the candidates allow at most 1\.\d+ nats"):
        sim.audit(table, **ASK, kl=3.0, **QUICK)
    pairs = random_table(answers=(2, 3))
    report = sim.audit(pairs, **ASK, **QUICK).report
    assert "half of that" in report["warnings"][0]
    assert report["metrics"]["supported"] == 0
    assert any("cannot support" in warning for warning in report["warnings"])


def test_minimal_penalty_restores_the_mean_and_no_smaller_one_does():
    sample, _ = sample_of(random_table())
    line, coefs = np.array([0.1, 0.1, 0.8]), np.array([3.0, 0.3, 0.05])
    penalty, found = minimal_penalty(sample, line, coefs, 3)
    assert (penalty > 0).all()
    np.testing.assert_allclose(found[:, 0], 0, atol=1e-8)
    falling, _ = minimal_penalty(sample, np.array([1.0, 0, 0]), coefs, 3)
    np.testing.assert_array_equal(falling, 0)
    assert coefficient_for_kl(sample, line, 0.2) > coefficient_for_kl(sample, line, 0.4)


def test_variance_shares_are_shapley_values():
    table = random_table()
    report = sim.audit(table, **ASK, weight=0.3, **QUICK, **WEIGHTED).report
    line, cov = np.array([0.42, 0.28, 0.3]), direct(table).iloc[:3, :3].to_numpy()
    value = {
        group: float((line * np.isin(range(3), group)) @ cov @ (line * np.isin(range(3), group)))
        for size in range(4)
        for group in itertools.combinations(range(3), size)
    }
    for i, row in enumerate(report["influence"]):
        gains = [
            value[tuple(sorted((*order[: order.index(i)], i)))] - value[tuple(sorted(order[: order.index(i)]))]
            for order in itertools.permutations(range(3))
        ]
        assert row["variance"]["value"] == pytest.approx(np.mean(gains) / value[(0, 1, 2)], abs=1e-12)
    assert sum(row["variance"]["value"] for row in report["influence"]) == pytest.approx(1)


def test_decisions_hang_on_the_signal_that_alone_varies():
    random = rng.stream(0, "tests", "decisions")
    values = np.stack([random.standard_normal((6, 8)), np.zeros((6, 8)), np.ones((6, 8))])
    block = Block(np.arange(6), values, np.full((6, 8), -np.log(8)))
    found = decisions_changed(block, np.array([1.0, 1.0, 0.0]), 4)
    best = np.exp(theory.best_of_n(block.log_ref, values[0], 4))
    np.testing.assert_allclose(found[:, 0], 0.5 * np.abs(best - 1 / 8).sum(axis=1), atol=1e-12)
    np.testing.assert_array_equal(found[:, 1:], 0)


def test_normalisation_is_what_trainers_do():
    table = random_table(answers=(6, 7))
    table["a"] *= np.repeat(np.linspace(0.1, 10, 40), 6)  # a signal whose spread differs between prompts
    report = sim.audit(table, **ASK, weight=0.25, points=201, resamples=100).report
    rows = {row["scheme"]: row for row in report["normalization"]}
    line = np.array([0.45, 0.3, 0.25])
    raw = table[["a", "b", "c"]].to_numpy().reshape(40, 6, 3)
    harm = table["harm"].to_numpy().reshape(40, 6)
    centred = raw - raw.mean(axis=1, keepdims=True)
    harm = harm - harm.mean(axis=1, keepdims=True)
    apart = centred / centred.std(axis=1, keepdims=True)
    together = centred @ line / (centred @ line).std(axis=1, keepdims=True)
    expected = {
        "none": ((centred @ line) * harm).mean(),
        "std": ((centred / np.sqrt((centred**2).mean(axis=(0, 1))) @ line) * harm).mean(),
        "normalize_then_sum": ((apart @ line) * harm).mean(),
        "sum_then_normalize": (together * harm).mean(),
    }
    for name, value in expected.items():
        assert rows[name]["push"]["value"] == pytest.approx(value, abs=1e-12)
    assert rows["std"]["shares"] == pytest.approx(dict(zip("abc", line, strict=True)))
    assert rows["none"]["shares"]["a"] > 0.8
    root = rows["sum_then_normalize"]["critical_weight"]["value"]
    at = centred @ np.array([0.6 * (1 - root), 0.4 * (1 - root), root])
    assert (at / at.std(axis=1, keepdims=True) * harm).mean() == pytest.approx(0, abs=1e-4)


def test_scale_std_is_the_unscaled_audit_of_scaled_columns():
    table = random_table()
    spread = np.sqrt(np.diag(direct(table, weighted=False)))[:3]
    scaled = table.assign(**{name: table[name] / s for name, s in zip("abc", spread, strict=True)})
    one = sim.audit(table, **ASK, scale="std", **QUICK).report["metrics"]
    two = sim.audit(scaled, **ASK, **QUICK).report["metrics"]
    for name in ("critical_weight", "critical_weight_trained", "drift", "push", "penalty", "influence"):
        assert one[name] == pytest.approx(two[name], abs=1e-6)


def test_shared_traits_are_the_log_linear_push():
    table = random_table(answers=(4, 5), columns=("a", "b", "c", "harm", "f", "g"))
    report = sim.audit(table, **ASK, features=["f", "g"], weight=0.3, **QUICK).report
    wanted = Scores(path="x.csv", signals={"f": "f", "g": "g"}, attributes={"harm": "harm"})
    world, _ = make_scores(wanted, table)
    features = table[["f", "g"]].to_numpy().reshape(40, 4, 2)
    world = sim.World(world.prompt_prob, features, world.log_ref, world.attributes)
    signals = table[["a", "b", "c"]].to_numpy().reshape(40, 4, 3).transpose(2, 0, 1)
    pushes, _ = local_pushes(world, signals, world, world.attributes["harm"], "loglinear")
    assert report["metrics"]["push_shared"] == pytest.approx(pushes @ [0.42, 0.28, 0.3], rel=1e-6)


def test_slices_and_prompts_are_worst_first():
    table = random_table(prompts=60)
    table.loc[table["topic"] == "y", "harm"] += 3 * table["c"]
    report = sim.audit(table, **ASK, weight=0.3, slices="topic", **QUICK).report
    assert [row["value"] for row in report["slices"]] == ["y", "x"]
    cov = direct(table[table["topic"] == "y"], weighted=False)
    assert report["slices"][0]["push"]["value"] == pytest.approx(cov["harm"].iloc[:3] @ [0.42, 0.28, 0.3], abs=1e-12)
    topics = table.drop_duplicates("prompt_id").set_index("prompt_id")["topic"]
    assert all(topics[row["prompt"]] == "y" for row in report["prompts"][:5])


def test_the_worst_prompts_are_those_that_add_most_weight_included():
    table = random_table(prompts=60)
    report = sim.audit(table, **ASK, **WEIGHTED, weight=0.3, **QUICK).report
    added = {}
    for name, rows in table.groupby("prompt_id", sort=False):
        values, prob = rows[["a", "b", "c", "harm"]].to_numpy(), rows["prob"].to_numpy()
        cov = np.cov(values.T, aweights=prob / prob.sum(), ddof=0)[:3, 3]
        added[str(name)] = rows["share"].iloc[0] * (cov @ [0.42, 0.28, 0.3])
    worst = sorted(added, key=added.get, reverse=True)[:5]
    assert [row["prompt"] for row in report["prompts"][:5]] == worst
    upward = sum(max(part, 0.0) for part in added.values())
    assert report["prompts"][0]["share_of_upward_push"] == pytest.approx(added[worst[0]] / upward)


def test_a_column_with_a_minus_sign_counts_the_other_way_round():
    table = random_table()
    negated = table.assign(a=-table["a"], c=-table["c"])
    ask = {"signals": {"-a": 0.6, "b": 0.4}, "add": "-c", "attribute": "harm"}
    found, plain = sim.audit(table, **ask, **QUICK).report, sim.audit(negated, **ASK, **QUICK).report
    assert found["metrics"] == pytest.approx(plain["metrics"], nan_ok=True)


# ---------------------------------------------------------------- critical weights on the extended line


@pytest.mark.parametrize(
    ("pushes", "renormalize", "expected"),
    [
        ([-1.0, 2.0], True, 1 / 3),
        ([-1.0, 2.0], False, 0.5),
        ([1.0, 2.0], True, 0.0),
        ([1.0, -2.0], True, 0.0),
        ([-1.0, -2.0], True, np.inf),
        ([-1.0, 0.0], True, np.inf),
        ([0.0, 1.0], True, 0.0),
        ([0.0, 0.0], True, np.inf),
    ],
)
def test_turning_weight_always_exists(pushes, renormalize, expected):
    assert turning_weight(np.array(pushes), np.ones(1), renormalize) == pytest.approx(expected)


@given(st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=12))
def test_turning_point_is_where_the_curve_first_rises_above_zero(values):
    excess = np.array(values)
    weights = np.linspace(0, 1, len(excess))
    found = float(turning_point(weights, excess))
    if (excess <= 0).all():
        assert found == np.inf
    else:
        first = int(np.argmax(excess > 0))
        assert (weights[max(first - 1, 0)] if first else 0.0) <= found <= weights[first]


def test_an_interval_of_90_percent_leaves_out_5_on_each_side():
    (found,) = percentiles(np.array([50.0]), np.arange(1.0, 101)[:, None], 0.9, 10)
    assert (found.low, found.high) == (5, 95)


def test_intervals_reach_infinity_where_the_draws_do():
    draws = np.array([[0.2], [0.3], [0.4], [np.inf], [np.inf]])
    (found,) = percentiles(np.array([0.3]), draws, 0.9, 10)
    assert (found.low, found.high) == (0.2, np.inf)


def test_an_added_signal_of_pure_noise_has_an_honest_interval():
    # The push of `c` is 0 in truth: whether any weight turns the push around must be in doubt.
    random = rng.stream(3, "tests", "noise")
    table = random_table(prompts=200, seed=3)
    table["harm"], table["c"] = -table["a"] + random.standard_normal(len(table)), random.standard_normal(len(table))
    row = sim.audit(table, **ASK, **QUICK).report["critical_weight"][0]
    assert row["high"] == np.inf
    assert row["low"] > 0.8
    assert 0 < row["share_of_draws"]["always held"] < 1
