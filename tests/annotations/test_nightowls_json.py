"""NightOwls' JSON: what it says of images and objects, null fields, and every way in which it is malformed."""

import json

import pytest
from nightowls_files import CATEGORIES, annotation, image, write_annotations

from dcrl_jax.annotations import nightowls
from dcrl_jax.annotations.text import LIMIT_BYTES
from dcrl_jax.annotations.types import Annotation
from dcrl_jax.errors import InputError


def read(tmp_path, images, annotations, **changes):
    return nightowls.read(write_annotations(tmp_path / "split.json", images, annotations, **changes))


def test_images_keep_their_numbers_hours_and_order(tmp_path):
    images = [image(31, "dawn"), image(7, "night", 640, 480), image(12, "day")]
    found = read(tmp_path, images, [])
    assert [one[:5] for one in found] == [
        (31, "58c31.png", 1024, 640, "dawn"),
        (7, "58c7.png", 640, 480, "night"),
        (12, "58c12.png", 1024, 640, "day"),
    ]
    assert [one.objects for one in found] == [[], [], []]


def test_objects_have_the_labels_of_their_categories_and_boxes_as_annotated(tmp_path):
    (one,) = read(
        tmp_path,
        [image(5)],
        [
            annotation(5, (10, 20, 30, 60)),
            annotation(5, (-4, -8, 2000, 900), 2),
            annotation(5, (1, 2, 3, 4), 3),
            annotation(5, (0, 0, 400, 300), 4),
        ],
    )
    assert one.objects == [
        Annotation("person", (10, 20, 30, 60), 0, False),
        Annotation("bicycledriver", (-4, -8, 2000, 900), 0, False),
        Annotation("motorbikedriver", (1, 2, 3, 4), 0, False),
        Annotation("ignore", (0, 0, 400, 300), 0, True),
    ]


@pytest.mark.parametrize(
    ("occluded", "level"), [(True, 2), (1, 2), (False, 0), (0, 0), (None, 0)], ids=["true", "1", "false", "0", "null"]
)
def test_occluded_is_heavily_occluded_and_null_is_visible(tmp_path, occluded, level):
    (one,) = read(tmp_path, [image(5)], [annotation(5, (1, 2, 3, 4), occluded=occluded)])
    assert one.objects[0].occlusion == level


@pytest.mark.parametrize(("ignore", "expected"), [(1, True), (0, False), (None, False)])
def test_people_may_be_marked_as_ignored(tmp_path, ignore, expected):
    (one,) = read(tmp_path, [image(5)], [annotation(5, (1, 2, 3, 4), ignore=ignore)])
    assert one.objects[0].ignore is expected


@pytest.mark.parametrize(
    ("images", "annotations", "message"),
    [
        ([], [], "images: an empty list"),
        ([image(5), image(5)], [], "images, entry 2: id 5 is there twice"),
        ([image(5, "dusk")], [], "images, entry 1 is .*; expected id, .* daytime, one of day, night, dawn"),
        ([image(5, id="5")], [], "images, entry 1 is "),
        ([image(5, id=True)], [], "images, entry 1 is "),
        ([image(5, file_name=None)], [], "images, entry 1 is "),
        ([image(5, width=None)], [], "images, entry 1 is "),
        ([7], [], "images, entry 1 is 7"),
        ([image(5)], [annotation(6, (1, 2, 3, 4))], "annotations, entry 1: image_id 6 is none of the images"),
        ([image(5)], [annotation(5, (1, 2, 3, 4), 5)], "annotations, entry 1 is .* category_id from 1 to 4"),
        ([image(5)], [annotation(5, (1, 2, 3, 4), bbox=[1, 2, 3])], "annotations, entry 1 is "),
        ([image(5)], [annotation(5, (1, 2, 3, 4), bbox=[1, 2, 3, 1e9])], "annotations, entry 1 is "),
        ([image(5)], [annotation(5, (1, 2, 3, 4), bbox=None)], "annotations, entry 1 is "),
        ([image(5)], [annotation(5, (1, 2, 3, 4), occluded=2)], "annotations, entry 1 is "),
        ([image(5)], [annotation(5, (1, 2, 3, 4), ignore="yes")], "annotations, entry 1 is "),
        ([image(5)], [annotation(5, (1, 2, 3, 4)), None], "annotations, entry 2 is None"),
    ],
)
def test_malformed_entries_are_named(tmp_path, images, annotations, message):
    with pytest.raises(InputError, match=message):
        read(tmp_path, images, annotations)


@pytest.mark.parametrize(
    "categories", [[{"id": 1, "name": "person"}], [], [*CATEGORIES, {"id": 5, "name": "dog"}], [None]]
)
def test_other_categories_are_refused(tmp_path, categories):
    with pytest.raises(InputError, match=r"categories: .*; expected NightOwls' own, 1 pedestrian"):
        read(tmp_path, [image(5)], [], categories=categories)


def test_what_is_no_such_file_is_refused(tmp_path):
    path = tmp_path / "split.json"
    with pytest.raises(InputError, match=r"split\.json: cannot be read"):
        nightowls.read(path)
    path.write_text(json.dumps({"images": []}))
    with pytest.raises(InputError, match="an object with the lists images, annotations, categories"):
        nightowls.read(path)
    write_annotations(path, [image(5)], [])
    path.write_text(path.read_text()[:-20])
    with pytest.raises(InputError, match=r"split\.json:1: not valid JSON, as NightOwls' annotations are, or cut off"):
        nightowls.read(path)


def test_file_as_large_as_that_of_a_training_split_is_read(tmp_path):
    path = write_annotations(tmp_path / "split.json", [image(5)], [annotation(5, (10, 20, 30, 60))])
    with path.open("a") as file:
        file.write(" " * (LIMIT_BYTES + 1))  # above the limit of other annotation files
    (one,) = nightowls.read(path)
    assert one.objects == [Annotation("person", (10, 20, 30, 60), 0, False)]
