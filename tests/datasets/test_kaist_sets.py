"""The annotation set that is read from a copy: the four configs, and sets that are not what their name says."""

import json

import pytest
from kaist_copies import TRAIN, make_annotations, make_images, prepare_copy, write
from prepared_data import files_below, read, rows

from dcrl_jax.annotations.kaist import bbgt, frames, truths
from dcrl_jax.annotations.types import checksum
from dcrl_jax.errors import InputError

VIDEO, OTHER_VIDEO = "set11/V001", "set11/V000"
FRAMES = {
    video: [one for one in frames.split_frames("test") if frames.video_of(one) == video]
    for video in (VIDEO, OTHER_VIDEO)
}
TEST = FRAMES[VIDEO][:2]


def person(x, label="person"):
    """Return a file of one object with its left edge at x."""
    return f"% bbGt version=3\n{label} {x} 20 30 60 0 0 0 0 0 0 0\n"


@pytest.fixture
def raw(tmp_path, monkeypatch):
    """A copy without test annotations; the improved boxes of both videos are set to those at 40 pixels."""
    for video, image_ids in FRAMES.items():
        improved = checksum([bbgt.parse(person(40))] * len(image_ids))
        monkeypatch.setitem(truths.IMPROVED_TEST, video, improved)
    make_images(tmp_path / "raw", image_ids=(*TRAIN, *TEST))
    make_annotations(tmp_path / "raw", image_ids=TRAIN)
    return tmp_path / "raw"


def make_set(raw, name, text, image_ids=FRAMES[VIDEO]):
    make_annotations(raw, text, f"{name}/{{video}}/{{frame}}.txt", image_ids)


def make_paired(raw, visible, lwir, image_ids=(*TRAIN, *TEST)):
    for modality, text in (("visible", visible), ("lwir", lwir)):
        make_annotations(raw, text, "paired/{modality}/{flat}.txt", image_ids, modality)


def prepare_sets(tmp_path, **options):
    return prepare_copy(tmp_path, test=TEST, **options)


def error_of(tmp_path, **options):
    """Return the message of a refusal; no data set may be written."""
    with pytest.raises(InputError) as caught:
        prepare_sets(tmp_path, **options)
    assert [name for name in files_below(tmp_path / "data") if name != "kaist/.lock"] == []
    return str(caught.value)


def lefts(builder, split="test", key="objects"):
    """Return the left edge of the first box of each record."""
    return [rows(record, key)[0][1][0] for record in read(builder, split)]


def test_four_configs_choose_their_sets_from_one_copy(tmp_path, raw):
    make_set(raw, "labels-a", person(70))
    make_set(raw, "labels-b", person(40))
    make_annotations(raw, "person 80 20 90 60\nignore 5 6 7 9\n", "labels-c/{flat}.txt", TRAIN)
    make_paired(raw, person(50), person(60))
    found = {}
    for name in ("original", "improved", "sanitized", "paired"):
        builder = prepare_sets(tmp_path, annotations=name)
        read_from = builder.info.metadata["annotations"]
        found[name] = [
            (read_from[split].partition(": ")[0], read_from[split].split()[1].strip(","), set(lefts(builder, split)))
            for split in ("train", "test")
        ]
        assert builder.info.metadata["warnings"] == []
        assert builder.info.full_name.startswith(f"kaist/{name}-")
    assert found == {
        "original": [("annotations", "original", {10}), ("labels-a", "original", {70})],
        "improved": [("annotations", "original", {10}), ("labels-b", "improved", {40})],
        "sanitized": [("labels-c", "sanitized", {80}), ("labels-b", "improved", {40})],
        "paired": [("paired", "paired", {50}), ("paired", "paired", {50})],
    }
    assert lefts(builder, key="objects_lwir") == [60, 60]


def test_original_is_refused_if_there_are_only_improved_annotations(tmp_path, raw, capsys):
    make_set(raw, "annotations-new", person(40))
    message = error_of(tmp_path)
    assert message.startswith("test annotations: config 'original' needs original ones. Found:\n")
    line = (
        "annotations-new: improved, bbGt, 2 of 2 frames, boxes equal to the improved test annotations in 1 of 1 videos"
    )
    assert f"\n  {line}\n" in message
    assert "choose another config: original, improved, sanitized, paired" in message
    assert "boxes of annotations-new equal the improved test annotations, so no score on them" in error_of(
        tmp_path, test_annotations="annotations-new"
    )
    builder = prepare_sets(tmp_path, annotations="improved")
    assert f"test annotations: {line}\n" in capsys.readouterr().out
    assert builder.info.metadata["annotations"]["test"] == line


