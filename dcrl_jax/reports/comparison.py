"""Several detectors on one test split: a table, their curves, and a picture of what they find."""

import json
from collections.abc import Mapping
from pathlib import Path

from dcrl_jax.evaluation.evaluate import Bench, Evaluation
from dcrl_jax.evaluation.miss_rate import percent_or_none
from dcrl_jax.reports import curves, tables
from dcrl_jax.reports.report import draw_panel


def comparison_table(evaluations: Mapping[str, Evaluation]) -> str:
    """Log-average miss rates in percent as text: a row for each detector, a column for each subset."""
    rows = [[name, *(100 * s.miss_rate for s in one.scores.values())] for name, one in evaluations.items()]
    columns = [s.subset.short_name for s in next(iter(evaluations.values())).scores.values()]
    return tables.format_table(rows, ["miss rate, %", *columns])


def write_comparison(evaluations: Mapping[str, Evaluation], bench: Bench, folder: Path) -> None:
    """Print the table, and write it with ``scores.json``, ``miss_rate.png`` and ``panel.png`` into a folder.

    Args:
        evaluations: of ``evaluate.evaluate`` on the same split: "teacher" and "student".
        bench: of the split.
        folder: made if missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    table = comparison_table(evaluations)
    warnings = "".join(f"warning: {warning}\n" for warning in bench.warnings)
    (folder / "table.txt").write_text(f"{table}\n{warnings}")
    rates = {
        name: {subset: percent_or_none(score.miss_rate) for subset, score in one.scores.items()}
        for name, one in evaluations.items()
    }
    (folder / "scores.json").write_text(json.dumps(rates, indent=1) + "\n")
    data = bench.config.data
    title = f"{data.name}, {data.test_split}"
    curves.miss_rate_figure(
        {name: next(iter(one.scores.values())) for name, one in evaluations.items()}, folder / "miss_rate.png", title
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
