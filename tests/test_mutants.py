"""The deliberate faults of `tests/mutants.py`: the table fits the project, and every fault is caught."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from mutants import FAULTS
from run_mutants import ROOT, Broken, faulty

HERE = Path(__file__).parent


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.what)
def test_the_text_stands_once_and_the_test_exists(fault):
    source = (ROOT / fault.file).read_text(encoding="utf-8")
    assert faulty(source, fault) != source
    if fault.file.endswith(".py"):
        ast.parse(faulty(source, fault))
    file, _, name = fault.test.partition("::")
    tests = [node.name for node in ast.parse((HERE / file).read_text(encoding="utf-8")).body if hasattr(node, "name")]
    assert name.partition("[")[0] in tests


def test_faults_differ():
    assert len({fault.what for fault in FAULTS}) == len({(f.file, f.old, f.new) for f in FAULTS}) == len(FAULTS)


def test_a_text_that_is_gone_or_there_twice_is_named():
    for text in ("", FAULTS[0].old * 2):
        with pytest.raises(Broken, match=f"stands {len(text) and 2} times, not once"):
            faulty(text, FAULTS[0])


@pytest.mark.slow
def test_one_fault_of_every_room_is_caught():
    """The whole table takes four to ten minutes: make mutants."""
    first = {Path(fault.file).parent: fault.what for fault in reversed(FAULTS)}
    command = [sys.executable, str(HERE / "run_mutants.py"), *first.values()]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-2000:]
    assert "faults caught" in result.stdout
    assert "SURVIVES" not in result.stdout
