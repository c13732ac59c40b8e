"""The page as a reader has it: in a browser, offline, at a desk and on a phone.

Run `python -m pytest tests/test_play.py -s` to see the redraw times; they are printed and not asserted.
"""

import json
import math
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from experiments.page.gates import TITLES, decisions, outcome, verdicts
from experiments.page.numbers import numbers
from experiments.page.panels import ANSWERS, answer_of
from experiments.page.sliders import SLIDERS, start_values

ROOT = Path(__file__).parent.parent
CHROMIUM = shutil.which("chromium")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # offline, whatever the machine has
)
FIGURES = ("drift", "ledger", "strength", "quality")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium"),
]
playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install playwright")
pytest.importorskip("marimo", reason="no marimo: pip install 'thumbscale[play]'")
PATIENCE = 120_000  # ms; the machine may be busy
WATCH = """() => {
  window.took = [];
  window.gates = [];
  document.addEventListener('keydown', () => {
    const start = performance.now(), was = document.querySelector('#numbers').dataset.values;
    const look = () => {
      const now = document.querySelector('#numbers');
      if (!now || now.dataset.values === was) return requestAnimationFrame(look);
      requestAnimationFrame(() => window.took.push(performance.now() - start));
    };
    const lookAtGates = () => {
      const gates = document.querySelector('#gates');
      if (!gates || gates.dataset.values === was) return requestAnimationFrame(lookAtGates);
      requestAnimationFrame(() => window.gates.push(performance.now() - start));
    };
    look();
    lookAtGates();
  }, true);
}"""
WIDEST = "Math.max(...[...document.querySelectorAll('.page *')].map(e => e.getBoundingClientRect().right))"


