"""The house rules that a machine can check."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import sim

ROOT = Path(__file__).parent.parent
FLOORS = re.findall(r"^\* `sim\.(\w+)`", sim.__doc__, re.M)  # the reading order is the law
MODULES = sorted(
    path
    for path in (ROOT / "sim").rglob("*.py")
    if path != ROOT / "sim" / "__init__.py" and "_plugins" not in path.parts
)
MAY_PRINT = ("launcher.py", "sweeper.py")  # they talk to the user as Hydra's own do


def test_the_reading_order_names_every_room():
    rooms = {path.relative_to(ROOT / "sim").parts[0].removesuffix(".py") for path in MODULES}
    assert rooms == set(FLOORS)


def imports(path):
    """Names of the modules that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ([f"sim.{alias.name}" for alias in node.names] if node.module == "sim" else [node.module])


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_up_the_floors_only(path):
    own = FLOORS.index(path.relative_to(ROOT / "sim").parts[0].removesuffix(".py"))
    for name in imports(path):
        if name.startswith("sim."):
            assert FLOORS.index(name.split(".")[1]) <= own, name
        assert name.split(".")[0] not in ("experiments", "tests", "benchmarks"), name
        assert name.split(".")[0] != "hydra" or path.parent.name == "sweep", name
        assert name.split(".")[0] != "torch" or "training" in path.parts


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_library_does_not_print_or_pickle(path):
    calls = [
        n.func.id
        for n in ast.walk(ast.parse(path.read_text()))
        if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
    ]
    assert "print" not in calls or path.name in MAY_PRINT
    assert not {"eval", "exec"} & set(calls)
    assert not {"pickle", "dill", "joblib"} & set(imports(path))


def test_import_sim_is_light():
    heavy = ["torch", "hydra", "matplotlib", "pandas", "scipy", "xarray", "statsmodels"]
    code = f"import sys, sim; print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.strip() == "[]"


def test_every_public_name_loads():
    for name in sim.__all__:
        assert getattr(sim, name) is not None
    with pytest.raises(AttributeError, match="nothing_here"):
        _ = sim.nothing_here


def test_every_setting_has_unit_and_source():
    from experiments.audit import AuditCommand
    from experiments.drift import Drift
    from experiments.incident import Incident
    from experiments.mainline import MainlineRun
    from experiments.make_scores import MakeScores
    from experiments.review import ReviewRun
    from sim.config import Scores, walk

    commands = (Drift(), MakeScores(), Drift(world=Scores()), AuditCommand(), Incident(), ReviewRun(), MainlineRun())
    for settings in commands:
        for name, item, _ in walk(settings):
            assert item.metadata.get("unit"), name
            assert item.metadata.get("source"), name
