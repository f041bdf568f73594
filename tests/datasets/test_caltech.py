"""Caltech prepared from small copies of the original archives: three videos of some frames."""

import caltech_files
import numpy as np
import pytest
from caltech_files import OBJECTS, TEST, TRAIN, jpeg, video_jpegs, write_copy, write_seq, write_vbb
from prepared_data import findings_of, lines_of_counts, names, prepare, read, rows, table_of

from configs import finetune
from datasets.caltech_pedestrian import CaltechConfig, CaltechPedestrian, open_builder
from datasets.caltech_pedestrian.prepare import main
from dcrl_jax.annotations.caltech import frames
from dcrl_jax.data import sources, transforms
from dcrl_jax.errors import InputError

TEXT = """% bbGt version=3
person 10 20 30 60 1 10 20 30 30 0 0
person 640 20 30 60 0 0 0 0 0 0 0
ignore 1 2 3 4 0 0 0 0 0 1 0
"""


@pytest.fixture(autouse=True)
def raw(tmp_path, monkeypatch):
    """A small copy, and a benchmark of its videos."""
    monkeypatch.setattr(frames, "TEST_IMAGES", caltech_files.TEST_IMAGES)
    monkeypatch.setattr(frames, "VIDEOS", caltech_files.VIDEOS)
    return write_copy(tmp_path / "raw")


def prepare_copy(folder, train_skip=30, data="data", **options):
    return prepare(open_builder(str(folder / data), train_skip=train_skip, **options), folder / "raw")


def test_records_have_the_stored_images_and_the_annotated_boxes(tmp_path, capsys):
    expected = {
        29: [
            ("person", [100.25, 200, 30, 60.5], 0, False),
            ("person", [300, 200, 20, 100], 2, False),
            ("people", [400, 200, 90, 80], 0, False),
        ],
        59: [("person-fa", [1, 2, 30, 40], 0, False)],
    }
    builder = prepare_copy(tmp_path)
    assert builder.info.full_name == "caltech_pedestrian/original-train_skip_30/1.0.0"
    for split, image_ids in (("train", TRAIN), ("test", TEST)):
        found = read(builder, split)
        assert names(found) == image_ids
        for image_id, record in zip(image_ids, found, strict=True):
            number = frames.number_of(image_id)
            assert record["visible"] == video_jpegs(frames.video_of(image_id))[number]
            assert rows(record) == expected[number]
            assert record["condition"] == 0
            assert sorted(record) == ["condition", "image_id", "objects", "visible"]
    assert builder.info.metadata["warnings"] == []
    annotations = {"train": "original, .vbb, 2 images", "test": "original, .vbb, 3 images"}
    assert builder.info.metadata["annotations"] == annotations
    counts = "images asked for {}, images {}, images without a person 1, people {}, ignore regions {}"
    lines = lines_of_counts(train=counts.format(2, 2, 2, 1), test=counts.format(3, 3, 4, 2))
    assert table_of(builder) == ["images", *lines]
    printed = capsys.readouterr().out
    assert "\nlabel that the benchmark leaves out: 2\n  train: set00/V000/I00059: 'person-fa'\n" in printed
    pair = transforms.decode(read(builder, "test")[0], ("visible",))
    assert pair["visible"].shape == (480, 640, 3)
    assert "lwir" not in pair
    np.testing.assert_allclose(pair["boxes"][0], [100.25, 200, 130.25, 260.5])


def test_new_annotations_are_read_from_texts_and_named_by_a_checksum(tmp_path, raw):
    (raw / "anno_new").mkdir()
    for image_id in TRAIN + TEST:
        path = raw / "anno_new" / f"{image_id.replace('/', '_')}.jpg.txt"
        path.write_text(TEXT)
    builder = prepare_copy(tmp_path, annotations="new")
    assert builder.info.full_name == "caltech_pedestrian/new-train_skip_30/1.0.0"
    for split in ("train", "test"):
        for record in read(builder, split):
            assert rows(record) == [("person", [10, 20, 30, 60], 2, False), ("ignore", [1, 2, 3, 4], 0, True)]
    assert ("box outside the image", f"train: {TRAIN[0]}: person 640 20 30 60") in findings_of(tmp_path / "data")
    first = builder.info.metadata["annotations"]
    assert first["test"].startswith("new, bbGt text in anno_new, 3 images, checksum of the boxes ")
    path.write_text(TEXT.replace("person 10", "person 11"))
    second = prepare_copy(tmp_path, data="other", annotations="new").info.metadata["annotations"]
    assert second["test"] != first["test"]
    assert second["train"] == first["train"]


