"""COCO files of KAIST's annotations: what is read, what is left out with a finding, and what is refused."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dcrl_jax.annotations import coco
from dcrl_jax.annotations.coco import ID_TWICE, OTHER_SIZE
from dcrl_jax.annotations.kaist.formats import NO_SIZE, UNKNOWN_LABEL
from dcrl_jax.annotations.types import REPEATED, Annotation, Finding
from dcrl_jax.errors import InputError

ROOT = Path(__file__).resolve().parents[2]

IMAGE = {"id": 0, "im_name": "set06/V000/I00019"}
OTHER = {"id": 1, "im_name": "set09/V000/I00039"}
CATEGORIES = [{"id": 0, "name": "__ignore__"}, {"id": 1, "name": "person"}, {"id": 2, "name": "cyclist"}]
CATEGORIES.append({"id": 3, "name": "person?a"})
PERSON = {"image_id": 1, "category_id": 1, "bbox": [505, 212.5, 20, 50]}


def read(tmp_path, *annotations, images=(IMAGE, OTHER), categories=CATEGORIES):
    path = tmp_path / "truth.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return coco.read(path)


def test_reading_needs_neither_numpy_nor_jax():
    code = "import sys; import dcrl_jax.annotations.coco; print({'numpy', 'jax'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_annotations_have_the_names_of_their_categories(tmp_path):
    truths = read(
        tmp_path,
        PERSON | {"occlusion": 2, "ignore": 1, "height": 50, "id": 7},
        {"image_id": 0, "category_id": 2, "bbox": [-3, 4, 5, 6], "occlusion": 1, "ignore": False},
        {"image_id": 1, "category_id": 0, "bbox": [1, 2, 3, 4]},
        PERSON | {"category_id": 3},
        images=[OTHER, IMAGE],
    )
    person = Annotation("person", (505, 212.5, 20, 50))
    assert list(truths.by_id) == ["set06/V000/I00019", "set09/V000/I00039"]
    assert list(truths.by_id.values()) == [
        [Annotation("cyclist", (-3, 4, 5, 6), 1, False)],
        [
            person._replace(occlusion=2, ignore=True),
            Annotation("ignore", (1, 2, 3, 4)),
            person._replace(label="person?"),
        ],
    ]
    assert (truths.findings, truths.formats) == ([], {"COCO"})
    assert read(tmp_path) == ({"set06/V000/I00019": [], "set09/V000/I00039": []}, [], frozenset())


NAMES = """set06/V000/I00019 set06_V000_I00019 set06/V000/I00019.jpg test/images/set06_V000_I00019.png
KAIST\\images\\set06\\V000\\I00019.jpeg /data/set00/set06/V000/I00019.xml set06_V000_I00019_visible.png"""


@pytest.mark.parametrize("name", NAMES.split())
def test_names_may_have_folders_and_a_suffix(tmp_path, name):
    for field in ("im_name", "file_name"):
        assert list(read(tmp_path, images=[{"id": 0, field: name}]).by_id) == ["set06/V000/I00019"]


@pytest.mark.parametrize(
    ("fields", "ignore"),
    [
        ({"iscrowd": 1}, True),
        ({"iscrowd": True, "ignore": 0}, True),
        ({"iscrowd": 0, "ignore": 1.0}, True),
        ({"attributes": {"ignore": True}}, True),
        ({"attributes": {"iscrowd": 1.0}, "ignore": 0}, True),
        ({"iscrowd": 0.0, "ignore": False, "attributes": {"ignore": None}}, False),
        ({"iscrowd": None, "attributes": None}, False),
    ],
)
def test_crowds_and_ignored_objects_are_ignored_however_they_are_marked(tmp_path, fields, ignore):
    truths = read(tmp_path, PERSON | fields)
    assert truths.by_id["set09/V000/I00039"] == [Annotation("person", (505, 212.5, 20, 50), 0, ignore)]


def test_fields_may_be_attributes_and_categories_differently_spelt(tmp_path):
    names = (" Person", "PEOPLE", "person?B", "__Ignore__", "crowd")
    categories = [{"id": number, "name": name, "supercategory": "person"} for number, name in enumerate(names)]
    rows = [PERSON | {"category_id": number, "attributes": {"occlusion": 1}} for number in range(4)]
    truths = read(tmp_path, *rows, PERSON | {"category_id": 4, "iscrowd": 1}, categories=categories)
    found = [(one.label, one.occlusion, one.ignore) for one in truths.by_id["set09/V000/I00039"]]
    # An ignored region of an unknown category is still one to ignore.
    expected = [("person", 1, False), ("people", 1, False), ("person?", 1, False), ("ignore", 1, False)]
    assert found == [*expected, ("ignore", 0, True)]
    assert truths.findings == []


def test_equal_annotations_count_once_and_doubtful_entries_are_found(tmp_path):
    other = PERSON | {"bbox": [1, 2, 3, 4], "id": 7}
    images = [IMAGE | {"width": 640, "height": 512}, OTHER | {"width": 320, "height": 256}]
    truths = read(tmp_path, PERSON | {"id": 7}, PERSON | {"id": 8}, PERSON | {"ignore": 1}, other, images=images)
    boxes = [(505, 212.5, 20, 50), (505, 212.5, 20, 50), (1, 2, 3, 4)]
    assert [(one.box, one.ignore) for one in truths.by_id["set09/V000/I00039"]] == list(
        zip(boxes, [False, True, False], strict=True)
    )
    assert truths.findings == [
        Finding(OTHER_SIZE, f"{tmp_path}/truth.json: images, entry 2: 320 x 256 pixels"),
        Finding(REPEATED, f"{tmp_path}/truth.json: annotations, entry 2: person 505 212.5 20 50"),
        Finding(ID_TWICE, f"{tmp_path}/truth.json: annotations, entry 4: person 1 2 3 4: id 7, of another one too"),
    ]


def test_unknown_labels_are_kept_and_boxes_of_no_size_left_out(tmp_path):
    categories = [*CATEGORIES, {"id": 9, "name": "tram"}]
    truths = read(tmp_path, PERSON | {"category_id": 9}, PERSON | {"bbox": [1, 2, 0, 4]}, categories=categories)
    assert truths.by_id["set09/V000/I00039"] == [Annotation("tram", (505, 212.5, 20, 50))]
    assert truths.findings == [
        Finding(UNKNOWN_LABEL, f"{tmp_path}/truth.json: annotations, entry 1: 'tram'"),
        Finding(NO_SIZE, f"{tmp_path}/truth.json: annotations, entry 2: person 1 2 0 4"),
    ]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "an empty list"),
        ([3], "entry 1: expected `object`, got `int`; expected COCO annotations"),
        ([{"id": 0}], "entry 1: has neither im_name nor file_name"),
        ([{"im_name": "set06/V000/I00019"}], "entry 1: object missing required field `id`"),
        ([IMAGE | {"id": "0"}], "entry 1, id: expected `int`, got `str`"),
        ([OTHER], "entry 1: id 1 of 1 images; .* ids must be 0 to 0"),
        ([IMAGE, OTHER | {"id": 0}], "entry 2: id 0 is there twice"),
        ([IMAGE, IMAGE | {"id": 1}], "entry 2: set06/V000/I00019 is entry 1 already"),
        ([IMAGE | {"im_name": "set06/V000/I09999"}], "entry 1: 'set06/V000/I09999' is no frame of KAIST"),
    ],
)
def test_malformed_images_are_refused(tmp_path, images, message):
    with pytest.raises(InputError, match=rf"truth\.json: images[,:] {message}"):
        read(tmp_path, images=images)


@pytest.mark.parametrize(
    ("list_name", "second", "message"),
    [
        ("annotations", PERSON | {"image_id": 2}, ": image_id 2 is none of the images; expected 0 to 1"),
        ("annotations", PERSON | {"image_id": 0.0}, ", image_id: expected `int`, got `float`"),
        ("annotations", PERSON | {"category_id": 4}, r": category_id 4 is none of .*; expected one of \[0, 1, 2, 3\]"),
        ("annotations", PERSON | {"bbox": [1, 2, 3]}, ", bbox: expected `array` of length 4"),
        ("annotations", PERSON | {"bbox": [1, 2, 3, "4"]}, r", bbox\[3\]: expected `float`, got `str`"),
        ("annotations", PERSON | {"bbox": [1, 2, 3, 1e7]}, r", bbox\[3\]: expected `float` <= 1000000.0"),
        ("annotations", PERSON | {"occlusion": 3}, ", occlusion: invalid enum value 3"),
        ("annotations", PERSON | {"ignore": 2}, ", ignore: 2; expected 0 or 1"),
        ("annotations", PERSON | {"iscrowd": 0.5}, ", iscrowd: 0.5; expected 0 or 1"),
        ("annotations", PERSON | {"iscrowd": "1"}, ", iscrowd: expected `bool | float | null`, got `str`"),
        ("annotations", PERSON | {"attributes": {"ignore": 3}}, ", attributes, ignore: 3; expected 0 or 1"),
        ("annotations", {"image_id": 1, "category_id": 1, "iscrowd": 1}, ": object missing required field `bbox`"),
        ("categories", {"id": 1, "name": "people"}, ": id 1 is there twice"),
        ("categories", {"id": 2}, ": object missing required field `name`"),
    ],
)
def test_malformed_annotations_and_categories_are_refused(tmp_path, list_name, second, message):
    lists = {"annotations": [PERSON], "categories": [CATEGORIES[1]]}
    lists[list_name].append(second)
    categories = lists["categories"] if list_name == "categories" else CATEGORIES
    with pytest.raises(InputError, match=rf"truth\.json: {list_name}, entry 2{message}"):
        read(tmp_path, *lists["annotations"], categories=categories)


# A brace in a text ends no object.
TWICE = b"""{"images": [{"id": 0, "im_name": "set06_V000_I00019", "other": {"a": "\\"}"}}],
"annotations": [{"image_id": 0, "category_id": 1, "bbox": [1, 2, 3, 4],
"bbox": [1, 2, 3, 4]}], "categories": [{"id": 1, "name": "person"}]}"""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r": cannot be read \(No such file"),
        (b'{\n"images": [', ":2: not valid JSON, as COCO annotations are, or cut off: Input data was truncated"),
        (b'{"images": [],\n"annotations": [{"image_id": NaN', ":2: not valid JSON"),
        (b"[]", ": expected `object`, got `array`; expected COCO annotations"),
        (b'{"images": [], "annotations": {}, "categories": []}', ": annotations: expected `array`, got `object`"),
        (b'{"other": ' + b"[" * 100_000, ":1: not valid JSON, .*recursion"),
        (b"\xff\xfe\x00", r":1: not valid JSON, .*: not UTF-8 \(byte 0\)"),
        (b'{"images": [],\n"other": "\xc3("}', r":2: not valid JSON, .*: not UTF-8 \(byte 25\)"),
        (TWICE, r":3: not valid JSON, .*: 'bbox' is there 2 times in the object that ends here \(byte 171\)"),
        (
            TWICE.replace(b'"bbox": [1, 2, 3, 4],\n"bbox"', b'"area": 1, "\\u0061rea": ' + b"9" * 5000 + b', "bbox"'),
            ":2: .*: 'area' is there 2 times",
        ),
    ],
    ids=["absent", "cut off", "NaN", "a list", "an object for a list", "nested", "binary", "byte", "key", "same key"],
)
def test_other_files_are_refused(tmp_path, content, message):
    path = tmp_path / "truth.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=rf"truth\.json{message}"):
        coco.read(path)
    # A byte order mark is skipped.
    read(tmp_path)
    path.write_text("\ufeff" + path.read_text(), encoding="utf-8")
    assert len(coco.read(path).by_id) == 2
