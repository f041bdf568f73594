"""The images that a panel shows, and what is drawn in them."""

import cv2
import numpy as np
import pytest
from scoring_cases import ANYONE, make_detections, make_truth

from dcrl_jax.evaluation.overlaps import ImageDetections
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
    PanelItem,
    detection_panel,
    pick_images,
)


def split(*images):
    """Return truths and detections of images: id, people, found people and false alarms."""
    truths, detections = [], {}
    for image_id, people, found, false_alarms in images:
        boxes = [(20 * index, 0, 10, 20) for index in range(people)]
        truths.append(make_truth(image_id, *boxes))
        rows = [*boxes[:found], *[(500, 500, 500, 500)] * false_alarms]
        detections[image_id] = make_detections(*([*box, 0.5] for box in rows))
    return truths, detections


def equals(count):
    """Return images that are all alike."""
    return split(*((str(index), 1, 0, 0) for index in range(count)))


def pick(case, seed=0, **options):
    chosen = pick_images(*case, ANYONE, np.random.default_rng(seed), **options)
    return {kind: [image.image_id for image in images] for kind, images in chosen.items()}


def test_best_have_people_and_no_mistakes_and_worst_have_the_most_mistakes():
    images = [(f"plain{index}", 2, 1, 0) for index in range(9)]
    images += [("empty", 0, 0, 0), ("one", 1, 1, 0), ("five", 5, 5, 0), ("blind", 4, 0, 0), ("noisy", 0, 0, 5)]
    chosen = pick(split(*images), count=2)
    assert (chosen["best"], chosen["worst"]) == (["five", "one"], ["noisy", "blind"])
    assert len(set(chosen["random"]) - {"five", "one", "noisy", "blind"}) == 2


def test_choice_depends_only_on_the_generator():
    first, again, other = (pick(equals(20), seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


@pytest.mark.parametrize(("images", "lengths"), [(0, (0, 0, 0)), (1, (0, 1, 0)), (4, (2, 2, 0)), (7, (3, 3, 1))])
def test_few_images_are_shared_out_and_none_is_chosen_twice(images, lengths):
    chosen = pick(equals(images))
    assert tuple(len(chosen[kind]) for kind in ("best", "worst", "random")) == lengths
    assert len({image_id for row in chosen.values() for image_id in row}) == sum(lengths)


PAIR = "visible, then thermal"


def item(height=128, width=160, views=2, **changes):
    """A black scene with a person, an ignore region and two detections, the second one with a low score."""
    scale = [width, height, width, height]
    found = ImageDetections(np.array([[0.6, 0.3, 0.1, 0.4], [0.8, 0.3, 0.1, 0.4]]) * scale, np.array([0.9, 0.2]))
    values = {
        # Grey images may have one channel or none.
        "images": tuple(
            np.zeros(shape, np.uint8) for shape in ((height, width, 3), (height, width), (height, width, 1))
        ),
        "detections": (found,) * 3,
        "truth_boxes": np.array([[0.1, 0.3, 0.1, 0.4], [0.3, 0.3, 0.1, 0.4]]) * scale,
        "truth_is_ignored": np.array([False, True]),
        "caption": "a caption",
    } | changes
    return PanelItem(**values | {name: values[name][:views] for name in ("images", "detections")})


def draw(path, title="", columns=PAIR, **rows):
    detection_panel(rows, path, title, columns)
    return cv2.imread(str(path))


def columns_of(picture, color, view, height=128, width=160):
    """Return the columns with a colour in one image of the first row, in pixels of the image."""
    bgr = np.array([int(color[index : index + 2], 16) for index in (5, 3, 1)])
    is_near = np.abs(picture.astype(int) - bgr).max(axis=2) < 12
    left, top = MARGIN + view * (IMAGE_WIDTH + GAP), HEADER + ROW_TITLE + CAPTION
    shown = is_near[top : top + IMAGE_WIDTH * height // width, left : left + IMAGE_WIDTH]
    return np.flatnonzero(shown.any(axis=0))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("height", "width"), [(128, 160), (512, 640)])
@pytest.mark.parametrize(("views", "panel_width"), [(1, 484), (3, 1372)])
def test_people_ignore_regions_and_detections_are_drawn_in_every_image(tmp_path, height, width, views, panel_width):
    picture = draw(tmp_path / "deep" / "panel.png", "a title", random=[item(height, width, views)])
    assert picture.shape[1] == panel_width
    for color, start, end in ((PERSON_COLOR, 0.1, 0.2), (IGNORE_COLOR, 0.3, 0.4), (DETECTION_COLOR, 0.6, 0.7)):
        for view in range(views):
            columns = columns_of(picture, color, view, height, width)
            np.testing.assert_allclose([columns[0], columns[-1]], [start * IMAGE_WIDTH, end * IMAGE_WIDTH], atol=2)


@pytest.mark.filterwarnings("error")
def test_each_image_shows_its_own_detections_without_low_scores(tmp_path):
    left, right = (make_detections([x, 40, 32, 60, 0.9]) for x in (16, 112))
    none = make_detections([16, 40, 32, 60, 0.49], [np.nan] * 5)
    picture = draw(tmp_path / "panel.png", worst=[item(views=3, detections=(left, none, right))])
    first, second, third = (columns_of(picture, DETECTION_COLOR, view) for view in range(3))
    np.testing.assert_allclose([first[0], first[-1], third[0], third[-1]], [44, 132, 308, 396], atol=2)
    assert second.size == 0


@pytest.mark.filterwarnings("error")
def test_scenes_of_different_sizes_and_numbers_of_images_share_a_panel(tmp_path):
    picture = draw(tmp_path / "panel.png", best=[item(views=1), item(480, 640)], worst=[item(100, 300)], random=[])
    # The first scene leaves room for a second image; the second scene begins after it.
    assert picture.shape[1] == 2 * 22 + 2 * 884 + 26
    assert columns_of(picture, PERSON_COLOR, 0).size > 0
    assert columns_of(picture, PERSON_COLOR, 1).size == 0


@pytest.mark.filterwarnings("error")
def test_panel_without_images_and_texts_with_dollar_signs_give_no_warnings(tmp_path):
    assert draw(tmp_path / "panel.png", "nothing to see", best=[], worst=[]) is not None
    rows = {"$^$": [item(40, 60, caption="I$_{$.png")]}
    assert draw(tmp_path / "panel.png", "a$b_{$", r"$\frac{$", **rows) is not None
