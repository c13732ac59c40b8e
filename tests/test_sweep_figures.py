"""What is drawn of a sweep, two sweeps side by side, and one run of a sweep again: as numbers and as commands."""

import json
import re
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import xarray as xr
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from experiments import compare, materialize, plot
from experiments.compare import named_arguments, paired_interval, settings_that_differ
from experiments.materialize import hydra_files
from experiments.plot import Plot, kind_of
from sim.config import Chat, InputError, Mixture, Scores, Settings, Training
from sim.derived import batched_values
from sim.plots.style import STYLE
from sim.plots.sweep import curve, drift, phase
from sim.sweep.plan import Group, flatten
from sim.sweep.rerun import agrees, settings_at, stored_run, unflatten
from sim.sweep.results import Store, open_sweep, run_ids
from sim.sweep.select import excess_grid, final_values, find_key, levels_of, select, varying
from sim.sweep.shards import cut, group_ids, run_shard

ROOT = Path(__file__).parent.parent
WEIGHT = "mixture.weights.thumbs_up"
COMMANDS = {"plot": plot.main, "compare": compare.main, "materialize": materialize.main}
SETTINGS = Settings(world=Chat(prompts=12, responses=3), training=Training(steps=4))


def make_sweep(folder, settings=SETTINGS, kl_coefs=(0.05, 0.2), rates=(1.0,)):
    """Run a small grid as the launcher does, in an order of jobs of its own, and write it."""
    grid = [
        (weight, kl, rate, seed) for rate in rates for weight in (0.0, 0.2, 0.4) for kl in kl_coefs for seed in range(3)
    ]
    columns = {key: np.full(len(grid), value) for key, value in batched_values(settings).items()}
    for place, key in enumerate((WEIGHT, "kl_coef", "training.learning_rate", "seed")):
        columns[key] = np.array([row[place] for row in grid])
    group = Group(settings, columns, np.arange(len(grid)))
    store = Store(folder)
    swept = {WEIGHT, "kl_coef", "training.learning_rate", "seed"}
    base = {key: value for key, value in flatten(settings).items() if key not in swept}
    store.write_manifest({"base": base, "command": "test", "commit": "0000000", "results_version": 1})
    for shard in cut(group, group_ids(group), np.ones(len(grid), bool), 0, 7):
        run_shard(shard, store, workers=1)
    return folder


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    return make_sweep(tmp_path_factory.mktemp("sweep"))


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """One more kl_coef, one less, and another constant."""
    settings = Settings(world=Chat(prompts=12, responses=3), training=Training(steps=4, record_every=4))
    return make_sweep(tmp_path_factory.mktemp("other"), settings, kl_coefs=(0.1, 0.2, 0.4))


