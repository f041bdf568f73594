"""Other readings of results: each is found, and only where it explains far more than the plain one."""

import numpy as np
import pytest
from scoring_cases import ANYONE, make_truth

from dcrl_jax.evaluation.overlaps import ImageDetections, Results
from dcrl_jax.evaluation.readings import better_reading

SIZE = (640, 512)
IMAGE_IDS = [f"{index:02}" for index in range(40)]
NUMBERS, PIXELS = "list the names", "write boxes as x,y,width,height in pixels"


def people(index):
    """Return the boxes of two people, which no other image has."""
    return np.array([[9.0 * index + 20, 100, 25, 60], [9.0 * index + 200, 5.0 * index + 150, 40, 95]])


TRUTHS = [make_truth(image_id, *people(index)) for index, image_id in enumerate(IMAGE_IDS)]


def read(change=lambda boxes: boxes, image=lambda index: index, first_number=1):
    """Find the better reading of results that are right but for changed boxes and images; None leaves an image out."""
    results = {}
    for index in range(len(IMAGE_IDS)):
        number = image(index)
        if number is not None and 0 <= number < len(IMAGE_IDS):
            results[IMAGE_IDS[number]] = ImageDetections(change(people(index)), np.full(2, 0.9))
    return better_reading(TRUTHS, Results(results, first_number=first_number), IMAGE_IDS, ANYONE, SIZE)


def to_corners(boxes):
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def to_centres(boxes):
    return np.concatenate([boxes[:, :2] + boxes[:, 2:] / 2, boxes[:, 2:]], axis=1)


BOXES = {
    "corners x1,y1,x2,y2": to_corners,
    "centres with width,height": to_centres,
    "at half the size of the images": lambda boxes: boxes / 2,
    "at twice the size of the images": lambda boxes: boxes * 2,
    "relative to the size of the images": lambda boxes: boxes / (*SIZE, *SIZE),
    "centres with width,height, relative to the size of the images": lambda boxes: to_centres(boxes) / (*SIZE, *SIZE),
    "with x and y swapped": lambda boxes: boxes[:, [1, 0, 3, 2]],
    "corners x1,y1,x2,y2, with x and y swapped": lambda boxes: to_corners(boxes)[:, [1, 0, 3, 2]],
}


@pytest.mark.parametrize("name", BOXES)
def test_boxes_of_another_form_are_recognised(name):
    found = read(BOXES[name], first_number=None)
    assert found is not None
    assert (found.name, found.miss_rate) == (f"boxes are {name}", pytest.approx(0, abs=1e-6))
    assert found.remedy.startswith(PIXELS)


IMAGES = {
    "counted from 0, nothing in the first": (lambda index: index - 1, 1, "low"),
    "counted from 1 as JSON": (lambda index: index + 1, 0, "high"),
    "third left out": (lambda index: index - (index > 2) if index != 2 else None, 1, "low from about 3 on"),
    "one amid others left out": (
        lambda index: index - (index > 19) if index != 19 else None,
        1,
        "low from about 20 on",
    ),
    "one amid others twice": (lambda index: index + (index > 19), 0, "high from about 20 on"),
    "one late left out": (lambda index: index - (index > 34) if index != 34 else None, 1, "low from about 35 on"),
}


@pytest.mark.parametrize(("image", "first_number", "name"), IMAGES.values(), ids=IMAGES)
def test_shifted_numbers_are_recognised_also_from_the_middle_on(image, first_number, name):
    found = read(image=image, first_number=first_number)
    assert found is not None
    assert found.name == f"image numbers are one too {name}"
    assert found.remedy.startswith(NUMBERS if "from about" in name else "write numbers that are one ")
    # At most the image that is left out, or has no detections, is missed.
    assert found.miss_rate < 0.06
    # Names are not questioned.
    assert read(image=image, first_number=None) is None


def test_scores_that_are_low_for_people_are_recognised():
    alarms = np.array([[9.0 * step, 400, 25, 60] for step in range(20)])
    results = {
        image_id: ImageDetections(np.concatenate([people(index), alarms]), np.array([0.1] * 2 + [0.9] * len(alarms)))
        for index, image_id in enumerate(IMAGE_IDS)
    }
    found = better_reading(TRUTHS, Results(results, first_number=1), IMAGE_IDS, ANYONE, SIZE)
    assert found is not None
    assert (found.name, found.miss_rate) == ("scores are low for people", pytest.approx(0, abs=1e-6))


def test_right_or_hopeless_results_have_no_better_reading():
    assert read() is None
    assert read(lambda boxes: boxes + 300) is None
    assert read(image=lambda index: None) is None
    # Only a few images are wrong.
    assert read(image=lambda index: index if index else None) is None
