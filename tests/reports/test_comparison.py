"""Two detectors side by side: the table and the files of a comparison."""

import json

import cv2
import pytest
from report_cases import DETECTIONS, evaluate
from scoring_cases import make_detections

from dcrl_jax.reports import comparison
from dcrl_jax.structures import MODALITIES


@pytest.fixture
def compared(config):
    """The evaluations of a teacher and of a student, and the teacher's bench."""
    teacher, bench = evaluate(config)
    student, _ = evaluate(config, MODALITIES[:1], detections=dict.fromkeys(DETECTIONS, make_detections()))
    return {"teacher": teacher, "student": student}, bench


def test_folder_has_table_scores_curves_and_picture(compared, tmp_path, capsys):
    evaluations, bench = compared
    folder = tmp_path / "runs" / "comparison"
    comparison.write_comparison(evaluations, bench, folder)
    assert {path.name for path in folder.iterdir()} == {"table.txt", "scores.json", "miss_rate.png", "panel.png"}
    for name in ("miss_rate.png", "panel.png"):
        picture = cv2.imread(str(folder / name))
        assert min(picture.shape[:2]) > 300
        assert picture.std() > 10
    table = (
        "miss rate, %     all     day   night\n"
        "------------  ------  ------  ------\n"
        "teacher        83.33   80.00  100.00\n"
        "student       100.00  100.00  100.00"
    )
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
    text = (tmp_path / "table.txt").read_text()
    assert text.startswith("miss rate, %")
    assert text.endswith("100.00\nwarning: some images are left out\n")
    assert text in capsys.readouterr().out
