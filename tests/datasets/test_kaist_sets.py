"""The annotation set that is read from a copy: the four configs, and sets that are not what their name says."""

import json

import pytest
from kaist_copies import DOUBT, TRAIN, make_annotations, make_images, prepare_copy, write
from prepared_data import files_below, findings_of, read, rows

from dcrl_jax.annotations.kaist import bbgt, frames, truths
from dcrl_jax.annotations.types import checksum
from dcrl_jax.errors import InputError

VIDEO, OTHER_VIDEO = (
    [one for one in frames.split_frames("test") if frames.video_of(one) == video]
    for video in ("set11/V001", "set11/V000")
)
TEST = VIDEO[:2]
SANITIZED = "person 80 20 90 60\nignore 5 6 7 9\n"


def person(x, label="person"):
    """Return a file of one object with its left edge at x."""
    return f"% bbGt version=3\n{label} {x} 20 30 60 0 0 0 0 0 0 0\n"


def make_set(raw, name, text, image_ids=VIDEO):
    make_annotations(raw, text, f"{name}/{{video}}/{{frame}}.txt", image_ids)


PAIRED = [("paired/visible", person(50), (*TRAIN, *TEST)), ("paired/lwir", person(60), (*TRAIN, *TEST))]


@pytest.fixture
def raw(tmp_path, monkeypatch):
    """A copy without test annotations; the improved boxes of both videos are set to those at 40 pixels."""
    for image_ids in (VIDEO, OTHER_VIDEO):
        improved = checksum([bbgt.parse(person(40))] * len(image_ids))
        for table in (truths.IMPROVED_TEST, truths.IMPROVED_PEOPLE):
            monkeypatch.setitem(table, frames.video_of(image_ids[0]), improved)
    make_images(tmp_path / "raw", image_ids=(*TRAIN, *TEST))
    make_annotations(tmp_path / "raw", image_ids=TRAIN)
    return tmp_path / "raw"


def prepare_sets(tmp_path, **options):
    return prepare_copy(tmp_path, **{"test": TEST} | options)


def lefts(builder, split="test", key="objects"):
    """Return the left edge of the first box of each record."""
    return [rows(record, key)[0][1][0] for record in read(builder, split)]


def test_four_configs_choose_their_sets_from_one_copy(tmp_path, raw):
    for arguments in (("labels-a", person(70)), ("labels-b", person(40)), ("labels-c", SANITIZED, TRAIN), *PAIRED):
        make_set(raw, *arguments)
    expected = {  # of training and test: the set, its kind, the left edge of its boxes
        "original": [("annotations: original", {10}), ("labels-a: original", {70})],
        "improved": [("annotations: original", {10}), ("labels-b: improved", {40})],
        "sanitized": [("labels-c: sanitized", {80}), ("labels-b: improved", {40})],
        "paired": [("paired: paired", {50}), ("paired: paired", {50})],
    }
    for name, sets in expected.items():
        builder = prepare_sets(tmp_path, annotations=name)
        read_from = builder.info.metadata["annotations"]
        splits = ("train", "test")
        assert [(read_from[split].partition(",")[0], set(lefts(builder, split))) for split in splits] == sets
        assert builder.info.metadata["warnings"] == []
        assert builder.info.full_name.startswith(f"kaist/{name}-")
    assert lefts(builder, key="objects_lwir") == [60, 60]


IMPROVED = "2 of 2 frames, boxes equal to the improved test annotations in 1 of 1 videos"
SEVERAL = "{}: several sets could be the original ones. Name one with --{}_annotations=FOLDER:\n  {}: original, bbGt"
NO_FORMAT = "original ones. Found:\n  yolo: original, no objects, 0 of 2 frames; annotation unreadable: "
ORIGINAL, SAME = [("labels", person(70))], [("labels", person(40))]
NAMED, OF_IMPROVED, OF_PAIRED = {"test_annotations": "labels"}, {"annotations": "improved"}, {"annotations": "paired"}
# The sets of a copy, the options, and the message.
REFUSED = {
    "no set": ([], {}, "config 'original' needs original ones. Found:\n  none that has these frames"),
    "absent": (ORIGINAL, {"test_annotations": "no"}, "annotations: 'no' is not one of the sets found:\n  labels: "),
    "other boxes": ([*ORIGINAL, ("b", person(71))], {}, SEVERAL.format("test annotations", "test", "b")),
    "other people": ([*ORIGINAL, ("b", person(70, "people"))], {}, SEVERAL.format("test annotations", "test", "b")),
    "training": ([("b", person(12), TRAIN)], {}, SEVERAL.format("train annotations", "train", "annotations")),
    "no format": ([("yolo", "0 0.5 0.5 0.1 0.2\n")], {}, NO_FORMAT),
    "two files": ([*ORIGINAL, ("labels/visible", person(70))], {}, "/I00019.txt both annotate set11/V001/I00019; keep"),
    "only improved": (SAME, {}, f"needs original ones. Found:\n  labels: improved, bbGt, {IMPROVED}\n"),
    "improved as original": (SAME, NAMED, "boxes of labels equal the improved test annotations, so no score on them"),
    "only original": (ORIGINAL, OF_IMPROVED, "needs improved ones. Found:\n  labels: original, bbGt, 2"),
    "paired as original": (
        PAIRED,
        {"test_annotations": "paired"},
        "paired is paired; config 'original' needs original",
    ),
    "original as paired": ([*PAIRED, *ORIGINAL], OF_PAIRED | NAMED, "labels is original; config 'paired' needs paired"),
}


