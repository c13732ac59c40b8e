"""Commands with generated bad overrides and config files: one clear message, nothing run, nothing called, no file."""

import copy

import pytest
from bad_input import LONGEST, tried
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from hypothesis import strategies as st
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from test_commands import run
from test_sweep import a_shard, started

from experiments import (
    audit,
    compare,
    drift,
    incident,
    interactions,
    mainline,
    make_scores,
    materialize,
    mitigations,
    overoptimization,
    plot,
    review,
    targeting,
    train,
    validate,
)  # fmt: skip
from experiments.app import CONFIGS, to_settings
from experiments.options import to_options
from experiments.targets import CALLED, TargetError, check_targets
from sim.config import InputError, walk
from sim.sweep.shards import run_shard

RUNS = {
    "config": train.Train, "drift": drift.Drift, "make_scores": make_scores.MakeScores,
    "interactions": interactions.Interactions, "overoptimization": overoptimization.Overoptimization,
    "mitigations": mitigations.Mitigations, "targeting": targeting.Targeting, "incident": incident.Incident,
    "review": review.ReviewRun, "mainline": mainline.MainlineRun,
}  # fmt: skip
OPTIONS = {
    "audit": audit.AuditCommand, "plot": plot.Plot, "compare": compare.Compare,
    "materialize": materialize.Materialize, "validate": validate.Validate,
}  # fmt: skip
REFUSED = (InputError, TargetError, HydraException, OmegaConfBaseException)
LETTERS = st.text("abcdefghij", min_size=4, max_size=9)
TARGETS = st.sampled_from(
    ["os.system", "subprocess.run", "builtins.exec", "pathlib.Path.touch", "sim.simulate", "logging.os.system"]
)


@pytest.fixture(scope="module", autouse=True)
def _hydra():
    with initialize_config_dir(CONFIGS, version_base="1.3"):
        yield


def overrides_of(schema):
    """Return (an override that no command can use, the name that its refusal has to hold)."""
    leaves = [(name, value) for name, _, value in walk(schema())]
    numbers = [name for name, value in leaves if isinstance(value, int | float) and not isinstance(value, bool)]
    numbers += [
        f"{name}.{key}"
        for name, value in leaves
        if isinstance(value, dict)
        for key, entry in value.items()
        if isinstance(entry, float)
    ]
    groups = sorted({name.rpartition(".")[0] for name, _ in leaves})
    dotted = [f"{group}." if group else "" for group in groups if "weights" not in group]
    misspelt = st.tuples(st.sampled_from([name for name, _ in leaves]), LETTERS).map(
        lambda pair: (f"{pair[0]}{pair[1]}=1", pair[1])
    )
    added = st.tuples(st.sampled_from(["+", "++"]), st.sampled_from(dotted), LETTERS).map(
        lambda three: (f"{three[0]}{three[1]}{three[2]}=1", three[2])
    )
    called = st.tuples(st.sampled_from(dotted), TARGETS).map(lambda pair: (f"+{pair[0]}_target_={pair[1]}", "_target_"))
    kinds = [misspelt, added, called]
    if numbers:
        bad = st.sampled_from(["nan", "-inf", "-7", "1e99", "word", "[1]", "{a:1}", "null", "true", "'1 '"])
        kinds.append(
            st.tuples(st.sampled_from(numbers), st.one_of(bad, LETTERS)).map(
                lambda pair: (f"{pair[0]}={pair[1]}", pair[0].rpartition(".")[2])
            )
        )
    return st.one_of(kinds)


def refused(name, convert, override, word):
    with pytest.raises(REFUSED) as caught:
        convert(compose(name, overrides=[override]))
    text = str(caught.value) if not caught.value.__cause__ else f"{caught.value} {caught.value.__cause__}"
    assert word in text, (override, text)
    assert len(text) < LONGEST


@pytest.mark.parametrize("name", [*RUNS, *OPTIONS])
def test_bad_overrides_are_named(name):
    schema = (RUNS | OPTIONS)[name]

    def convert(config):
        if name in RUNS:
            return to_settings(config)
        options = to_options(config, schema)
        return audit.check_audit(options) if name == "audit" else options

    assert tried(lambda bad: refused(name, convert, *bad), overrides_of(schema), 9) > 6