@pytest.fixture(scope="module")
def data(sweep):
    return open_sweep(sweep)


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def run(module, *arguments):
    command = [sys.executable, "-m", f"experiments.{module}", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


def synthetic(boundary=lambda y: 0.1 + y, seeds=2):
    """A metric that falls below its start left of a known boundary in x, for each y."""
    xs, ys = np.linspace(0, 1, 11), np.array([0.2, 0.4, 0.6])
    rows = [(x, y, seed) for x in xs for y in ys for seed in range(seeds)]
    start = np.array([0.3 + 0.1 * seed for *_, seed in rows])
    moved = np.array([x - boundary(y) for x, y, _ in rows])
    values = np.stack([start, start + moved / 2, start + moved], axis=1)
    coordinates = {
        WEIGHT: ("run", [x for x, *_ in rows]),
        "kl_coef": ("run", [y for _, y, _ in rows]),
        "seed": ("run", [seed for *_, seed in rows]),
        "status": ("run", ["COMPLETED"] * len(rows)),
        "step": [0, 5, 10],
    }
    metric = (("run", "step"), values, {"long_name": "rate", "units": "share", "better": "lower"})
    return xr.Dataset({"rate": metric}, coordinates, {"headline": "rate", "added": "thumbs_up"})


def lines(figure):
    """The drawn lines that are not the horizontal reference."""
    return [line for line in figure.axes[0].get_lines() if len(set(line.get_xdata())) > 2]


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


# --- the figures, as numbers


def test_curve_is_the_mean_over_seeds_with_its_standard_error(data):
    figure = curve(data, WEIGHT, "sycophancy/rate", "kl_coef")
    final = data["sycophancy/rate"].isel(step=-1).to_dataframe()
    grouped = final.groupby(["kl_coef", WEIGHT])["sycophancy/rate"]
    drawn = lines(figure)
    assert len(drawn) == 2
    for line, kl in zip(drawn, (0.05, 0.2), strict=True):
        np.testing.assert_allclose(line.get_xdata(), [0, 0.2, 0.4])
        np.testing.assert_allclose(line.get_ydata(), grouped.mean()[kl])
    band = figure.axes[0].collections[0].get_paths()[0].vertices
    half = 1.645 * grouped.std()[0.05] / np.sqrt(3)
    assert band[:, 1].max() == pytest.approx((grouped.mean()[0.05] + half).max())
    assert band[:, 1].min() == pytest.approx((grouped.mean()[0.05] - half).min())
    assert {"0.05", "0.2"} <= set(texts(figure))
    assert figure.axes[0].get_ylabel() == "sycophancy rate (share of answers)"


def test_drift_is_the_mean_over_seeds_at_every_step(data):
    figure = drift(select(data, {"kl_coef": 0.2}), "kl", WEIGHT)
    expected = data["kl"].where(data["kl_coef"] == 0.2, drop=True).to_dataframe()["kl"].unstack()  # noqa: PD010
    expected.index = data[WEIGHT].values[data["kl_coef"].values == 0.2]
    for line, weight in zip(lines(figure), (0.0, 0.2, 0.4), strict=True):
        np.testing.assert_allclose(line.get_ydata(), expected.loc[weight].mean())


def test_phase_boundary_lies_where_the_metric_is_unchanged():
    data = synthetic()
    figure = phase(data, WEIGHT, "kl_coef", "rate")
    grid = excess_grid(data, WEIGHT, "kl_coef", "rate")
    np.testing.assert_allclose(grid, np.linspace(0, 1, 11)[None] - np.array([[0.3], [0.5], [0.7]]), atol=1e-12)
    contour = next(c for c in figure.axes[0].collections if c.__class__.__name__.endswith("ContourSet"))
    found = np.concatenate([path.vertices for path in contour.get_paths()])
    np.testing.assert_allclose(found[:, 0], 0.1 + found[:, 1], atol=1e-9)
    assert "critical weight" in texts(figure)


def test_phase_says_so_where_there_is_no_boundary_and_leaves_holes_open():
    data = synthetic(lambda y: -1 - y)
    assert any("no boundary in range" in text for text in texts(phase(data, WEIGHT, "kl_coef", "rate")))
    grid = excess_grid(data.isel(run=slice(1, None)).isel(run=slice(1, None)), WEIGHT, "kl_coef", "rate")
    assert np.isnan(grid).sum() == 1


def test_failed_runs_are_left_out_and_counted():
    data = synthetic()
    data["rate"][0, 1:] = np.nan
    data["status"][0] = "FAILED"
    whole = synthetic().isel(run=slice(1, None))
    figure, expected = (curve(select(d, {"kl_coef": 0.2}), WEIGHT, "rate") for d in (data, whole))
    assert any("1 failed run left out" in text for text in texts(figure))
    np.testing.assert_array_equal(lines(figure)[0].get_ydata(), lines(expected)[0].get_ydata())
    data["status"][:] = "FAILED"
    with pytest.raises(InputError, match="no completed run"):
        curve(data, WEIGHT, "rate")


def test_runs_that_lack_the_metric_have_no_line():
    data = synthetic()
    data["rate"].values[data["kl_coef"].values == 0.4] = np.nan
    for figure in (curve(data, WEIGHT, "rate", "kl_coef"), drift(select(data, {WEIGHT: 0.5}), "rate", "kl_coef")):
        assert texts(figure)[:2] == ["0.2", "0.6"]


def test_other_settings_that_vary_are_named_and_never_averaged_over(data):
    with pytest.raises(InputError, match=r"also vary in kl_coef: select one.*select='\{kl_coef: 0.05\}'"):
        curve(data, WEIGHT, "kl")
    with pytest.raises(InputError, match=rf"also vary in {re.escape(WEIGHT)}"):
        drift(data, "kl", "kl_coef")


def test_zipped_settings_go_along_and_are_named():
    data = synthetic()
    data = data.isel(run=np.flatnonzero(data["kl_coef"].values == 0.2)).assign_coords(
        {"training.learning_rate": ("run", 1 + np.repeat(np.arange(11.0), 2))}
    )
    assert any("training.learning_rate goes along" in text for text in texts(curve(data, WEIGHT, "rate")))


def test_words_stand_on_an_axis_and_runs_of_other_lengths_end_where_they_end():
    data = synthetic()
    data = data.isel(run=np.flatnonzero(data["kl_coef"].values == 0.2))
    kind = np.where(data["seed"].values == 0, "exact", "natural")
    data = data.assign_coords({"training.estimator": ("run", kind)})
    figure = curve(select(data, {WEIGHT: [0.2, 0.5]}), "training.estimator", "rate", WEIGHT)
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["exact", "natural"]
    shorter = data.copy(deep=True)
    shorter["rate"][0, 2] = np.nan
    final = final_values(shorter, "rate")
    assert final[0] == pytest.approx(float(data["rate"][0, 1]))
    np.testing.assert_array_equal(final[1:], data["rate"].values[1:, 2])


def test_values_that_differ_by_rounding_are_one():
    data = synthetic()
    exact = data[WEIGHT].values
    nearly = np.where((data["seed"].values == 1) & (exact > 0), np.nextafter(exact, 2), exact)
    assert len(np.unique(nearly)) == 21
    assert len(levels_of(data.assign_coords({WEIGHT: ("run", nearly)}), WEIGHT)) == 11


def test_the_style_of_other_figures_is_untouched(data):
    before = dict(plt.rcParams)
    curve(data, WEIGHT, "kl", "kl_coef")
    assert dict(plt.rcParams) == before
    assert STYLE["axes.grid"]


def test_names_may_be_shortened_where_they_mean_one_setting(data):
    assert find_key(data, "thumbs_up") == WEIGHT
    assert find_key(data, "seed") == "seed"
    assert varying(data) == ["kl_coef", WEIGHT]
    with pytest.raises(InputError, match="unknown setting 'thumbs_upp'; did you mean 'thumbs_up'"):
        find_key(data, "thumbs_upp")
    doubled = data.assign_coords({"users.thumbs_up": data[WEIGHT]})
    with pytest.raises(InputError, match=f"may be {WEIGHT} or users.thumbs_up"):
        find_key(doubled, "thumbs_up")
    with pytest.raises(InputError, match=r"no run has kl_coef = 0\.3; there are 0\.05, 0\.2"):
        select(data, {"kl_coef": 0.3})


# --- the commands


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["x=thumbs_up", "hue=kl_coef"], "curve-sycophancy_rate"),
        (["x=thumbs_up", "y=kl_coef", "metric=true/quality"], "phase-true_quality"),
        (["x=step", "hue=thumbs_up", "select={kl_coef: 0.2}", "metric=ledger/kl penalty"], "drift-ledger_kl_penalty"),
    ],
)
def test_plot_writes_png_and_svg_and_prints_the_path(sweep, arguments, name):
    result = run("plot", f"sweep={sweep}", *arguments)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == f"{sweep}/figures/{name}.png"
    svg = (sweep / "figures" / f"{name}.svg").read_text()
    assert "python -m experiments.plot" in svg
    assert (sweep / "figures" / f"{name}.png").stat().st_size > 5000


