"""The images that a panel shows, and what is drawn in them."""

import cv2
import numpy as np
import pytest
from scoring_cases import ANYONE, make_detections, make_scene

from dcrl_jax.evaluation.overlaps import ImageDetections
from dcrl_jax.reports import panels
from dcrl_jax.reports.panels import DETECTION_COLOR, IGNORE_COLOR, IMAGE_WIDTH, PERSON_COLOR, PanelItem


def pick(images, seed=0, **options):
    """Choose from images, each with an id and the numbers of people, found people and false alarms."""
    scenes = [make_scene(*image) for image in images]
    detections = {truth.image_id: found for truth, found in scenes}
    truths, rng = [truth for truth, _ in scenes], np.random.default_rng(seed)
    chosen = panels.pick_images(truths, detections, ANYONE, rng, **options)
    return {kind: [image.image_id for image in images] for kind, images in chosen.items()}


ALIKE = [(str(index), 1, 0, 0) for index in range(20)]


def test_best_have_people_and_no_mistakes_and_worst_have_the_most_mistakes():
    images = [(f"plain{index}", 2, 1, 0) for index in range(9)]
    images += [("empty", 0, 0, 0), ("one", 1, 1, 0), ("five", 5, 5, 0), ("blind", 4, 0, 0), ("noisy", 0, 0, 5)]
    chosen = pick(images, count=2)
    assert (chosen["best"], chosen["worst"]) == (["five", "one"], ["noisy", "blind"])
    assert len(set(chosen["random"]) - {"five", "one", "noisy", "blind"}) == 2


@pytest.mark.parametrize(("images", "lengths"), [(0, (0, 0, 0)), (1, (0, 1, 0)), (4, (2, 2, 0)), (7, (3, 3, 1))])
def test_few_images_are_shared_out_and_none_is_chosen_twice(images, lengths):
    chosen = pick(ALIKE[:images])
    assert tuple(len(chosen[kind]) for kind in ("best", "worst", "random")) == lengths
    assert len({image_id for row in chosen.values() for image_id in row}) == sum(lengths)
    # Only the generator decides between equals.
    assert pick(ALIKE, seed=1) == pick(ALIKE, seed=1) != pick(ALIKE, seed=2)


def item(height=128, width=160, views=2, **changes):
    """A black scene with a person, an ignore region and two detections, the second one with a low score."""
    scale = [width, height, width, height]
    found = ImageDetections(np.array([[0.6, 0.3, 0.1, 0.4], [0.8, 0.3, 0.1, 0.4]]) * scale, np.array([0.9, 0.2]))
    # Grey images may have one channel or none.
    shapes = ((height, width, 3), (height, width), (height, width, 1))[:views]
    values = {
        "images": [np.zeros(shape, np.uint8) for shape in shapes],
        "detections": [found] * views,
        "truth_boxes": np.array([[0.1, 0.3, 0.1, 0.4], [0.3, 0.3, 0.1, 0.4]]) * scale,
        "truth_is_ignored": np.array([False, True]),
        "caption": "a caption",
    }
    return PanelItem(**values | changes)


def draw(folder, title="", columns="visible, then thermal", **rows):
    panels.detection_panel(rows, folder / "deep" / "panel.png", title, columns)
    return cv2.imread(str(folder / "deep" / "panel.png"))


def columns_of(picture, color, view, height=128, width=160):
    """Return the first and last column with a colour in one image of the first row, in pixels of the image."""
    bgr = np.array([int(color[index : index + 2], 16) for index in (5, 3, 1)])
    is_near = np.abs(picture.astype(int) - bgr).max(axis=2) < 12
    left = panels.MARGIN + view * (IMAGE_WIDTH + panels.GAP)
    top = panels.HEADER + panels.ROW_TITLE + panels.CAPTION
    shown = is_near[top : top + IMAGE_WIDTH * height // width, left : left + IMAGE_WIDTH]
    return np.flatnonzero(shown.any(axis=0))[[0, -1]].tolist() if shown.any() else None


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("height", "width", "views", "panel_width"), [(128, 160, 1, 484), (512, 640, 3, 1372)])
def test_people_ignore_regions_and_detections_are_drawn_in_every_image(tmp_path, height, width, views, panel_width):
    picture = draw(tmp_path, "a title", random=[item(height, width, views)])
    assert picture.shape[1] == panel_width
    for color, start, end in ((PERSON_COLOR, 0.1, 0.2), (IGNORE_COLOR, 0.3, 0.4), (DETECTION_COLOR, 0.6, 0.7)):
        for view in range(views):
            columns = columns_of(picture, color, view, height, width)
            np.testing.assert_allclose(columns, [start * IMAGE_WIDTH, end * IMAGE_WIDTH], atol=2)


@pytest.mark.filterwarnings("error")
def test_each_image_shows_its_own_detections_without_low_scores(tmp_path):
    left, right = (make_detections([x, 40, 32, 60, 0.9]) for x in (16, 112))
    none = make_detections([16, 40, 32, 60, 0.49], [np.nan] * 5)
    picture = draw(tmp_path, worst=[item(views=3, detections=(left, none, right))])
    first, second, third = (columns_of(picture, DETECTION_COLOR, view) for view in range(3))
    np.testing.assert_allclose(first + third, [44, 132, 308, 396], atol=2)
    assert second is None


@pytest.mark.filterwarnings("error")
def test_scenes_of_different_sizes_and_numbers_of_images_share_a_panel(tmp_path):
    # Dollar signs start no formulas.
    scenes = [item(views=1, caption="I$_{$.png"), item(240, 320)]
    picture = draw(tmp_path, "a$b_{$", r"$\frac{$", **{"$^$": scenes, "worst": [item(50, 150)], "random": []})
    # The first scene leaves room for a second image; the second scene begins after it.
    assert picture.shape[1] == 2 * 22 + 2 * 884 + 26
    assert columns_of(picture, PERSON_COLOR, 0) is not None
    assert columns_of(picture, PERSON_COLOR, 1) is None
    # A panel without images.
    assert draw(tmp_path, "nothing to see", best=[], worst=[]) is not None
