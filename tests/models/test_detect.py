"""From the outputs of both stages to detections."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dcrl_jax.models.detect import DetectionRules, ProposalRules, decide, detect
from dcrl_jax.models.network import build_network
from dcrl_jax.structures import RegionOutputs

pytestmark = pytest.mark.usefixtures("quick_compile", "shallow_backbone")

# Of images of 40 x 100 pixels: at most four detections from four proposals.
PROPOSALS = ProposalRules((40, 100), (1.0, 1.0, 1.0, 1.0), min_size_px=2.0, before_nms=100, kept=4, iou=0.7)
RULES = DetectionRules(PROPOSALS, min_score=0.001, nms_iou=0.3, max_detections=4)


def row(*lefts):
    return [[left, 0, left + 10, 20] for left in lefts]


def logits_of(probabilities):
    # Background 5, so that only the difference of both logits tells.
    logits = np.log(probabilities) - np.log1p(-np.array(probabilities))
    return np.stack([np.full(len(logits), 5.0), 5 + logits], axis=-1)[None].astype(np.float32)


def run(probabilities, rois, offsets=None, mask=None, rules=RULES):
    """Boxes and scores of the detections in one image, which are the first of the result."""
    missing = 4 - len(rois)
    offsets = np.zeros((len(rois), 4)) if offsets is None else offsets
    mask = np.pad(np.ones(len(rois), bool) if mask is None else np.array(mask, bool), (0, missing))
    rois, offsets = (np.pad(np.float32(boxes), ((0, missing), (0, 0))) for boxes in (rois, offsets))
    arrays = logits_of([*probabilities, *[0.5] * missing]), offsets[None], rois[None], mask[None]
    found = jax.tree.map(lambda leaf: np.asarray(leaf)[0], decide(*arrays, rules))
    count = found.mask.sum()
    assert found.mask.tolist() == [True] * count + [False] * (rules.max_detections - count)
    return found.boxes[:count], found.scores[:count]


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
    boxes, scores = run(probabilities, row(0, 30, 60), rules=RULES._replace(**rules))
    np.testing.assert_allclose(scores, np.array(probabilities)[order], rtol=1e-5)
    np.testing.assert_allclose(boxes, np.array(row(0, 30, 60))[order])


def test_boxes_are_refined_by_offsets_times_their_std_and_clipped():
    offsets = [[5, 5, np.log(2) / 2, 0], [0, -10, 0, 0], [30, 0, 0, 0]]
    rules = RULES._replace(proposals=PROPOSALS._replace(offset_std=(0.2, 0.1, 2.0, 1.0)))
    boxes, _ = run([0.9, 0.8, 0.7], row(0, 30, 70), offsets, rules=rules)
    # A width and half a height further and twice as wide; a height further up; six widths to the right.
    np.testing.assert_allclose(boxes, [[5, 10, 25, 30], [30, 0, 40, 0], [100, 0, 100, 20]], atol=1e-4)


# Overlaps with the first: 2/6 for the second, 1/4 for the third.
FIRST, SECOND, THIRD = [0, 0, 40, 20], [20, 0, 60, 20], [24, 0, 64, 20]


@pytest.mark.parametrize(
    ("rois", "nms_iou", "kept"), [([FIRST, SECOND], 0.3, 1), ([FIRST, THIRD], 0.3, 2), ([FIRST, SECOND], 0.34, 2)]
)
def test_final_nms_keeps_the_more_probable_of_two_above_its_threshold(rois, nms_iou, kept):
    boxes, _ = run([0.8, 0.9], rois, rules=RULES._replace(nms_iou=nms_iou))
    np.testing.assert_allclose(boxes, rois[::-1][:kept])


def test_padded_proposal_never_becomes_a_detection():
    # Certain pedestrians, far from the origin.
    offsets = [[0, 0, 0, 0], [1, 1, 1, 1], [np.nan] * 4]
    boxes, scores = run([0.1, 0.999, 0.999], [*row(20), [0] * 4, [0] * 4], offsets, [True, False, False])
    np.testing.assert_array_equal(boxes, row(20))
    np.testing.assert_allclose(scores, 0.1, rtol=1e-5)


class TwoStages:
    """A model with fixed outputs for three anchors and four RoIs."""

    def apply(self, variables, *arguments, method):
        if method == "propose_regions":
            assert arguments == ("visible", "lwir")
            logits, offsets = logits_of([0.7, 0.6, 0.8]), jnp.zeros((1, 3, 4))
            return "features", RegionOutputs(logits, offsets, None, modality_weights="mu")
        assert method == "refine"
        features, rois = arguments
        assert (variables, features) == ({"params": "parameters"}, "features")
        # The second anchor overlaps the first too much; the last one has the highest score.
        np.testing.assert_allclose(rois[0], [*row(50, 0), [0] * 4, [0] * 4])
        return RegionOutputs(logits_of([0.6, 0.7, 0.9, 0.9]), jnp.zeros((1, 4, 4)), None)


def test_proposals_of_the_first_stage_are_what_the_second_judges():
    anchors = np.float32([*row(0), [0, 0, 10, 19], *row(50)])
    detections, weights = detect(TwoStages(), "parameters", anchors, RULES, "visible", "lwir")
    assert weights == "mu"
    assert detections.mask.tolist() == [[True, True, False, False]]
    np.testing.assert_allclose(detections.boxes[0, :2], row(0, 50))
    np.testing.assert_allclose(detections.scores[0, :2], [0.7, 0.6], rtol=1e-5)


@pytest.mark.parametrize("role", [pytest.param("teacher", marks=pytest.mark.slow), "baseline"])
def test_detections_of_an_image_are_the_same_in_any_batch(tiny_config, random_params, role):
    network = build_network(tiny_config(role))
    params = random_params(network)
    rng = np.random.default_rng(1)
    images = [rng.integers(0, 256, image.shape, dtype=np.uint8) for image in network.image_shapes(3)]
    run = jax.jit(functools.partial(network.detect, params))
    (first, first_weights), (second, second_weights) = (
        run(*(image[index] for image in images)) for index in ([0, 1], [2, 0])
    )
    assert first.mask.sum() > 2
    for old, new in zip(first, second, strict=True):
        np.testing.assert_allclose(old[0], new[1], rtol=1e-5, atol=1e-5)
    assert not np.allclose(first.scores[1], second.scores[0])
    assert (first_weights is None) == (role == "baseline")
    if role == "teacher":
        np.testing.assert_allclose(first_weights[0], second_weights[1], rtol=1e-6)


def test_student_s_detector_is_the_baseline_s_program(tiny_config):
    def program(role):
        network = build_network(tiny_config(role))
        params, images = network.param_shapes(), network.image_shapes(2)
        return params, jax.jit(lambda params, image: network.detect(params, image)[0]).lower(params, *images)

    (student_params, student), (baseline_params, baseline) = program("student"), program("baseline")
    assert set(student_params) - set(baseline_params) == {"adaption_layer"}
    # Unused arguments are left out: the adaption layer costs nothing at test time.
    assert student.as_text() == baseline.as_text()
