"""Caltech prepared from small copies of the original archives: videos of some frames, three of them."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from caltech_files import NOWHERE, jpeg, seq_bytes, write_seq, write_vbb

from configs import baseline, finetune
from datasets.caltech_pedestrian import CaltechConfig, CaltechPedestrian, open_builder
from datasets.caltech_pedestrian.prepare import main
from dcrl_jax import progress
from dcrl_jax.annotations.caltech import frames
from dcrl_jax.data import records, sources, transforms
from dcrl_jax.errors import InputError

REPOSITORY = Path(__file__).parents[2]
# Frames of each video. The second test video has one image, at its frame 29.
LENGTHS = {"set00/V000": 65, "set06/V000": 61, "set07/V001": 30}
TRAIN = ["set00/V000/I00029", "set00/V000/I00059"]
TEST = ["set06/V000/I00029", "set06/V000/I00059", "set07/V001/I00029"]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """A benchmark of three videos."""
    monkeypatch.setattr(frames, "TEST_IMAGES", {"set06/V000": 2, "set07/V001": 1})
    monkeypatch.setattr(frames, "VIDEOS", {"train": ("set00/V000",), "test": ("set06/V000", "set07/V001")})


def jpegs(video):
    return [jpeg(1000 * list(LENGTHS).index(video) + number) for number in range(LENGTHS[video])]


def annotate(number):
    """The objects of a frame: nobody in most of them."""
    if number == 29:
        return [
            ("person", (100.25, 200, 30, 60.5), NOWHERE),
            ("person", (300, 200, 20, 100), (300, 200, 20, 50)),
            ("people", (400, 200, 90, 80), NOWHERE),
        ]
    return [("person-fa", (1, 2, 30, 40), NOWHERE)] if number == 59 else []


ROWS = {
    29: [
        ("person", [100.25, 200, 30, 60.5], 0, False),
        ("person", [300, 200, 20, 100], 2, False),
        ("people", [400, 200, 90, 80], 0, False),
    ],
    59: [("person-fa", [1, 2, 30, 40], 0, False)],
}


@pytest.fixture
def raw(tmp_path):
    """A whole copy, videos in a folder of their own."""
    for video, length in LENGTHS.items():
        write_seq(tmp_path / "raw" / "videos" / f"{video}.seq", jpegs(video))
        write_vbb(tmp_path / "raw" / "annotations" / f"{video}.vbb", [annotate(number) for number in range(length)])
    return tmp_path / "raw"


def prepare(folder, train_skip=30, **options):
    builder = open_builder(str(folder / "data"), train_skip=train_skip, **options)
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=str(folder / "raw")))
    return builder


def read(builder, split):
    return list(records.open_split(builder, split))


def names(found):
    return [record["image_id"].decode() for record in found]


def rows(record):
    objects = record["objects"]
    columns = (
        [label.decode() for label in objects["label"]],
        [box.tolist() for box in objects["box"]],
        [int(level) for level in objects["occlusion"]],
        [bool(ignore) for ignore in objects["ignore"]],
    )
    return list(zip(*columns, strict=True))


def test_whole_copy_has_the_images_as_they_are_and_the_boxes_as_annotated(tmp_path, raw, capsys, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    builder = prepare(tmp_path)
    assert builder.info.full_name == "caltech_pedestrian/original-train_skip_30/1.0.0"
    for split, image_ids in (("train", TRAIN), ("test", TEST)):
        found = read(builder, split)
        assert names(found) == image_ids
        for image_id, record in zip(image_ids, found, strict=True):
            number = frames.number_of(image_id)
            assert record["visible"] == jpegs(frames.video_of(image_id))[number]
            assert rows(record) == ROWS[number]
            assert record["condition"] == 0
            assert sorted(record) == ["condition", "image_id", "objects", "visible"]
    assert builder.info.metadata["warnings"] == []
    assert builder.info.metadata["annotations"] == {
        "train": "original, .vbb, 2 images",
        "test": "original, .vbb, 3 images",
    }
    assert [line.split() for line in builder.info.metadata["table"].splitlines()] == [
        ["images"],
        ["train:", "images", "asked", "for", "2"],
        ["train:", "images", "2"],
        ["train:", "images", "without", "a", "person", "1"],
        ["train:", "people", "2"],
        ["train:", "ignore", "regions", "1"],
        ["test:", "images", "asked", "for", "3"],
        ["test:", "images", "3"],
        ["test:", "images", "without", "a", "person", "1"],
        ["test:", "people", "4"],
        ["test:", "ignore", "regions", "2"],
    ]
    printed = capsys.readouterr()
    assert "\nlabel that the benchmark leaves out: 2\n  train: set00/V000/I00059: 'person-fa'\n" in printed.out
    for what in ("checking train: ", "checking test: ", "writing train: ", "writing test: "):
        assert re.search(rf"^{what}(\d+) of \1 ", printed.err, re.MULTILINE)


def test_record_without_thermal_image_decodes(tmp_path, raw):
    pair = transforms.decode(read(prepare(tmp_path), "test")[0], ("visible",))
    assert pair["visible"].shape == (480, 640, 3)
    assert "lwir" not in pair
    assert not pair["is_night"]
    np.testing.assert_allclose(pair["boxes"][0], [100.25, 200, 130.25, 260.5])


def test_ten_times_the_training_images(tmp_path, raw):
    builder = prepare(tmp_path, train_skip=3)
    assert builder.info.full_name == "caltech_pedestrian/original-train_skip_3/1.0.0"
    train = names(read(builder, "train"))
    assert train == [f"set00/V000/I{number:05d}" for number in range(2, 65, 3)]
    assert len(train) == 21
    assert names(read(builder, "test")) == TEST


def test_videos_beside_the_annotations_without_a_folder_of_their_own(tmp_path, raw):
    for path in sorted((raw / "videos").iterdir()):
        path.rename(raw / path.name)
    assert names(read(prepare(tmp_path), "test")) == TEST


def write_texts(raw, image_ids):
    for image_id in image_ids:
        path = raw / "anno_new" / f"{image_id.replace('/', '_')}.jpg.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text("% bbGt version=3\nperson 10 20 30 60 1 10 20 30 30 0 0\nignore 1 2 3 4 0 0 0 0 0 1 0\n")


def test_new_annotations_are_read_from_texts_and_named_by_a_checksum(tmp_path, raw):
    write_texts(raw, TRAIN + TEST)
    builder = prepare(tmp_path, annotations="new")
    assert builder.info.full_name == "caltech_pedestrian/new-train_skip_30/1.0.0"
    for split in ("train", "test"):
        for record in read(builder, split):
            assert rows(record) == [("person", [10, 20, 30, 60], 2, False), ("ignore", [1, 2, 3, 4], 0, True)]
    first = builder.info.metadata["annotations"]["test"]
    assert first.startswith("new, bbGt text in anno_new, 3 images, checksum of the boxes ")
    path = raw / "anno_new" / "set06_V000_I00059.jpg.txt"
    path.write_text(path.read_text().replace("person 10", "person 11"))
    other = open_builder(str(tmp_path / "other"), annotations="new")
    other.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=str(raw)))
    assert other.info.metadata["annotations"]["test"] != first
    assert other.info.metadata["annotations"]["train"] == builder.info.metadata["annotations"]["train"]


# ---- What is missing, cut off or something else


def refused(tmp_path, **options):
    """The message, the findings in full, and that nothing was written."""
    with pytest.raises(InputError) as error:
        prepare(tmp_path, **options)
    (findings,) = (tmp_path / "data").rglob("findings.txt")
    assert not list((tmp_path / "data").rglob("*array_record*"))
    return str(error.value), findings.read_text().splitlines()


def test_missing_test_video_is_an_error_and_where_that_is_allowed_a_warning(tmp_path, raw, capsys):
    (raw / "videos" / "set07" / "V001.seq").unlink()
    message, findings = refused(tmp_path)
    assert message.startswith("the test split is incomplete: 1 video missing; ")
    assert "--allow_incomplete" in message
    assert "video missing\ttest: set07/V001" in findings
    warning = (
        "incomplete test split: 1 of 3 images are left out; scores on it are not comparable with others, and results "
        "files count the images that are there"
    )
    capsys.readouterr()
    builder = prepare(tmp_path, allow_incomplete=True)
    assert names(read(builder, "test")) == TEST[:2]
    assert sources.warnings_of(builder) == (warning,)
    assert f"warning: {warning}\n" in capsys.readouterr().out


def test_video_that_is_cut_off_is_named_with_the_images_behind_the_cut(tmp_path, raw):
    path = raw / "videos" / "set06" / "V000.seq"
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    message, findings = refused(tmp_path)
    assert "1 image missing" in message
    assert any(line.startswith(f"video cut off\ttest: {path}: cut off in frame 4") for line in findings)
    assert any(line.startswith(f"image missing\ttest: set06/V000/I00059: {path} has 4") for line in findings)
    assert names(read(prepare(tmp_path, allow_incomplete=True), "test")) == [TEST[0], TEST[2]]


def test_cut_behind_the_last_image_does_no_harm(tmp_path, raw):
    path = raw / "videos" / "set06" / "V000.seq"
    path.write_bytes(path.read_bytes()[:-1000])
    builder = prepare(tmp_path)
    assert names(read(builder, "test")) == TEST
    assert builder.info.metadata["warnings"] == []


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"RIFF" + bytes(2000), "no .seq file"),
        (seq_bytes([jpeg(0, 320, 240)], size=(320, 240)), "images of 320x240 pixels; expected 640x480"),
        (seq_bytes([jpeg()], image_format=100), "images of format 100"),
        (b"", "cut off: 0 bytes"),
    ],
    ids=["AVI", "other size", "raw images", "empty"],
)
def test_file_that_is_no_such_video_is_named(tmp_path, raw, content, what):
    path = raw / "videos" / "set06" / "V000.seq"
    path.write_bytes(content)
    message, findings = refused(tmp_path)
    assert "1 video unreadable" in message
    (line,) = [line for line in findings if line.startswith("video unreadable\t")]
    assert line.startswith(f"video unreadable\ttest: {path}: ")
    assert what in line


def test_image_of_another_size_or_that_is_none_is_named(tmp_path, raw):
    content = jpegs("set06/V000")
    content[29] = jpeg(29, 320, 240)
    content[59] = b"\xff\xd8 not an image \xff\xd9"
    write_seq(raw / "videos" / "set06" / "V000.seq", content)
    message, findings = refused(tmp_path)
    assert "2 image unreadable" in message
    lines = [line.partition("V000.seq: ")[2] for line in findings if line.startswith("image unreadable\t")]
    assert lines == ["frame 29 has 320x240 pixels; expected 640x480", "frame 59 cannot be decoded"]


def test_missing_short_and_foreign_annotations_are_named(tmp_path, raw):
    (raw / "annotations" / "set07" / "V001.vbb").unlink()
    write_vbb(raw / "annotations" / "set06" / "V000.vbb", [annotate(number) for number in range(40)])
    message, findings = refused(tmp_path)
    assert "2 annotation missing" in message
    missing = [line for line in findings if line.startswith("annotation missing\t")]
    assert missing[0].startswith("annotation missing\ttest: set06/V000/I00059: ")
    assert missing[0].endswith("V000.vbb has 40 frames")
    assert missing[1:] == ["annotation missing\ttest: set07/V001.vbb"]
    (raw / "annotations" / "set06" / "V000.vbb").write_bytes(b"nothing of the kind")
    message, findings = refused(tmp_path)
    assert "1 annotation missing" in message
    assert "1 annotation unreadable" in message


def test_missing_texts_of_new_annotations_are_named(tmp_path, raw):
    write_texts(raw, TRAIN + TEST[:2])
    (raw / "anno_new" / "set06_V000_I00059.jpg.txt").write_text("person 1 2\n")
    message, findings = refused(tmp_path, annotations="new")
    assert "1 annotation unreadable, 1 annotation missing" in message
    assert "annotation missing\ttest: set07/V001/I00029" in findings
    assert any("set06_V000_I00059.jpg.txt: line 1: 3 fields instead of 12" in line for line in findings)


def test_training_videos_may_be_missing_with_a_warning_but_not_be_all_unreadable(tmp_path, raw, monkeypatch):
    monkeypatch.setitem(frames.VIDEOS, "train", ("set00/V000", "set00/V001"))
    (warning,) = prepare(tmp_path).info.metadata["warnings"]
    assert warning == "incomplete training split: 1 of 2 videos are left out, and 0 images of the others"
    (raw / "videos" / "set00" / "V000.seq").write_bytes(b"no video")
    with pytest.raises(InputError, match="nothing usable for the split train"):
        prepare(tmp_path, train_skip=3)


def test_copy_of_the_test_videos_alone_can_be_scored_on(tmp_path, raw, capsys):
    shutil.rmtree(raw / "videos" / "set00")
    builder = prepare(tmp_path)
    assert "no training image is there: nothing can be trained on this data set" in capsys.readouterr().out
    assert list(builder.info.splits) == ["test"]
    assert sources.warnings_of(builder) == ()


def test_boxes_without_size_and_outside_the_image_are_left_out_and_named(tmp_path, raw):
    objects = [
        ("person", (-10, 20, 30, 60), NOWHERE),
        ("person", (-40, 20, 30, 60), NOWHERE),
        ("person", (10, 480, 30, 60), NOWHERE),
        ("person", (10, 20, 0, 60), NOWHERE),
    ]
    write_vbb(raw / "annotations" / "set07" / "V001.vbb", [objects] * 30)
    builder = prepare(tmp_path)
    assert rows(read(builder, "test")[2]) == [("person", [-10, 20, 30, 60], 0, False)]
    (findings,) = (tmp_path / "data").rglob("findings.txt")
    lines = [line for line in findings.read_text().splitlines() if line.startswith("box ")]
    assert lines == [
        "box outside the image\ttest: set07/V001/I00029: person -40 20 30 60",
        "box outside the image\ttest: set07/V001/I00029: person 10 480 30 60",
        "box of no size\ttest: set07/V001/I00029: person 10 20 0 60",
    ]


def test_folder_without_videos_says_what_was_looked_for(tmp_path):
    (tmp_path / "raw").mkdir()
    with pytest.raises(InputError, match=r"no video of Caltech found. Expected files like set00/V000\.seq"):
        prepare(tmp_path)


# ---- The builder and the command


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"annotations": "improved"}, r"annotations is 'improved'; it must be one of: original, new\."),
        ({"train_skip": 0}, "train_skip must be a whole number of at least 1, not 0"),
        ({"train_skip": True}, "train_skip must be a whole number of at least 1, not True"),
        ({"train_skip": 3.0}, "train_skip must be a whole number of at least 1, not 3.0"),
    ],
)
def test_option_out_of_range_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        CaltechConfig(**options)


def test_names_of_configs():
    assert [config.name for config in CaltechPedestrian.BUILDER_CONFIGS] == [
        "original-train_skip_3",
        "new-train_skip_3",
    ]


def test_a_run_prepares_it_by_its_name(tmp_path, raw):
    data = baseline.get_config("synthetic").data
    data.name, data.data_dir, data.manual_dir = "caltech_pedestrian", str(tmp_path / "data"), str(raw)
    data.options = {"annotations": "original", "train_skip": 3}
    assert "21 train" in sources.describe(sources.prepare(data))
    data.options.moon = 1
    with pytest.raises(InputError, match=r"config\.data\.options: .*moon"):
        sources.prepare(data)


def test_without_a_copy_it_says_how_to_get_one(tmp_path):
    with pytest.raises(InputError, match=r"is not prepared in .*\nCaltech Pedestrians cannot be downloaded") as error:
        open_builder(str(tmp_path)).download_and_prepare()
    assert "python -m datasets.caltech_pedestrian.prepare --manual_dir=FOLDER" in str(error.value)


def test_command_prepares_and_says_what_is_there_the_second_time(tmp_path, raw, capsys):
    arguments = [f"--manual_dir={raw}", f"--data_dir={tmp_path}/data"]
    main(arguments)
    printed = capsys.readouterr().out
    assert f"prepared: caltech_pedestrian/original-train_skip_3/1.0.0, in {tmp_path}/data" in printed
    main(arguments)
    again = capsys.readouterr().out
    assert "prepared already, in " in again
    assert "test: images                         3" in again


def test_command_prepares_what_the_recipe_opens(tmp_path, raw):
    main([f"--manual_dir={raw}", f"--data_dir={tmp_path}/data"])
    data = finetune.get_config("caltech").data
    data.data_dir = str(tmp_path / "data")
    assert "21 train" in sources.describe(sources.prepare(data))


def test_mistake_ends_the_command_with_one_message_and_status_1(tmp_path):
    command = [sys.executable, "-m", "datasets.caltech_pedestrian.prepare", "--manual_dir=absent"]
    done = subprocess.run(
        [*command, f"--data_dir={tmp_path}"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: absent: no such folder.\nCaltech Pedestrians cannot be downloaded")


def test_prepared_data_can_be_read_by_whoever_knows_only_its_folder(tmp_path, raw):
    folder = prepare(tmp_path).data_path
    content = json.loads((Path(folder) / "dataset_info.json").read_text())
    assert content["name"] == "caltech_pedestrian"
    assert names(read(tfds.builder_from_directory(folder), "test")) == TEST