def test_kind_is_told_from_what_is_asked():
    assert kind_of(Plot(x="thumbs_up", y="kl_coef")) == "phase"
    assert kind_of(Plot(x="step")) == "drift"
    assert kind_of(Plot(x="thumbs_up")) == "curve"
    assert kind_of(Plot(kind="drift")) == "drift"
    with pytest.raises(InputError, match="did you mean 'phase'"):
        kind_of(Plot(kind="phases"))


BAD = {
    "no sweep": (["plot"], "sweep: has to be given"),
    "missing sweep": (["plot", "sweep=/nowhere", "x=step"], "/nowhere: no sweep in this folder"),
    "unknown option": (["plot", "+swep=1"], "unknown key 'swep'; did you mean 'sweep'"),
    "unknown setting": (["plot", "sweep=SWEEP", "x=kl_coeff"], "unknown setting 'kl_coeff'; did you mean 'kl_coef'"),
    "unknown metric": (["plot", "sweep=SWEEP", "x=step", "metric=kll"], "unknown metric 'kll'; did you mean 'kl'"),
    "two that vary": (["plot", "sweep=SWEEP"], f"x: has to be given, step or one of what varies: kl_coef, {WEIGHT}"),
    "select is a word": (["plot", "sweep=SWEEP", "x=step", "select=kl"], "select = kl: must be like {kl_coef: 0.1}"),
    "hue of a phase": (["plot", "sweep=SWEEP", "x=seed", "y=kl_coef", "hue=seed"], "hue = seed: has no effect"),
    "no second sweep": (["compare", "a=SWEEP"], "b: has to be given"),
    "no such job": (["materialize", "sweep=SWEEP", "job=99"], "job = 99: no such run"),
    "job is a word": (["materialize", "sweep=SWEEP", "job=best"], "job = best: must be a whole number"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_clear_line(name, sweep, monkeypatch, capsys):
    (module, *arguments), message = BAD[name]
    monkeypatch.setattr(sys, "argv", [module, *(text.replace("SWEEP", str(sweep)) for text in arguments)])
    with pytest.raises(SystemExit) as stopped:
        COMMANDS[module]()
    assert stopped.value.code == 1
    told = capsys.readouterr().err
    assert message in told
    assert "Traceback" not in told


def test_a_sweep_equals_itself(sweep):
    result = run("compare", sweep, sweep)
    assert result.returncode == 0, result.stderr
    assert re.search(r"matched runs +18\n", result.stdout)
    assert re.search(r"only in a +0\nonly in b +0\n", result.stdout)
    assert re.search(r"mean difference, b - a +\+0  \(90 % interval \+0 to \+0\)", result.stdout)
    assert "setting " not in result.stdout
    assert (sweep / "figures" / "compare-sycophancy_rate.png").is_file()


def test_runs_are_matched_by_their_settings_and_constants_that_differ_are_named(sweep, other):
    result = run("compare", f"a={sweep}", f"b={other}", f"out={other}/both", "metric=kl")
    assert result.returncode == 0, result.stderr
    assert re.search(r"matched runs +9\nonly in a +9\nonly in b +18\n", result.stdout)  # kl_coef 0.2 alone is in both
    assert re.search(r"setting training.record_every +2 -> 4", result.stdout)
    assert re.search(r"mean difference, b - a +[+-](0|\S+e-1\d) ", result.stdout)  # what is recorded changes no number
    assert (other / "both.svg").is_file()


def test_paired_interval_counts_seeds_and_not_runs():
    gap, seeds = np.array([0.1, 0.3, 0.2, 0.4]), np.array([0, 1, 0, 1])
    mean, half = paired_interval(gap, seeds)
    assert mean == pytest.approx(0.25)
    assert half == pytest.approx(1.645 * np.std([0.15, 0.35], ddof=1) / np.sqrt(2))  # of the two seeds' means
    assert np.isnan(paired_interval(gap, np.zeros(4))[1])


def test_settings_that_differ_are_told_from_settings_that_vary():
    found = settings_that_differ({"x": 1, "y": 2, "z": 3}, {"x": 1, "y": 5, "kl_coef": 1}, ["kl_coef"])
    assert found == {"y": (2, 5), "z": (3, "(not constant)")}


def test_two_paths_become_named_options():
    assert named_arguments(["a=1", "b=2"]) == ["a=1", "b=2"]
    assert named_arguments(["one"]) == ["one"]
    awkward = ["it's (1)", "x y", "metric=kl"]
    parsed = OverridesParser.create().parse_overrides(named_arguments(awkward))
    assert {o.key_or_group: o.value() for o in parsed} == {"a": "it's (1)", "b": "x y", "metric": "kl"}


def test_materialize_writes_the_folder_of_the_stored_run(sweep, data):
    job = 13
    result = run("materialize", f"sweep={sweep}", f"job={job}")
    assert result.returncode == 0, result.stderr
    folder, stored = sweep / str(job), data.sel(run=job)
    metrics = pd.read_csv(folder / "metrics.csv", index_col="step")
    for name in ("sycophancy/rate", "kl", "true/quality"):
        np.testing.assert_allclose(metrics[name], stored[name], rtol=1e-9, atol=1e-12)
    ledger = pd.read_csv(folder / "ledger.csv", index_col="interval")
    assert ledger["thumbs_up"].sum() == pytest.approx(float(stored["ledger/thumbs_up"][-1]))
    config = OmegaConf.load(folder / ".hydra" / "config.yaml")
    assert config.kl_coef == float(stored["kl_coef"])
    assert config.mixture.weights.thumbs_up == float(stored[WEIGHT])
    overrides = OmegaConf.load(folder / ".hydra" / "overrides.yaml")
    expected = [
        f"kl_coef={float(stored['kl_coef'])}",
        f"{WEIGHT}={float(stored[WEIGHT])}",
        f"seed={int(stored['seed'])}",
    ]
    assert list(overrides) == expected
    assert (folder / "metrics.png").is_file()


def test_materialize_refuses_a_result_that_this_version_does_not_give(sweep, tmp_path):
    copy = Store(tmp_path)
    copy.write_manifest(Store(sweep).manifest())
    for path in Store(sweep).parts():
        table = pq.read_table(path)
        meta = json.loads(table.schema.metadata[b"thumbscale"])
        meta["settings"]["users.appetite"] = 3.0
        name = path.name.rpartition("-")[0] + ".parquet"  # as before parts had checksums
        pq.write_table(table.replace_schema_metadata({"thumbscale": json.dumps(meta)}), copy.inner / name)
    result = run("materialize", f"sweep={tmp_path}", "job=17")
    assert result.returncode != 0
    assert "sycophancy/rate: run again it ends at" in result.stderr
    assert "commit 0000000" in result.stderr
    assert not (tmp_path / "17").exists()


# --- settings of a stored run


def test_settings_at_are_those_of_the_run(sweep, data):
    for job in (0, 9, 17):
        settings, stored = settings_at(sweep, job), data.sel(run=job)
        assert settings.seed == int(stored["seed"])
        assert settings.mixture.weights["thumbs_up"] == float(stored[WEIGHT])
        assert settings.kl_coef == float(stored["kl_coef"])
        own = {"seed": np.array([settings.seed])}
        assert run_ids(flatten(settings), own) == [str(stored["id"].values)]
    assert stored_run(sweep, 9).final == float(data["sycophancy/rate"].sel(run=9)[-1])


@pytest.mark.parametrize(
    "settings",
    [
        Settings(),
        Settings(mixture=Mixture(weights={"safety": 1.0, "a.b": 0.5}, added="safety")),
        Settings(world=Scores(path="x.csv", signals={"safety": "column"}, attributes={})),
    ],
)
def test_unflatten_is_the_inverse_of_flatten(settings):
    assert unflatten(flatten(settings)) == settings


def test_options_of_the_command_are_no_settings_of_a_run():
    assert unflatten(flatten(Settings()) | {"figures": True}) == Settings()


def test_settings_of_another_version_and_failed_runs_are_named(tmp_path):
    with pytest.raises(InputError, match=r"unknown key 'users.apetite'; did you mean 'users.appetite'"):
        unflatten(flatten(Settings()) | {"users.apetite": 1.0})
    make_sweep(tmp_path, rates=(1.0, 1e308))
    data = open_sweep(tmp_path)
    failed = data["job"].values[data["status"].values == "FAILED"]
    assert len(failed) > 0
    with pytest.raises(InputError, match=f"job = {failed[0]}: this run failed"):
        settings_at(tmp_path, int(failed[0]))


def test_agreement_has_the_precision_of_training(sweep):
    stored = stored_run(sweep, 0)
    agrees(stored.final + 1e-10, stored, {})
    with pytest.raises(InputError, match="this is results version"):
        agrees(stored.final + 1e-6, stored, {})


def test_overrides_are_written_as_hydra_reads_them():
    settings = Settings(world=Scores(path="my table.csv", signals={"safety": "-x"}), kl_coef=1e-5)
    swept = ["kl_coef", "world.path", "training.ledger", "seed"]
    text = hydra_files(settings, swept)["overrides.yaml"]
    parsed = OverridesParser.create().parse_overrides(list(OmegaConf.create(text)))
    assert [o.value() for o in parsed] == [1e-5, "my table.csv", True, 0]
