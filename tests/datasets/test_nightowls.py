"""NightOwls prepared from a small copy."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow_datasets as tfds
from nightowls_files import annotation, image, png, write_annotations

from configs import baseline
from datasets.nightowls import nightowls, open_builder
from datasets.nightowls.prepare import main
from dcrl_jax.data import records, sources, transforms
from dcrl_jax.errors import InputError
from dcrl_jax.evaluation.truths import read_truths

REPOSITORY = Path(__file__).parents[2]
TRAIN = [image(3, "day"), image(1, "night"), image(2, "dawn")]
VALIDATION = [image(11, "night"), image(12, "night")]


@pytest.fixture
def raw(tmp_path):
    root = tmp_path / "raw"
    boxes = [annotation(3, (10, 20, 30, 60)), annotation(3, (-5, 20, 30, 60), occluded=True)]
    boxes += [annotation(1, (500, 100, 400, 300), 4), annotation(1, (7, 8, 30, 60), 2)]
    write_annotations(root / "nightowls_training.json", TRAIN, boxes)
    people = [annotation(11, (10, 20, 30, 60), occluded=None), annotation(12, (2000, 20, 30, 60))]
    write_annotations(root / "nightowls_validation.json", VALIDATION, people)
    for split, images in (("training", TRAIN), ("validation", VALIDATION)):
        (root / f"nightowls_{split}").mkdir()
        for one in images:
            (root / f"nightowls_{split}" / one["file_name"]).write_bytes(png(grey=one["id"]))
    return root


def prepare(folder, **options):
    builder = open_builder(str(folder / "data"), **options)
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=str(folder / "raw")))
    return builder


def read(builder, split):
    return list(records.open_split(builder, split))


def rows(record):
    objects = record["objects"]
    columns = (
        [label.decode() for label in objects["label"]],
        [box.tolist() for box in objects["box"]],
        [int(level) for level in objects["occlusion"]],
        [bool(ignore) for ignore in objects["ignore"]],
    )
    return list(zip(*columns, strict=True))


def test_whole_copy_has_images_hours_and_boxes_as_they_are(tmp_path, raw, monkeypatch):
    monkeypatch.setattr(nightowls, "_SHARD", 2)
    builder = prepare(tmp_path)
    assert builder.info.full_name == "nightowls/1.0.0"
    train = read(builder, "train")
    assert [record["image_id"].decode() for record in train] == ["3", "1", "2"]
    assert [record["condition"] for record in train] == [0, 1, 2]
    assert builder.info.features["condition"].names == ["day", "night", "dawn"]
    assert [record["visible"] for record in train] == [png(grey=number) for number in (3, 1, 2)]
    assert [rows(record) for record in train] == [
        [("person", [10, 20, 30, 60], 0, False), ("person", [-5, 20, 30, 60], 2, False)],
        [("ignore", [500, 100, 400, 300], 0, True), ("bicycledriver", [7, 8, 30, 60], 0, False)],
        [],
    ]
    assert all("lwir" not in record for record in train)
    validation = read(builder, "validation")
    # The second image's person lies wholly outside it.
    assert [rows(record) for record in validation] == [[("person", [10, 20, 30, 60], 0, False)], []]
    assert (tmp_path / "data" / "nightowls" / "findings.txt").read_text() == (
        "box outside the image\tvalidation: 58c12.png: person 2000 20 30 60\n"
    )
    assert builder.info.metadata["warnings"] == []
    assert [line.split() for line in builder.info.metadata["table"].splitlines()] == [
        ["all", "day", "night", "dawn"],
        ["train:", "images", "annotated", "3", "1", "1", "1"],
        ["train:", "images", "3", "1", "1", "1"],
        ["train:", "images", "without", "a", "person", "2", "0", "1", "1"],
        ["train:", "people", "2", "2", "0", "0"],
        ["train:", "riders", "1", "0", "1", "0"],
        ["train:", "ignore", "areas", "1", "0", "1", "0"],
        ["validation:", "images", "annotated", "2", "0", "2", "0"],
        ["validation:", "images", "2", "0", "2", "0"],
        ["validation:", "images", "without", "a", "person", "1", "0", "1", "0"],
        ["validation:", "people", "1", "0", "1", "0"],
        ["validation:", "riders", "0", "0", "0", "0"],
        ["validation:", "ignore", "areas", "0", "0", "0", "0"],
    ]


def test_records_decode_and_dawn_is_not_night(tmp_path, raw):
    source = records.open_split(prepare(tmp_path), "train")
    pairs = [transforms.decode(source[place], ("visible",)) for place in range(3)]
    assert [pair["is_night"] for pair in pairs] == [False, True, False]
    assert pairs[0]["boxes"].tolist() == [[10, 20, 40, 80], [0, 20, 25, 80]]
    _, is_ignore = transforms.filter_boxes(transforms.BoxFilter(), *(pairs[1][key] for key in KEYS))
    assert is_ignore.tolist() == [True, False]
    assert [one.condition for one in read_truths(source).images] == ["day", "night", "dawn"]


KEYS = ("annotated", "labels", "occlusion", "ignore")


def refused(tmp_path, **options):
    with pytest.raises(InputError) as error:
        prepare(tmp_path, **options)
    assert not list((tmp_path / "data").rglob("*array_record*"))
    return str(error.value)


def test_missing_cut_and_foreign_validation_images_are_named(tmp_path, raw, capsys):
    folder = raw / "nightowls_validation"
    (folder / "58c11.png").unlink()
    (folder / "58c12.png").write_bytes(png()[:-20])
    assert refused(tmp_path).startswith("the validation split is incomplete: 1 image missing, 1 image unreadable; ")
    printed = capsys.readouterr().out
    assert f"image missing: 1\n  validation: {folder}/58c11.png\n" in printed
    assert f"image unreadable: 1\n  validation: {folder}/58c12.png: cut off: its end is missing\n" in printed
    (folder / "58c11.png").write_bytes(png(320, 200))
    assert "2 image unreadable" in refused(tmp_path)
    assert "58c11.png: 320x200 pixels; expected 1024x640, in which the boxes are annotated" in capsys.readouterr().out
    (folder / "58c12.png").write_bytes(png())
    builder = prepare(tmp_path, allow_incomplete=True)
    assert len(read(builder, "validation")) == 1
    assert sources.warnings_of(builder) == (
        "incomplete validation split: 1 of 2 images are left out; scores on it are not comparable with others",
    )


def test_missing_training_images_are_a_warning_unless_all_are(tmp_path, raw):
    for name in ("58c1.png", "58c2.png"):
        (raw / "nightowls_training" / name).unlink()
    (warning,) = prepare(tmp_path).info.metadata["warnings"]
    assert warning == "incomplete train split: 2 of 3 images are left out"
    (raw / "nightowls_training" / "58c3.png").write_bytes(b"GIF")
    (tmp_path / "again").mkdir()
    raw.rename(tmp_path / "again" / "raw")
    with pytest.raises(InputError, match="nothing usable for the split train"):
        prepare(tmp_path / "again")


def test_copy_of_the_validation_images_alone_can_be_scored_on(tmp_path, raw, capsys):
    shutil.rmtree(raw / "nightowls_training")
    (raw / "nightowls_training.json").unlink()
    builder = prepare(tmp_path)
    assert "no training image is there: nothing can be trained on this data set" in capsys.readouterr().out
    assert len(read(builder, "validation")) == 2
    with pytest.raises(InputError, match=r"it has validation\. If the copy that it was prepared from lacked the split"):
        read(builder, "train")


def test_what_is_not_there_is_listed(tmp_path, raw):
    (raw / "nightowls_validation.json").unlink()
    message = refused(tmp_path)
    assert message.endswith(f"not a whole one. Not there:\n  {raw}/nightowls_validation.json")


def test_a_run_prepares_it_by_its_name(tmp_path, raw):
    data = baseline.get_config("synthetic").data
    data.name, data.data_dir, data.manual_dir = "nightowls", str(tmp_path / "data"), str(raw)
    data.options = {"allow_incomplete": False}
    assert "3 train, 2 validation" in sources.describe(sources.prepare(data))


def test_without_a_copy_it_says_how_to_get_one(tmp_path):
    with pytest.raises(InputError, match=r"is not prepared in .*\nNightOwls cannot be downloaded") as error:
        open_builder(str(tmp_path)).download_and_prepare()
    assert "python -m datasets.nightowls.prepare --manual_dir=FOLDER" in str(error.value)


def test_command_prepares_and_says_what_is_there_the_second_time(tmp_path, raw, capsys):
    arguments = [f"--manual_dir={raw}", f"--data_dir={tmp_path}/data"]
    main(arguments)
    assert f"prepared: nightowls/1.0.0, in {tmp_path}/data" in capsys.readouterr().out
    main(arguments)
    assert "prepared already, in " in capsys.readouterr().out


def test_mistake_ends_the_command_with_one_message_and_status_1(tmp_path):
    command = [sys.executable, "-m", "datasets.nightowls.prepare", "--manual_dir=absent", f"--data_dir={tmp_path}"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: absent: no such folder.\nNightOwls cannot be downloaded")
