"""COCO's average precision: one case worked by hand, and pycocotools as the oracle on hard scenes."""

import contextlib
import io
import math

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scoring_cases import AWAY, BOX, make_detections, make_truth

from dcrl_jax.errors import InputError
from dcrl_jax.evaluation.coco_ap import Category, coco_scores
from dcrl_jax.evaluation.overlaps import ImageDetections, Results
from dcrl_jax.evaluation.rules import assign_roles, everyone

EVERYONE = everyone()
CAR = everyone(["car"], ())


def score(truths, detections, **options):
    return coco_scores(truths, {"people": Category(EVERYONE, detections)}, **options)["all"].mean


def test_figures_of_a_case_worked_by_hand():
    # The first detection overlaps its person by 15/20: true up to the overlap of 0.75, six of ten. The second is false.
    # The other person is missed.
    detections = {"a": make_detections([0, 0, 10, 15, 0.9], [90, 90, 10, 20, 0.8])}
    scored = score([make_truth("a", BOX, AWAY)], detections)
    # The recall of 0.5 is reached at 51 of the recalls 0, 0.01 ... 1.
    assert scored.ap50 == scored.ap75 == pytest.approx(51 / 101)
    assert scored.ap == scored.ap_small == pytest.approx(0.6 * 51 / 101)
    assert scored.ar == pytest.approx(0.6 * 0.5)
    assert math.isnan(scored.ap_medium)
    assert math.isnan(scored.ap_large)
    assert (scored.objects, scored.images) == (2, 1)


def oracle(truths, categories, images):
    """Return pycocotools' figures on some images: AP, AP50, AP75, by size, AR, as in CocoScore."""
    annotations, found = [], []
    for number, (subset, detections) in enumerate(categories.values(), start=1):
        for image, truth in enumerate(truths):
            roles = assign_roles(subset, *truth[2:])
            for index in np.flatnonzero(roles.is_person | roles.is_ignore):
                box = truth.boxes[index].tolist()
                entry = {"id": len(annotations) + 1, "image_id": image, "category_id": number, "bbox": box}
                annotations.append(entry | {"area": box[2] * box[3], "iscrowd": int(roles.is_ignore[index])})
            rows = detections.get(truth.image_id, make_detections())
            for box, value in zip(rows.boxes.tolist(), rows.scores.tolist(), strict=True):
                found.append({"image_id": image, "category_id": number, "bbox": box, "score": value})
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": [{"id": index} for index in range(len(truths))],
            "annotations": annotations,
            "categories": [{"id": number} for number in range(1, len(categories) + 1)],
        }
        truth.createIndex()
        evaluator = COCOeval(truth, truth.loadRes(found), "bbox")
        evaluator.params.imgIds = images
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    figures = evaluator.stats[[0, 1, 2, 3, 4, 5, 8]]
    return np.where(figures == -1, np.nan, figures)


def hard_scenes(rng, images):
    """Return scenes on a coarse grid: equal overlaps and scores, crowds, boxes of no size, nobody, no detections."""
    truths, detections = [], {}
    for number in range(images):
        count, found, size = rng.integers(0, 9), rng.choice([0, 0, 3, 20, 130]), rng.choice([1.0, 7.0])
        boxes = np.concatenate([rng.integers(0, 12, (count, 2)), rng.integers(1, 9, (count, 2))], axis=1) * size
        truth = make_truth(
            str(number),
            *boxes,
            condition=("day", "night")[number % 2],
            labels=rng.choice(["person", "people", "car", "person"], count).tolist(),
            occlusion=rng.integers(0, 3, count),
            ignore=rng.random(count) < 0.2,
        )
        truths.append(truth)
        rows = np.concatenate([rng.integers(0, 12, (found, 2)), rng.integers(0, 9, (found, 2))], axis=1) * size
        if rng.random() < 0.9:
            detections[str(number)] = ImageDetections(rows, rng.integers(0, 6, found) / 5 - 0.3)
    return truths, detections


@pytest.mark.parametrize("seed", range(12))
def test_figures_equal_those_of_pycocotools(seed):
    rng = np.random.default_rng(seed)
    truths, detections = hard_scenes(rng, 6)
    others = hard_scenes(rng, 6)[1]
    for categories in (
        {"people": Category(EVERYONE, detections)},
        {"people": Category(EVERYONE, detections), "cars": Category(CAR, others)},
    ):
        scores = coco_scores(truths, categories, ("all", "day", "night"))
        for condition, images in (("all", [*range(6)]), ("day", [0, 2, 4]), ("night", [1, 3, 5])):
            np.testing.assert_allclose(scores[condition].mean[:7], oracle(truths, categories, images), atol=1e-15)
            for name, scored in scores[condition].categories.items():
                expected = oracle(truths, {name: categories[name]}, images)
                np.testing.assert_allclose(scored[:7], expected, atol=1e-15)


def test_library_prints_nothing(capfd):
    score([make_truth("a", BOX)], {"a": make_detections([*BOX, 0.9])})
    assert capfd.readouterr() == ("", "")


def test_strongest_100_detections_of_an_image_count():
    weak = [[300, 300, 10, 20, 0.9]] * 100
    truths = [make_truth("a", BOX), make_truth("b", BOX)]
    found = {"a": make_detections(*weak[:99], [*BOX, 0.1]), "b": make_detections(*weak, [*BOX, 0.1])}
    assert score(truths, found).ar == 0.5


def test_people_of_every_height_and_occlusion_count():
    truth = make_truth("a", BOX, AWAY, (0, 300, 5, 5), labels=("person", "person", "people"), occlusion=[2, 1, 0])
    category = Category(EVERYONE, {"a": make_detections([*BOX, 0.9], [0, 300, 5, 5, 0.95])})
    scored = coco_scores([truth], {"people": category}, by_size=False)["all"].mean
    assert (scored.objects, scored.ap) == (2, pytest.approx(51 / 101))
    assert math.isnan(scored.ap_small)


@pytest.mark.parametrize("truths", [[make_truth("a")], [make_truth("a", BOX, labels=("people",))]])
@pytest.mark.parametrize("detections", [{}, {"a": make_detections([*BOX, 0.9])}])
def test_without_people_nothing_is_scored(truths, detections):
    scored = score(truths, detections)
    assert all(math.isnan(value) for value in scored[:7])
    assert scored[7:] == (0, 1)


def test_people_without_detections_are_missed():
    assert score([make_truth("a", BOX)], {})[:4] == (0, 0, 0, 0)


def test_condition_without_images_has_no_figures():
    category = Category(EVERYONE, {})
    scored = coco_scores([make_truth("a", BOX)], {"people": category}, ("all", "night"))["night"].mean
    assert math.isnan(scored.ap)
    assert scored[7:] == (0, 0)


def test_results_of_a_part_of_the_images_are_scored_on_it():
    found = Results({"a": make_detections([*BOX, 0.9])}, images=frozenset({"a"}))
    scored = score([make_truth("a", BOX), make_truth("b", BOX)], found)
    assert (scored.ap, scored.objects, scored.images) == (1, 1, 1)


def test_detections_of_an_unknown_image_are_refused():
    with pytest.raises(InputError, match="detections of 1 images that have no annotations, first 'b'"):
        score([make_truth("a", BOX)], {"b": make_detections([*BOX, 0.9])})
