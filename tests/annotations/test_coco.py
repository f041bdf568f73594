"""COCO files of KAIST's annotations: what is read, what is left out and found, and what is refused."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dcrl_jax.annotations import coco
from dcrl_jax.annotations.kaist import frames
from dcrl_jax.annotations.kaist.formats import NO_SIZE, UNKNOWN_LABEL
from dcrl_jax.annotations.kaist.truths import improved_videos
from dcrl_jax.annotations.types import Annotation, Finding
from dcrl_jax.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
REAL = ROOT.parent / "shared" / "kaist" / "KAIST_annotation.json"

IMAGES = [{"id": 0, "im_name": "set06/V000/I00019"}, {"id": 1, "im_name": "set09/V000/I00039"}]
CATEGORIES = [{"id": 0, "name": "__ignore__"}, {"id": 1, "name": "person"}, {"id": 2, "name": "cyclist"}]
PERSON = {"image_id": 1, "category_id": 1, "bbox": [505, 212.5, 20, 50]}


def write(tmp_path, images=IMAGES, annotations=(), categories=CATEGORIES):
    path = tmp_path / "truth.json"
    path.write_text(json.dumps({"images": images, "annotations": list(annotations), "categories": categories}))
    return path


def read(tmp_path, *annotations, **lists):
    return coco.read(write(tmp_path, annotations=annotations, **lists))


def test_reading_needs_neither_numpy_nor_jax():
    code = "import sys; import dcrl_jax.annotations.coco; print({'numpy', 'jax'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_annotations_are_those_of_their_images_with_the_names_of_their_categories(tmp_path):
    truths = read(
        tmp_path,
        PERSON | {"occlusion": 2, "ignore": 1, "height": 50, "id": 7},
        {"image_id": 0, "category_id": 2, "bbox": [-3, 4, 5, 6], "occlusion": 1, "ignore": False},
        {"image_id": 1, "category_id": 0, "bbox": [1, 2, 3, 4]},
    )
    assert truths.by_id == {
        "set06/V000/I00019": [Annotation("cyclist", (-3, 4, 5, 6), 1, False)],
        "set09/V000/I00039": [
            Annotation("person", (505, 212.5, 20, 50), 2, True),
            Annotation("ignore", (1, 2, 3, 4), 0, False),
        ],
    }
    assert truths.findings == []
    assert truths.formats == {"COCO"}


def test_images_are_ordered_by_their_ids(tmp_path):
    images = [{"id": 1, "im_name": "set06/V000/I00019"}, {"id": 0, "im_name": "set09/V000/I00039"}]
    truths = read(tmp_path, {"image_id": 0, "category_id": 1, "bbox": [1, 2, 3, 4]}, images=images)
    assert list(truths.by_id.items()) == [
        ("set09/V000/I00039", [Annotation("person", (1, 2, 3, 4))]),
        ("set06/V000/I00019", []),
    ]


def test_file_without_annotations_has_empty_images_and_no_format(tmp_path):
    assert read(tmp_path) == ({"set06/V000/I00019": [], "set09/V000/I00039": []}, [], frozenset())


@pytest.mark.parametrize("field", ["im_name", "file_name"])
@pytest.mark.parametrize(
    "name",
    [
        "set06/V000/I00019",
        "set06_V000_I00019",
        "set06/V000/I00019.jpg",
        "test/images/set06_V000_I00019.png",
        "KAIST\\images\\set06\\V000\\I00019.jpeg",
        "/data/set00/set06/V000/I00019.xml",
    ],
)
def test_folders_ending_and_joints_of_a_name_are_no_matter(tmp_path, field, name):
    assert list(read(tmp_path, images=[{"id": 0, field: name}]).by_id) == ["set06/V000/I00019"]
    assert frames.parse_name(name) == "set06/V000/I00019"


def test_image_lists_take_the_same_names(tmp_path):
    (tmp_path / "list.txt").write_text("set09_V000_I00039.png\nimages/set06/V000/I00019.jpg\n")
    assert frames.read_list(tmp_path / "list.txt") == ["set06/V000/I00019", "set09/V000/I00039"]


def test_doubtful_people_have_one_label(tmp_path):
    categories = [{"id": 1, "name": "person?a"}]
    assert read(tmp_path, PERSON, categories=categories).by_id["set09/V000/I00039"][0].label == "person?"


def test_unknown_labels_are_kept_and_boxes_of_no_size_left_out_and_both_are_found(tmp_path):
    categories = [*CATEGORIES, {"id": 9, "name": "tram"}]
    empty = PERSON | {"bbox": [1, 2, 0, 4]}
    truths = read(tmp_path, PERSON | {"category_id": 9}, empty, categories=categories)
    assert truths.by_id["set09/V000/I00039"] == [Annotation("tram", (505, 212.5, 20, 50))]
    assert truths.findings == [
        Finding(UNKNOWN_LABEL, f"{tmp_path}/truth.json: annotations, entry 1: 'tram'"),
        Finding(NO_SIZE, f"{tmp_path}/truth.json: annotations, entry 2: person 1 2 0 4"),
    ]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "images: an empty list"),
        ([3], "images, entry 1 is 3; expected id"),
        ([{"id": 0}], "entry 1 is .*; expected id, a whole number, and im_name or file_name"),
        ([{"id": "0", "im_name": "set06/V000/I00019"}], "entry 1 is .*; expected id, a whole number"),
        ([{"id": True, "im_name": "set06/V000/I00019"}], "entry 1 is .*; expected id, a whole number"),
        ([{"id": 1, "im_name": "set06/V000/I00019"}], "entry 1: id 1 of 1 images; .* ids must be 0 to 0"),
        ([IMAGES[0], {"id": -1, "im_name": "set06/V000/I00039"}], "entry 2: id -1 of 2 images"),
        ([IMAGES[0], {"id": 0, "im_name": "set06/V000/I00039"}], "entry 2: id 0 is there twice"),
        ([IMAGES[0], {"id": 1, "im_name": "set06_V000_I00019"}], "entry 2: set06/V000/I00019 is entry 1 already"),
        ([{"id": 0, "im_name": "set06/V000/I09999"}], "entry 1: 'set06/V000/I09999' is no frame of KAIST"),
        ([{"id": 0, "im_name": "set06/V000/I0001"}], "entry 1: 'set06/V000/I0001' is no frame of KAIST"),
        ([{"id": 0, "im_name": "street.png"}], "entry 1: 'street.png' is no frame of KAIST"),
    ],
)
def test_malformed_images_are_refused(tmp_path, images, message):
    with pytest.raises(InputError, match=rf"truth\.json: .*{message}"):
        read(tmp_path, images=images)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 2}, "image_id 2 is none of the images; expected 0 to 1"),
        ({"image_id": -1}, "image_id -1 is none of the images"),
        ({"image_id": 0.0}, "expected image_id, category_id and bbox"),
        ({"image_id": None}, "expected image_id, category_id and bbox"),
        ({"category_id": 3}, r"category_id 3 is none of the categories; expected one of \[0, 1, 2\]"),
        ({"category_id": [1]}, "expected image_id, category_id and bbox"),
        ({"bbox": None}, "expected image_id, category_id and bbox"),
        ({"bbox": [1, 2, 3]}, "expected image_id, category_id and bbox"),
        ({"bbox": [1, 2, 3, "4"]}, "expected image_id, category_id and bbox"),
        ({"bbox": [1, 2, 3, True]}, "expected image_id, category_id and bbox"),
        ({"bbox": [1, 2, 3, float("nan")]}, "expected image_id, category_id and bbox"),
        ({"bbox": [1, 2, 3, float("inf")]}, "expected image_id, category_id and bbox"),
        ({"occlusion": 3}, "occlusion 3 and ignore 0; expected 0, 1 or 2, and 0 or 1"),
        ({"occlusion": "1"}, "occlusion '1' and ignore 0"),
        ({"ignore": 2}, "occlusion 0 and ignore 2"),
        ({"ignore": None}, "occlusion 0 and ignore None"),
    ],
)
def test_malformed_annotations_are_refused(tmp_path, change, message):
    with pytest.raises(InputError, match=rf"truth\.json: annotations, entry 2.*{message}"):
        read(tmp_path, PERSON, PERSON | change)


def test_annotation_that_is_no_object_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"annotations, entry 1 is \[1\]; expected image_id"):
        read(tmp_path, [1])


@pytest.mark.parametrize("second", [{"id": 1, "name": "people"}, {"id": 2}, {"name": "people"}, "people"])
def test_malformed_categories_are_refused(tmp_path, second):
    with pytest.raises(InputError, match=r"categories, entry 2 is .*; expected id, a whole number that no other"):
        read(tmp_path, categories=[CATEGORIES[1], second])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{\n"images": [', r"truth\.json:2: not valid JSON"),
        ("[]", "expected COCO annotations, an object with the lists images, annotations, categories"),
        ('{"images": [], "annotations": {}, "categories": []}', "an object with the lists"),
        ("[" * 100_000, "not readable as JSON"),
    ],
)
def test_file_that_is_no_coco_file_is_refused(tmp_path, text, message):
    (tmp_path / "truth.json").write_text(text)
    with pytest.raises(InputError, match=message):
        coco.read(tmp_path / "truth.json")


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"truth\.json: cannot be read \(No such file"):
        coco.read(tmp_path / "truth.json")


def test_published_file_holds_the_improved_annotations_of_the_test_split():
    if not REAL.is_file():
        pytest.skip(f"needs {REAL}")
    truths = coco.read(REAL)
    assert list(truths.by_id) == frames.split_frames("test")
    assert sum(map(len, truths.by_id.values())) == 4254
    assert improved_videos(truths.by_id) == (16, 16)
    assert truths.findings == []
