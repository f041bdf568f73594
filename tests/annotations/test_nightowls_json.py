"""NightOwls' JSON: images and objects, null fields, and every malformed file."""

import json

import pytest
from nightowls_files import CATEGORIES, annotation, image, write_annotations

from dcrl_jax.annotations import nightowls
from dcrl_jax.annotations.text import LIMIT_BYTES
from dcrl_jax.annotations.types import Annotation
from dcrl_jax.errors import InputError

BOX = (1, 2, 3, 4)


def read(tmp_path, images, annotations, **changes):
    return nightowls.read(write_annotations(tmp_path / "split.json", images, annotations, **changes))


def test_images_and_objects_are_read_as_annotated(tmp_path):
    boxes = [(10, 20, 30, 60), (-4, -8, 2000, 900), BOX, (0, 0, 400.5, 300)]
    labels = ["person", "bicycledriver", "motorbikedriver", "ignore"]
    entries = [annotation(7, box, category) for category, box in enumerate(boxes, start=1)]
    objects = [Annotation(label, box, 0, label == "ignore") for label, box in zip(labels, boxes, strict=True)]
    assert read(tmp_path, [image(31, "dawn"), image(7, "night", 640, 480), image(12, "day")], entries) == [
        (31, "58c31.png", 1024, 640, "dawn", []),
        (7, "58c7.png", 640, 480, "night", objects),
        (12, "58c12.png", 1024, 640, "day", []),
    ]


@pytest.mark.parametrize("value", [True, 1, False, 0, None])
def test_occluded_is_heavy_occlusion_and_null_is_none(tmp_path, value):
    (read_image,) = read(tmp_path, [image(5)], [annotation(5, BOX, occluded=value, ignore=value)])
    assert read_image.objects == [Annotation("person", BOX, 2 if value else 0, bool(value))]


@pytest.mark.parametrize(
    ("images", "annotations", "message"),
    [
        ([], [], "images: an empty list"),
        ([image(5), image(5)], [], "images, entry 2: id 5 is there twice"),
        ([image(5), image(6, file_name="58c5.png")], [], "images, entry 2: file_name 58c5.png is there twice"),
        ([image(5, file_name=" ")], [], "images, entry 1: has no file_name"),
        ([image(5, file_name="a\0")], [], "images, entry 1, file_name: expected `str` without line breaks"),
        ([image(5, width=0)], [], "images, entry 1, width: expected `int` >= 1"),
        ([image(5, "x" * 9999)], [], "images, entry 1, daytime: invalid enum value 'x{100,200}; expected"),
        ([image(5, "dusk")], [], "images, entry 1, daytime: invalid enum value 'dusk'"),
        ([image(5, id="5")], [], "images, entry 1, id: expected `int`, got `str`; expected NightOwls annotations"),
        ([image(5, file_name=None)], [], "images, entry 1, file_name: "),
        ([7], [], "images, entry 1: expected `object`, got `int`"),
        ([image(5)], [annotation(6, BOX)], "annotations, entry 1: image_id 6 is none of the images"),
        ([image(5)], [annotation(5, BOX, 5)], "annotations, entry 1, category_id: invalid enum value 5"),
        ([image(5)], [annotation(5, BOX, bbox=[1, 2, 3])], "annotations, entry 1, bbox: expected `array` of length 4"),
        ([image(5)], [annotation(5, BOX, bbox=[1, 2, 3, 1e9])], r"annotations, entry 1, bbox\[3\]: "),
        ([image(5)], [annotation(5, BOX, occluded=2)], "annotations, entry 1, occluded: "),
        ([image(5)], [annotation(5, BOX, ignore="yes")], "annotations, entry 1, ignore: "),
        ([image(5)], [annotation(5, BOX), None], "annotations, entry 2: expected `object`, got `null`"),
    ],
)
def test_malformed_entries_are_named_with_their_field(tmp_path, images, annotations, message):
    with pytest.raises(InputError, match=rf"split\.json: {message}"):
        read(tmp_path, images, annotations)


@pytest.mark.parametrize(
    "categories", [[{"id": 1, "name": "person"}], [], [*CATEGORIES, {"id": 5, "name": "dog"}], CATEGORIES * 2]
)
def test_other_categories_are_refused(tmp_path, categories):
    with pytest.raises(InputError, match=r"categories: .*; expected NightOwls' own, 1 pedestrian"):
        read(tmp_path, [image(5)], [], categories=categories)


def test_other_files_are_refused_but_not_large_ones(tmp_path):
    path = tmp_path / "split.json"
    path.write_text(json.dumps({"images": []}))
    with pytest.raises(InputError, match=r"json: object missing .*`annotations`; expected NightOwls annotations"):
        nightowls.read(path)
    content = write_annotations(path, [image(5)], [annotation(5, BOX)]).read_text()
    path.write_text(content[:-20])
    with pytest.raises(InputError, match=r"split\.json:1: not valid JSON, as NightOwls annotations are, or cut off"):
        nightowls.read(path)
    # Larger than small annotation files may be.
    path.write_text(content + " " * (LIMIT_BYTES + 1))
    assert nightowls.read(path)[0].objects == [Annotation("person", BOX)]