def test_improved_is_refused_without_improved_annotations_unless_named(tmp_path, raw):
    make_set(raw, "labels", person(70))
    message = error_of(tmp_path, annotations="improved")
    assert "config 'improved' needs improved ones. Found:\n  labels: original, bbGt, 2 of 2 frames" in message
    builder = prepare_sets(tmp_path, annotations="improved", test_annotations="labels")
    assert builder.info.metadata["warnings"] == [
        "test annotations: labels was named, but its boxes equal the improved test annotations in 0 of 1 videos only"
    ]


def test_first_of_two_folders_with_the_same_boxes_is_read(tmp_path, raw, capsys):
    for name in ("labels-b", "labels-a"):
        make_set(raw, name, person(40))
    note = "test annotations: labels-a and labels-b hold the same boxes; labels-a is read"
    builder = prepare_sets(tmp_path, annotations="improved")
    assert builder.info.metadata["warnings"] == [note]
    assert builder.info.metadata["annotations"]["test"].startswith("labels-a: improved")
    assert f"\nwarning: {note}\n" in capsys.readouterr().out


def test_two_different_sets_need_a_choice(tmp_path, raw):
    make_set(raw, "labels/one", person(70))
    make_set(raw, "labels/two", person(71))
    message = error_of(tmp_path)
    assert message.startswith(
        "test annotations: several sets could be the original ones. Name one with --test_annotations=FOLDER:\n"
        "  labels/one: original, bbGt, 2 of 2 frames"
    )
    assert "\n  labels/two: original, bbGt, 2 of 2 frames" in message
    for name, x in (("labels/one", 70), ("labels/two", 71)):
        builder = prepare_sets(tmp_path, test_annotations=name)
        assert lefts(builder) == [x, x]
        assert builder.info.metadata["warnings"] == []


def test_named_set_of_another_kind_is_refused_or_a_warning(tmp_path, raw):
    make_paired(raw, person(50), person(60))
    make_set(raw, "labels", person(70))
    make_annotations(raw, "person 80 20 90 60\n", "clean/{flat}.txt", TRAIN)
    assert "paired is paired; config 'original' needs original ones" in error_of(tmp_path, test_annotations="paired")
    assert "labels is original; config 'paired' needs paired ones" in error_of(
        tmp_path, annotations="paired", test_annotations="labels"
    )
    builder = prepare_sets(tmp_path, train_annotations="clean")
    assert builder.info.metadata["warnings"] == [
        "train annotations: clean was named for the original ones; it looks like sanitized ones"
    ]


@pytest.mark.parametrize("options", [{}, {"test_annotations": "labels"}], ids=["found", "named"])
def test_set_partly_equal_to_the_improved_one_is_a_warning(tmp_path, raw, options):
    make_set(raw, "labels", person(40))
    make_set(raw, "labels", person(70), FRAMES[OTHER_VIDEO])
    builder = prepare_sets(tmp_path, **options)
    assert builder.info.metadata["warnings"] == [
        "test annotations: the boxes of labels equal the improved test annotations in 1 of 2 videos; scores on them "
        "are not on the original annotations only"
    ]


YOLO = "0 0.5 0.5 0.1 0.2\n"


@pytest.mark.parametrize(
    ("sets", "options", "message"),
    [
        ({}, {}, "test annotations: config 'original' needs original ones. Found:\n  none that has these frames\n"),
        (
            {"labels": person(70)},
            {"test_annotations": "absent"},
            "test annotations: 'absent' is not one of the sets found:\n  labels: original, bbGt",
        ),
        (
            {"labels-a": person(70), "labels-b": person(70, "people")},
            {},
            "test annotations: several sets could be the original ones. Name one with --test_annotations=FOLDER:\n",
        ),
        (
            {"yolo": YOLO},
            {},
            "test annotations: config 'original' needs original ones. Found:\n  yolo: original, no objects, 0 of 2 "
            "frames; annotation unreadable: ",
        ),
        (
            {"labels": person(70), "labels/visible": person(70)},
            {},
            "{raw}/labels/set11/V001/I00019.txt and {raw}/labels/visible/set11/V001/I00019.txt both annotate set11/V",
        ),
    ],
    ids=["no set", "absent name", "other people", "no format", "two files of a frame"],
)
def test_unclear_test_annotations_are_refused(tmp_path, raw, sets, options, message):
    for name, text in sets.items():
        make_set(raw, name, text, TEST)
    assert error_of(tmp_path, **options).startswith(message.format(raw=raw))