@pytest.mark.parametrize(("sets", "options", "message"), REFUSED.values(), ids=REFUSED)
def test_unclear_annotations_are_refused(tmp_path, raw, sets, options, message):
    for arguments in sets:
        make_set(raw, *arguments)
    with pytest.raises(InputError) as caught:
        prepare_sets(tmp_path, **options)
    assert message in str(caught.value)
    assert files_below(tmp_path / "data") in ([], ["kaist/.lock"])


IN_PARTS = [*SAME, ("labels", person(70), OTHER_VIDEO)]
PARTLY = (
    "the boxes of labels equal the improved test annotations in 1 of 2 videos; scores on them are not on the original "
    "annotations only"
)
ONLY = "labels was named, but its boxes equal the improved test annotations in 0 of 1 videos only"
OTHERS = (
    "1 of 1 videos, but labels and ignore flags only in 0; other people count, so scores are not comparable with those "
    "on the improved annotations"
)
LOOKS = "clean was named for the original ones; it looks like sanitized ones"
BOTH = {"train": (*TRAIN, TEST[1]), "train_annotations": "annotations"}
# The sets of a copy, the options, the warning, and the left edge of the test boxes.
WARNED = {
    "as improved": (ORIGINAL, OF_IMPROVED | NAMED, f"test annotations: {ONLY}", 70),
    "two equal sets": (
        *([("b", person(40)), ("a", person(40))], OF_IMPROVED),
        *("test annotations: a and b hold the same boxes; a is read", 40),
    ),
    "as original": (
        *([*ORIGINAL, ("clean", SANITIZED, TRAIN)], {"train_annotations": "clean"}, f"train annotations: {LOOKS}", 70),
    ),
    "partly improved": (IN_PARTS, {}, f"test annotations: {PARTLY}", 40),
    "named, partly improved": (IN_PARTS, NAMED, f"test annotations: {PARTLY}", 40),
    "improved boxes of others": (
        *([("labels", person(40).replace("person", "people"))], OF_IMPROVED),
        *(f"test annotations: the boxes of labels equal the improved test annotations in {OTHERS}", 40),
    ),
    "no complete video": ([("labels", person(40), VIDEO[:-1])], {}, DOUBT.format("labels"), 40),
    "one of two": ([*ORIGINAL, ("b", person(71))], {"test_annotations": "b"}, "", 71),
    "frames in both splits": (
        *([*ORIGINAL, ("annotations", person(70), TEST[1:])], NAMED | BOTH),
        *("frames in both splits: 1 (set11/V001/I00039)", 70),
    ),
}


@pytest.mark.parametrize(("sets", "options", "warning", "left"), WARNED.values(), ids=WARNED)
def test_doubtful_annotations_are_a_warning(tmp_path, raw, capsys, sets, options, warning, left):
    for arguments in sets:
        make_set(raw, *arguments)
    builder = prepare_sets(tmp_path, **options)
    assert builder.info.metadata["warnings"] == ([warning] if warning else [])
    assert (f"\nwarning: {warning}\n" in capsys.readouterr().out) is bool(warning)
    assert lefts(builder) == [left, left]


def test_coco_file_is_recognised_by_its_boxes(tmp_path, raw, capsys):
    content = {
        "images": [{"id": index, "im_name": image_id} for index, image_id in enumerate(VIDEO)],
        "annotations": [{"image_id": n, "category_id": 1, "bbox": [40, 20, 30, 60]} for n in range(len(VIDEO))],
        "categories": [{"id": 1, "name": "person"}],
    }
    write(raw / "test.json", json.dumps(content))
    write(raw / "scores.json", "{}")
    builder = prepare_sets(tmp_path, annotations="improved")
    assert builder.info.metadata["annotations"]["test"] == f"test.json: improved, COCO, {IMPROVED}"
    assert lefts(builder) == [40, 40]
    unread = f"JSON file that is not read: 1\n  {raw / 'scores.json'}: object missing required field `images`; "
    assert unread in capsys.readouterr().out
    # Frames that the file does not name are missing.
    write(raw / "test.json", json.dumps(content | {"images": content["images"][:1], "annotations": []}))
    with pytest.raises(InputError, match="the test split is incomplete: 1 annotation missing; "):
        prepare_sets(tmp_path)
    findings = next((tmp_path / "data" / "kaist").glob("original-*/findings.txt")).read_text()
    assert f"annotation missing\ttest: {TEST[1]}\n" in findings


