"""Which anchors and RoIs are sampled, and what they should become."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dcrl_jax.structures import Batch, Proposals, RegionOutputs
from dcrl_jax.training import targets as training_targets
from dcrl_jax.training.targets import RdrRules, RpgRules, take_anchors

pytestmark = pytest.mark.usefixtures("quick_compile")

ONES = (1.0, 1.0, 1.0, 1.0)
RPG = RpgRules(0.5, 0.3, 0.5, match_best_anchor=False, sampled=8, max_positive=4, offset_std=ONES)
RDR = RdrRules(0.5, 0.5, sampled=8, max_positive=4, offset_std=ONES)
NAN_BOX = [np.nan] * 4

rpg_targets = jax.jit(training_targets.rpg_targets, static_argnames="rules")
sample_rois = jax.jit(training_targets.sample_rois, static_argnames="rules")


def keys(images, seed=0):
    return jax.random.split(jax.random.key(seed), images)


def make_batch(*images):
    """Each image is a list of (box, 'person' | 'ignore' | 'padding')."""
    boxes = np.array([[box for box, _ in image] for image in images], np.float32)

    def flags(kind):
        return np.array([[k == kind for _, k in image] for image in images])

    return Batch(None, None, boxes, flags("person"), flags("ignore"), None, None, None)


def make_proposals(*images):
    """Each image is a list of boxes, or of (box, False) for padding."""
    rows = [[row if isinstance(row, tuple) else (row, True) for row in image] for image in images]
    boxes = np.array([[box for box, _ in image] for image in rows], np.float32)
    mask = np.array([[used for _, used in image] for image in rows])
    return Proposals(boxes, np.zeros(mask.shape, np.float32), mask)


def left_aligned(width, height=20, top=0):
    return [0, top, width, top + height]


def sampled_indices(index, targets, image=0):
    index, is_sampled, is_positive = np.asarray(index[image]), targets.is_sampled[image], targets.is_positive[image]
    return sorted(index[is_sampled & is_positive].tolist()), sorted(index[is_sampled & ~is_positive].tolist())


def rows_of(rois, wanted):
    return sorted(np.asarray(rois)[np.asarray(wanted)].tolist())


# The RPG stage.


def test_anchors_above_the_positive_iou_are_positive_and_below_the_negative_one_negative():
    # Overlaps with the person of 20x20: 1, 0.6, 0.5, 0.4, 0.3, 0.25 and none.
    anchors = np.array([left_aligned(w) for w in (20, 12, 10, 8, 6, 5)] + [[60, 0, 80, 20]], np.float32)
    index, targets = rpg_targets(keys(1), anchors, make_batch([(left_aligned(20), "person")]), RPG)
    assert index.shape == targets.is_positive.shape == targets.is_sampled.shape == (1, 8)
    assert sampled_indices(index, targets) == ([0, 1], [5, 6])
    # Four of the eight places stay empty.
    assert int(targets.is_sampled.sum()) == 4


def test_anchors_in_ignore_regions_are_not_sampled_unless_they_are_positive():
    # By their own area in the region: 0.6, 0.4 and, of a positive, 1.
    anchors = np.array([[40, 0, 60, 20], [36, 0, 56, 20], [0, 0, 20, 20], [80, 0, 90, 20]], np.float32)
    image = [([0, 0, 20, 20], "person"), ([48, 0, 70, 40], "ignore"), ([0, 0, 30, 30], "ignore")]
    index, targets = rpg_targets(keys(1), anchors, make_batch(image), RPG)
    assert sampled_indices(index, targets) == ([2], [1, 3])


def test_best_anchor_of_a_person_is_positive_only_by_config():
    anchors = np.array([left_aligned(8), left_aligned(7), [60, 0, 80, 20]], np.float32)
    batch = make_batch([(left_aligned(20), "person")])
    index, targets = rpg_targets(keys(1), anchors, batch, RPG)
    assert sampled_indices(index, targets) == ([], [2])
    index, targets = rpg_targets(keys(1), anchors, batch, RPG._replace(match_best_anchor=True))
    assert sampled_indices(index, targets) == ([0], [2])


def test_offsets_lead_from_each_positive_anchor_to_its_own_person_in_units_of_the_std():
    anchors = np.array([[0, 0, 10, 20], [100, 0, 110, 20], [50, 50, 60, 70]], np.float32)
    image = [([101, 0, 111, 20], "person"), ([0, 2, 10, 22], "person"), (NAN_BOX, "padding")]
    rules = RPG._replace(offset_std=(0.1, 0.2, 0.5, 0.5))
    index, targets = rpg_targets(keys(1), anchors, make_batch(image), rules)
    by_anchor = {int(i): targets.offsets[0, place] for place, i in enumerate(index[0]) if targets.is_positive[0, place]}
    assert set(by_anchor) == {0, 1}
    np.testing.assert_allclose(by_anchor[0], [0, 2 / 20 / 0.2, 0, 0], atol=1e-6)
    np.testing.assert_allclose(by_anchor[1], [1 / 10 / 0.1, 0, 0, 0], atol=1e-6)


def test_offsets_hold_the_log_of_the_size_s_change():
    anchors = np.array([[0, 0, 20, 20]], np.float32)
    _, targets = rpg_targets(keys(1), anchors, make_batch([([4, 0, 16, 20], "person")]), RPG)
    np.testing.assert_allclose(targets.offsets[0, 0], [0, 0, np.log(0.6), 0], atol=1e-6)


def test_positives_fill_at_most_their_share_and_negatives_the_rest():
    positive = [left_aligned(20)] * 9
    negative = [[60 + i, 0, 80 + i, 20] for i in range(12)]
    batch = make_batch([(left_aligned(20), "person")])
    index, targets = rpg_targets(keys(1), np.array(positive + negative, np.float32), batch, RPG)
    positives, negatives = sampled_indices(index, targets)
    assert (len(positives), len(negatives)) == (4, 4)
    assert len(set(positives + negatives)) == 8
    assert max(positives) < 9 <= min(negatives)
    few = np.array(positive[:1] + negative, np.float32)
    positives, negatives = sampled_indices(*rpg_targets(keys(1), few, batch, RPG))
    assert (len(positives), len(negatives)) == (1, 7)


def test_image_without_people_gives_negatives_alone():
    anchors = np.array([left_aligned(20), [60, 0, 80, 20]], np.float32)
    batch = make_batch([(NAN_BOX, "padding")], [([0, 0, 20, 20], "ignore")])
    index, targets = rpg_targets(keys(2), anchors, batch, RPG)
    assert sampled_indices(index, targets, 0) == ([], [0, 1])
    assert sampled_indices(index, targets, 1) == ([], [1])
    assert np.isfinite(targets.offsets).all()


def test_draw_depends_on_the_image_s_own_key_and_on_no_other_image():
    anchors = np.array([[3 * i, 0, 3 * i + 20, 20] for i in range(60)], np.float32)
    image = [([300, 0, 320, 20], "person")]
    first, second, third = keys(3)
    pair, _ = rpg_targets(jnp.stack([first, second]), anchors, make_batch(image, image), RPG)
    swapped, _ = rpg_targets(jnp.stack([third, first]), anchors, make_batch(image, image), RPG)
    np.testing.assert_array_equal(pair[0], swapped[1])
    assert not np.array_equal(pair[0], pair[1])
    assert not np.array_equal(pair[1], swapped[0])


def test_rpg_padding_of_nan_changes_nothing():
    anchors = np.array([[3 * i, 0, 3 * i + 20, 20] for i in range(20)], np.float32)

    def run(padding):
        return rpg_targets(keys(1), anchors, make_batch([([6, 0, 26, 20], "person"), (padding, "padding")]), RPG)

    clean, poisoned = run([0] * 4), run(NAN_BOX)
    assert clean[1].is_positive.any()
    jax.tree.map(np.testing.assert_array_equal, clean, poisoned)


def test_take_anchors_picks_each_image_s_own_samples_from_every_output():
    numbers = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
    segmentation = np.ones((2, 1, 1, 2), np.float32)
    weights = np.ones((2, 2), np.float32)
    outputs = RegionOutputs(
        logits=numbers[..., :2],
        offsets=numbers,
        segmentation_logits=segmentation,
        branch_logits=np.stack([numbers, 100 + numbers])[..., :2],
        branch_offsets=np.stack([numbers, -numbers]),
        modality_weights=weights,
    )
    taken = take_anchors(outputs, np.array([[2, 0], [1, 1]], np.int32))
    np.testing.assert_array_equal(taken.logits, [[[8, 9], [0, 1]], [[16, 17], [16, 17]]])
    np.testing.assert_array_equal(taken.offsets[:, 0], [[8, 9, 10, 11], [16, 17, 18, 19]])
    np.testing.assert_array_equal(taken.branch_logits[1], [[[108, 109], [100, 101]], [[116, 117], [116, 117]]])
    np.testing.assert_array_equal(taken.branch_offsets[1, 1, 0], [-16, -17, -18, -19])
    assert taken.segmentation_logits is segmentation
    assert taken.modality_weights is weights


def test_take_anchors_of_a_detector_of_one_branch_makes_up_no_branches():
    numbers = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
    segmentation = np.ones((2, 1, 1, 2), np.float32)
    taken = take_anchors(RegionOutputs(numbers[..., :2], numbers, segmentation), np.array([[2, 0], [1, 1]], np.int32))
    np.testing.assert_array_equal(taken.logits, [[[8, 9], [0, 1]], [[16, 17], [16, 17]]])
    np.testing.assert_array_equal(taken.offsets[:, 0], [[8, 9, 10, 11], [16, 17, 18, 19]])
    assert taken.segmentation_logits is segmentation
    assert taken[3:] == (None, None, None)


# The RDR stage.


def test_annotated_people_are_rois_themselves_with_offsets_of_zero():
    proposals = make_proposals([([5, 5, 9, 9], False)])
    # The ignore region overlaps the first person enough to be positive, if it were a RoI.
    batch = make_batch([([10, 0, 20, 20], "person"), ([10, 0, 20, 22], "ignore"), ([50, 0, 60, 20], "person")])
    rois, targets = sample_rois(keys(1), proposals, batch, RDR)
    assert rows_of(rois[0], targets.is_sampled[0]) == [[10, 0, 20, 20], [50, 0, 60, 20]]
    assert int(targets.is_positive.sum()) == 2
    np.testing.assert_allclose(targets.offsets[0, :2], 0, atol=1e-6)


def test_rois_above_the_positive_iou_are_positive_and_the_others_negative():
    proposals = make_proposals([left_aligned(w) for w in (12, 11, 9, 5)] + [[60, 0, 80, 20]])
    batch = make_batch([(left_aligned(20), "person")])
    rois, targets = sample_rois(keys(1), proposals, batch, RDR)
    positive = targets.is_sampled[0] & targets.is_positive[0]
    negative = targets.is_sampled[0] & ~targets.is_positive[0]
    assert rows_of(rois[0], positive) == [left_aligned(w) for w in (11, 12, 20)]
    assert rows_of(rois[0], negative) == [left_aligned(5), left_aligned(9), [60, 0, 80, 20]]


def test_rois_in_ignore_regions_are_not_sampled_and_the_region_is_no_roi():
    proposals = make_proposals([[40, 0, 60, 20], [36, 0, 56, 20]])
    batch = make_batch([([48, 0, 70, 40], "ignore")])
    rois, targets = sample_rois(keys(1), proposals, batch, RDR)
    assert rows_of(rois[0], targets.is_sampled[0]) == [[36, 0, 56, 20]]
    assert not targets.is_positive.any()


def test_offsets_lead_from_the_roi_to_its_person():
    proposals = make_proposals([[1, 0, 11, 20]])
    batch = make_batch([([40, 0, 50, 20], "person"), ([0, 1, 10, 21], "person")])
    rois, targets = sample_rois(keys(1), proposals, batch, RDR._replace(offset_std=(0.1, 0.1, 0.2, 0.2)))
    places = np.flatnonzero((rois[0] == jnp.array([1.0, 0, 11, 20])).all(axis=1) & targets.is_sampled[0])
    np.testing.assert_allclose(targets.offsets[0, places], [[-1, 0.5, 0, 0]], atol=1e-6)


def test_rois_hold_their_share_of_positives():
    proposals = make_proposals([left_aligned(20 - 0.1 * i) for i in range(9)] + [[60 + i, 0, 80, 20] for i in range(9)])
    batch = make_batch([(left_aligned(20), "person")])
    rois, targets = sample_rois(keys(1), proposals, batch, RDR._replace(sampled=8, max_positive=2))
    assert targets.is_sampled.all()
    np.testing.assert_array_equal(targets.is_positive[0], [True] * 2 + [False] * 6)
    assert (rois[0, :2, 0] == 0).all()
    assert (rois[0, 2:, 0] >= 60).all()
    assert len(np.unique(rois[0], axis=0)) == 8


def test_padded_proposal_is_never_sampled_and_empty_places_hold_finite_rois():
    proposals = make_proposals([[60, 0, 80, 20], (NAN_BOX, False), (left_aligned(20), False)])
    batch = make_batch([(left_aligned(20), "padding"), (NAN_BOX, "padding")])
    rois, targets = sample_rois(keys(1), proposals, batch, RDR)
    assert rows_of(rois[0], targets.is_sampled[0]) == [[60, 0, 80, 20]]
    assert not targets.is_positive.any()
    assert np.isfinite(rois).all()
    assert np.isfinite(targets.offsets).all()


def test_image_without_proposals_or_people_samples_nothing():
    rois, targets = sample_rois(keys(1), make_proposals([(NAN_BOX, False)]), make_batch([(NAN_BOX, "padding")]), RDR)
    assert not targets.is_sampled.any()
    assert not targets.is_positive.any()
    assert np.isfinite(rois).all()


def test_rdr_padding_of_nan_changes_nothing():
    def run(padding):
        proposals = make_proposals([[2, 0, 22, 20], [60, 0, 80, 20], (padding, False)])
        return sample_rois(keys(1), proposals, make_batch([(left_aligned(20), "person"), (padding, "padding")]), RDR)

    clean, poisoned = run([0] * 4), run(NAN_BOX)
    assert clean[1].is_positive.any()
    jax.tree.map(np.testing.assert_array_equal, clean, poisoned)


def test_no_gradient_flows_from_rois_to_the_first_stage():
    batch = make_batch([(left_aligned(20), "person")])

    def total(boxes):
        proposals = Proposals(boxes, jnp.zeros((1, 2)), jnp.ones((1, 2), bool))
        rois, targets = sample_rois(keys(1), proposals, batch, RDR)
        return jnp.sum(rois) + jnp.sum(targets.offsets)

    gradient = jax.grad(total)(jnp.array([[[2.0, 0, 22, 20], [60, 0, 80, 20]]]))
    np.testing.assert_array_equal(gradient, np.zeros((1, 2, 4), np.float32))