def test_two_sets_of_training_annotations_need_a_choice(tmp_path, raw):
    make_set(raw, "labels", person(70))
    make_annotations(raw, "person 80 20 90 60\nignore 5 6 7 9\n", "more/{flat}.txt", TRAIN[:1])
    make_set(raw, "more", person(11), TRAIN[1:])
    make_set(raw, "other", person(12), TRAIN)
    message = error_of(tmp_path)
    assert "train annotations: several sets could be the original ones. Name one with --train_annotations" in message
    builder = prepare_sets(tmp_path, train_annotations="more")
    assert [rows(record)[0][1][0] for record in read(builder, "train")] == [80, 11, 11]
    assert rows(read(builder, "train")[0])[1] == ("ignore", [5, 6, 2, 3], 0, True)


def test_set_without_a_complete_video_is_a_warning(tmp_path, raw):
    make_set(raw, "labels", person(40), FRAMES[VIDEO][:-1])
    builder = prepare_sets(tmp_path)
    assert builder.info.metadata["annotations"]["test"] == "labels: original, bbGt, 2 of 2 frames"
    assert builder.info.metadata["warnings"] == [
        "test annotations: labels has all test frames of no video, so it cannot be told whether these are the original "
        "or the improved annotations"
    ]


def test_coco_file_is_recognised_by_its_boxes(tmp_path, raw, capsys):
    content = {
        "images": [{"id": place, "im_name": one} for place, one in enumerate(FRAMES[VIDEO])],
        "annotations": [
            {"image_id": place, "category_id": 1, "bbox": [40, 20, 30, 60]} for place in range(len(FRAMES[VIDEO]))
        ],
        "categories": [{"id": 1, "name": "person"}],
    }
    write(raw / "test.json", json.dumps(content))
    write(raw / "scores.json", "{}")
    assert "needs original ones. Found:\n  test.json: improved, COCO, 2 of 2 frames" in error_of(tmp_path)
    capsys.readouterr()
    builder = prepare_sets(tmp_path, annotations="improved")
    assert lefts(builder) == [40, 40]
    assert f"JSON file that is not read: 1\n  {raw / 'scores.json'}: object missing required field `images`; " in (
        capsys.readouterr().out
    )


def test_frames_missing_in_a_coco_file_are_missing(tmp_path, raw):
    content = {"images": [{"id": 0, "im_name": TEST[0]}], "annotations": [], "categories": []}
    write(raw / "test.json", json.dumps(content))
    with pytest.raises(InputError, match="the test split is incomplete: 1 annotation missing; "):
        prepare_sets(tmp_path)
    assert next((tmp_path / "data").rglob("findings.txt")).read_text() == f"annotation missing\ttest: {TEST[1]}\n"


