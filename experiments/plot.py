"""QUESTION: how does a metric depend on what a sweep varied?

    python -m experiments.plot sweep=PATH x=thumbs_up hue=kl_coef                    # curve with a band over seeds
    python -m experiments.plot sweep=PATH x=thumbs_up y=kl_coef metric=kl            # phase diagram with its boundary
    python -m experiments.plot sweep=PATH x=step hue=thumbs_up 'select={kl_coef: 0.1}'   # drift over training

Works on finished and unfinished sweeps. Writes PNG and SVG, by default into PATH/figures.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.app import command_line
from experiments.options import need, options_command
from sim.config import InputError, knob, unknown_name
from sim.plots.style import save
from sim.plots.sweep import curve, drift, phase
from sim.sweep.results import open_sweep
from sim.sweep.select import find_key, select, varying

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

KINDS = ("auto", "curve", "phase", "drift")


@dataclass
class Plot:
    """What to draw."""

    sweep: str = knob("", "the folder of a sweep")
    x: str = knob("", "setting across, or step; empty: the only one that varies")
    y: str = knob("", "setting upwards, for a phase diagram")
    hue: str = knob("", "setting that tells the lines apart")
    metric: str = knob("", "metric; empty: the headline metric")
    kind: str = knob("auto", "word; auto: phase where y is given, drift where x is step, else curve", choices=KINDS)
    select: Any = knob(None, "{setting: value or list of values}: only these runs")
    out: str = knob("", "file without its ending; empty: in the sweep's folder")


@options_command("plot", Plot)
def main(options: Plot) -> None:
    """Draw one figure and print where it is."""
    need(options, "sweep")
    data = open_sweep(options.sweep)
    metric = options.metric or str(data.attrs["headline"])
    kind = kind_of(options)
    figure = draw(selected(data, options.select), options, kind, metric)
    stem = Path(options.out or Path(options.sweep) / "figures" / f"{kind}-{metric.replace('/', '_').replace(' ', '_')}")
    print(write(figure, stem, command_line("experiments.plot")))


def kind_of(options: Plot) -> str:
    """Return curve, phase or drift."""
    if options.kind not in KINDS:
        raise InputError(f"kind: {unknown_name('kind', options.kind, list(KINDS))}")
    if options.kind != "auto":
        return options.kind
    if options.y:
        return "phase"
    return "drift" if options.x == "step" else "curve"


def selected(data: "xr.Dataset", wanted: Any) -> "xr.Dataset":
    """Return the runs that the option `select` keeps."""
    if wanted is not None and not isinstance(wanted, dict):
        raise InputError(f"select = {wanted}: must be like {{kl_coef: 0.1}}")
    return select(data, wanted or {})


def draw(data: "xr.Dataset", options: Plot, kind: str, metric: str) -> "Figure":
    """Return the figure; names of settings may be shortened."""
    for name in ("x", "y", "hue"):
        used = {"curve": ("x", "hue"), "phase": ("x", "y"), "drift": ("x", "hue")}[kind]
        if getattr(options, name) and name not in used:
            raise InputError(f"{name} = {getattr(options, name)}: has no effect on kind = {kind}")
    hue = find_key(data, options.hue) if options.hue else ""
    if kind == "drift":
        if options.x not in ("", "step"):
            raise InputError(f"x = {options.x}: kind = drift has the training step on its x axis")
        return drift(data, metric, hue)
    y = ""
    if kind == "phase":
        need(options, "y")
        y = find_key(data, options.y)
    x = find_key(data, options.x) if options.x else only_one(data, [y, hue])
    return phase(data, x, y, metric) if kind == "phase" else curve(data, x, metric, hue)


def only_one(data: "xr.Dataset", taken: list[str]) -> str:
    """Return the only setting that varies beside those taken, or ask which."""
    free = [key for key in varying(data) if key not in taken]
    if len(free) == 1:
        return free[0]
    raise InputError(f"x: has to be given, step or one of what varies: {', '.join(free) or 'nothing but the seed'}")


def write(figure: "Figure", stem: Path, command: str) -> Path:
    """Write STEM.png and STEM.svg and return the former's path."""
    name = stem.stem if stem.suffix in (".png", ".svg") else stem.name
    try:
        stem.parent.mkdir(parents=True, exist_ok=True)
        return save(figure, stem.parent, name, command)
    except OSError as error:
        raise InputError(f"{stem}: cannot be written ({error.strerror or error})") from None


if __name__ == "__main__":
    main()
