"""The tables of the report page: the sections that are read as numbers, each cell as text."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from sim.auditing.result import number, with_interval


class Table(NamedTuple):
    """A table on the page."""

    title: str
    header: list[str]
    rows: list[list[str]]


def page_tables(report: dict[str, Any]) -> list[Table]:
    """Return the tables in the order of the page; those without rows are left out."""
    makers = (_signals, _check, _critical, _penalty, _influence, _normalization, _slices, _prompts, _trainer)
    return [table for maker in makers for table in maker(report) if table.rows]


def _signals(report: dict[str, Any]) -> Iterator[Table]:
    names = [row["signal"] for row in report["signals"]]
    attributes = report["attributes"]
    rows = [
        [row["signal"], row["role"], number(row["mean"]), with_interval(row["spread"])]
        + ["" if other == row["signal"] else number(row["correlation"].get(other), 2) for other in names]
        for row in report["signals"]
    ]
    yield Table(
        "Signals, within prompts under the reference",
        ["signal", "role", "mean", "spread", *(f"correlation with {name}" for name in names)],
        rows,
    )
    rows = [[row["signal"], *(with_interval(row["push"][name]) for name in attributes)] for row in report["signals"]]
    yield Table(
        "Push of one unit of each signal (covariance)", ["signal", *(f"on {name}" for name in attributes)], rows
    )


def _check(report: dict[str, Any]) -> Iterator[Table]:
    rows = [
        [
            row["signal"],
            row["does"],
            with_interval(row["push_now"]),
            with_interval(row["push_planned"]),
            f"{row['share_of_check']:.0%}" if row["share_of_check"] == row["share_of_check"] else "",
        ]
        for row in report["check"]
    ]
    header = ["signal", "what it does", "weighted push now", "as planned", "share of the check now"]
    yield Table(f"Who holds {report['attributes'][0]} in check", header, rows)


def _critical(report: dict[str, Any]) -> Iterator[Table]:
    rows = [
        [row["attribute"], row["at"], with_interval(row), row["status"], _shares(row["share_of_draws"])]
        for row in report["critical_weight"]
    ]
    header = ["attribute", "where", "critical weight", "the primary signals", "bootstrap draws"]
    yield Table(f"Critical weight of {report['options']['add']}", header, rows)


def _shares(shares: dict[str, float]) -> str:
    return ", ".join(f"{name} {share:.0%}" for name, share in shares.items() if share > 0)


def _penalty(report: dict[str, Any]) -> Iterator[Table]:
    attribute, weight = report["attributes"][0], report["options"]["weight"]
    rows = [
        ["weak pressure (limit)" if row["kl_coef"] is None else number(row["kl_coef"]), with_interval(row["penalty"])]
        for row in report["penalty"]
    ]
    title = f"Least penalty per unit of {attribute} that keeps it from rising at weight {weight:g}"
    yield Table(title, ["kl_coef", "penalty"], rows)


def _influence(report: dict[str, Any]) -> Iterator[Table]:
    rows = [
        [
            row["signal"],
            number(row["nominal"]),
            *(with_interval(row[key]) for key in ("spread", "variance", "decisions")),
        ]
        for row in report["influence"]
    ]
    header = ["signal", "nominal share", "weight x spread", "share of variance (Shapley)", "choices that hang on it"]
    yield Table("Influence as planned", header, rows)


def _normalization(report: dict[str, Any]) -> Iterator[Table]:
    names = [row["signal"] for row in report["signals"]]
    rows = [
        [
            row["scheme"],
            *(number(row["shares"][name]) for name in names),
            with_interval(row["push"]),
            with_interval(row["critical_weight"]),
        ]
        for row in report["normalization"]
    ]
    header = ["scaling", *(f"share of {name}" for name in names), "net push", "critical weight"]
    yield Table("What scaling makes of the planned mixture", header, rows)


def _slices(report: dict[str, Any]) -> Iterator[Table]:
    rows = [
        [
            f"{row['column']} = {row['value']}",
            f"{row['share']:.1%}",
            with_interval(row["push"]),
            with_interval(row["critical_weight"]),
        ]
        for row in report["slices"]
    ]
    yield Table("Groups of prompts, worst first", ["group", "share", "net push", "critical weight"], rows)


def _prompts(report: dict[str, Any]) -> Iterator[Table]:
    rows = [[row["prompt"], number(row["push"]), f"{row['share_of_upward_push']:.1%}"] for row in report["prompts"]]
    yield Table("Prompts with the strongest push", ["prompt", "net push", "share of all upward push"], rows)


def _trainer(report: dict[str, Any]) -> Iterator[Table]:
    if not report.get("trainer"):
        return
    rows = []
    for row in report["trainer"]["signals"]:
        end = row["end"]
        predicted = with_interval({"value": end["predicted"], "low": end["low"], "high": end["high"]})
        rows.append([row["signal"], row["function"], number(end["kl"]), number(end["change"]), predicted])
    header = ["signal", "logged as", "KL at the end", "logged change", "predicted change at that KL"]
    yield Table("What the trainer logged, and what the audit predicts", header, rows)
