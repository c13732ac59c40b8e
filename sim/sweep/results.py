"""The results of a sweep on disk: one labelled data set, in parts that are written as they finish.

    FOLDER/sweep/manifest.json      what was asked: command, versions, commit, settings shared by all runs
    FOLDER/sweep/part-*.parquet     a row per run: id, job, status, batched settings, and a list over steps per metric

A part is written to a temporary name, flushed and renamed, so that a reader finds all of it or nothing: the presence of
a row is what marks a run as done. Each part carries the settings its runs share and the labels of its columns. The end
of its name is a checksum of all its bytes (Parquet's own cover the pages alone), and the manifest holds one of itself.
Nothing is pickled.
"""

import contextlib
import hashlib
import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sim.config import InputError, shown
from sim.sweep.parts import checksum, encode, part_meta, read_part
from sim.world.arrays import Array

if TYPE_CHECKING:
    import xarray as xr  # half a second to load: functions that make data sets do it

RESULTS_VERSION = 1  # raise it when the same settings give other numbers
# Settings that change no number, or none by more than the rounding of training.dtype.
NOT_IDENTITY = ("training.chunk", "training.engine", "figures")
COMPLETED, FAILED = "COMPLETED", "FAILED"


def run_ids(shared: Mapping[str, Any], columns: Mapping[str, npt.NDArray[Any]]) -> list[str]:
    """Return the identity of each run: a hash of its resolved settings, by sorted key, and the results version.

    It does not depend on the order of the sweep, the job number, the folder or what else is swept.

    Args:
        shared: dotted key -> value of the settings that all runs share (batched keys are overridden by the columns).
        columns: dotted key -> [N].
    """
    flat = {key: value for key, value in {**shared, **columns}.items() if key not in NOT_IDENTITY}
    # json of a float is its shortest repr, so equal values give equal text
    pieces, holes = [f"version={RESULTS_VERSION}"], []
    for key in sorted(flat):
        pieces.append(f"{key}=%s" if key in columns else f"{key}={json.dumps(flat[key])}".replace("%", "%%"))
        holes += [json.dumps(columns[key].tolist())[1:-1].split(", ")] if key in columns else []
    template = "\n".join(pieces)
    return [hashlib.blake2b((template % row).encode(), digest_size=12).hexdigest() for row in zip(*holes, strict=True)]


