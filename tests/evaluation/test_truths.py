"""Annotations of prepared records: what is read and what is not."""

import cv2
import numpy as np

from dcrl_jax.evaluation.truths import read_truths


def objects(*rows):
    """Return rows of label, box, occlusion and ignore in the form of TFDS."""
    labels, boxes, occlusion, ignore = zip(*rows, strict=True) if rows else ((), (), (), ())
    return {
        "label": [label.encode() for label in labels],
        "box": np.asarray(boxes, np.float32).reshape(-1, 4),
        "occlusion": np.asarray(occlusion, np.int32),
        "ignore": np.asarray(ignore, bool),
    }


def record(image_id, condition, size=(6, 4), **features):
    width, height = size
    encoded = cv2.imencode(".png", np.zeros((height, width, 3), np.uint8))[1].tobytes()
    # Only the header, because images are not decoded.
    return {"image_id": image_id.encode(), "visible": encoded[:60], "condition": condition, **features}


def test_annotations_conditions_and_sizes_are_those_of_the_records():
    first = objects(("person", (1.5, 2, 3, 40), 1, False), ("people", (-5, 6, 7, 8), 0, True))
    source = [
        record("a", 0, objects=first),
        record("b", 1, (900, 500), objects=objects()),
        record("c", 2, objects=first),
    ]
    truths = read_truths(source)
    assert truths.sizes == [(6, 4), (900, 500), (6, 4)]
    day, night, dawn = truths.images
    assert (day.image_id, day.condition, day.labels) == ("a", "day", ["person", "people"])
    assert day.boxes.dtype == np.float64
    assert day.boxes.tolist() == [[1.5, 2, 3, 40], [-5, 6, 7, 8]]
    assert day.occlusion.tolist() == [1, 0]
    assert day.ignore.tolist() == [False, True]
    assert (night.image_id, night.condition, night.labels, night.boxes.shape) == ("b", "night", [], (0, 4))
    assert dawn.condition == "dawn"


def test_another_feature_of_the_record_is_read_by_its_name():
    paired = {
        "objects": objects(("person", (10, 20, 30, 40), 0, False)),
        "objects_lwir": objects(("unpaired", (12, 20, 30, 40), 2, True)),
    }
    source = [record("a", 0, **paired)]
    (visible,), (lwir,) = read_truths(source).images, read_truths(source, "objects_lwir").images
    assert (visible.labels, visible.boxes[0, 0], visible.occlusion[0], visible.ignore[0]) == (["person"], 10, 0, False)
    assert (lwir.labels, lwir.boxes[0, 0], lwir.occlusion[0], lwir.ignore[0]) == (["unpaired"], 12, 2, True)


def test_split_without_records_has_no_truths():
    assert read_truths([]) == ([], [])
