"""The bench with detectors whose answers are known."""

import json
import math
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from configs import teacher
from dcrl_jax import parallel
from dcrl_jax.data import pipeline, sources, transforms
from dcrl_jax.data.transforms import BLANK_GREY
from dcrl_jax.evaluation import evaluate as evaluation
from dcrl_jax.evaluation.evaluate import ParallelNetwork
from dcrl_jax.evaluation.truths import read_truths
from dcrl_jax.reports import report
from dcrl_jax.reports.summary import summary
from dcrl_jax.structures import MODALITIES, Detections

# Scenes twice as large as the network input, and a last batch that is not full.
SCENE, INPUT = (64, 80), (32, 40)
IMAGES = 7


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    config = teacher.get_config("synthetic")
    config.data.data_dir = str(tmp_path_factory.mktemp("data"))
    config.data.options = {"height_px": SCENE[0], "width_px": SCENE[1], "train": 1, "validation": 1, "test": IMAGES}
    config.data.height_px, config.data.width_px = INPUT
    config.eval.batch_size = 4
    config.eval.min_height_px = 8.0
    return config


def open_bench(config, run, modalities=MODALITIES):
    builder = sources.prepare(config.data)
    network = ParallelNetwork(SimpleNamespace(modalities=modalities), run)
    return evaluation.open_bench(network, builder, "test", config, parallel.device_mesh())


class Oracle:
    """Finds the annotated boxes, in pixels of the network input.

    Given a pair, it says mu (1, 0) by day and (0, 1) by night; given one image it has nothing to weigh.
    """

    def __init__(self, config):
        truths = read_truths(pipeline.open_split(sources.prepare(config.data), "test")).images
        self.boxes = []
        for truth in truths:
            x, y, w, h = (truth.boxes / 2).T
            self.boxes.append(np.stack([x, y, x + w, y + h], axis=-1).astype(np.float32))
        self.night = [truth.condition == "night" for truth in truths]
        self.seen = 0
        self.images = []

    def __call__(self, params, *images):
        self.images.append(tuple(np.asarray(image) for image in images))
        shape = images[0].shape[:2]
        count = shape[0] * shape[1]
        boxes, mask = np.full((count, 16, 4), np.nan, np.float32), np.zeros((count, 16), bool)
        scores, mu = np.full((count, 16), np.nan, np.float32), np.full((count, 2), np.nan, np.float32)
        for row in range(count):
            place = self.seen + row
            # What it says of images that only fill up the batch must not count: a box in the middle of each.
            found = self.boxes[place] if place < IMAGES else np.array([[10, 10, 20, 20]], np.float32)
            boxes[row, : len(found)], scores[row, : len(found)], mask[row, : len(found)] = found, 0.9, True
            if place < IMAGES:
                mu[row] = (0, 1) if self.night[place] else (1, 0)
        self.seen = (self.seen + count) % (-(-IMAGES // 4) * 4)
        layout = jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), (boxes, scores, mask, mu))
        return Detections(*layout[:3]), layout[3] if len(images) > 1 else None


def nothing(params, visible, lwir):
    shape = visible.shape[:2]
    empty = Detections(
        np.zeros((*shape, 3, 4), np.float32), np.zeros((*shape, 3), np.float32), np.zeros((*shape, 3), bool)
    )
    return empty, np.full((*shape, 2), 0.5, np.float32)


def test_truths_are_those_of_the_records_with_sizes(config):
    truths = read_truths(pipeline.open_split(sources.prepare(config.data), "test"))
    assert len(truths.images) == IMAGES
    assert truths.sizes == [(SCENE[1], SCENE[0])] * IMAGES
    assert [truth.condition for truth in truths.images[:4]] == ["day", "night", "day", "night"]


def test_perfect_detections_in_input_pixels_miss_nobody(config):
    oracle = Oracle(config)
    result = evaluation.evaluate(open_bench(config, oracle), None, blanked=False)
    everybody = result.scores["reasonable-all"]
    assert everybody.people > 0
    assert everybody.images == IMAGES
    assert everybody.miss_rate < 1e-6
    assert result.average_precision["reasonable-all"] == pytest.approx(1.0)
    assert len(result.detections) == IMAGES
    assert result.blanked_scores == {}


def test_images_of_more_people_than_a_training_image_has_room_for_are_scored_whole(config):
    small = config.copy_and_resolve_references()
    small.data.max_boxes = 1
    bench = open_bench(small, Oracle(config))
    assert max(len(truth.boxes) for truth in bench.truths.images) > 1
    assert evaluation.evaluate(bench, {}).scores["reasonable-all"].miss_rate < 1e-6


def test_no_detections_miss_everybody(config):
    result = evaluation.evaluate(open_bench(config, nothing), None, blanked=False)
    assert result.scores["reasonable-all"].miss_rate == 1.0
    assert result.modality_weights["all"] == [0.5, 0.5]


