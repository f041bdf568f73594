"""Which anchors and RoIs are sampled, and their targets."""

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
PERSON = ([0, 0, 20, 20], "person")
APART = [60, 0, 80, 20]
REGION = ([48, 0, 70, 40], "ignore")
ACROSS = [[40, 0, 60, 20], [36, 0, 56, 20]]  # 0.6 and 0.4 of their area lie in the region

rpg_targets = jax.jit(training_targets.rpg_targets, static_argnames="rules")
sample_rois = jax.jit(training_targets.sample_rois, static_argnames="rules")


def keys(images):
    return jax.random.split(jax.random.key(1), images)


def make_batch(*images):
    """Each image is a list of (box, 'person' | 'ignore' | 'padding')."""
    boxes = np.array([[box for box, _ in image] for image in images], np.float32)

    def flags(kind):
        return np.array([[k == kind for _, k in image] for image in images])

    return Batch(None, None, boxes, flags("person"), flags("ignore"), None, None, None)


def make_proposals(*boxes, padding=()):
    rows = np.array([*boxes, *padding], np.float32)[None]
    return Proposals(rows, np.zeros(rows.shape[:2], np.float32), np.arange(rows.shape[1])[None] < len(boxes))


def wide(*widths):
    """Boxes of these widths at PERSON's place; their IoU with it is width / 20."""
    return [[0, 0, width, 20] for width in widths]


def sample_anchors(anchors, *images, rules=RPG):
    """Return the indices of the positive and of the negative anchors of the first image, and the targets."""
    index, targets = rpg_targets(keys(len(images)), np.array(anchors, np.float32), make_batch(*images), rules)
    return *split(index[0], targets), targets


def split(sampled, targets, image=0):
    """Return the sampled indices or boxes of an image that are positive, and those that are negative."""
    rows, is_sampled, is_positive = np.asarray(sampled), targets.is_sampled[image], targets.is_positive[image]
    return sorted(rows[is_sampled & is_positive].tolist()), sorted(rows[is_sampled & ~is_positive].tolist())


@pytest.mark.parametrize(
    ("anchors", "image", "rules", "positive", "negative"),
    [
        # IoU 1, 0.6, 0.5, 0.4, 0.3, 0.25 and none: above 0.5 is positive, below 0.3 negative.
        ([*wide(20, 12, 10, 8, 6, 5), APART], [PERSON], RPG, [0, 1], [5, 6]),
        # By their own area in an ignore region: 0.6, 0.4, none and, of a positive, 1.
        ([*ACROSS, [0, 0, 20, 20], [80, 0, 90, 20]], [PERSON, REGION, ([0, 0, 30, 30], "ignore")], RPG, [2], [1, 3]),
        ([*wide(8, 7), APART], [PERSON], RPG._replace(match_best_anchor=True), [0], [2]),
    ],
    ids=["iou", "ignore region", "best anchor"],
)
def test_anchors_are_labelled_by_their_overlaps(anchors, image, rules, positive, negative):
    positives, negatives, targets = sample_anchors(anchors, image, rules=rules)
    assert (positives, negatives) == (positive, negative)
    assert targets.is_positive.shape == targets.is_sampled.shape == (1, 8)
    assert int(targets.is_sampled.sum()) == len(positive + negative)  # the other places stay empty
    assert np.isfinite(targets.offsets).all()


def test_offsets_lead_from_each_positive_anchor_to_its_person():
    anchors = np.array([[0, 0, 10, 20], [100, 0, 110, 20], [50, 50, 70, 70]], np.float32)
    image = [([101, 0, 111, 20], "person"), ([0, 2, 10, 22], "person"), ([54, 50, 66, 70], "person")]
    batch = make_batch([*image, (NAN_BOX, "padding")])
    index, targets = rpg_targets(keys(1), anchors, batch, RPG._replace(offset_std=(0.1, 0.2, 0.5, 0.5)))
    order = np.argsort(index[0, :3])
    assert targets.is_positive[0].tolist() == [True] * 3 + [False] * 5
    # Shifts in units of the anchor's sides, and logs of the changes in size, all over their standard deviations.
    expected = [[0, 2 / 20 / 0.2, 0, 0], [1 / 10 / 0.1, 0, 0, 0], [0, 0, np.log(0.6) / 0.5, 0]]
    np.testing.assert_allclose(targets.offsets[0, :3][order], expected, atol=1e-6)


def test_draw_depends_only_on_the_key_of_the_image():
    anchors = np.array([[3 * i, 0, 3 * i + 20, 20] for i in range(60)], np.float32)
    image = [([300, 0, 320, 20], "person")]
    first, second, third = keys(3)
    pair, _ = rpg_targets(jnp.stack([first, second]), anchors, make_batch(image, image), RPG)
    swapped, _ = rpg_targets(jnp.stack([third, first]), anchors, make_batch(image, image), RPG)
    np.testing.assert_array_equal(pair[0], swapped[1])
    assert not np.array_equal(pair[0], pair[1])
    assert not np.array_equal(pair[1], swapped[0])


