"""Comparison of teacher and student on one test split: a table, curves and a picture of detections."""

import json
from collections.abc import Mapping
from pathlib import Path

from dcrl_jax import tables
from dcrl_jax.config import data_set_name
from dcrl_jax.evaluation.evaluate import Bench, Evaluation
from dcrl_jax.evaluation.miss_rate import percent_or_none
from dcrl_jax.files import write_atomically
from dcrl_jax.reports import curves
from dcrl_jax.reports.report import draw_panel


def comparison_table(evaluations: Mapping[str, Evaluation]) -> str:
    """Return a text table of log-average miss rates in percent: one row per detector, one column per subset."""
    rows = [
        [name, *(100 * score.miss_rate for score in evaluation.scores.values())]
        for name, evaluation in evaluations.items()
    ]
    columns = [score.subset.short_name for score in next(iter(evaluations.values())).scores.values()]
    return tables.format_table(rows, ["miss rate, %", *columns])


def write_comparison(evaluations: Mapping[str, Evaluation], bench: Bench, folder: Path) -> None:
    """Print the table and write it, ``scores.json``, ``miss_rate.png`` and ``panel.png`` into a folder.

    Args:
        evaluations: the results of ``evaluate.evaluate`` on the same split, by "teacher" and "student".
        bench: the bench of the split.
        folder: created if needed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    table = comparison_table(evaluations)
    warnings = "".join(f"warning: {warning}\n" for warning in bench.warnings)
    (folder / "table.txt").write_text(f"{table}\n{warnings}", encoding="utf-8")
    rates = {
        name: {subset: percent_or_none(score.miss_rate) for subset, score in evaluation.scores.items()}
        for name, evaluation in evaluations.items()
    }
    write_atomically(folder / "scores.json", json.dumps(rates, indent=1) + "\n")
    data = bench.config.data
    title = f"{data_set_name(data)}, {data.test_split}"
    curves.miss_rate_figure(
        {name: next(iter(evaluation.scores.values())) for name, evaluation in evaluations.items()},
        folder / "miss_rate.png",
        title,
    )
    views = [
        ("visible", evaluations["student"].detections),
        ("visible", evaluations["teacher"].detections),
        ("lwir", evaluations["teacher"].detections),
    ]
    draw_panel(
        bench,
        views,
        folder / "panel.png",
        f"Student beside teacher: {title}",
        "the student on the visible image, which is all that it sees; then the teacher, on both of its images",
    )
    print(f"\n{title}\n\n{table}\n{warnings}\ntable, curves and picture of both: {folder}", flush=True)
