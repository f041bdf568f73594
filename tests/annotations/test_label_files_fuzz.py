"""Readers of anybody's labels on damaged files: labels that training can use, or one message that names the place."""

import json
import math
import re
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from dcrl_jax.annotations import class_names, coco_files, label_files
from dcrl_jax.annotations.types import NO_SIZE, OUTSIDE, Annotation, Finding
from dcrl_jax.errors import InputError

FUZZ = settings(max_examples=300, derandomize=True, deadline=None, database=None)  # the same inputs in every run
# Pieces of all formats, and similar ones.
WORDS = """0 1 2 3 -1 0.5 0.25 -0.0 640 +7 .5 1e-320 1e6 1000001 1e400 nan -inf True None null 1_0 0x10 1,5
\u0661 \uff11 person ignore car \u4eba names: nc: % <!-- --> &e; &amp; &#0; < > & [ ] { } , : " ' - # *
!!python/object: images id bbox"""
TAGS = """annotation Annotation object name bndbox size width difficult truncated occluded occlusion
label x w xmin xmax b"""
PIECES = (
    *(*WORDS.split(), "", "9" * 400, "1" + "0" * 5000, "[" * 2000, "- " * 2000),
    *("\n", "\r\n", "\r", " ", "\t", "\x00", "\x1c", "\u00a0", "\u2028", "\ufeff"),
    *("0 0.5 0.5 0.1 0.2\n", "97 101 18 52 1 0 0 0 0 1 0\n", "person 1 2 3 4 0 0 0 0 0 0 0\n", "% bbGt version=3\n"),
    *(mark.format(tag) for tag in TAGS.split() for mark in ("<{}>", "</{}>", "<{}/>")),
)
VALID_LABELS = (
    "0 0.5 0.5 0.1 0.2\n1 0.25 0.5 0.1 0.2\r\n0 1.1 0.5 0.4 0.2\n",
    "1 0.1 0.1 0.3 0.1 0.3 0.4\n0 0 0 1 0 1 1 0 1 0 0\n",
    "97 101 18 52 1 0 0 0 0 1 0\n121  105 15 46 0 0 0 0 0 2 0\n",
    "person 10 20 31 62\nignore 0 0 640 512\n",
    "% bbGt version=3\nPerson 505 212 20 50 1 0 0 0 0 0 0\ncar 3 4 50 60 2 5 6 7 8 1 0\n",
    "<Annotation><filename>1.jpg</filename><size><width>640</width><height>512</height></size><object><name>person</name>"
    "<truncated>1</truncated><difficult>0</difficult><bndbox><xmin>505</xmin><ymin>212</ymin><xmax>525</xmax>"
    "<ymax>262.5</ymax></bndbox></object><object><name>people</name><bndbox><x>1</x><y>2</y><w>3</w><h>4</h></bndbox>"
    "<occlusion>1</occlusion><label>lwir</label></object></Annotation>",
)
VALID_COCO = json.dumps(
    {
        "images": [{"id": 7, "file_name": "a.jpg", "width": 640, "height": 512}, {"id": "b", "im_name": "b"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 1, "bbox": [1, 2, 3, 4], "iscrowd": 0, "occluded": 1},
            {"id": 2, "image_id": "b", "category_id": 1, "bbox": [1, 2, 3.5, 4], "attributes": {"occlusion": 2}},
        ],
        "categories": [{"id": 1, "name": "person"}],
    }
)
VALID_NAMES = (
    ("classes.txt", "person\ntraffic light\n"),
    ("labels.txt", "0: person\n1: traffic light\n"),
    ("data.yaml", "train: ../train\nnc: 2\nnames: ['person', traffic light]\n"),
    ("data.yaml", "names:\n  0: person\n  1: traffic light\nnc: 2\n"),
)


def damage(data, text):
    """Drop, replace, insert or double a few characters, tokens or lines."""
    pattern = data.draw(st.sampled_from((r"(?s).", r"<[^>]*>|\s+|[^<\s]+", r"[^\n]*\n?", r"\w+|\W")))
    parts = re.findall(pattern, text)
    for _ in range(data.draw(st.integers(1, 4))):
        first, second = (data.draw(st.integers(0, len(parts) - 1)) for _ in range(2))
        new = data.draw(st.one_of(st.sampled_from(PIECES), st.characters(exclude_categories=["Cs"])))
        parts[first] = data.draw(st.sampled_from(("", new, parts[second], new + parts[first], parts[first] * 2)))
    return "".join(parts)


def result_of(function, *arguments):
    """Return a reader's result, or the message of its InputError."""
    try:
        return function(*arguments)
    except InputError as error:
        return str(error)


def check_labels(labels, kinds):
    annotations, findings, kind = labels
    assert kind in kinds
    assert len(set(annotations)) == len(annotations)
    for annotation in annotations:
        assert type(annotation) is Annotation
        assert annotation.label.strip() == annotation.label != ""
        assert all(type(value) is float and math.isfinite(value) for value in annotation.box)
        assert min(annotation.box[2:]) > 0
        assert annotation.occlusion in (0, 1, 2)
        assert (type(annotation.occlusion), type(annotation.ignore)) == (int, bool)
    assert all(type(finding) is Finding and "the place" in finding.text for finding in findings)


@FUZZ
@given(st.data())
def test_damaged_labels_of_one_image(data):
    text = damage(data, data.draw(st.sampled_from(VALID_LABELS)))
    size = data.draw(st.sampled_from(((640, 512), None)))
    result = result_of(
        label_files.parse, text, "the place", size, data.draw(st.sampled_from((("person", "car"), None)))
    )
    if isinstance(result, str):
        assert result.startswith("the place:")
        return
    check_labels(result, ("YOLO", "VOC", "KAIST", "CVC-14", ""))
    if result.format in ("YOLO", "CVC-14"):
        # Each line is an annotation, the repetition of one, or left out.
        repeats = [re.search(r", (\d+) times$", finding.text) for finding in result.findings]
        repeated = sum(int(match[1]) - 1 for match in repeats if match)
        left_out = sum(finding.kind in (NO_SIZE, OUTSIDE) for finding in result.findings)
        lines = [line for line in text.split("\n") if line.strip()]
        assert len(result.annotations) + repeated + left_out == len(lines)


@FUZZ
@given(st.data())
def test_damaged_coco_files(data):
    with tempfile.TemporaryDirectory(prefix="the place") as folder:
        path = Path(folder, "a.json")
        path.write_text(damage(data, VALID_COCO), encoding="utf-8", newline="")
        is_coco, result = coco_files.is_coco(path), result_of(coco_files.read, path)
    if isinstance(result, str):
        assert result.startswith(f"{path}:")
        return
    assert is_coco
    for image in result:
        assert image.file_name
        assert image.size is None or min(image.size) > 0
        check_labels(image.labels, ("COCO",))


@FUZZ
@given(st.data())
def test_damaged_class_names(data):
    name, text = data.draw(st.sampled_from(VALID_NAMES))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_text(damage(data, text), encoding="utf-8", newline="")
        result = result_of(class_names.find_class_names, {name: path})
    if isinstance(result, str):
        assert result.startswith(f"{path}:")
    elif result is not None:
        names, found = result
        assert found == name
        assert names
        assert all(type(name) is str and name.strip() == name != "" for name in names)