def test_take_anchors_picks_the_sample_of_each_image():
    numbers = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
    segmentation, weights = np.ones((2, 1, 1, 2), np.float32), np.ones((2, 2), np.float32)
    branches = np.stack([numbers, 100 + numbers])[..., :2], np.stack([numbers, -numbers])
    outputs = RegionOutputs(numbers[..., :2], numbers, segmentation, *branches, weights)
    taken = take_anchors(outputs, np.array([[2, 0], [1, 1]], np.int32))
    np.testing.assert_array_equal(taken.logits, [[[8, 9], [0, 1]], [[16, 17], [16, 17]]])
    np.testing.assert_array_equal(taken.offsets[:, 0], [[8, 9, 10, 11], [16, 17, 18, 19]])
    np.testing.assert_array_equal(taken.branch_logits[1], [[[108, 109], [100, 101]], [[116, 117], [116, 117]]])
    np.testing.assert_array_equal(taken.branch_offsets[1, 1, 0], [-16, -17, -18, -19])
    assert taken.segmentation_logits is segmentation
    assert taken.modality_weights is weights


@pytest.mark.parametrize(
    ("proposals", "image", "positive", "negative"),
    [
        # Annotated people are RoIs. The region overlaps the first one enough to be positive, if it were a RoI.
        (
            make_proposals(padding=[[5, 5, 9, 9]]),
            [([10, 0, 20, 20], "person"), ([10, 0, 20, 22], "ignore"), ([50, 0, 60, 20], "person")],
            [[10, 0, 20, 20], [50, 0, 60, 20]],
            [],
        ),
        (make_proposals(*wide(12, 11, 9, 5), APART), [PERSON], wide(11, 12, 20), [*wide(5, 9), APART]),
        (make_proposals(*ACROSS), [REGION], [], [[36, 0, 56, 20]]),
        (
            make_proposals(APART, padding=[NAN_BOX, *wide(20)]),
            [(PERSON[0], "padding"), (NAN_BOX, "padding")],
            [],
            [APART],
        ),
        (make_proposals(padding=[NAN_BOX]), [(NAN_BOX, "padding")], [], []),
    ],
    ids=["people", "iou", "ignore region", "padding", "nothing"],
)
def test_rois_are_labelled_by_their_overlaps(proposals, image, positive, negative):
    rois, targets = sample_rois(keys(1), proposals, make_batch(image), RDR)
    assert split(rois[0], targets) == (positive, negative)
    assert np.isfinite(rois).all()
    assert np.isfinite(targets.offsets).all()


def test_offsets_lead_from_each_roi_to_its_person():
    batch = make_batch([([40, 0, 50, 20], "person"), ([0, 1, 10, 21], "person")])
    rules = RDR._replace(offset_std=(0.1, 0.1, 0.2, 0.2))
    rois, targets = sample_rois(keys(1), make_proposals([1, 0, 11, 20]), batch, rules)
    is_proposal = (rois[0] == jnp.array([1.0, 0, 11, 20])).all(axis=1)
    expected = np.where(is_proposal[:, None], [-1, 0.5, 0, 0], 0)  # people are RoIs themselves
    np.testing.assert_allclose(targets.offsets[0, :3], expected[:3], atol=1e-6)
    assert is_proposal[:3].sum() == 1


def test_positive_rois_fill_at_most_their_share():
    proposals = make_proposals(*wide(*(20 - 0.1 * i for i in range(9))), *[[60 + i, 0, 80, 20] for i in range(9)])
    rois, targets = sample_rois(keys(1), proposals, make_batch([PERSON]), RDR._replace(max_positive=2))
    assert targets.is_sampled.all()
    np.testing.assert_array_equal(targets.is_positive[0], [True] * 2 + [False] * 6)
    assert (rois[0, :2, 0] == 0).all()
    assert (rois[0, 2:, 0] >= 60).all()
    assert len(np.unique(rois[0], axis=0)) == 8


@pytest.mark.parametrize("stage", ["rpg", "rdr"])
def test_nan_in_the_padding_changes_nothing(stage):
    def run(padding):
        batch = make_batch([PERSON, (padding, "padding")])
        if stage == "rpg":
            return rpg_targets(keys(1), np.array([[2, 0, 22, 20], APART], np.float32), batch, RPG)
        return sample_rois(keys(1), make_proposals([2, 0, 22, 20], APART, padding=[padding]), batch, RDR)

    clean, poisoned = run([0] * 4), run(NAN_BOX)
    assert clean[1].is_positive.any()
    jax.tree.map(np.testing.assert_array_equal, clean, poisoned)


def test_no_gradient_flows_from_rois_to_the_first_stage():
    def total(boxes):
        proposals = Proposals(boxes, jnp.zeros((1, 2)), jnp.ones((1, 2), bool))
        rois, targets = sample_rois(keys(1), proposals, make_batch([PERSON]), RDR)
        return jnp.sum(rois) + jnp.sum(targets.offsets)

    gradient = jax.grad(total)(jnp.array([[[2.0, 0, 22, 20], APART]]))
    np.testing.assert_array_equal(gradient, np.zeros((1, 2, 4), np.float32))
