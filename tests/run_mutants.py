"""Apply the faults of `tests/mutants.py` one at a time to a copy of the project, and see that each is caught.

    python tests/run_mutants.py            # all of them: make mutants
    python tests/run_mutants.py fused Adam # those with one of the words in their description or file

Exit code 1 if a fault survives or a test fails without any; a fault whose test is skipped here (no compiler) is named
and left out. A process is forked for each fault, so that the libraries are loaded once; the project itself is imported
by the forked process, from the copy.
"""

import importlib
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import pytest
from mutants import FAULTS, Fault

ROOT = Path(__file__).parent.parent
PARTS = ("sim", "tests", "experiments", "configs", "docs", "pyproject.toml")
LIBRARIES = ("torch", "pandas", "xarray", "scipy.stats", "statsmodels.stats.power", "pyarrow.parquet")


class Broken(Exception):  # noqa: N818
    """The table of faults does not fit the project."""


def faulty(text: str, fault: Fault) -> str:
    """Return a source with the fault in it."""
    if text.count(fault.old) != 1:
        raise Broken(f"{fault.file}: '{fault.old}' stands {text.count(fault.old)} times, not once ({fault.what})")
    return text.replace(fault.old, fault.new)


def copy_project(folder: Path, fault: Fault | None = None) -> Path:
    """Copy what the tests need, with the fault in place."""
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / part, folder / part)
    if fault is not None:
        path = folder / fault.file
        path.write_text(faulty(path.read_text(encoding="utf-8"), fault), encoding="utf-8")
    return folder


class Outcome(NamedTuple):
    """The ids of the tests that failed, and of those that were skipped."""

    failed: list[str]
    skipped: list[str]


def run_tests(folder: Path, tests: Sequence[str], options: Sequence[str] = ("-x",)) -> Outcome:
    """Run tests of the project in a folder by a process of their own."""
    context = multiprocessing.get_context("fork")
    mine, its = context.Pipe(duplex=False)
    worker = context.Process(target=_run, args=(folder, [*options, *(f"tests/{test}" for test in tests)], its))
    worker.start()
    its.close()
    try:
        code, outcome = mine.recv()
    except EOFError:
        code, outcome = -1, Outcome([], [])
    worker.join()
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise Broken(f"pytest ended with {code}: {', '.join(tests)}")
    return outcome


def _run(folder: Path, arguments: list[str], answer: Connection) -> None:
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123
    os.chdir(folder)
    os.environ["PYTHONPATH"] = str(folder)
    sys.path[:0] = [str(folder), str(folder / "tests")]
    outcome = Outcome([], [])

    class Watch:
        def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
            if report.outcome != "passed":
                getattr(outcome, report.outcome).append(report.nodeid.removeprefix("tests/"))

    code = pytest.main(["-q", "-p", "no:cacheprovider", *arguments], plugins=[Watch()])
    answer.send((int(code), outcome))


def main(words: Sequence[str]) -> int:
    """Print a line per fault; return the exit code."""
    chosen = [f for f in FAULTS if not words or any(word.lower() in f"{f.what} {f.file}".lower() for word in words)]
    survived = 0
    with tempfile.TemporaryDirectory() as name:
        # Compiled faults are kept with the copies, and no bytecode of one copy can stand for another.
        os.environ |= {"XDG_CACHE_HOME": f"{name}/cache", "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
        sys.dont_write_bytecode = True
        for library in LIBRARIES:
            importlib.import_module(library)
        healthy = run_tests(copy_project(Path(name, "healthy")), sorted({fault.test for fault in chosen}), ())
        if healthy.failed:
            raise Broken(f"fails without any fault: {', '.join(healthy.failed)}")
        for fault in [f for f in chosen if any(test.startswith(f.test) for test in healthy.skipped)]:
            print(f"  - | {fault.what} | {fault.file} | not run: {fault.test} is skipped here")
            chosen.remove(fault)
        for number, fault in enumerate(chosen, 1):
            start, folder = time.perf_counter(), copy_project(Path(name, str(number)), fault)
            caught = run_tests(folder, [fault.test]).failed
            survived += not caught
            shutil.rmtree(folder)
            verdict = caught[0] if caught else f"SURVIVES {fault.test}"
            print(
                f"{number:3} | {fault.what} | {fault.file} | {verdict} | {time.perf_counter() - start:.1f} s",
                flush=True,
            )
    print(f"{len(chosen) - survived} of {len(chosen)} faults caught")
    return 1 if survived else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Broken as error:
        sys.exit(str(error))
