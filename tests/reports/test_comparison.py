"""Two detectors side by side: the table, and the files of a comparison, with detectors whose answers are known."""

import json

import cv2
import numpy as np
import pytest

from configs import teacher
from dcrl_jax import parallel
from dcrl_jax.data import pipeline, sources
from dcrl_jax.evaluation import evaluate as evaluation
from dcrl_jax.evaluation.evaluate import CompiledDetector, Evaluation
from dcrl_jax.evaluation.miss_rate import Score
from dcrl_jax.evaluation.rules import reasonable
from dcrl_jax.evaluation.truths import read_truths
from dcrl_jax.reports import comparison
from dcrl_jax.structures import MODALITIES, Detections

# Scenes twice as large as the network input.
SCENE, INPUT = (64, 80), (32, 40)
IMAGES = 6
NOBODY = np.zeros((0, 4), np.float32)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    config = teacher.get_config("synthetic")
    config.data.data_dir = str(tmp_path_factory.mktemp("data"))
    config.data.options = {"height_px": SCENE[0], "width_px": SCENE[1], "train": 1, "validation": 1, "test": IMAGES}
    config.data.height_px, config.data.width_px = INPUT
    config.eval.batch_size = IMAGES
    config.eval.min_height_px = 8.0
    return config


class Finder:
    """Finds the annotated boxes of the images of some conditions, in pixels of the network input."""

    def __init__(self, config, *conditions):
        truths = read_truths(pipeline.open_split(sources.prepare(config.data), "test")).images
        self.boxes = []
        for truth in truths:
            x, y, w, h = (truth.boxes / 2).T
            boxes = np.stack([x, y, x + w, y + h], axis=-1).astype(np.float32)
            self.boxes.append(boxes if truth.condition in conditions else NOBODY)

    def __call__(self, params, *images):
        devices, each = images[0].shape[:2]
        boxes, mask = np.zeros((devices * each, 16, 4), np.float32), np.zeros((devices * each, 16), bool)
        for row, found in enumerate(self.boxes):
            boxes[row, : len(found)], mask[row, : len(found)] = found, True
        scores = np.full(mask.shape, 0.9, np.float32)
        layout = [x.reshape(devices, each, *x.shape[1:]) for x in (boxes, scores, mask)]
        return Detections(*layout), np.full((devices, each, 2), 0.5) if len(images) > 1 else None


def open_bench(config, run, modalities):
    builder = sources.prepare(config.data)
    return evaluation.open_bench(CompiledDetector(run, modalities), builder, "test", config, parallel.device_mesh())


@pytest.fixture(scope="module")
def compared(config):
    """A teacher that finds everybody, a student that finds those of the day, and the teacher's bench."""
    bench = open_bench(config, Finder(config, "day", "night"), MODALITIES)
    student = open_bench(config, Finder(config, "day"), MODALITIES[:1])
    found = {name: evaluation.evaluate(one, None) for name, one in (("teacher", bench), ("student", student))}
    return found, bench


@pytest.fixture
def written(compared, tmp_path, capsys):
    """The folder that a comparison leaves, and what it prints."""
    folder = tmp_path / "runs" / "comparison"
    comparison.write_comparison(*compared, folder)
    return folder, capsys.readouterr().out


def scored(*rates):
    """An evaluation with these miss rates: all, day, night."""
    nothing = np.zeros(0)
    scores = {
        subset.name: Score(subset, rate, 0.5, 3, 2, nothing, nothing, nothing, np.full(9, rate))
        for subset, rate in zip(reasonable(55.0), rates, strict=True)
    }
    return Evaluation(scores, {}, {}, {}, {}, {}, {}, ())


def test_table_has_a_row_for_each_detector_and_a_column_for_each_condition_in_percent():
    evaluations = {
        "teacher": scored(0.23371, 0.23958, 0.2146),
        "student": scored(0.2589, 1.0, 0.000049),
        "RGB-only baseline": scored(0.4623, 0.4, float("nan")),
    }
    # Less than half a hundredth of a percent is rounded away; a subset without people has no rate.
    assert comparison.comparison_table(evaluations).split("\n") == [
        "miss rate, %         all     day  night",
        "-----------------  -----  ------  -----",
        "teacher            23.37   23.96  21.46",
        "student            25.89  100.00   0.00",
        "RGB-only baseline  46.23   40.00      -",
    ]


