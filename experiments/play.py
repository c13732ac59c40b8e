"""QUESTION: how much weight on users' thumbs-up makes a model agree with users who are wrong? Move it and see.

    make play          # or: python -m marimo run experiments/play.py

A page for teaching, served on this machine alone. Pick an answer, reveal the curve, then find out
which slider moves it. Every movement trains policies anew (docs/play.md). All that is computed or drawn is in
experiments/page; this file only says what depends on what.
"""

import marimo

app = marimo.App(width="full", app_title="Thumbscale: move the thumbs-up weight", css_file="page/page.css")


@app.cell
def _():
    import marimo as mo

    from experiments.page import gates, panels, sliders
    from experiments.page.numbers import numbers

    return gates, mo, numbers, panels, sliders


@app.cell
def _(mo, sliders):
    knobs = mo.ui.dictionary(
        {
            name: mo.ui.slider(s.low, s.high, s.step, s.start, label=s.label, show_value=True, full_width=True)
            for name, s in sliders.SLIDERS.items()
        }
    )
    return (knobs,)


@app.cell
def _(mo, panels):
    guess = mo.ui.dropdown(panels.ANSWERS, label="Your answer")
    return (guess,)


@app.cell
def _(guess, mo):
    # Made anew, and off, with each new guess: nobody sees the curve and then changes the answer.
    reveal = mo.ui.switch(label="Reveal" if guess.value else "Reveal (pick an answer first)")
    return (reveal,)


@app.cell
def _(guess, knobs, mo, numbers, panels, reveal):
    shown = bool(guess.value and reveal.value)
    mo.Html(
        panels.page(
            f"{guess}",
            f"{reveal}",
            {name: f"{knobs[name]}" for name in knobs},
            guess.value or "",
            numbers(knobs.value) if shown else None,
        )
    )
    return (shown,)


@app.cell
def _(gates, knobs, mo, shown):
    # By itself, so that the curve need not wait for it.
    mo.Html(gates.panel(knobs.value) if shown else "")
    return


if __name__ == "__main__":
    app.run()
