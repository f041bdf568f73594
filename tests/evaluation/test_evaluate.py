"""The bench with detectors whose answers are known."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from configs import teacher
from dcrl_jax import parallel
from dcrl_jax.data import pipeline, sources
from dcrl_jax.data.transforms import BLANK_GREY
from dcrl_jax.evaluation import evaluate as evaluation
from dcrl_jax.evaluation.evaluate import ParallelNetwork, evaluate
from dcrl_jax.evaluation.rules import KAIST_OCCLUSION, KAIST_SCALE
from dcrl_jax.evaluation.truths import read_truths
from dcrl_jax.structures import MODALITIES, Detections

# Scenes twice as large as the network input, and a last batch that is not full.
SCENE, INPUT = (64, 80), (32, 40)
IMAGES, BATCH = 7, 4
BATCHES = 2


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    config = teacher.get_config("synthetic")
    config.data.data_dir = str(tmp_path_factory.mktemp("data"))
    config.data.options = {"height_px": SCENE[0], "width_px": SCENE[1], "train": 1, "validation": 1, "test": IMAGES}
    config.data.height_px, config.data.width_px = INPUT
    config.eval.batch_size = BATCH
    config.eval.min_height_px = 8.0
    return config


def open_bench(config, run, modalities=MODALITIES):
    network = ParallelNetwork(SimpleNamespace(modalities=modalities), run)
    builder = sources.prepare(config.data)
    source = pipeline.open_split(builder, "test")
    return evaluation.open_bench(network, builder, source, config, parallel.device_mesh())


class Oracle:
    """Finds the annotated boxes, in pixels of the network input.

    Given a pair, it returns mu (1, 0) by day and (0, 1) by night; given one image it returns no mu.
    """

    def __init__(self, config):
        truths = read_truths(pipeline.open_split(sources.prepare(config.data), "test")).images
        corners = [np.hstack([truth.boxes[:, :2], truth.boxes[:, :2] + truth.boxes[:, 2:]]) for truth in truths]
        # The images that fill up the last batch get a box and no weights; neither may count.
        padding = BATCHES * BATCH - IMAGES
        self.boxes = [boxes / 2 for boxes in corners] + [np.array([[10, 10, 20, 20]])] * padding
        self.mu = [(0, 1) if truth.condition == "night" else (1, 0) for truth in truths] + [(np.nan, np.nan)] * padding
        self.images = []  # of each batch

    def __call__(self, params, *images):
        start = len(self.images) % BATCHES * BATCH
        self.images.append(tuple(np.asarray(image) for image in images))
        shape = images[0].shape[:2]
        boxes, scores = np.full((BATCH, 16, 4), np.nan, np.float32), np.full((BATCH, 16), np.nan, np.float32)
        for row, found in enumerate(self.boxes[start : start + BATCH]):
            boxes[row, : len(found)], scores[row, : len(found)] = found, 0.9
        mu = np.array(self.mu[start : start + BATCH], np.float32)
        outputs = jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), (boxes, scores, scores > 0, mu))
        return Detections(*outputs[:3]), outputs[3] if len(images) > 1 else None


@pytest.fixture(scope="module")
def judged(config):
    """A perfect teacher's bench and evaluation, also with either modality blanked, and the images that it saw."""
    oracle = Oracle(config)
    bench = open_bench(config, oracle)
    return bench, evaluate(bench, None, blanked=True), oracle.images


def test_perfect_detections_miss_nobody_and_weights_are_kept(judged):
    bench, result, _ = judged
    everybody = result.scores["reasonable-all"]
    assert (everybody.people > 0, everybody.images, len(result.detections)) == (True, IMAGES, IMAGES)
    assert everybody.miss_rate < 1e-6
    assert list(result.coco) == ["all", "day", "night"]
    assert (result.coco["all"].ap50, result.coco["all"].images) == (1.0, IMAGES)
    # Shorter people count, too.
    assert result.coco["all"].objects >= everybody.people
    assert bench.truths.sizes == [(SCENE[1], SCENE[0])] * IMAGES
    assert (bench.warnings, result.warnings, result.further_scores) == ((), (), {})
    # Weights are kept by image, with means by condition.
    conditions = [truth.condition for truth in bench.truths.images]
    assert conditions == ["day", "night", "day", "night", "day", "night", "day"]
    mu = {"day": (1.0, 0.0), "night": (0.0, 1.0)}
    assert [tuple(row) for row in result.image_weights.values()] == [mu[condition] for condition in conditions]
    assert result.modality_weights == {"all": pytest.approx([4 / 7, 3 / 7]), "day": [1.0, 0.0], "night": [0.0, 1.0]}


def test_blanking_switches_off_one_camera_and_nothing_else(judged):
    _, result, images = judged
    # Both images, then without the visible one, then without the thermal one.
    runs = [images[:BATCHES], images[BATCHES : 2 * BATCHES], images[2 * BATCHES :]]
    for (visible, lwir), (no_visible, same_lwir), (same_visible, no_lwir) in zip(*runs, strict=True):
        np.testing.assert_array_equal(same_visible, visible)
        np.testing.assert_array_equal(same_lwir, lwir)
        assert (no_visible == BLANK_GREY).all()
        assert (no_lwir == BLANK_GREY).all()
        assert min(visible.std(), lwir.std()) > 0
    rates = {modality: scores["reasonable-all"].miss_rate for modality, scores in result.blanked_scores.items()}
    assert rates == {"visible": pytest.approx(0, abs=1e-6), "lwir": pytest.approx(0, abs=1e-6)}


def test_more_people_than_a_training_image_has_room_for_and_more_subsets(config):
    config = config.copy_and_resolve_references()
    config.data.max_boxes = 1
    config.eval.scale_and_occlusion = True
    bench = open_bench(config, Oracle(config))
    assert max(len(truth.boxes) for truth in bench.truths.images) > 1
    result = evaluate(bench._replace(warnings=("some images are left out",)), None)
    assert result.scores["reasonable-all"].miss_rate < 1e-6
    assert list(result.further_scores) == [subset.name for subset in KAIST_SCALE + KAIST_OCCLUSION]
    assert (result.warnings, result.blanked_scores) == (("some images are left out",), {})


def test_rgb_detector_sees_visible_images_only_and_has_no_weights(config, judged):
    oracle = Oracle(config)
    bench = open_bench(config, oracle, ("visible",))
    records = [{k: v for k, v in bench.source[index].items() if k != "lwir"} for index in range(IMAGES)]
    result = evaluate(bench._replace(source=records), None, blanked=True)
    _, expected, images = judged
    for (visible,), (same_visible, _) in zip(oracle.images, images[:BATCHES], strict=True):
        np.testing.assert_array_equal(visible, same_visible)
    jax.tree.map(np.testing.assert_array_equal, result.detections, expected.detections)
    np.testing.assert_array_equal(result.coco["night"], expected.coco["night"])
    assert result.blanked_scores == result.modality_weights == result.image_weights == {}
