"""What a trainer logged: the per-reward columns of TRL's `trainer_state.json`, and the prediction at the same KL.

`GRPOTrainer` and `RLOOTrainer` log, per entry of `log_history`, `rewards/{reward function}/mean` (unweighted), `kl`
where beta is not 0, and `completions/mean_length` (TRL 1.9, trl/trainer/grpo_trainer.py and rloo_trainer.py). Their
`kl` is a mean over tokens; times the mean length it is nats per response, which is what the audit speaks of. Entries
of evaluations carry the prefix `eval_`, and a value may be null; both are left out.
"""

import contextlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sim.config import InputError, unknown_name
from sim.world.arrays import Array

REWARD = re.compile(r"rewards/(.+)/mean")
FINE = 121  # points of a predicted curve
KL_PER = ("token", "response")


def read_trainer_log(path: str | Path, kl_per: str = "token") -> pd.DataFrame:
    """Return a row per logged step: step, kl (nats per response, NaN where unknown), and each reward's mean by name.

    Args:
        path: trainer_state.json, or the checkpoint folder that holds it.
        kl_per: "token" as TRL's trainers log it, or "response" where a trainer sums over tokens.

    Raises:
        InputError: for a file that is not a trainer's state, or one without per-reward columns.
    """
    if kl_per not in KL_PER:
        raise InputError(f"log_kl = {kl_per}: must be one of {', '.join(KL_PER)}")
    file = Path(path)
    try:
        file = file / "trainer_state.json" if file.is_dir() else file
        state = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"trainer_log = {path}: cannot be read ({error.strerror or error})") from None
    except (ValueError, RecursionError):
        raise InputError(f"trainer_log = {path}: is not JSON") from None
    history = state.get("log_history") if isinstance(state, dict) else None
    if not isinstance(history, list) or not all(isinstance(entry, dict) for entry in history):
        raise InputError(f"trainer_log = {path}: has no log_history; is it a trainer_state.json?")
    rows = [_row(entry, kl_per) for entry in history]
    rows = [row for row in rows if len(row) > 2]
    if not rows:
        raise InputError(f"trainer_log = {path}: no entry has rewards/NAME/mean, as GRPO and RLOO trainers log it")
    table = pd.DataFrame(rows)
    if table["step"].isna().any():
        raise InputError(f"trainer_log = {path}: an entry with rewards has no step")
    return table.sort_values("step", kind="stable").drop_duplicates("step", keep="last").reset_index(drop=True)


def _row(entry: dict[str, Any], kl_per: str) -> dict[str, float]:
    rewards = {
        match[1]: _number(value)
        for key, value in entry.items()
        if isinstance(key, str) and (match := REWARD.fullmatch(key))
    }
    kl = _number(entry.get("kl"))
    if kl_per == "token":
        kl *= _number(entry.get("completions/mean_length"))
    # A reward function could be called step or kl: its column then keeps TRL's whole name.
    named = {f"rewards/{name}/mean" if name in ("step", "kl") else name: value for name, value in rewards.items()}
    return {"step": _number(entry.get("step")), "kl": kl, **named}


def _number(value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):  # a whole number of hundreds of digits
            return float(value)
    return float("nan")


def lay_beside(report: dict[str, Any], log: pd.DataFrame, names: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the section `trainer` of a report: each signal's logged change, weighted change, and prediction.

    The prediction at a logged KL is read off the closed-form policies of the planned mixture, which run through KL 0.

    Args:
        report: of the audit.
        log: of `read_trainer_log`.
        names: signal -> name of its reward function, where they differ.

    Raises:
        InputError: where the log has none of the signals.
    """
    if names is not None and not isinstance(names, Mapping):
        raise InputError(f"log_names = {names}: must be like {{helpfulness: helpfulness_reward}}")
    options, called = report["options"], dict(names or {})
    signals = [row["signal"] for row in report["signals"]]
    for name in called:
        if name not in signals:
            raise InputError(f"log_names: {unknown_name('signal', name, signals)}")
    logged = [column for column in log.columns if column not in ("step", "kl")]
    for name, function in called.items():
        if function not in logged:
            raise InputError(f"log_names.{name}: {unknown_name('reward function', function, logged)}")
    both = {name: called.get(name, name) for name in signals if called.get(name, name) in logged}
    if not both:
        raise InputError(f"trainer_log: logs {', '.join(logged)}, none of the signals; log_names maps signal: function")
    weights = _weights(report)
    kl = log["kl"].to_numpy(dtype=float)
    rows = []
    for name, column in both.items():
        mean = log[column].to_numpy(dtype=float)
        change = mean - mean[np.flatnonzero(np.isfinite(mean))[0]] if np.isfinite(mean).any() else mean
        curve = _curve(report, name, options["weight"])
        rows.append(
            {
                "signal": name,
                "function": column,
                "change": change.tolist(),
                "weighted_change": (weights[name] * change).tolist(),
                "predicted": {key: values.tolist() for key, values in curve.items()},
                "end": _at_end(kl, change, curve),
            }
        )
    return {"steps": log["step"].tolist(), "kl": kl.tolist(), "signals": rows}


def _weights(report: dict[str, Any]) -> dict[str, float]:
    total = sum(report["options"]["signals"].values())
    weight = report["options"]["weight"]
    factor = (1 - weight) / total if report["options"]["renormalize"] else 1.0
    return {name: factor * own for name, own in report["options"]["signals"].items()} | {
        report["options"]["add"]: weight
    }


def _curve(report: dict[str, Any], name: str, weight: float) -> dict[str, Array]:
    """Return KL, value, low, high of the predicted change, from KL 0 on.

    Between the policies that were looked at it is interpolated in sqrt(KL), in which a small change is linear.
    """
    cells = [
        cell for cell in report["predictions"] if cell["method"] == "closed_form" and np.isclose(cell["weight"], weight)
    ]
    cells.sort(key=lambda cell: cell["kl"])
    ends = {key: [cell["values"][name]["change"][key] for cell in cells] for key in ("value", "low", "high")}
    root = np.sqrt([0.0, *(max(cell["kl"], 0.0) for cell in cells)])
    fine = np.linspace(0, root[-1], FINE)
    return {"kl": fine**2} | {key: np.interp(fine, root, [0.0, *values]) for key, values in ends.items()}


def _at_end(kl: Array, change: Array, curve: dict[str, Array]) -> dict[str, float]:
    """Return the mean KL and change over the last tenth of the entries, and the prediction at that KL.

    Beyond the strongest pressure that was looked at there is no prediction: NaN.
    """
    tail = slice(-max(1, len(kl) // 10), None)
    there = np.isfinite(kl[tail]) & np.isfinite(change[tail])
    if not there.any():
        return dict.fromkeys(("kl", "change", "predicted", "low", "high"), float("nan"))
    at, observed = float(kl[tail][there].mean()), float(change[tail][there].mean())
    value, low, high = (float(np.interp(at, curve["kl"], curve[key], right=np.nan)) for key in ("value", "low", "high"))
    return {"kl": at, "change": observed, "predicted": value, "low": low, "high": high}
