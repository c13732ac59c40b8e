"""Files from others are data: a `_target_` in them is text, and nothing calls it."""

import io
import json

import numpy as np
import pytest

import sim
from sim.config import InputError, Settings
from sim.sweep.plan import flatten
from sim.sweep.rerun import unflatten

CALL = {"_target_": "pathlib.Path.touch", "_args_": ["MARK"], "_partial_": False}


def test_a_target_in_a_stored_sweep_is_refused_or_left_out(tmp_path):
    mark = str(tmp_path / "mark")
    flat = flatten(Settings())
    assert unflatten(flat | {"_target_": "pathlib.Path.touch", "_args_": mark}) == Settings()
    with pytest.raises(InputError, match=r"training\._target_"):
        unflatten(flat | {"training._target_": "pathlib.Path.touch"})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("column", ["a", "harm"])
def test_a_target_in_a_score_table_is_not_a_number(tmp_path, column):
    rows = [
        {"prompt_id": str(n // 2), "response_id": str(n % 2), "a": n * 0.5, "b": 1.0 - n, "harm": float(n % 2)}
        for n in range(8)
    ]
    rows[3][column] = CALL | {"_args_": [str(tmp_path / "mark")]}
    path = tmp_path / "scores.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(InputError, match=column):
        sim.audit(path, signals={"a": 1.0}, add="b", attribute="harm")
    assert [file.name for file in tmp_path.iterdir()] == ["scores.jsonl"]


def test_a_pickle_is_no_part_of_a_sweep(tmp_path):
    from sim.sweep.parts import read_part

    buffer = io.BytesIO()
    np.save(buffer, np.array([object()], dtype=object), allow_pickle=True)
    (tmp_path / "part.parquet").write_bytes(buffer.getvalue())
    with pytest.raises(InputError, match="corrupt or truncated"):
        read_part(tmp_path / "part.parquet")