PLACES = [f"hydra.{part}" for part in CALLED] + [
    "hydra.launcher.inner",
    "hydra.job_logging.root",
]
NODES = st.one_of(
    TARGETS.map(lambda target: {"_target_": target, "_args_": ["true"]}),
    TARGETS.map(lambda target: {"x": [{"deep": {"()": target}}]}),
    TARGETS.map(lambda target: {"handlers": {"y": {"class": target}}}),
    TARGETS.map(lambda target: {"stream": f"ext://{target}"}),
    TARGETS.map(lambda target: {"custom_search_space": target}),
    TARGETS.map(lambda target: {"z": "${oc.create:{_target_: " + target + "}}"}),
    TARGETS.map(lambda target: {"_target_": "${oc.env:HOME," + target + "}"}),
    st.just({"late": "${hydra.job.num}"}),
)


def test_nothing_but_known_plugins_is_called():
    configs = {name: compose(name, return_hydra_config=True) for name in ("config", "drift", "audit")}
    for config in configs.values():
        check_targets(config)

    def named(bad):
        name, place, node = bad
        config = copy.deepcopy(configs[name])
        OmegaConf.update(config, place, node, force_add=True, merge=False)
        with pytest.raises(TargetError) as caught:
            check_targets(config)
        assert str(caught.value).startswith(place)
        assert "\n" not in str(caught.value)

    assert (
        tried(named, st.tuples(st.sampled_from(["config", "drift", "audit"]), st.sampled_from(PLACES), NODES), 150)
        > 100
    )


OFFICIAL = [
    ["hydra/launcher=basic", "hydra/sweeper=basic"],
    ["hydra/job_logging=default", "hydra/hydra_logging=default"],
    ["hydra/launcher=joblib"],
    ["hydra/launcher=submitit_slurm"],
    ["hydra/launcher=ray"],
    ["hydra/sweeper=optuna", "hydra/sweeper/sampler=tpe"],
    ["+hydra/launcher@hydra.launcher.inner=submitit_local"],
    ["+hydra.callbacks.told._target_=hydra.experimental.callbacks.LogJobReturnCallback"],
]


@pytest.mark.parametrize("overrides", OFFICIAL, ids=" ".join)
def test_official_launchers_sweepers_and_logging_are_known(overrides):
    from hydra.core.global_hydra import GlobalHydra
    from hydra.types import RunMode

    loader = GlobalHydra.instance().config_loader()
    check_targets(loader.load_configuration("config", overrides, run_mode=RunMode.MULTIRUN))