@pytest.fixture(scope="module")
def address():
    """The page, served as `make play` does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "marimo", "run", "experiments/play.py", "--headless", "--port", str(port)]
    url = f"http://127.0.0.1:{port}"
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as server:
        try:
            for _ in range(240):
                try:
                    urllib.request.urlopen(f"{url}/health", timeout=5).close()
                    break
                except (urllib.error.URLError, OSError):
                    assert server.poll() is None, server.stdout.read().decode()
                    time.sleep(0.5)
            yield url
        finally:
            server.terminate()


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield chromium
        chromium.close()


class Reader:
    """Somebody in front of the page, who also notes what the browser complains of."""

    def __init__(self, browser, address, width, height):
        self.page = browser.new_page(viewport={"width": width, "height": height})
        self.page.set_default_timeout(PATIENCE)
        self.complaints, self.elsewhere = [], []
        self.page.on("console", lambda m: self.complaints.append(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("requestfailed", lambda r: self.complaints.append(f"{r.url}: {r.failure}"))
        self.page.on(
            "request", lambda r: None if r.url.startswith((address, "data:")) else self.elsewhere.append(r.url)
        )
        self.page.goto(address)
        self.page.wait_for_selector("#drift")

    def pick(self, answer):
        self.page.locator(".inputs select").select_option(label=answer)
        self.page.get_by_text("Reveal", exact=True).wait_for()

    def reveal(self):
        self.page.get_by_role("switch").click()
        self.page.wait_for_selector("#numbers")
        self.page.wait_for_selector("#gates")

    def values(self):
        return json.loads(self.page.get_attribute("#numbers", "data-values"))

    def shown(self, name):
        return float(self.page.get_attribute(f"#n-{name}", "data-value"))

    def figures(self):
        return {name: self.page.inner_html(f"#{name}") for name in FIGURES}

    def press(self, slider, key):
        """Move a slider by one step, wait for the redraw; return how long curve and gates took in ms."""
        self.page.get_by_role("slider").nth(list(SLIDERS).index(slider)).focus()
        before = self.page.evaluate("window.took.length")
        self.page.keyboard.press(key)
        self.page.wait_for_function(f"window.took.length > {before} && window.gates.length > {before}")
        return self.page.evaluate("[window.took.at(-1), window.gates.at(-1)]")


@pytest.fixture(scope="module")
def reader(browser, address):
    found = Reader(browser, address, 1280, 1000)
    found.pick("0.1 to 0.2")
    found.reveal()
    found.page.evaluate(WATCH)
    yield found
    found.page.close()


def test_the_curve_is_shown_only_to_those_who_have_picked_an_answer(browser, address):
    visitor = Reader(browser, address, 1280, 1000)
    visitor.page.get_by_role("switch").click()
    visitor.page.wait_for_timeout(1000)
    assert visitor.page.locator("#numbers").count() == 0
    right = answer_of(numbers({}))
    visitor.pick(right)
    assert visitor.page.locator("#numbers").count() == 0
    visitor.reveal()
    assert "You were right" in visitor.page.inner_text("#verdict")
    visitor.pick(next(answer for answer in ANSWERS if answer != right))
    visitor.page.wait_for_selector("#numbers", state="detached")
    visitor.page.close()


def test_at_first_the_sliders_stand_at_the_defaults(reader):
    assert reader.values() == pytest.approx(start_values())
    at = [float(slider.get_attribute("aria-valuenow")) for slider in reader.page.get_by_role("slider").all()]
    assert at == pytest.approx(list(start_values().values()))


@pytest.mark.parametrize("name", SLIDERS)
def test_a_slider_changes_the_figures_to_what_the_core_says(reader, name):
    before = reader.figures()
    was = reader.values()
    took, gates = zip(*(reader.press(name, "ArrowRight") for _ in range(3)), strict=True)
    print(
        f"\n{name}: redraw {min(took):.0f} to {max(took):.0f} ms, with the gates {min(gates):.0f} to {max(gates):.0f}"
    )
    now = reader.values()
    assert [other for other in SLIDERS if now[other] != was[other]] == [name]
    assert now[name] == pytest.approx(was[name] + 3 * SLIDERS[name].step)
    after = reader.figures()
    assert all(before[figure] != after[figure] for figure in FIGURES)
    found = numbers(now)
    expected = {
        "reference": found.reference,
        "rate": found.chosen_rate,
        "critical": found.critical,
        "strength": found.chosen_strength,
        "quality": found.quality[-1, -1],
    }
    assert {key: reader.shown(key) for key in expected} == pytest.approx(expected, rel=1e-6, nan_ok=True)
    text = reader.page.inner_text("#n-critical")
    assert text == ("none" if math.isnan(found.critical) else f"{found.critical:.3f}")


def test_the_gates_are_those_of_the_core(reader):
    reader.press("weight", "ArrowLeft")
    values = reader.values()
    assert json.loads(reader.page.get_attribute("#gates", "data-values")) == values
    for process, decision in decisions(values).items():
        cell = reader.page.locator(f"#o-{process}")
        assert cell.get_attribute("data-launched") == str(bool(decision.launched[0])).lower()
        assert cell.inner_text() == outcome(decision)
        column = list(TITLES).index(process)
        for gate, verdict in verdicts(decision).items():
            shown = reader.page.locator(f"#g-{gate} td").nth(column)
            assert shown.get_attribute("class") == verdict.word.replace(" ", "-")
            assert float(shown.get_attribute("data-effect")) == pytest.approx(verdict.effect, rel=1e-6, nan_ok=True)


def test_nothing_is_asked_of_the_network_and_nothing_fails(reader):
    assert reader.elsewhere == []
    assert reader.complaints == []


def test_a_phone_shows_it_all_without_scrolling_sideways(browser, address):
    phone = Reader(browser, address, 360, 740)
    assert phone.page.evaluate(WIDEST) <= 360
    phone.pick(ANSWERS[0])
    phone.reveal()
    assert phone.page.evaluate(WIDEST) <= 360
    assert phone.page.evaluate("document.documentElement.scrollWidth") <= 360
    sizes = phone.page.evaluate(
        "[...document.querySelectorAll('.chart text')].map(t => parseFloat(t.getAttribute('font-size')) * "
        "t.ownerSVGElement.getBoundingClientRect().width / 360)"
    )
    assert min(sizes) >= 9.5  # px
    phone.page.get_by_role("slider").last.scroll_into_view_if_needed()
    curve = phone.page.locator("#drift").bounding_box()
    assert curve["y"] >= -1  # the curve stays in sight while the sliders are moved
    assert phone.complaints == []
    phone.page.close()
