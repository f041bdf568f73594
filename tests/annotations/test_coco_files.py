"""COCO files of any data set: what is read, what is a finding, what is refused, and which JSON is COCO."""

import json

import pytest

from dcrl_jax.annotations import coco_files
from dcrl_jax.annotations.coco_files import ID_TWICE, OTHER_OCCLUSION, CocoImage
from dcrl_jax.annotations.label_files import Labels
from dcrl_jax.annotations.types import NO_SIZE, REPEATED, Annotation, Finding
from dcrl_jax.errors import InputError

IMAGES = [{"id": 700, "file_name": "val\\Straße 1.jpg", "width": 640, "height": 512}, {"id": 3, "file_name": "2.jpg"}]
CATEGORIES = [{"id": 90, "name": "person", "supercategory": "x"}, {"id": 2, "name": " traffic light"}]
PERSON = {"id": 1, "image_id": 3, "category_id": 90, "bbox": [505, 212.5, 20, 50], "area": 1000, "iscrowd": 0}
BOX = (505, 212.5, 20, 50)


def write(tmp_path, *annotations, images=IMAGES, categories=CATEGORIES):
    path = tmp_path / "instances.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def read(tmp_path, *annotations, **lists):
    return coco_files.read(write(tmp_path, *annotations, **lists))


def test_images_have_the_order_of_the_file_and_their_categories_as_labels(tmp_path):
    light = {"image_id": 700, "category_id": 2, "bbox": [-3, 4, 5, 6], "segmentation": [[1, 2, 3, 4, 5, 6]], "id": 2}
    lights = [Annotation("traffic light", (-3, 4, 5, 6))]
    people = [Annotation("person", BOX), Annotation("person", BOX, 0, True)]
    assert read(tmp_path, PERSON, light, PERSON | {"id": 3, "iscrowd": 1}) == [
        CocoImage("val/Straße 1.jpg", (640, 512), Labels(lights, [], "COCO"), 700),
        CocoImage("2.jpg", None, Labels(people, [], "COCO"), 3),
    ]
    assert [image.labels for image in read(tmp_path)] == [Labels([], [], "COCO")] * 2


@pytest.mark.parametrize("number", [0, -5, 2**60, 1.5, "000001", ""])
def test_ids_may_be_any_number_or_text(tmp_path, number):
    images = [{"id": 7, "im_name": "a"}, {"id": number, "file_name": "b", "width": "640", "height": 480.0}]
    categories = [{"id": number, "name": "person"}, {"id": 7, "name": "car"}]
    _, image = read(
        tmp_path, PERSON | {"image_id": number, "category_id": number}, images=images, categories=categories
    )
    assert image == CocoImage("b", (640, 480), Labels([Annotation("person", BOX)], [], "COCO"), number)
    assert coco_files.read_categories(tmp_path / "instances.json") == {number: "person", 7: "car"}


@pytest.mark.parametrize(
    ("fields", "occlusion", "ignore"),
    [
        ({"iscrowd": True}, 0, True),
        ({"iscrowd": 0, "ignore": 1.0}, 0, True),
        ({"attributes": {"ignore": True, "occluded": False}}, 0, True),
        ({"attributes": {"occluded": True, "id": 7}}, 1, False),
        ({"truncated": 0.3, "ignore": None}, 1, False),
        ({"occlusion": 2, "occluded": 1}, 2, False),
        ({"attributes": {"occlusion": 2}}, 2, False),
        ({"occlusion": 0, "truncated": 1}, 0, False),
        ({"occluded": "no_(fully_visible)", "attributes": ["tall"]}, 0, False),
    ],
)
def test_flags_tell_occlusion_and_what_is_ignored(tmp_path, fields, occlusion, ignore):
    _, image = read(tmp_path, PERSON | fields)
    assert image.labels == Labels([Annotation("person", BOX, occlusion, ignore)], [], "COCO")


def test_what_is_left_out_or_doubtful_is_a_finding(tmp_path):
    other = PERSON | {"bbox": [1, 2, 3, 4], "occlusion": 0.5}
    level = PERSON | {"id": 4, "bbox": [1, 2, 3, 5], "occluded": 2}
    flag = PERSON | {"id": 5, "bbox": [1, 2, 3, 6], "occlusion": True}
    _, image = read(tmp_path, PERSON, PERSON | {"id": 2}, other, PERSON | {"id": 3, "bbox": [1, 2, 0, 4]}, level, flag)
    path = tmp_path / "instances.json"
    boxes = [BOX, (1, 2, 3, 4), (1, 2, 3, 5), (1, 2, 3, 6)]
    assert image.labels.annotations == [Annotation("person", box) for box in boxes]
    assert image.labels.findings == [
        Finding(OTHER_OCCLUSION, f"{path}: annotations, entry 3: person 1 2 3 4: 0.5"),
        Finding(ID_TWICE, f"{path}: annotations, entry 3: person 1 2 3 4: id 1, of another one too"),
        Finding(OTHER_OCCLUSION, f"{path}: annotations, entry 5: person 1 2 3 5: 2 of 1"),
        Finding(OTHER_OCCLUSION, f"{path}: annotations, entry 6: person 1 2 3 6: True"),
        Finding(NO_SIZE, f"{path}: 2.jpg: person 1 2 0 4"),
        Finding(REPEATED, f"{path}: 2.jpg: person 505 212.5 20 50, 2 times"),
    ]


OTHER = IMAGES[1] | {"id": 4}


