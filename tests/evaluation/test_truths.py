"""Annotations of prepared records: what is read and what is not."""

import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds

from configs import teacher
from dcrl_jax.annotations.types import Annotation
from dcrl_jax.data import sources
from dcrl_jax.errors import InputError
from dcrl_jax.evaluation.truths import is_prepared, read_prepared, read_truths, to_truths


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
    encoded = cv2.imencode(".png", np.zeros((*size[::-1], 3), np.uint8))[1].tobytes()
    # Only the header, because images are not decoded.
    return {"image_id": image_id.encode(), "visible": encoded[:60], "condition": condition, **features}


def test_annotations_conditions_and_sizes_are_those_of_the_records():
    pair = objects(("person", (1.5, 2, 3, 40), 1, False), ("people", (-5, 6, 7, 8), 0, True))
    nobody = record("b", 1, (900, 500), objects=objects())
    truths = read_truths([record("a", 0, objects=pair), nobody, record("c", 2, objects=pair)])
    assert truths.sizes == [(6, 4), (900, 500), (6, 4)]
    day, night, dawn = truths.images
    assert (day.image_id, day.condition, day.labels) == ("a", "day", ["person", "people"])
    assert (day.boxes.dtype, day.boxes.tolist()) == (np.float64, [[1.5, 2, 3, 40], [-5, 6, 7, 8]])
    assert (day.occlusion.tolist(), day.ignore.tolist()) == ([1, 0], [False, True])
    assert (night.image_id, night.condition, night.labels, night.boxes.shape) == ("b", "night", [], (0, 4))
    assert dawn.condition == "dawn"
    assert truths.warnings == []
    assert read_truths([]) == ([], [], [])


def test_equal_objects_of_a_record_count_once_with_a_warning():
    person, crowd = ("person", (1.1, 2, 3, 40), 1, False), ("person", (1.1, 2, 3, 40), 1, True)
    truths = read_truths([record("a", 0, objects=objects(crowd, person, person, crowd, person))])
    assert [truth.ignore.tolist() for truth in truths.images] == [[True, False]]
    assert truths.images[0].boxes.dtype == np.float64
    assert truths.warnings == ["annotation twice, counted once: 3"]


def test_prepared_pairs_have_two_sets_of_annotations(monkeypatch, tmp_path):
    visible = objects(*[("person", (10, 20, 30, 40), 0, False)] * 2)
    lwir = objects(("unpaired", (12, 20, 30, 40), 2, True))
    metadata = {"annotations": {"test": "paired"}, "warnings": ["in haste"]}
    features = dict.fromkeys(("visible", "lwir", "objects", "objects_lwir"))
    info = SimpleNamespace(features=features, metadata=metadata, splits=["test"])
    source = {"test": [record("a", 0, objects=visible, objects_lwir=lwir)]}
    builder = SimpleNamespace(info=info, as_data_source=lambda split, decoders: source[split])
    monkeypatch.setattr(tfds, "builder_from_directory", {tmp_path: builder}.get)
    images, name, warnings = read_prepared(tmp_path, "test")
    assert list(images) == ["objects", "objects_lwir"]
    assert [truth.labels for (truth,) in images.values()] == [["person"], ["unpaired"]]
    (truth,) = images["objects_lwir"]
    assert (truth.boxes[0, 0], truth.occlusion[0], truth.ignore[0]) == (12, 2, True)
    assert (name, warnings) == ("paired", ["in haste", "objects: annotation twice, counted once: 1"])


def test_prepared_data_set_is_read_or_refused_if_damaged(tmp_path):
    config = teacher.get_config("synthetic")
    config.data.data_dir = str(tmp_path)
    config.data.options = {"height_px": 64, "width_px": 80, "train": 1, "validation": 1, "test": 2}
    folder = sources.prepare(config.data).data_path
    assert is_prepared(folder)
    images, name, warnings = read_prepared(folder, "test")
    assert {feature: len(truths) for feature, truths in images.items()} == {"objects": 2}
    assert (name, warnings) == (None, [])
    with pytest.raises(InputError, match="split 'night' cannot be opened"):
        read_prepared(folder, "night")
    features = (folder / "features.json").read_text()
    for key in ("pythonClassName", "python_class_name", "\\u0070ythonClassName"):
        text = features.replace('"pythonClassName": "tensorflow_datasets.core', f'"{key}": "antigravity.core')
        (folder / "features.json").write_text(text)
        with pytest.raises(InputError, match=r"features\.json names antigravity\.core.*, which is not of TFDS"):
            read_prepared(folder, "test")
    assert "antigravity" not in sys.modules
    (folder / "features.json").write_text(features)
    for file in folder.glob("*array_record*"):
        file.write_bytes(b"")
    for _ in range(2):
        with pytest.raises(InputError, match=f"^{folder}: not readable as a prepared data set"):
            read_prepared(folder, "test")
        (folder / "dataset_info.json").write_text("{")


def test_people_without_a_size_do_not_count_and_are_noted():
    person = Annotation("person", (1, 2, 3, 40))
    flat, area = person._replace(box=(1, 2, 0, 40)), person._replace(box=(1, 2, 0, 40), ignore=True)
    (truth,), notes = to_truths([("a", "day", [person, flat, area, person])])
    assert truth.boxes.tolist() == [[1, 2, 3, 40], [1, 2, 0, 40]]
    assert truth.ignore.tolist() == [False, True]
    assert notes == ["box of no size: 1", "annotation twice, counted once: 1"]