CALLBACK = "hydra:\n  callbacks:\n    x: {_target_: pathlib.Path.touch, _args_: [MARK]}\n"
LOGGING = (
    "hydra:\n  job_logging:\n    version: 1\n    root: {handlers: []}\n    filters: {x: {(): pathlib.Path.touch}}\n"
)
NESTED = "hydra:\n  launcher:\n    _recursive_: true\n    inner: {_target_: pathlib.Path.touch, _args_: [MARK]}\n"
FILES = {
    "callback": (["train"], CALLBACK, "hydra.callbacks.x._target_ = pathlib.Path.touch"),
    "callback of a study": (["drift"], CALLBACK, "hydra.callbacks.x._target_ = pathlib.Path.touch"),
    "logging": (["train"], LOGGING, "hydra.job_logging.filters.x.() = pathlib.Path.touch"),
    "inside the launcher": (["train", "-m", "seed=0,1"], NESTED, "hydra.launcher.inner._target_ = pathlib.Path.touch"),
    "in our settings": (["train"], "users: {_target_: os.system}\n", "_target_"),
    "in our words": (["interactions"], "factors: {x: {_target_: os.system}}\n", "factors"),
    "not YAML": (["train"], "{[\n", "evil"),
    "not a dictionary": (["train"], "- 1\n", "evil"),
    "pickle by tag": (["train"], "kl_coef: !!python/object/apply:os.system ['true']\n", "python/object"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_a_config_file_calls_nothing(name, tmp_path):
    (module, *more), text, message = FILES[name]
    folder = tmp_path / "conf" / "experiment"
    folder.mkdir(parents=True)
    (folder / "evil.yaml").write_text("# @package _global_\n" + text.replace("MARK", str(tmp_path / "mark")))
    run_dirs = [f"hydra.run.dir={tmp_path}/out", f"hydra.sweep.dir={tmp_path}/out"]
    places = run_dirs if module == "train" else [f"out={tmp_path}/out"]
    result = run(module, "--config-dir", tmp_path / "conf", *more, "experiment=evil", *places)
    assert_refused(result, message)
    assert [path.name for path in tmp_path.iterdir()] == ["conf"]


def assert_refused(result, message):
    assert result.returncode not in (0, 3)
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr.strip().splitlines()) <= 8


COMMANDS = {
    "audit": ["scores=README.md", "signals=[a]", "add=b", "attribute=c"],
    "audit ": ["scores=nowhere.csv", "signals=[a]", "add=b", "attribute=c", "fail_on='critical_weight!0'"],
    "compare": ["a=nowhere", "b=nowhere"],
    "materialize": ["sweep=nowhere", "job=x"],
    "plot": ["sweep=nowhere"],
    "validate": ["cases=[V1a,V99]"],
    "drift": ["points=1000000000000000000000"],
    "incident": ["rollout.end=2025-04-31"],
    "review": ["before.gates.votes.metric=launch/voes"],
    "mainline": ["last_weight=1.5"],
    "interactions": ["+factors.x=nothing"],
    "overoptimization": ["arms.natural=nothing"],
    "mitigations": ["arms.lower_weight='kl_coef=x,y'"],
    "targeting": ["min_share=0.95"],
    "make_scores": ["world.prompts=-1"],
}
NAMED = {
    "audit": "scores = README.md", "audit ": "fail_on", "compare": "nowhere", "materialize": "job = x",
    "plot": "nowhere", "validate": "V99", "drift": "points", "incident": "rollout.end", "review": "launch/voes",
    "mainline": "last_weight", "interactions": "factors.x", "overoptimization": "arms.natural",
    "mitigations": "arms.lower_weight", "targeting": "min_share", "make_scores": "world.prompts = -1",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_refuses_in_a_few_lines_and_writes_nothing(name, tmp_path):
    module = name.strip()
    out = tmp_path / "out" / ("table.csv" if module in ("validate", "make_scores") else "")
    assert_refused(run(module, *COMMANDS[name], f"out={out}"), NAMED[name])
    assert list(tmp_path.rglob("*.*")) == []


@pytest.mark.slow
@pytest.mark.parametrize("module", ["make_scores", "validate"])
def test_a_place_that_cannot_be_written_is_named(module, tmp_path):
    result = run(module, *(["cases=[V9]"] if module == "validate" else []), f"out={tmp_path}")
    assert_refused(result, str(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("module", ["plot", "compare", "materialize"])
def test_a_damaged_sweep_is_named_by_every_command_that_reads_one(module, tmp_path):
    store, folder = started(tmp_path / "sweep"), tmp_path / "sweep"
    run_shard(a_shard(training__steps=4), store)
    part = store.parts()[0]
    part.write_bytes(part.read_bytes()[:-9])
    options = {"compare": [f"a={folder}", f"b={folder}"], "plot": [f"sweep={folder}"]}
    result = run(module, *options.get(module, [f"sweep={folder}", "job=1"]), f"out={tmp_path}/out")
    assert_refused(result, f"{part}: corrupt or truncated")
    assert [path.name for path in tmp_path.iterdir()] == ["sweep"]


@pytest.mark.slow
def test_a_pickled_config_is_not_read(tmp_path):
    (tmp_path / "config.pickle").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    assert_refused(run("train", "--experimental-rerun", tmp_path / "config.pickle"), "--experimental-rerun")
