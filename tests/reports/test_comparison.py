"""Two detectors side by side: the table and the files of a comparison."""

import json

import cv2
from report_cases import DETECTIONS, evaluate
from scoring_cases import make_detections

from dcrl_jax.reports import comparison
from dcrl_jax.structures import MODALITIES


def test_folder_has_table_scores_curves_and_picture(config, tmp_path, monkeypatch, capsys):
    teacher, bench = evaluate(config)
    student, _ = evaluate(config, MODALITIES[:1], detections=dict.fromkeys(DETECTIONS, make_detections()))
    evaluations = {"teacher": teacher, "student": student}
    draw_curves, draw_panel, calls = comparison.curves.miss_rate_figure, comparison.draw_panel, []
    monkeypatch.setattr(comparison.curves, "miss_rate_figure", lambda *a: calls.append(a[0]) or draw_curves(*a))
    monkeypatch.setattr(comparison, "draw_panel", lambda *a: calls.append(a[1]) or draw_panel(*a))
    folder = tmp_path / "runs" / "comparison"
    folder.mkdir(parents=True)
    (folder / "table.txt").write_text("of another run")
    comparison.write_comparison(evaluations, bench._replace(warnings=("some images are left out",)), folder)
    assert {path.name for path in folder.iterdir()} == {"table.txt", "scores.json", "miss_rate.png", "panel.png"}
    for name in ("miss_rate.png", "panel.png"):
        picture = cv2.imread(str(folder / name))
        assert min(picture.shape[:2]) > 300
        assert picture.std() > 10
    table = (
        "miss rate, %     all     day   night\n"
        "------------  ------  ------  ------\n"
        "teacher        83.33   80.00  100.00\n"
        "student       100.00  100.00  100.00\n"
        "warning: some images are left out\n"
    )
    assert (folder / "table.txt").read_text() == table
    printed = f"\nsynthetic_rgbt, test\n\n{table}\ntable, curves and picture of both: {folder}\n"
    assert capsys.readouterr().out == printed
    assert json.loads((folder / "scores.json").read_text()) == {
        name: {subset: 100 * score.miss_rate for subset, score in evaluation.scores.items()}
        for name, evaluation in evaluations.items()
    }
    # The image of the student with its own detections, then both images of the teacher with the teacher's.
    assert calls == [
        {name: evaluation.scores["reasonable-all"] for name, evaluation in evaluations.items()},
        [("visible", student.detections), ("visible", teacher.detections), ("lwir", teacher.detections)],
    ]