def test_detectors_are_told_apart_by_their_scores(compared):
    found, _ = compared
    rates = {name: [score.miss_rate for score in one.scores.values()] for name, one in found.items()}
    assert all(score.people > 0 for score in found["teacher"].scores.values())
    np.testing.assert_allclose(rates["teacher"], 1e-10, rtol=1e-6)
    everybody, by_day, by_night = rates["student"]
    assert 0.01 < everybody < 1
    assert by_day == pytest.approx(1e-10)
    assert by_night == 1.0


def test_folder_holds_table_scores_curves_and_picture_and_nothing_else(written):
    folder, _ = written
    assert {path.name for path in folder.iterdir()} == {"table.txt", "scores.json", "miss_rate.png", "panel.png"}
    for name in ("miss_rate.png", "panel.png"):
        picture = cv2.imread(str(folder / name))
        assert min(picture.shape[:2]) > 300
        assert picture.std() > 10


def test_files_hold_the_same_rates_as_the_table(compared, written):
    found, _ = compared
    folder, _ = written
    assert (folder / "table.txt").read_text() == comparison.comparison_table(found) + "\n"
    lines = (folder / "table.txt").read_text().splitlines()
    assert lines[2].split() == ["teacher", "0.00", "0.00", "0.00"]
    everybody = found["student"].scores["reasonable-all"].miss_rate
    assert lines[3].split() == ["student", f"{100 * everybody:.2f}", "0.00", "100.00"]
    scores = json.loads((folder / "scores.json").read_text())
    expected = {
        name: {f"reasonable-{c}": 100 * one.scores[f"reasonable-{c}"].miss_rate for c in ("all", "day", "night")}
        for name, one in found.items()
    }
    assert scores == expected


def test_warnings_of_the_data_stand_below_the_table(compared, tmp_path, monkeypatch, capsys):
    found, bench = compared
    monkeypatch.setattr(comparison, "draw_panel", lambda *_: None)
    comparison.write_comparison(found, bench._replace(warnings=("some images are left out",)), tmp_path)
    table = comparison.comparison_table(found)
    assert (tmp_path / "table.txt").read_text() == f"{table}\nwarning: some images are left out\n"
    assert f"{table}\nwarning: some images are left out\n" in capsys.readouterr().out


def test_table_is_printed_with_the_split_and_the_folder(compared, written):
    folder, printed = written
    assert printed == (
        f"\nsynthetic_rgbt, test\n\n{comparison.comparison_table(compared[0])}\n\n"
        f"table, curves and picture of both: {folder}\n"
    )


def test_curves_are_both_detectors_and_the_picture_shows_the_student_first(compared, tmp_path, monkeypatch):
    found, bench = compared
    seen = {}
    monkeypatch.setattr(comparison.curves, "miss_rate_figure", lambda scores, path, title: seen.update(curves=scores))
    monkeypatch.setattr(comparison, "draw_panel", lambda bench, views, *_: seen.update(views=views))
    comparison.write_comparison(found, bench, tmp_path)
    assert list(seen["curves"]) == ["teacher", "student"]
    for name, score in seen["curves"].items():
        assert score is found[name].scores["reasonable-all"]
    # What the student sees, with its own detections; then the teacher's on both of its images.
    assert [modality for modality, _ in seen["views"]] == ["visible", "visible", "lwir"]
    owners = ["student", "teacher", "teacher"]
    for (_, detections), owner in zip(seen["views"], owners, strict=True):
        assert detections is found[owner].detections


def test_folder_that_is_there_is_written_again(compared, written):
    folder, _ = written
    (folder / "table.txt").write_text("of another run")
    comparison.write_comparison(*compared, folder)
    assert (folder / "table.txt").read_text() == comparison.comparison_table(compared[0]) + "\n"
