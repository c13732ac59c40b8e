"""Numbers that move are seen: quick versions of the experiments against the numbers that were kept."""

import json

import pytest
from make_golden import ADVICE, GOLDEN, QUICK, moved, printed, same

KEPT = json.loads(GOLDEN.read_text())


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_headline_numbers_are_those_that_were_kept(name, tmp_path):
    found = moved(KEPT[name], printed(name, tmp_path))
    assert not found, "\n".join([f"experiments.{name} moved:", *found, ADVICE])


def test_every_study_has_its_numbers_kept():
    assert list(KEPT) == list(QUICK)
    assert all(any(character.isdigit() for line in lines for character in line) for lines in KEPT.values())


@pytest.mark.parametrize(
    ("old", "new", "alike"),
    [
        ("rate 0.309", "rate 0.309", True),
        ("rate 0.309", "rate 0.310", True),  # one unit of the last digit
        ("rate 0.309", "rate 0.311", False),
        ("rate +0.309", "rate -0.309", False),
        ("runs 400", "runs 401", False),  # a count
        ("rate 0.309", "share 0.309", False),
        ("launches after 9 days", "blocks after 9 days", False),
        ("of 2,048: 0.5", "of 2,048: 0.6", True),
        ("p 1.0e-05", "p 1.1e-05", True),
        ("p 1.0e-05", "p 1.3e-05", False),
        ("kept 98% of it", "kept 99% of it", True),
        ("kept 98% of it", "kept 96% of it", False),
        ("0.1 and 0.2", "0.1", False),
    ],
)
def test_lines_agree_to_one_unit_of_the_last_digit(old, new, alike):
    assert same(old, new) == alike


def test_what_moved_is_said_with_both_numbers():
    assert moved(["a 0.10", "b 0.20"], ["a 0.10", "b 0.29"]) == ["  was: b 0.20\n  now: b 0.29"]
    assert moved(["a 0.10"], []) == ["1 lines -> 0 lines"]
