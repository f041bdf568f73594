"""The bench with detectors whose answers are known."""

import json

import jax
import numpy as np
import pytest

from configs import teacher
from dcrl_jax import parallel
from dcrl_jax.data import pipeline, sources
from dcrl_jax.data.transforms import BLANK_GREY
from dcrl_jax.evaluation import evaluate as evaluation
from dcrl_jax.structures import Detections

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


def open_bench(config, detector):
    builder = sources.prepare(config.data)
    return evaluation.open_bench(detector, builder, "test", config, parallel.device_mesh())


class Oracle:
    """Finds the annotated boxes, in pixels of the network input, with mu (1, 0) by day and (0, 1) by night."""

    def __init__(self, config):
        truths = evaluation.read_truths(pipeline.open_split(sources.prepare(config.data), "test")).images
        self.boxes = []
        for truth in truths:
            x, y, w, h = (truth.boxes / 2).T
            self.boxes.append(np.stack([x, y, x + w, y + h], axis=-1).astype(np.float32))
        self.night = [truth.condition == "night" for truth in truths]
        self.seen = 0
        self.images = []

    def __call__(self, params, visible, lwir):
        self.images.append((np.asarray(visible), np.asarray(lwir)))
        shape = visible.shape[:2]
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
        return Detections(*layout[:3]), layout[3]


def nothing(params, visible, lwir):
    shape = visible.shape[:2]
    empty = Detections(
        np.zeros((*shape, 3, 4), np.float32), np.zeros((*shape, 3), np.float32), np.zeros((*shape, 3), bool)
    )
    return empty, np.full((*shape, 2), 0.5, np.float32)


def test_truths_are_those_of_the_records_with_sizes(config):
    truths = evaluation.read_truths(pipeline.open_split(sources.prepare(config.data), "test"))
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


def test_no_detections_miss_everybody(config):
    result = evaluation.evaluate(open_bench(config, nothing), None, blanked=False)
    assert result.scores["reasonable-all"].miss_rate == 1.0
    assert result.modality_weights["all"] == [0.5, 0.5]


def test_weights_are_means_by_condition_without_the_padding(config):
    weights = evaluation.evaluate(open_bench(config, Oracle(config)), None, blanked=False).modality_weights
    assert weights["day"] == [1.0, 0.0]
    assert weights["night"] == [0.0, 1.0]
    # Four days and three nights.
    assert weights["all"] == pytest.approx([4 / 7, 3 / 7])


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
    text = evaluation.summary(result)
    for words in ("miss rate, %", "visible blanked", "lwir blanked", "average precision, %", "mean weight of lwir"):
        assert words in text
    evaluation.write_report(result, bench, tmp_path, "oracle")
    ids = (tmp_path / "images.txt").read_text().split()
    assert ids == [truth.image_id for truth in bench.truths.images]
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["scores"]["reasonable-all"]["average_precision_percent"] == pytest.approx(100.0)
    assert scores["blanked"]["visible"]["reasonable-night"] < 1e-4
    lines = (tmp_path / "results.txt").read_text().splitlines()
    assert len(lines) == sum(len(found.boxes) for found in result.detections.values())