@pytest.mark.parametrize(
    ("list_name", "second", "message"),
    [
        ("images", OTHER | {"id": 700, "file_name": "c"}, ": id 700 is entry 1's; keep one"),
        ("images", OTHER | {"file_name": "val/Straße 1.jpg"}, ": 'val/Straße 1.jpg' is entry 1 already; keep one"),
        ("images", {"id": 4}, ": has no file_name"),
        ("images", OTHER | {"file_name": " "}, ": has no file_name"),
        ("images", OTHER | {"file_name": "a\0.jpg"}, ", file_name: expected `str` without line breaks and control"),
        ("images", OTHER | {"file_name": "a\n"}, ", file_name: expected `str` without line breaks"),
        ("images", OTHER | {"id": "a\u2028"}, ", id: expected `str` without line breaks"),
        ("images", OTHER | {"width": "wide"}, ", width: 'wide'; expected a whole number of pixels"),
        ("images", OTHER | {"height": -5}, ", height: -5; expected a whole number of pixels"),
        ("images", OTHER | {"height": 5.5}, r", height: 5\.5; expected a whole number of pixels"),
        ("images", {"file_name": "c"}, ": object missing required field `id`"),
        ("images", OTHER | {"id": None}, ", id: expected `int | float | str`, got `null`"),
        ("annotations", PERSON | {"image_id": "3"}, ": image_id '3' is none of the images"),
        ("annotations", PERSON | {"category_id": 1}, ": category_id 1 is none of the categories, 90 person, 2 traffic"),
        ("annotations", PERSON | {"bbox": None}, r": has no bbox; expected \[x, y, w, h\]"),
        (
            "annotations",
            {"image_id": 3, "category_id": 90, "segmentation": [[1, 2, 3, 4, 5, 6]]},
            ": has a segmentation but no bbox",
        ),
        ("annotations", PERSON | {"bbox": []}, ", bbox: expected `array` of length 4"),
        ("annotations", PERSON | {"bbox": [1, 2, 3, 1e7]}, r", bbox\[3\]: expected `float` <= 1000000.0"),
        ("annotations", PERSON | {"iscrowd": 2}, ", iscrowd: 2; expected 0 or 1"),
        ("annotations", PERSON | {"attributes": {"ignore": 3}}, ", attributes, ignore: 3; expected 0 or 1"),
        ("annotations", {"image_id": 3, "caption": "A man."}, ": object missing required field `category_id`"),
        ("categories", {"id": 90, "name": "car"}, ": id 90 is there twice; keep one of them"),
        ("categories", {"id": 1, "name": " "}, ": has no name"),
        ("annotations", PERSON | {"image_id": "a" * 9999}, ": image_id 'a{39} is none of the images$"),
        ("categories", {"id": 1, "name": "car\x1b"}, ", name: expected `str` without line breaks and control"),
        ("categories", {"id": 1, "name": 1}, ", name: expected `str`, got `int`"),
    ],
)
def test_malformed_entries_are_refused(tmp_path, list_name, second, message):
    lists = {"images": IMAGES[:1], "annotations": [PERSON], "categories": CATEGORIES[:1]}
    if list_name != "images":
        lists["images"] = IMAGES
    if list_name == "annotations":
        lists["categories"] = CATEGORIES
    lists[list_name] = [lists[list_name][0], second]
    path = write(tmp_path, *lists.pop("annotations"), **lists)
    assert coco_files.is_coco(path)
    with pytest.raises(InputError, match=rf"instances\.json: {list_name}, entry 2{message}"):
        coco_files.read(path)


@pytest.mark.parametrize(
    ("content", "is_coco", "message"),
    [
        (b'{"images": [], "annotations": [], "categories": []}', True, ": images: an empty list"),
        (b'\xef\xbb\xbf{"images": [{"id": 1, "file_name": "a"}], "annotations": []}', True, ": .* field `categories`"),
        (
            b'{"images": [{"id": 1, "file_name": "a"},\n',
            True,
            ":2: not valid JSON, as COCO annotations are, or cut off",
        ),
        (b'{"annotations":\n[\n{"bbox": [NaN', True, ":3: not valid JSON"),
        (b'{"images": [{"id": 1}], "categories": []}', False, ": object missing required field `annotations`"),
        (b'[{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 1}]', False, ": expected `object`"),
        (b'{"shapes": [], "imagePath": "a.jpg"}', False, ": object missing required field `images`"),
        (b'{"images": {}, "annotations": {}}', False, ": images: expected `array`, got `object`"),
        (b'{"a": ' + b"[" * 100_000, False, ":1: not valid JSON"),
        (b"\xff\xfe{\x00}\x00", False, ":1: not valid JSON"),
        (b"", False, ":1: not valid JSON"),
    ],
    ids=[
        "empty lists",
        "mark",
        "cut off",
        "NaN",
        "only images",
        "results",
        "labelme",
        "objects",
        "deep",
        "UTF-16",
        "empty",
    ],
)
def test_only_coco_is_coco_and_other_files_are_refused(tmp_path, content, is_coco, message):
    path = tmp_path / "instances.json"
    path.write_bytes(content)
    assert coco_files.is_coco(path) == is_coco
    with pytest.raises(InputError, match=rf"instances\.json{message}"):
        coco_files.read(path)


def test_unreadable_file_is_refused(tmp_path):
    for function in (coco_files.is_coco, coco_files.read):
        with pytest.raises(InputError, match=r"gone\.json: cannot be read \(No such file"):
            function(tmp_path / "gone.json")