class Store:
    """The results folder of one sweep."""

    def __init__(self, folder: str | Path) -> None:
        """Take the sweep's folder (the one that holds `sweep/`)."""
        if not isinstance(folder, str | os.PathLike):
            raise InputError(f"path = {shown(folder)}: must be the folder of a sweep")
        self.folder = Path(folder)
        self.inner = self.folder / "sweep"
        self.manifest_path = self.inner / "manifest.json"

    def exists(self) -> bool:
        """Say whether a sweep was started here."""
        return self.manifest_path.is_file()

    def write_manifest(self, manifest: Mapping[str, Any]) -> None:
        """Write the manifest, whole or not at all."""
        self.inner.mkdir(parents=True, exist_ok=True)
        whole = {**manifest, "checksum": checksum(_text(manifest))}
        _replace(self.manifest_path, json.dumps(whole, indent=1, sort_keys=True).encode())

    def manifest(self) -> dict[str, Any]:
        """Return the manifest, or raise `InputError` if it is missing or broken."""
        if not self.exists():
            raise InputError(f"{self.folder}: no sweep in this folder (expected {self.manifest_path.name} in sweep/)")
        try:
            found = json.loads(self.manifest_path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(f"{self.manifest_path}: not readable ({error})") from None
        if not isinstance(found, dict) or not isinstance(found.get("base"), dict):
            raise InputError(f"{self.manifest_path}: not the manifest of a sweep")
        told = found.pop("checksum", None)  # versions before this one wrote none
        if told is not None and told != checksum(_text(found)):
            raise InputError(f"{self.manifest_path}: corrupt, its checksum is another")
        return found

    def parts(self) -> list[Path]:
        """Return the parts, oldest first."""
        return sorted(self.inner.glob("part-*.parquet"))

    def write_part(
        self,
        rows: Mapping[str, Sequence[str] | npt.NDArray[Any]],
        metrics: Mapping[str, Array],
        meta: Mapping[str, Any],
    ) -> Path:
        """Write one part, whole or not at all, and return its path.

        Args:
            rows: id, job, status, error and the batched settings, [N] each.
            metrics: name -> [N, T].
            meta: steps, settings, labels, headline, added, engine.
        """
        content = encode(rows, metrics, meta)
        path = self.inner / f"part-{time.time_ns():020d}-{checksum(content)}.parquet"
        _replace(path, content)
        return path

    def statuses(self) -> dict[str, str]:
        """Return run id -> status; where a run was tried again the newest counts."""
        found: dict[str, str] = {}
        for path in self.parts():
            table = read_part(path, ["id", "status"])
            found.update(zip(table["id"].to_pylist(), table["status"].to_pylist(), strict=True))
        return found

    def returns(self) -> dict[str, tuple[str, Any]]:
        """Return run id -> (status, final headline metric, or the error)."""
        found: dict[str, tuple[str, Any]] = {}
        for path in self.parts():
            headline = f"metric:{part_meta(read_part(path, []), path)['headline']}"
            table = read_part(path, ["id", "status", "error", headline])
            ids, status, errors = (table[name].to_pylist() for name in ("id", "status", "error"))
            values: list[Any] = [None] * len(table)
            if headline in table.column_names:
                column = table[headline].combine_chunks()
                # not to_numpy, which would load pandas
                values = np.from_dlpack(column.values).reshape(len(table), -1)[:, -1].tolist()
            for run, state, error, value in zip(ids, status, errors, values, strict=True):
                found[run] = (state, value if state == COMPLETED else error)
        return found


def open_sweep(path: str | Path) -> "xr.Dataset":
    """Return the data set of a sweep, finished or not: dimensions run and step, settings that vary as coordinates.

    Runs are in the order of their job numbers; a run that was tried again counts once, with its newest result. Failed
    runs hold NaN and say why in the coordinate `error`.

    Args:
        path: the sweep's folder.

    Raises:
        InputError: if there is no sweep, no finished part, or a part is corrupt; it is named.
    """
    import xarray as xr

    store = Store(path)
    manifest = store.manifest()
    paths = store.parts()
    if not paths:
        raise InputError(f"{path}: the sweep has no finished runs yet")
    by_settings: dict[str, list[tuple[pa.Table, dict[str, Any]]]] = {}
    for part in paths:
        table = read_part(part)
        meta = part_meta(table, part)
        by_settings.setdefault(json.dumps([meta["settings"], meta["steps"]], sort_keys=True), []).append((table, meta))
    trained = sorted({meta["engine"] for same in by_settings.values() for _, meta in same if meta.get("engine")})
    pieces = [_to_dataset(*_joined(store.inner, same)) for same in by_settings.values()]
    shared = [piece.attrs.pop("settings") for piece in pieces]
    _label(pieces, shared)
    data = (
        pieces[0]
        if len(pieces) == 1
        else xr.concat(pieces, "run", join="outer", data_vars="all", coords="different", compat="equals")
    )
    # newest last: keep the last row of each id
    _, from_end = np.unique(data["id"].values[::-1], return_index=True)
    keep = data.sizes["run"] - 1 - from_end
    data = data.isel(run=keep[np.argsort(data["job"].values[keep], kind="stable")])
    attributes = {key: manifest[key] for key in ("command", "commit", "total") if key in manifest}
    return data.assign_coords(run=data["job"].values).assign_attrs(attributes | {"engine": ", ".join(trained)})


def _joined(folder: Path, parts: Sequence[tuple[pa.Table, dict[str, Any]]]) -> tuple[pa.Table, dict[str, Any]]:
    """Return parts of the same settings as one table; one whose runs all failed before training has no metrics."""
    meta = max((meta for _, meta in parts), key=lambda meta: len(meta["labels"]))
    try:
        return pa.concat_tables([table for table, _ in parts], promote_options="permissive"), meta
    except pa.ArrowException as error:
        raise InputError(f"{folder}: its parts do not fit together ({str(error).splitlines()[0]})") from None


def _label(pieces: "Sequence[xr.Dataset]", shared: Sequence[Mapping[str, Any]]) -> None:
    """Give every piece the settings in which pieces differ, as coordinates; see `_absent` for one that it has not."""
    held = {key: [own[key] for own in shared if key in own] for own in shared for key in own}
    for key, values in held.items():
        alike = len(values) == len(shared) and all(value == values[0] for value in values)
        if alike or any(isinstance(value, list | dict) for value in values):
            continue
        numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
        for piece, own in zip(pieces, shared, strict=True):
            if key not in piece.coords:
                piece.coords[key] = ("run", np.full(piece.sizes["run"], own.get(key, _absent(key, numeric))))
    for name in dict.fromkeys(str(key) for piece in pieces for key in piece.coords):
        for piece in pieces:
            if name not in piece.coords:
                piece.coords[name] = ("run", np.full(piece.sizes["run"], _absent(name, numeric=True)))


def _absent(key: str, numeric: bool) -> float | str:
    """Return what stands for a setting that a run has not: a signal that its mixture does not name weighs nothing."""
    if key.startswith("mixture.weights."):
        return 0.0
    return np.nan if numeric else ""


def _to_dataset(table: pa.Table, meta: Mapping[str, Any]) -> "xr.Dataset":
    import xarray as xr

    variables: dict[str, Any] = {}
    coordinates: dict[str, Any] = {"step": np.array(meta["steps"])}
    for name in table.column_names:
        column = table[name].combine_chunks()
        if name.startswith("metric:"):
            metric = name.removeprefix("metric:")
            values = column.values.to_numpy(zero_copy_only=False).reshape(len(table), -1)
            variables[metric] = (("run", "step"), values, meta["labels"].get(metric, {}))
        else:
            values = column.to_numpy(zero_copy_only=False)
            coordinates[name] = ("run", values.astype(str) if values.dtype == object else values)
    attributes = {"headline": meta["headline"], "added": meta["added"], "settings": meta["settings"]}
    return xr.Dataset(variables, coordinates, attributes)


def export(data: "xr.Dataset", path: str | Path) -> None:
    """Write a data set as one flat table, a row per run and step, to .parquet or .csv, whole or not at all.

    Raises:
        InputError: for something else than a data set, another ending, or a place where no file can be written.
    """
    import xarray as xr

    if not isinstance(data, xr.Dataset):
        raise InputError(f"data: expected a data set, got {type(data).__name__}")
    ending = Path(path).suffix if isinstance(path, str | os.PathLike) else ""
    if ending not in (".parquet", ".csv"):
        raise InputError(f"path = {shown(path)}: the ending must be .parquet or .csv")
    table = data.to_dataframe().reset_index()
    content = table.to_parquet(index=False) if ending == ".parquet" else table.to_csv(index=False).encode()
    _replace(Path(path), content)


def versions() -> dict[str, str]:
    """Return the versions that the numbers may depend on, and the commit of the project."""
    found = {name: version(name) for name in ("thumbscale", "torch", "numpy", "hydra-core")}
    git = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False, cwd=Path(__file__).parent
    )
    return found | {"commit": git.stdout.strip() or "unknown", "results": str(RESULTS_VERSION)}


def _text(manifest: Mapping[str, Any]) -> bytes:
    return json.dumps(manifest, sort_keys=True).encode()


def _replace(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all, whatever happens to this process."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        with contextlib.suppress(OSError, ValueError):
            partial.unlink()
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be written ({reason}); what was there is untouched") from None