def test_paired_row_without_a_box_in_one_image_is_unpaired_there(tmp_path, raw):
    visible = [
        "person 10 20 30 60 0 0 0 0 0 0 0",
        "unpaired 0 0 0 0 0 0 0 0 0 0 0",
        "person 50 20 0 60 1 0 0 0 0 0 0",
        "people 90 20 30 60 0 0 0 0 0 0 0",
        "person 640 20 30 60 0 0 0 0 0 0 0",
        "person 70 20 30 60 0 0 0 0 0 0 0",
    ]
    lwir = [
        "person 12 21 30 60 1 0 0 0 0 0 0",
        "person 30 20 31 61 1 0 0 0 0 0 0",
        "person 52 20 32 62 2 0 0 0 0 0 0",
        "unpaired 91 20 30 60 0 0 0 0 0 0 0",
        "cyclist 600 20 30 60 0 0 0 0 0 0 0",
        "unpaired -9 -9 1 1 0 0 0 0 0 0 0",
    ]
    make_paired(raw, person(50), person(60))
    make_paired(raw, "\n".join(visible), "\n".join(lwir), TEST[:1])
    builder = prepare_sets(tmp_path, annotations="paired")
    record = read(builder, "test")[0]
    assert rows(record) == [
        ("person", [10, 20, 30, 60], 0, False),
        ("unpaired", [30, 20, 31, 61], 1, True),
        ("unpaired", [52, 20, 32, 62], 2, True),
        ("people", [90, 20, 30, 60], 0, False),
        ("unpaired", [600, 20, 30, 60], 0, True),
        ("person", [70, 20, 30, 60], 0, False),
    ]
    assert rows(record, "objects_lwir") == [
        ("person", [12, 21, 30, 60], 1, False),
        ("person", [30, 20, 31, 61], 1, False),
        ("person", [52, 20, 32, 62], 2, False),
        ("unpaired", [91, 20, 30, 60], 0, False),
        ("cyclist", [600, 20, 30, 60], 0, False),
        ("unpaired", [70, 20, 30, 60], 0, True),
    ]
    findings = tmp_path / "data" / "kaist" / builder.builder_config.name / "findings.txt"
    assert findings.read_text().splitlines() == [
        f"box of no size\ttest: {raw}/paired/visible/set11_V001_I00019.txt: person 50 20 0 60",
        "box outside the image\ttest: set11/V001/I00019 visible: row 5, person 640 20 30 60",
    ]


def test_paired_row_without_a_box_in_either_image_is_left_out(tmp_path, raw, capsys):
    make_paired(raw, person(50), person(60))
    empty = "person 1 2 0 4 0 0 0 0 0 0 0\n"
    make_paired(raw, person(50) + empty + "cyclist 7 2 3 4 0 0 0 0 0 0 0\n", person(60) + empty + person(9)[17:], TEST)
    builder = prepare_sets(tmp_path, annotations="paired")
    for record in read(builder, "test"):
        assert [(label, box[0]) for label, box, _, _ in rows(record)] == [("person", 50), ("cyclist", 7)]
        assert [(label, box[0]) for label, box, _, _ in rows(record, "objects_lwir")] == [("person", 60), ("person", 9)]
    shown = capsys.readouterr().out
    assert "box of no size: 4\n" in shown
    assert (
        "row without a box in either image: 2\n  test: set11/V001/I00019: row 2, person 1 2 0 4; person 1 2 0 4\n"
        in shown
    )


def test_frame_with_different_numbers_of_paired_rows_is_left_out(tmp_path, raw):
    make_paired(raw, person(50), person(60))
    make_paired(raw, person(50), person(60) + person(70)[17:], [TEST[0], TRAIN[1]])
    with pytest.raises(InputError, match="incomplete: 1 paired annotations of different length; "):
        prepare_sets(tmp_path, annotations="paired")
    findings = next((tmp_path / "data").rglob("findings.txt"))
    assert findings.read_text().splitlines() == [
        "paired annotations of different length\ttrain: set00/V000/I00003: 1 rows for visible, 2 for lwir",
        "paired annotations of different length\ttest: set11/V001/I00019: 1 rows for visible, 2 for lwir",
    ]
    builder = prepare_sets(tmp_path, annotations="paired", allow_incomplete=True)
    assert [len(read(builder, split)) for split in ("train", "test")] == [2, 1]
    assert [text.partition(",")[0].partition(";")[0] for text in builder.info.metadata["warnings"]] == [
        "incomplete train split: 1 of 3 images are left out",
        "incomplete test split: 1 of 2 images are left out",
    ]


def test_paired_frame_of_only_one_modality_is_missing(tmp_path, raw):
    make_paired(raw, person(50), person(60))
    (raw / "paired" / "lwir" / "set11_V001_I00039.txt").unlink()
    with pytest.raises(InputError, match="incomplete: 1 annotation missing; "):
        prepare_sets(tmp_path, annotations="paired")


def test_frames_in_both_splits_are_a_warning(tmp_path, raw):
    make_set(raw, "labels", person(70))
    make_annotations(raw, person(70), "annotations/{video}/{frame}.txt", TEST)
    builder = prepare_copy(
        tmp_path, train=(*TRAIN, TEST[1]), test=TEST, test_annotations="labels", train_annotations="annotations"
    )
    assert builder.info.metadata["warnings"] == ["frames in both splits: 1 (set11/V001/I00039)"]
