"""QUESTION: how long does a newcomer wait, from the clone to the first slider moved?

    python -m benchmarks.newcomer        # needs the tests' environment and Chromium

Clones this repository into an empty folder, runs `make play` there with pip's caches off, and does in a browser what
the page asks for: pick an answer, reveal the curve, move a slider. Expect about a minute and a half on two cores, most
of it the install; the bar is 3 minutes. What the network gives decides the rest.
"""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
ALONE = {"PIP_NO_CACHE_DIR": "1", "BROWSER": "true"}  # no caches; `make play` opens no browser of its own


def stages(folder: Path) -> Iterator[tuple[str, float]]:
    """Yield (what was done, the time at its end) for each step of the newcomer's path."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    yield "git clone", time.perf_counter()
    # A session of its own, so that make and what it started can be stopped together.
    with subprocess.Popen(
        ["make", "play"], cwd=folder, env=os.environ | ALONE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, start_new_session=True,
    ) as server:  # fmt: skip
        try:
            url = address(server)
            yield "make play: installed and serving", time.perf_counter()
            yield from visit(url)
        finally:
            os.killpg(server.pid, signal.SIGTERM)


def address(server: "subprocess.Popen[str]") -> str:
    """Return the URL that `make play` prints once it serves."""
    said = []
    for line in server.stdout or ():
        said.append(line)
        if found := re.search(r"http://\S+", line):
            return found[0]
    raise RuntimeError("".join(said[-20:]))


def visit(url: str) -> Iterator[tuple[str, float]]:
    """Yield (step, time at its end) of a reader in a browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(url)
        page.wait_for_selector("#drift")
        yield "the page is there", time.perf_counter()
        page.locator(".inputs select").select_option(label="0.1 to 0.2")
        page.get_by_text("Reveal", exact=True).wait_for()
        page.get_by_role("switch").click()
        page.wait_for_selector("#numbers")
        yield "an answer picked, the curve revealed", time.perf_counter()
        before = page.get_attribute("#numbers", "data-values")
        page.get_by_role("slider").first.focus()
        page.keyboard.press("ArrowRight")
        page.wait_for_function("was => document.querySelector('#numbers').dataset.values !== was", arg=before)
        yield "the first slider moved", time.perf_counter()
        browser.close()


def main() -> None:
    """Print when each step was done, in seconds from the start."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        for step, at in stages(Path(folder) / "thumbscale"):
            print(f"{at - start:6.1f} s  {step}", flush=True)


if __name__ == "__main__":
    main()
