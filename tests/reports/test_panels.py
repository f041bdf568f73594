"""Which images a panel shows, and that it shows them."""

import cv2
import numpy as np
import pytest

from dcrl_jax.evaluation.miss_rate import ImageDetections, ImageTruth
from dcrl_jax.evaluation.rules import Subset
from dcrl_jax.reports.panels import (
    CAPTION,
    DETECTION_COLOR,
    GAP,
    HEADER,
    IGNORE_COLOR,
    IMAGE_WIDTH,
    MARGIN,
    PERSON_COLOR,
    ROW_TITLE,
    ImageErrors,
    PanelItem,
    count_errors,
    detection_panel,
    pick_images,
)

ANYONE = Subset("anyone")


def make_image(image_id, people, found=0, false_alarms=0, unsure=0, condition="day"):
    boxes = np.array([[20.0 * place, 0, 10, 20] for place in range(people)]).reshape(-1, 4)
    truth = ImageTruth(image_id, condition, boxes, ("person",) * people, np.zeros(people, int), np.zeros(people, bool))
    detected = np.concatenate([boxes[:found], np.full((false_alarms + unsure, 4), 500.0)])
    scores = np.concatenate([np.full(found + false_alarms, 0.5), np.full(unsure, 0.49)])
    return truth, ImageDetections(detected, scores)


def split(images):
    return [truth for truth, _ in images], {truth.image_id: detected for truth, detected in images}


def test_errors_are_misses_and_false_alarms_from_the_score_upwards():
    truths, detections = split(
        [make_image("a", 3, found=2, false_alarms=1, unsure=4), make_image("b", 0, false_alarms=2), make_image("c", 1)]
    )
    del detections["c"]
    assert count_errors(truths, detections, ANYONE) == [
        ImageErrors("a", people=3, misses=1, false_alarms=1),
        ImageErrors("b", people=0, misses=0, false_alarms=2),
        ImageErrors("c", people=1, misses=1, false_alarms=0),
    ]
    assert count_errors(truths, detections, ANYONE, min_score=0.4)[0].false_alarms == 5
    assert count_errors(truths, detections, ANYONE, min_score=0.6)[0] == ImageErrors("a", 3, 3, 0)


def test_errors_are_those_of_the_subset():
    truths, detections = split([make_image("a", 1), make_image("b", 2, condition="night"), make_image("c", 3)])
    truths[2].ignore[1] = True
    assert count_errors(truths, detections, Subset("day", "day")) == [
        ImageErrors("a", 1, 1, 0),
        ImageErrors("c", 2, 2, 0),
    ]


def test_best_have_people_and_no_errors_and_worst_have_the_most_errors():
    images = [make_image(f"plain{place}", 2, found=1) for place in range(9)]
    images += [make_image("empty", 0), make_image("one", 1, found=1), make_image("five", 5, found=5)]
    images += [make_image("blind", 4), make_image("noisy", 0, false_alarms=5)]
    picked = pick_images(*split(images), ANYONE, np.random.default_rng(0), count=2)
    assert {kind: [one.image_id for one in chosen] for kind, chosen in picked.items() if kind != "random"} == {
        "best": ["five", "one"],
        "worst": ["noisy", "blind"],
    }
    assert len({one.image_id for one in picked["random"]} - {"five", "one", "noisy", "blind"}) == 2


