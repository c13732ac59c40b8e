"""The site is current and whole: what is made from the code names everything, and every command that is shown runs."""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet
from PIL import Image

from sim.config import Scores, Settings, walk

ROOT = Path(__file__).parent.parent
TUTORIALS = sorted((ROOT / "docs" / "tutorial").glob("*.md"))
PAGES = [ROOT / "README.md", *TUTORIALS]
# Every command of these runs at these sizes, so that a page runs in a minute or so; later settings win.
SMALL = ["world.prompts=48", "world.responses=6", "training.steps=10"]
SMALLER = {
    "experiments.drift": [*SMALL, "points=5", "seeds=2"],
    "experiments.train": SMALL,
    "experiments.incident": ["world.prompts=120", "reviews=2"],
    "experiments.interactions": [*SMALL, "seeds=2"],
    "experiments.overoptimization": [*SMALL[:2], "seeds=2"],
    "experiments.mitigations": [*SMALL[:2], "seeds=2"],
    "experiments.mainline": ["world.prompts=120", "worlds=2", "updates=2"],
    "experiments.review": ["world.prompts=120", "bundles.candidates=8", "bundles.worlds=2"],
}
CHAT_ONLY = ("world.prompts=", "world.responses=")
NOT_RUN = {  # looked up in the Makefile only
    "make test": "it is what runs this",
    "make demo": "experiments.drift at full size, which is run above, and an install",
    "make docs": ".ci/run builds the site, tutorials included",
    "make incident": "experiments.incident at full size",
    "make play": "serves a page until it is stopped",
    "make bench": "timings",
}


def commands(text):
    """Return the commands that a page shows in indented or fenced blocks, lines joined where they go on."""
    joined = re.sub(r"\s*\\\n\s*", " ", text)
    cells = re.sub(r"(?ms)^```\{code-cell\}.*?^```$", "", joined)  # these run when the site is built
    lines = [line for line in cells.splitlines() if re.match(r"(    )?(python -m|make) ", line)]
    return [re.sub(r"\s+#.*$", "", line).strip() for line in lines]


def python_blocks(text):
    """Return the indented blocks of a page that are Python."""
    blocks = re.findall(r"(?m)^    import .*\n(?:(?:    .*)?\n)*", text)
    return [re.sub(r"(?m)^    ", "", block) for block in blocks]


def smaller(command):
    """Return the words of a command with the settings that make it quick."""
    words = shlex.split(command)
    extra = SMALLER.get(words[2], [])
    if any("scores" in word for word in words):
        extra = [word for word in extra if not word.startswith(CHAT_ONLY)]
    return [sys.executable, *words[1:], *extra]


def run(words, folder):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error::RuntimeWarning"}
    return subprocess.run(words, capture_output=True, text=True, cwd=folder, env=environment, check=False)


@pytest.fixture
def project(tmp_path):
    """A folder in which the project's relative paths work and everything that is written is thrown away."""
    for name in ("experiments", "configs", "docs", "benchmarks", "Makefile", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if commands(page.read_text())], ids=lambda page: page.stem)
def test_every_command_of_the_page_runs(page, project):
    for command in commands(page.read_text()):
        if command.startswith("make "):
            assert command in NOT_RUN, f"{command}: run it, or say why not"
            result = run(["make", "-n", *command.split()[1:]], project)
        else:
            result = run(smaller(command), project)
        assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"


@pytest.mark.parametrize(
    "page", [page for page in PAGES if python_blocks(page.read_text())], ids=lambda page: page.stem
)
def test_the_python_of_the_page_runs(page, project):
    for block in python_blocks(page.read_text()):
        result = run([sys.executable, "-c", block], project)
        assert result.returncode == 0, f"{block}\n{result.stderr}"


def test_the_headline_figure_is_the_one_that_make_demo_writes():
    with Image.open(ROOT / "docs" / "static" / "drift.png") as figure:
        assert figure.info["Description"] == "python -m experiments.drift"
    assert "(docs/static/drift.png)" in (ROOT / "README.md").read_text()


def test_commands_are_found_where_they_are_written():
    page = "\n".join([
        "text, python -m nothing", "", "    python -m a b='1 2' \\", "        c=3   # why",
        "```bash", "make demo", "```", "```{code-cell} ipython3", "%%bash", "python -m in.a.cell", "```",
    ])  # fmt: skip
    assert commands(page) == ["python -m a b='1 2' c=3", "make demo"]


def test_the_page_of_parameters_has_every_setting():
    pytest.importorskip("sphinx")
    from docs.site.settings import parameters_page

    page = parameters_page()
    for settings in (Settings(), Settings(world=Scores())):
        for name, item, _ in walk(settings):
            assert f"| `{name}` |" in page, name
            assert item.metadata["unit"].split("|")[0][:40] in page, name


def test_the_page_of_metrics_has_every_metric():
    pytest.importorskip("jupytext")
    from docs.site.pages import metrics_page
    from sim.pipeline import describe
    from sim.problem import prepare

    page = metrics_page()
    for name in describe(Settings(), prepare(Settings(), 0)):
        assert f"`{re.sub('rewards/[a-z_]+/', 'rewards/NAME/', name)}`" in page, name


def test_the_page_of_versions_states_the_bounds_the_pins_and_the_pythons():
    page = (ROOT / "docs" / "reference" / "versions.md").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = dict(re.findall(r"(?m)^([\w-]+)==(\S+)$", (ROOT / "constraints.txt").read_text()))
    bounds = [re.match(r"([\w-]+)>=([\d.]+)", dependency).groups() for dependency in project["dependencies"]]
    stated = re.findall(r"(?m)^\| ([a-z-]+) \| ([\d.]+) \| ([\d.]+) \|", page)
    assert stated == [(name, lowest, pins[name]) for name, lowest in bounds]
    pythons = sorted(set(re.findall(r"(?m)^\| (3\.\d+) \|", page)))
    assert pythons == [f"3.{minor}" for minor in range(30) if f"3.{minor}" in SpecifierSet(project["requires-python"])]
    assert project["classifiers"] == [f"Programming Language :: Python :: {python}" for python in pythons]


def test_docstrings_become_restructured_text():
    pytest.importorskip("sphinx")
    from docs.site.docstrings import to_rst

    written = [
        "Return `x` * 2 | y_.",
        "",
        "    a = b",
        "",
        "one: first",
        "two: *second*,",
        "  goes on",
        "",
        "Args:",
        "    n: B.",
    ]
    assert to_rst(written) == [
        r"Return ``x`` \* 2 \| y\_.", "", "::", "", "    a = b", "", "* ``one``: first", "* ``two``: *second*,",
        "  goes on", "", "Args:", r"    n: \B.", "",
    ]  # fmt: skip


def test_tutorials_have_exercises_with_checked_answers_and_a_healthy_twin():
    notebooks = [page.read_text() for page in TUTORIALS if "jupytext:" in page.read_text()]
    assert len(notebooks) >= 6
    for text in notebooks:
        answers = re.findall(r"(?ms)^:tags: \[hide-cell\]\n(.*?)^```$", text)
        assert len(answers) >= 3
        assert all("assert" in answer for answer in answers)
        assert "## The healthy twin" in text