def refused(tmp_path, **options):
    """Return the message and the findings of a copy that is refused; nothing may be written."""
    with pytest.raises(InputError) as caught:
        prepare_copy(tmp_path, **options)
    assert not list((tmp_path / "data").rglob("*array_record*"))
    return str(caught.value), findings_of(tmp_path / "data")


def test_truncated_or_other_video_is_named_with_its_images(tmp_path, raw):
    path, other = raw / "videos" / "set06" / "V000.seq", raw / "videos" / "set07" / "V001.seq"
    content = path.read_bytes()
    path.write_bytes(content[:-1000])  # only the last frame, which is no image
    assert prepare_copy(tmp_path, data="complete").info.metadata["warnings"] == []
    path.write_bytes(content[: len(content) * 2 // 3])
    other.write_bytes(b"RIFF" + bytes(2000))
    message, findings = refused(tmp_path)
    assert "1 image missing" in message
    assert "1 video unreadable" in message
    texts = dict(findings)
    assert texts["video cut off"].startswith(f"test: {path}: cut off in frame 4")
    assert texts["image missing"].startswith(f"test: set06/V000/I00059: {path} has 4")
    assert texts["video unreadable"].startswith(f"test: {other}: no .seq file")


def test_unreadable_image_is_named(tmp_path, raw):
    content = video_jpegs("set06/V000")
    content[29], content[59] = jpeg(29, 320, 240), b"\xff\xd8 not an image \xff\xd9"
    path, other = raw / "videos" / "set06" / "V000.seq", raw / "videos" / "set07" / "V001.seq"
    write_seq(path, content)
    encoded = bytearray(other.read_bytes())
    encoded[encoded.rindex(b"\xff\xd9")] = 0
    other.write_bytes(encoded)
    message, findings = refused(tmp_path)
    assert "3 image unreadable" in message
    assert [text.partition(";")[0] for kind, text in findings if kind == "image unreadable"] == [
        f"test: set06/V000/I00029: {path}: frame 29 has 320x240 pixels",
        f"test: set06/V000/I00059: {path}: frame 59 cannot be decoded",
        f"test: set07/V001/I00029: {other}: frame 29 is no complete JPEG",
    ]


def test_missing_and_unreadable_vbb_files_are_named(tmp_path, raw):
    (raw / "annotations" / "set07" / "V001.vbb").unlink()
    path = write_vbb(raw / "annotations" / "set06" / "V000.vbb", [OBJECTS.get(number, []) for number in range(40)])
    message, findings = refused(tmp_path)
    assert "2 annotation missing" in message
    missing = [text for kind, text in findings if kind == "annotation missing"]
    assert missing == [f"test: set06/V000/I00059: {path} has 40 frames", "test: set07/V001.vbb"]
    path.write_bytes(b"no .vbb file")
    assert "1 annotation unreadable, 1 annotation missing" in refused(tmp_path)[0]


def test_missing_training_videos_are_a_warning_unless_all_are(tmp_path, raw, monkeypatch):
    monkeypatch.setitem(frames.VIDEOS, "train", ("set00/V000", "set00/V001"))
    (warning,) = prepare_copy(tmp_path).info.metadata["warnings"]
    assert warning == "incomplete train split: 1 of 2 videos are left out, and 0 images of the others"
    (raw / "videos" / "set00" / "V000.seq").write_bytes(b"no video")
    with pytest.raises(InputError, match="no usable image in the split train"):
        prepare_copy(tmp_path, train_skip=3)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no video of Caltech found. Expected files like set00/V000\.seq"):
        prepare(open_builder(str(tmp_path / "data")), tmp_path / "empty")


@pytest.mark.parametrize("value", [0, True, 3.0])
def test_option_out_of_range_is_refused(value):
    with pytest.raises(InputError, match=f"train_skip must be a whole number of at least 1, not {value}"):
        CaltechConfig(train_skip=value)
    with pytest.raises(InputError, match=r"annotations is 'improved'; it must be one of: original, new\."):
        CaltechConfig(annotations="improved")


def test_command_prepares_the_config_of_the_recipe(tmp_path, raw):
    main([f"--manual_dir={raw}", f"--data_dir={tmp_path}/data"])
    data = finetune.get_config("caltech").data
    data.data_dir = str(tmp_path / "data")
    assert "21 train" in sources.describe(sources.prepare(data))
    assert [one.name for one in CaltechPedestrian.BUILDER_CONFIGS] == ["original-train_skip_3", "new-train_skip_3"]
