"""From the outputs of both stages to detections."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dcrl_jax.models.detect import DetectionRules, ProposalRules, detect
from dcrl_jax.models.network import build_network
from dcrl_jax.structures import RegionOutputs

pytestmark = pytest.mark.usefixtures("quick_compile")

HEIGHT, WIDTH = 40, 100
IMAGES = np.zeros((1, HEIGHT, WIDTH, 3), np.uint8), np.zeros((1, HEIGHT, WIDTH, 1), np.uint8)
WEIGHTS = np.array([[0.25, 0.75]], np.float32)


def logit(probability):
    return np.log(probability / (1 - probability))


def outputs(logits, offsets, weights=None):
    logits, offsets = jnp.array(logits, jnp.float32), jnp.array(offsets, jnp.float32)
    return RegionOutputs(logits, offsets, None, modality_weights=weights)


class FixedModel:
    """A model of one image whose proposals are the anchors, with chosen outputs for them in both stages.

    Args:
        probabilities: of being a pedestrian, for each RoI in the order of the proposals.
        offsets: of the second stage, 0 by default.
        scores: of the first stage, falling by default, so that the proposals are in the order of the anchors.
    """

    def __init__(self, probabilities, offsets=None, scores=None):
        count = len(probabilities)
        self.probabilities = np.asarray(probabilities, np.float64)
        self.offsets = np.zeros((count, 4)) if offsets is None else np.asarray(offsets)
        self.scores = np.arange(len(probabilities), 0, -1) if scores is None else np.asarray(scores)
        self.seen = None

    def apply(self, variables, *arguments, method):
        assert variables == {"params": "parameters"}
        if method == "propose_regions":
            assert arguments == IMAGES
            count = len(self.scores)
            logits = np.stack([np.zeros(count), self.scores], axis=-1)[None]
            return "features", outputs(logits, np.zeros((1, count, 4)), WEIGHTS)
        assert method == "refine"
        self.seen = arguments
        # Background 5, so that only the difference of both logits tells.
        logits = np.stack([np.full(len(self.probabilities), 5.0), 5 + logit(self.probabilities)], axis=-1)
        return outputs(logits[None], self.offsets[None])


def run(model, anchors, min_score=0.001, nms_iou=0.3, max_detections=4, kept=None, offset_std=(1.0, 1.0, 1.0, 1.0)):
    proposals = ProposalRules((HEIGHT, WIDTH), offset_std, 2.0, 100, kept or len(anchors), 0.7)
    rules = DetectionRules(proposals, min_score, nms_iou, max_detections)
    anchors = np.array(anchors, np.float32)
    detections, weights = detect(model, "parameters", anchors, rules, *IMAGES)
    return jax.tree.map(lambda leaf: np.asarray(leaf)[0], detections), weights


def row(*lefts, width=10):
    return [[left, 0, left + width, 20] for left in lefts]


@pytest.mark.parametrize(
    ("probabilities", "rules", "order"),
    [
        ([0.5, 0.9, 0.2], {}, [1, 0, 2]),
        ([0.5, 0.0999, 0.9], {"min_score": 0.1}, [2, 0]),
        ([0.5, 0.0999, 0.9], {"min_score": 0.5}, [2, 0]),
        ([0.5, 0.0999, 0.9], {"min_score": 0.51}, [2]),
        ([0.3, 0.9, 0.5], {"max_detections": 2}, [1, 2]),
    ],
)
def test_detections_are_the_best_by_falling_probability(probabilities, rules, order):
    detections, _ = run(FixedModel(probabilities), row(0, 30, 60), **rules)
    assert detections.mask.tolist() == [True] * len(order) + [False] * (rules.get("max_detections", 4) - len(order))
    np.testing.assert_allclose(detections.scores[: len(order)], np.array(probabilities)[order], rtol=1e-5)
    np.testing.assert_allclose(detections.boxes[: len(order)], np.array(row(0, 30, 60))[order])


def test_boxes_are_refined_by_the_offsets_times_their_std_and_clipped_to_the_image():
    offsets = [[5, 5, np.log(2) / 2, 0], [0, -10, 0, 0], [30, 0, 0, 0]]
    model = FixedModel([0.9, 0.8, 0.7], offsets)
    detections, _ = run(model, row(0, 30, 70), offset_std=(0.2, 0.1, 2.0, 1.0))
    # A width and half a height further and twice as wide; a height further up; six widths to the right.
    expected = [[5, 10, 25, 30], [30, 0, 40, 0], [100, 0, 100, 20]]
    np.testing.assert_allclose(detections.boxes[:3], expected, atol=1e-4)


# Overlaps with the first: 2/6 for the second, 1/4 for the third.
FIRST, SECOND, THIRD = [0, 0, 40, 20], [20, 0, 60, 20], [24, 0, 64, 20]


@pytest.mark.parametrize(
    ("anchors", "nms_iou", "kept"), [([FIRST, SECOND], 0.3, 1), ([FIRST, THIRD], 0.3, 2), ([FIRST, SECOND], 0.34, 2)]
)
def test_final_nms_keeps_the_more_probable_of_two_above_its_threshold(anchors, nms_iou, kept):
    detections, _ = run(FixedModel([0.8, 0.9]), anchors, nms_iou=nms_iou)
    np.testing.assert_allclose(detections.boxes[detections.mask], anchors[::-1][:kept])


def test_proposals_of_the_first_stage_are_what_the_second_judges():
    # The first stage suppresses the second anchor, by more than 0.7, and puts the last one first.
    anchors = [*row(0), [0, 0, 10, 19], *row(50)]
    model = FixedModel([0.6, 0.7], scores=[2.0, 1.0, 3.0])
    detections, weights = run(model, anchors, kept=2)
    features, rois = model.seen
    assert features == "features"
    np.testing.assert_array_equal(weights, WEIGHTS)
    np.testing.assert_allclose(rois[0], row(50, 0))
    np.testing.assert_allclose(detections.boxes[:2], row(0, 50))
    np.testing.assert_allclose(detections.scores[:2], [0.7, 0.6], rtol=1e-5)


def test_padded_proposal_never_becomes_a_detection():
    # One proposal; the places behind it are judged as certain pedestrians far from the origin.
    offsets = [[0, 0, 0, 0], [1, 1, 1, 1], [np.nan] * 4]
    model = FixedModel([0.1, 0.999, 0.999], offsets, scores=[1.0])
    detections, _ = run(model, row(20), kept=3)
    np.testing.assert_array_equal(model.seen[1][0], [*row(20), [0] * 4, [0] * 4])
    np.testing.assert_array_equal(detections.mask, [True, False, False, False])
    np.testing.assert_allclose(detections.scores[0], 0.1, rtol=1e-5)


@pytest.mark.parametrize("role", ["teacher", "baseline"])
def test_detections_of_an_image_are_the_same_in_any_batch(tiny_config, random_params, role):
    network = build_network(tiny_config(role))
    params = random_params(network)
    rng = np.random.default_rng(1)
    images = [rng.integers(0, 256, image.shape, dtype=np.uint8) for image in network.image_shapes(3)]
    assert network.modalities == ("visible", "lwir")[: len(images)]
    run = jax.jit(functools.partial(network.detect, params))
    first, first_weights = run(*(image[[0, 1]] for image in images))
    second, second_weights = run(*(image[[2, 0]] for image in images))
    assert first.boxes.shape == (2, 100, 4)
    assert first.mask.sum() > 2
    for old, new in zip(first, second, strict=True):
        np.testing.assert_allclose(old[0], new[1], rtol=1e-5, atol=1e-5)
    assert not np.allclose(first.scores[1], second.scores[0])
    if role == "teacher":
        np.testing.assert_allclose(first_weights[0], second_weights[1], rtol=1e-6)
    else:
        assert first_weights is None


def test_student_s_detector_is_the_baseline_s_program(tiny_config):
    def program(role):
        network = build_network(tiny_config(role))
        params, images = network.param_shapes(), network.image_shapes(2)
        return params, jax.jit(lambda params, image: network.detect(params, image)[0]).lower(params, *images)

    (student_params, student), (baseline_params, baseline) = program("student"), program("baseline")
    assert set(student_params) - set(baseline_params) == {"adaption_layer"}
    # Unused arguments are left out: the adaption layer costs nothing at test time.
    assert student.as_text() == baseline.as_text()