def test_choice_depends_on_the_generator_alone():
    split_of_equals = split([make_image(str(place), 1) for place in range(20)])
    first, again, other = (pick_images(*split_of_equals, ANYONE, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert len({one.image_id for chosen in first.values() for one in chosen}) == 9


@pytest.mark.parametrize(("images", "lengths"), [(0, (0, 0, 0)), (1, (0, 1, 0)), (4, (2, 2, 0)), (7, (3, 3, 1))])
def test_few_images_are_shared_out_and_none_is_shown_twice(images, lengths):
    picked = pick_images(
        *split([make_image(str(place), 1) for place in range(images)]), ANYONE, np.random.default_rng(0)
    )
    assert tuple(len(picked[kind]) for kind in ("best", "worst", "random")) == lengths
    shown = [one.image_id for chosen in picked.values() for one in chosen]
    assert len(set(shown)) == len(shown) == sum(lengths)


PAIR = "visible, then thermal"


def item(height, width, shapes=None, scores=(0.9, 0.2), **changes):
    """A black pair with one annotation, one ignore region and two detections well apart, the same in both images."""
    shapes = shapes or ((height, width, 3), (height, width))
    scale = [width, height, width, height]
    found = ImageDetections(np.array([[0.6, 0.3, 0.1, 0.4], [0.8, 0.3, 0.1, 0.4]]) * scale, np.array(scores))
    values = {
        "images": tuple(np.zeros(shape, np.uint8) for shape in shapes),
        "detections": (found,) * len(shapes),
        "truth_boxes": np.array([[0.1, 0.3, 0.1, 0.4], [0.3, 0.3, 0.1, 0.4]]) * scale,
        "truth_is_ignored": np.array([False, True]),
        "caption": "a caption",
    }
    return PanelItem(**{**values, **changes})


def find_pixels(path, color):
    """Which pixels of a picture lie within 12 levels of a colour."""
    wanted = np.array([int(color[place : place + 2], 16) for place in (5, 3, 1)])
    return np.abs(cv2.imread(str(path)).astype(int) - wanted).max(axis=2) < 12


def count_pixels(path, color):
    return int(find_pixels(path, color).sum())


@pytest.mark.parametrize(("height", "width", "shapes"), [(128, 160, None), (512, 640, ((512, 640, 3), (512, 640, 1)))])
def test_panel_shows_people_ignore_regions_and_sure_detections_in_both_images(tmp_path, height, width, shapes):
    path = tmp_path / "deep" / "panel.png"
    one = item(height, width, shapes)
    detection_panel({"best": [one, one], "worst": [one], "random": []}, path, "a title", PAIR)
    picture = cv2.imread(str(path))
    assert picture.shape[1] > 1600
    without = {"truth_boxes": np.zeros((0, 4)), "truth_is_ignored": np.zeros(0, bool), "scores": (0.0, 0.0)}
    detection_panel(
        {"best": [item(height, width, **without)] * 2, "worst": [item(height, width, **without)]},
        tmp_path / "bare.png",
        "a title",
        PAIR,
    )
    # Six images; a box is at least 40 wide and 120 high, dashes cover half of it.
    for color, least in ((PERSON_COLOR, 1500), (IGNORE_COLOR, 700), (DETECTION_COLOR, 1500)):
        assert count_pixels(path, color) - count_pixels(tmp_path / "bare.png", color) > least


@pytest.mark.filterwarnings("error")
def test_padding_of_detections_is_not_drawn(tmp_path):
    nothing = ImageDetections(np.full((2, 4), np.nan), np.array([np.nan, np.nan]))
    padded = item(128, 160, detections=(nothing, nothing))
    detection_panel({"random": [padded]}, tmp_path / "panel.png", "", PAIR)
    # The label of the legend has a darker green.
    assert count_pixels(tmp_path / "panel.png", DETECTION_COLOR) == 0


@pytest.mark.filterwarnings("error")
def test_panel_without_images_is_drawn_quietly(tmp_path):
    detection_panel({"best": [], "worst": []}, tmp_path / "panel.png", "nothing to see", PAIR)
    assert cv2.imread(str(tmp_path / "panel.png")) is not None


@pytest.mark.filterwarnings("error")
def test_dollar_signs_in_any_text_are_drawn_as_they_stand(tmp_path):
    texts = {"title": "a$b_{$", "columns": r"$\frac{$"}
    detection_panel({"$^$": [item(40, 60, caption="I$_{$.png")]}, tmp_path / "panel.png", **texts)
    assert (tmp_path / "panel.png").is_file()


def test_rows_of_different_image_sizes_share_a_panel(tmp_path):
    items = {"best": [item(128, 160), item(480, 640)], "worst": [item(100, 300)]}
    detection_panel(items, tmp_path / "panel.png", "", PAIR)
    assert cv2.imread(str(tmp_path / "panel.png")) is not None


def columns_of(path, color, place):
    """Columns with a colour in one image of the first row, by its place from the left; in pixels of this image."""
    left, top = MARGIN + place * (IMAGE_WIDTH + GAP), HEADER + ROW_TITLE + CAPTION
    shown = find_pixels(path, color)[top : top + IMAGE_WIDTH * 128 // 160, left : left + IMAGE_WIDTH]
    return np.flatnonzero(shown.any(axis=0))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("views", "width"), [(1, 484), (3, 1372)])
def test_scene_of_one_or_three_images_shows_its_people_and_detections_in_each(tmp_path, views, width):
    path = tmp_path / "panel.png"
    shapes = ((128, 160, 3), (128, 160), (128, 160, 3))[:views]
    detection_panel({"random": [item(128, 160, shapes)]}, path, "", "what stands where")
    assert cv2.imread(str(path)).shape[1] == width
    for color, start, end in ((PERSON_COLOR, 0.1, 0.2), (IGNORE_COLOR, 0.3, 0.4), (DETECTION_COLOR, 0.6, 0.7)):
        for place in range(views):
            columns = columns_of(path, color, place)
            np.testing.assert_allclose([columns[0], columns[-1]], [start * IMAGE_WIDTH, end * IMAGE_WIDTH], atol=2)


def test_each_image_shows_its_own_detections(tmp_path):
    left, right = (ImageDetections(np.array([[x, 40.0, 32, 60]]), np.array([0.9])) for x in (16, 112))
    unsure = left._replace(scores=np.array([0.3]))
    path = tmp_path / "panel.png"
    shapes = ((128, 160, 3),) * 3
    detection_panel({"worst": [item(128, 160, shapes, detections=(left, unsure, right))]}, path, "", "three detectors")
    first, second, third = (columns_of(path, DETECTION_COLOR, place) for place in range(3))
    np.testing.assert_allclose([first[0], first[-1]], [44, 132], atol=2)
    assert second.size == 0
    np.testing.assert_allclose([third[0], third[-1]], [308, 396], atol=2)
    # A lower limit shows the unsure one, where it belongs.
    detection_panel({"worst": [item(128, 160, shapes, detections=(left, unsure, right))]}, path, "", "", min_score=0.3)
    second = columns_of(path, DETECTION_COLOR, 1)
    np.testing.assert_allclose([second[0], second[-1]], [44, 132], atol=2)


@pytest.mark.filterwarnings("error")
def test_scenes_of_one_and_two_images_share_a_panel(tmp_path):
    path = tmp_path / "panel.png"
    items = {"best": [item(128, 160, ((128, 160, 3),)), item(128, 160)], "worst": [item(128, 160)]}
    detection_panel(items, path, "", PAIR)
    # The place of the first scene's second image stays empty; the second scene begins after it.
    assert cv2.imread(str(path)).shape[1] == 2 * 22 + 2 * 884 + 26
    assert columns_of(path, PERSON_COLOR, 0).size > 0
    assert columns_of(path, PERSON_COLOR, 1).size == 0