def test_weights_are_means_by_condition_without_the_padding(config):
    bench = open_bench(config, Oracle(config))
    result = evaluation.evaluate(bench, None, blanked=False)
    weights = result.modality_weights
    assert weights["day"] == [1.0, 0.0]
    assert weights["night"] == [0.0, 1.0]
    # Four days and three nights.
    assert weights["all"] == pytest.approx([4 / 7, 3 / 7])
    # They are kept image by image besides.
    expected = {truth.image_id: (0, 1) if truth.condition == "night" else (1, 0) for truth in bench.truths.images}
    assert {image_id: tuple(mu) for image_id, mu in result.image_weights.items()} == expected


def test_blanking_switches_off_one_camera_and_nothing_else(config):
    oracle = Oracle(config)
    result = evaluation.evaluate(open_bench(config, oracle), None, blanked=True)
    batches = -(-IMAGES // 4)
    both, without_visible, without_lwir = (oracle.images[i * batches : (i + 1) * batches] for i in range(3))
    for (visible, lwir), (no_visible, same_lwir), (same_visible, no_lwir) in zip(
        both, without_visible, without_lwir, strict=True
    ):
        np.testing.assert_array_equal(same_visible, visible)
        np.testing.assert_array_equal(same_lwir, lwir)
        assert (no_visible == BLANK_GREY).all()
        assert (no_lwir == BLANK_GREY).all()
        assert visible.std() > 0
        assert lwir.std() > 0
    assert set(result.blanked_scores) == {"visible", "lwir"}


def test_summary_and_files_hold_the_scores(config, tmp_path):
    bench = open_bench(config, Oracle(config))
    result = evaluation.evaluate(bench, None, blanked=True)
    text = summary(result)
    for words in ("miss rate, %", "visible blanked", "lwir blanked", "average precision, %", "mean weight of lwir"):
        assert words in text
    report.write_report(result, bench, tmp_path, "oracle")
    ids = (tmp_path / "images.txt").read_text().split()
    assert ids == [truth.image_id for truth in bench.truths.images]
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["scores"]["reasonable-all"]["average_precision_percent"] == pytest.approx(100.0)
    assert scores["blanked"]["visible"]["reasonable-night"] < 1e-4
    lines = (tmp_path / "results.txt").read_text().splitlines()
    assert len(lines) == sum(len(found.boxes) for found in result.detections.values())


def test_kaist_s_further_subsets_are_scored_where_the_config_asks_for_them(config, tmp_path):
    own = config.copy_and_resolve_references()
    own.eval.scale_and_occlusion = True
    bench = open_bench(own, Oracle(own))
    result = evaluation.evaluate(bench, None)
    names = ["scale-near", "scale-medium", "scale-far", "occlusion-none", "occlusion-partial", "occlusion-heavy"]
    assert list(result.further_scores) == names
    lines = summary(result).splitlines()
    header = next(line for line in lines if "near" in line)
    assert header.split() == ["near", "medium", "far", "none", "partial", "heavy"]
    people = lines[lines.index(header) + 3].split()
    assert people == ["people", *(str(result.further_scores[name].people) for name in names)]
    report.write_report(result, bench, tmp_path, "oracle")
    further = json.loads((tmp_path / "scores.json").read_text())["further"]
    assert list(further) == names
    # Scenes are lower than 115 pixels: nobody is near.
    assert further["scale-near"] is None
    assert evaluation.evaluate(open_bench(config, Oracle(config)), None).further_scores == {}


def test_warnings_of_the_data_stand_beside_the_scores(config, tmp_path):
    bench = open_bench(config, Oracle(config))
    assert bench.warnings == ()
    bench = bench._replace(warnings=("incomplete test split: 2 of 9 images are left out",))
    result = evaluation.evaluate(bench, None)
    assert summary(result).endswith("\nwarning: incomplete test split: 2 of 9 images are left out")
    report.write_report(result, bench, tmp_path, "oracle")
    assert json.loads((tmp_path / "scores.json").read_text())["warnings"] == list(bench.warnings)


def open_rgb_bench(config, run):
    """A bench of RGB alone, whose records have no thermal image."""
    bench = open_bench(config, run, ("visible",))
    records = [bench.source[index] for index in range(IMAGES)]
    return bench._replace(source=[{k: v for k, v in record.items() if k != "lwir"} for record in records])


def test_detector_of_rgb_alone_gets_the_visible_images_and_no_others(config):
    alone, pair = Oracle(config), Oracle(config)
    result = evaluation.evaluate(open_rgb_bench(config, alone), None)
    expected = evaluation.evaluate(open_bench(config, pair), None)
    for (visible,), (also_visible, _) in zip(alone.images, pair.images, strict=True):
        np.testing.assert_array_equal(visible, also_visible)
    assert result.scores["reasonable-all"].miss_rate < 1e-6
    jax.tree.map(np.testing.assert_array_equal, result.detections, expected.detections)
    assert result.average_precision == expected.average_precision


def test_detector_of_rgb_alone_has_no_weights_and_is_never_blanked(config):
    oracle = Oracle(config)
    result = evaluation.evaluate(open_rgb_bench(config, oracle), None, blanked=True)
    assert len(oracle.images) == -(-IMAGES // 4)
    assert result.blanked_scores == {}
    assert result.modality_weights == result.image_weights == {}


def test_summary_and_files_of_rgb_alone_say_nothing_of_a_thermal_image(config, tmp_path):
    bench = open_rgb_bench(config, Oracle(config))
    result = evaluation.evaluate(bench, None, blanked=True)
    text = summary(result)
    assert "miss rate, %" in text
    assert "average precision, %" in text
    for word in ("blanked", "weight", "lwir", "visible"):
        assert word not in text
    report.write_report(result, bench, tmp_path, "oracle")
    names = {"results.txt", "results.json", "images.txt", "scores.json", "miss_rate.png", "panel.png", "report.html"}
    assert names == {path.name for path in tmp_path.iterdir()}
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["scores"]["reasonable-all"]["average_precision_percent"] == pytest.approx(100.0)
    assert scores["blanked"] == scores["modality_weights"] == {}


def test_report_that_was_not_drawn_to_its_end_has_no_scores(config, tmp_path, monkeypatch):
    bench = open_rgb_bench(config, Oracle(config))
    result = evaluation.evaluate(bench, None)

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(report, "draw_panel", killed)
    with pytest.raises(KeyboardInterrupt):
        report.write_report(result, bench, tmp_path, "oracle")
    assert (tmp_path / "miss_rate.png").is_file()
    assert not (tmp_path / "scores.json").exists()


def test_rates_of_a_subset_without_people_are_null_in_json(config, tmp_path):
    bench = open_rgb_bench(config, Oracle(config))
    result = evaluation.evaluate(bench, None)
    nobody = result.scores["reasonable-night"]._replace(miss_rate=math.nan, recall=math.nan, people=0)
    result = result._replace(
        scores=result.scores | {"reasonable-night": nobody},
        average_precision=result.average_precision | {"reasonable-night": math.nan},
    )
    report.write_report(result, bench, tmp_path, "oracle")
    text = (tmp_path / "scores.json").read_text()
    assert "NaN" not in text
    scores = json.loads(text)["scores"]
    rates = ("miss_rate_percent", "recall_percent", "average_precision_percent")
    assert [scores["reasonable-night"][name] for name in rates] == [None] * 3
    assert None not in [scores["reasonable-all"][name] for name in rates]


@pytest.fixture
def drawn(monkeypatch):
    """What panels would have been drawn of: arguments of ``detection_panel``."""
    calls = []
    monkeypatch.setattr(report.panels, "detection_panel", lambda *arguments: calls.append(arguments))
    return calls


def test_views_of_a_panel_stand_in_their_order_each_with_its_own_image_and_detections(config, tmp_path, drawn):
    bench = open_bench(config, Oracle(config))
    found = evaluation.evaluate(bench, None).detections
    missed = {image_id: one._replace(boxes=one.boxes[:0], scores=one.scores[:0]) for image_id, one in found.items()}
    report.draw_panel(bench, [("lwir", found), ("visible", missed), ("visible", found)], tmp_path / "p", "title")
    ((rows, path, title, columns),) = drawn
    assert (path, title) == (tmp_path / "p", "title")
    assert columns == "thermal (lwir), then visible, then visible"
    assert {name: len(items) for name, items in rows.items()} == {"best": 3, "worst": 3, "random": 1}
    truths = {truth.image_id: place for place, truth in enumerate(bench.truths.images)}
    for item in (item for items in rows.values() for item in items):
        image_id = item.caption.split(",")[0]
        pair = transforms.decode(bench.source[truths[image_id]])
        for image, name in zip(item.images, ("lwir", "visible", "visible"), strict=True):
            np.testing.assert_array_equal(image, pair[name])
        assert item.detections == (found[image_id], missed[image_id], found[image_id])
        # The errors are those of the first view.
        assert item.caption.endswith("0 missed, 0 false alarms")


def test_panel_of_rgb_alone_decodes_nothing_thermal_and_says_what_it_is_told(config, tmp_path, drawn):
    bench = open_rgb_bench(config, Oracle(config))
    found = evaluation.evaluate(bench, None).detections
    report.draw_panel(bench, [("visible", found)], tmp_path / "p", "title")
    report.draw_panel(bench, [("visible", found)], tmp_path / "p", "title", "the student")
    assert [columns for *_, columns in drawn] == ["visible", "the student"]
    assert {len(item.images) for rows, *_ in drawn for items in rows.values() for item in items} == {1}
