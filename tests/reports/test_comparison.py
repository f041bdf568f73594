"""Two detectors side by side: the table and the files of a comparison."""

import json

import cv2
import numpy as np
import pytest
from report_cases import DETECTIONS, evaluate
from scoring_cases import make_detections

from dcrl_jax.evaluation.evaluate import Evaluation
from dcrl_jax.evaluation.miss_rate import Score
from dcrl_jax.evaluation.rules import reasonable
from dcrl_jax.reports import comparison
from dcrl_jax.structures import MODALITIES


@pytest.fixture
def compared(config):
    """The evaluations of a teacher and of a student, and the teacher's bench."""
    teacher, bench = evaluate(config)
    student, _ = evaluate(config, MODALITIES[:1], detections=dict.fromkeys(DETECTIONS, make_detections()))
    return {"teacher": teacher, "student": student}, bench


def test_table_has_a_row_per_detector_and_a_column_per_condition():
    def scored(*rates):
        subsets = zip(reasonable(55.0), rates, strict=True)
        scores = {subset.name: Score(subset, rate, 0.5, 3, 2, *[np.zeros(0)] * 3) for subset, rate in subsets}
        return Evaluation(scores, {}, {}, {}, {}, {}, {}, ())

    evaluations = {
        "teacher": scored(0.23371, 0.23958, 0.2146),
        "student": scored(0.2589, 1.0, 0.000049),
        "RGB-only baseline": scored(0.4623, 0.4, float("nan")),
    }
    # Less than half a hundredth of a percent is rounded to zero; a subset without people has no rate.
    assert comparison.comparison_table(evaluations).split("\n") == [
        "miss rate, %         all     day  night",
        "-----------------  -----  ------  -----",
        "teacher            23.37   23.96  21.46",
        "student            25.89  100.00   0.00",
        "RGB-only baseline  46.23   40.00      -",
    ]


def test_folder_has_table_scores_curves_and_picture(compared, tmp_path, capsys):
    evaluations, bench = compared
    folder = tmp_path / "runs" / "comparison"
    comparison.write_comparison(evaluations, bench, folder)
    assert {path.name for path in folder.iterdir()} == {"table.txt", "scores.json", "miss_rate.png", "panel.png"}
    for name in ("miss_rate.png", "panel.png"):
        picture = cv2.imread(str(folder / name))
        assert min(picture.shape[:2]) > 300
        assert picture.std() > 10
    table = comparison.comparison_table(evaluations)
    printed = f"\nsynthetic_rgbt, test\n\n{table}\n\ntable, curves and picture of both: {folder}\n"
    assert capsys.readouterr().out == printed
    assert json.loads((folder / "scores.json").read_text()) == {
        name: {subset: 100 * score.miss_rate for subset, score in evaluation.scores.items()}
        for name, evaluation in evaluations.items()
    }


def test_views_curves_and_warnings_replace_those_of_an_earlier_run(compared, tmp_path, monkeypatch, capsys):
    evaluations, bench = compared
    calls = {}
    monkeypatch.setattr(comparison.curves, "miss_rate_figure", lambda scores, *_: calls.update(curves=scores))
    monkeypatch.setattr(comparison, "draw_panel", lambda bench, views, *_: calls.update(views=views))
    (tmp_path / "table.txt").write_text("of another run")
    comparison.write_comparison(evaluations, bench._replace(warnings=("some images are left out",)), tmp_path)
    assert calls["curves"] == {name: evaluations[name].scores["reasonable-all"] for name in ("teacher", "student")}
    # The image of the student with its own detections, then both images of the teacher with the teacher's.
    assert calls["views"] == [
        ("visible", evaluations["student"].detections),
        ("visible", evaluations["teacher"].detections),
        ("lwir", evaluations["teacher"].detections),
    ]
    text = f"{comparison.comparison_table(evaluations)}\nwarning: some images are left out\n"
    assert (tmp_path / "table.txt").read_text() == text
    assert text in capsys.readouterr().out