# Label, box and occlusion of a row in the files for visible and lwir, and in their records; "!" is an ignore region. An
# object without a box in one image is an ignore region there, at its place in the other image.
PAIRED_ROWS = [
    ("person 10 20 30 60 0", "person 12 21 30 60 1", "person 10 20 30 60 0", "person 12 21 30 60 1"),
    ("unpaired 0 0 0 0 0", "person 30 20 31 61 1", "unpaired 30 20 31 61 1 !", "person 30 20 31 61 1"),
    ("person 50 20 0 60 1", "person 52 20 32 62 2", "unpaired 52 20 32 62 2 !", "person 52 20 32 62 2"),
    ("people 90 20 30 60 0", "unpaired 91 20 30 60 0", "people 90 20 30 60 0", "unpaired 91 20 30 60 0"),
    ("person 640 20 30 60 0", "cyclist 600 20 30 60 0", "unpaired 600 20 30 60 0 !", "cyclist 600 20 30 60 0"),
    ("person 1 2 0 4 0", "person 5 2 0 4 0", "", ""),
    ("person 70 20 30 60 0", "unpaired -9 -9 1 1 0", "person 70 20 30 60 0", "unpaired 70 20 30 60 0 !"),
    ("person 10 20 30 60 0", "person 12 21 30 60 1", "", ""),  # a repeat of the first row
    ("person 10 20 30 60 0", "person 12 22 30 60 1", "person 10 20 30 60 0", "person 12 22 30 60 1"),
]


def test_paired_rows_without_a_box_in_one_or_both_images(tmp_path, raw):
    *files, objects, objects_lwir = zip(*PAIRED_ROWS, strict=True)
    visible, lwir = ("\n".join(f"{row}{' 0' * 6}" for row in column) for column in files)
    for arguments in (*PAIRED, ("paired/visible", visible, TEST[:1]), ("paired/lwir", lwir, TEST[:1])):
        make_set(raw, *arguments)
    (record, _) = read(prepare_sets(tmp_path, annotations="paired"), "test")
    for key, expected in (("objects", objects), ("objects_lwir", objects_lwir)):
        texts = [
            f"{label} {' '.join(f'{side:g}' for side in box)} {occlusion}{' !' * ignore}"
            for label, box, occlusion, ignore in rows(record, key)
        ]
        assert texts == [row for row in expected if row]
    file = f"test: {raw}/paired/{{}}/set11/V001/I00019.txt: "
    assert findings_of(tmp_path / "data") == [
        ("box of no size", file.format("visible") + "person 50 20 0 60"),
        ("box of no size", file.format("visible") + "person 1 2 0 4"),
        ("box of no size", file.format("lwir") + "person 5 2 0 4"),
        (
            "annotation twice, counted once",
            "test: set11/V001/I00019: person 10 20 30 60; person 12 21 30 60, 2 times",
        ),
        ("box outside the image", "test: set11/V001/I00019 visible: row 5, person 640 20 30 60"),
        ("row without a box in either image", "test: set11/V001/I00019: row 6, person 1 2 0 4; person 5 2 0 4"),
    ]


def test_paired_frames_of_different_length_or_one_file_are_left_out(tmp_path, raw):
    two = person(60) + person(70).partition("\n")[2]
    for arguments in (*PAIRED, ("paired/lwir", two, [TEST[0], TRAIN[1]])):
        make_set(raw, *arguments)
    (raw / "paired/lwir" / f"{TRAIN[0]}.txt").unlink()
    with pytest.raises(InputError, match="incomplete: 1 paired annotations of different length; "):
        prepare_sets(tmp_path, annotations="paired")
    different = "paired annotations of different length"
    assert findings_of(tmp_path / "data") == [
        ("annotation missing", f"train: {TRAIN[0]}"),
        (different, "train: set00/V000/I00003: 1 rows for visible, 2 for lwir"),
        (different, "test: set11/V001/I00019: 1 rows for visible, 2 for lwir"),
    ]
    builder = prepare_sets(tmp_path, annotations="paired", allow_incomplete=True)
    assert [len(read(builder, split)) for split in ("train", "test")] == [1, 1]
    assert [text.partition(" images")[0] for text in builder.info.metadata["warnings"]] == [
        "incomplete train split: 2 of 3",
        "incomplete test split: 1 of 2",
    ]
