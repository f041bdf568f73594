"""Damaged copies of KAIST: everything amiss is counted and listed, and no half data set is ever left."""

import errno
import fcntl
import shutil
import subprocess
import sys

import pytest
import tensorflow_datasets as tfds
from kaist_copies import (
    TEST,
    TRAIN,
    VIDEO_TREE,
    encoded,
    files,
    make_annotations,
    make_images,
    names,
    open_copy,
    place,
    prepare,
    read,
    rows,
    run,
    write,
)

from datasets import records
from dcrl_jax.errors import InputError

ANNOTATIONS = "annotations/{video}/{frame}.txt"
UNTOLD = (
    "test annotations: annotations has all test frames of no video; whether it is the original or the improved ones "
    "cannot be told"
)


@pytest.fixture
def raw(tmp_path):
    make_images(tmp_path / "raw")
    make_annotations(tmp_path / "raw")
    return tmp_path / "raw"


def findings_of(tmp_path):
    """The lines of the one file of findings, as kind and text; none where there is no file."""
    found = list((tmp_path / "data").rglob("findings.txt"))
    return [tuple(line.split("\t")) for path in found for line in path.read_text().splitlines()]


def image(raw, image_id, modality="visible"):
    return place(raw, VIDEO_TREE, image_id, modality)


def remove(modality):
    def damage(raw, image_id):
        image(raw, image_id, modality).unlink()
        return "image missing", f"{image_id} {modality}"

    return damage


def replace(content, problem, suffix=".jpg"):
    """Other content for the thermal image, and what is said about it."""

    def damage(raw, image_id):
        path = image(raw, image_id, "lwir")
        path.unlink()
        path = path.with_suffix(suffix)
        path.write_bytes(content)
        return "image unreadable", f"{path}: {problem}"

    return damage


def link_to_nothing(raw, image_id):
    path = image(raw, image_id)
    path.unlink()
    path.symlink_to(raw / "absent.jpg")
    return "image unreadable", f"{path}: cannot be read (No such file or directory, 0 bytes)"


def remove_annotation(raw, image_id):
    place(raw, ANNOTATIONS, image_id).unlink()
    return "annotation missing", image_id


def rewrite(content, kind, problem):
    """Another content of the annotation file, and what is said about it."""

    def damage(raw, image_id):
        path = place(raw, ANNOTATIONS, image_id)
        write(path, content)
        return kind, f"{path}: {problem}"

    return damage


def cut(suffix):
    return encoded(suffix)[: len(encoded(suffix)) // 2]


FATAL = {
    "no visible image": remove("visible"),
    "no lwir image": remove("lwir"),
    "JPEG cut off": replace(cut(".jpg"), "cut off: its end is missing"),
    "JPEG padded with zeros": replace(cut(".jpg") + bytes(5000), "cut off: its end is missing"),
    "PNG cut off": replace(cut(".png"), "cut off: its end is missing", ".png"),
    "PNG cut off within its header": replace(encoded(".png")[:20], "cannot be read (not an image, 20 bytes)", ".png"),
    "empty image": replace(b"", "cannot be read (not an image, 0 bytes)"),
    "text as image": replace(b"<html>log in</html>", "cannot be read (not an image, 19 bytes)"),
    "image of another size": replace(
        encoded(".jpg", 320, 256), "320x256 pixels; expected 640x512, in which the boxes are annotated"
    ),
    "image of another format": replace(encoded(".bmp"), "BMP image; expected JPEG or PNG", ".bmp"),
    "link to nothing": link_to_nothing,
    "no annotation": remove_annotation,
    "annotation of another format": rewrite(
        "0 0.5 0.5\n",
        "annotation unreadable",
        "3 fields in the first line; expected bbGt text (12 fields), `person|ignore x1 y1 x2 y2` or XML",
    ),
    "annotation cut off": rewrite(
        "% bbGt version=3\nperson 10 20 30 60 1 0 0 0 0 0 0\nperson 10 20",
        "annotation unreadable",
        "line 3: 3 fields instead of 12, label x y w h occ vx vy vw vh ignore angle",
    ),
    "annotation that is no text": rewrite(b"\xff\xd8\xff\xe0", "annotation unreadable", "is not a text file"),
}


@pytest.mark.parametrize("damage", FATAL.values(), ids=FATAL)
def test_damaged_training_frame_is_left_out_listed_and_counted(tmp_path, raw, capsys, damage):
    kind, text = damage(raw, TRAIN[1])
    builder = prepare(tmp_path)
    assert names(read(builder, "train")) == [TRAIN[0], TRAIN[2]]
    assert names(read(builder, "test")) == list(TEST)
    assert findings_of(tmp_path) == [(kind, f"train: {text}")]
    assert f"\n{kind}: 1\n  train: {text}\n" in capsys.readouterr().out
    assert builder.info.metadata["warnings"] == [
        "incomplete training split: 1 of 3 images are left out",
        UNTOLD,
    ]
    assert builder.info.metadata["table"].splitlines()[2].split() == ["train:", "pairs", "2", "1", "1"]


@pytest.mark.parametrize("damage", FATAL.values(), ids=FATAL)
def test_damaged_test_frame_is_an_error_unless_incomplete_data_are_allowed(tmp_path, raw, capsys, damage):
    kind, text = damage(raw, TEST[1])
    builder = open_copy(tmp_path)
    with pytest.raises(InputError) as caught:
        run(builder, raw)
    findings = f"kaist/{builder.builder_config.name}/findings.txt"
    assert str(caught.value).startswith(
        f"the test split is incomplete: 1 {kind}; {tmp_path / 'data' / findings} lists them. Get the missing files, or "
    )
    assert "--allow_incomplete" in str(caught.value)
    assert files(tmp_path / "data") == ["kaist/.lock", findings]
    assert findings_of(tmp_path) == [(kind, f"test: {text}")]
    assert f"\n{kind}: 1\n  test: {text}\n" in capsys.readouterr().out

    builder = prepare(tmp_path, allow_incomplete=True)
    assert names(read(builder, "test")) == [TEST[0], TEST[2]]
    first, second = builder.info.metadata["warnings"]
    assert first == UNTOLD
    assert second.startswith("incomplete test split: 1 of 3 images are left out; scores on it are not comparable")
    assert f"\nwarning: {second}\n" in capsys.readouterr().out
    assert findings_of(tmp_path) == [(kind, f"test: {text}")]
    # Whoever opens the data later is told as well.
    assert open_copy(tmp_path).info.metadata["warnings"] == [first, second]


def annotate(line):
    def change(raw, image_id):
        path = place(raw, ANNOTATIONS, image_id)
        write(path, path.read_text() + line + " 0 0 0 0 0 0 0\n")
        return path

    return change


def add_unknown_modality(raw, image_id):
    path = place(raw, "depth/{flat}.png", image_id)
    write(path, encoded(".png"))
    return path


def copy_image(raw, image_id):
    path = place(raw, "again/{flat}_{modality}.png", image_id, "visible")
    write(path, encoded(".png"))
    return path


HARMLESS = {
    "unknown label": (annotate("tree 10 20 30 60"), "unknown label", "{split}: {path}: 'tree'", ["tree"]),
    "box without width": (
        annotate("cyclist 10 20 0 60"),
        "box of no size",
        "{split}: {path}: cyclist 10 20 0 60",
        [],
    ),
    "box of negative height": (
        annotate("cyclist 10 20 30 -6"),
        "box of no size",
        "{split}: {path}: cyclist 10 20 30 -6",
        [],
    ),
    "box right of the image": (
        annotate("cyclist 640 20 30 60"),
        "box outside the image",
        "{split}: {image_id}: cyclist 640 20 30 60",
        [],
    ),
    "box above the image": (
        annotate("cyclist 10 -60 30 60"),
        "box outside the image",
        "{split}: {image_id}: cyclist 10 -60 30 60",
        [],
    ),
    "image of no known modality": (
        add_unknown_modality,
        "image file that is not used",
        "{path}: neither visible nor lwir by its path",
        [],
    ),
    "second file of an image": (
        copy_image,
        "image file that is not used",
        "{raw}/images/{image}: {image_id} visible is {path} already",
        [],
    ),
}


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize(("change", "kind", "text", "labels"), HARMLESS.values(), ids=HARMLESS)
def test_harmless_fault_is_listed_and_the_frame_stays(tmp_path, raw, capsys, split, change, kind, text, labels):
    image_id = {"train": TRAIN, "test": TEST}[split][1]
    path = change(raw, image_id)
    builder = prepare(tmp_path)
    records = read(builder, split)
    assert len(records) == 3
    assert [label for label, *_ in rows(records[1])] == ["person", "people", *labels]
    video, _, frame = image_id.rpartition("/")
    text = text.format(split=split, path=path, image_id=image_id, raw=raw, image=f"{video}/visible/{frame}.jpg")
    assert findings_of(tmp_path) == [(kind, text)]
    assert f"\n{kind}: 1\n  {text}\n" in capsys.readouterr().out
    assert builder.info.metadata["warnings"] == [UNTOLD]


def test_box_that_lies_in_the_image_in_part_stays_as_annotated(tmp_path, raw):
    path = annotate("cyclist 639 511 30 60")(raw, TEST[0])
    annotate("cyclist -29.5 -59 30 60")(raw, TEST[0])
    record = read(prepare(tmp_path), "test")[0]
    assert [box for _, box, _, _ in rows(record)[2:]] == [[639, 511, 30, 60], [-29.5, -59, 30, 60]]
    assert findings_of(tmp_path) == []
    assert path.is_file()


def test_first_twenty_of_many_faults_are_shown_and_the_file_has_all(tmp_path, raw, capsys):
    absent = [f"set01/V000/I{number:05d}" for number in range(25)]
    builder = prepare(tmp_path, train=(*TRAIN, *absent))
    shown = capsys.readouterr().out
    images = [f"  train: {image_id} {modality}\n" for image_id in absent for modality in ("visible", "lwir")]
    assert f"\nimage missing: 50\n{''.join(images[:20])}  and 30 more\n" in shown
    annotations = [f"  train: {image_id}\n" for image_id in absent]
    assert f"\nannotation missing: 25\n{''.join(annotations[:20])}  and 5 more\n" in shown
    path = tmp_path / "data" / "kaist" / builder.builder_config.name / "findings.txt"
    assert f"all of these: {path}\n" in shown
    assert [f"  {text}\n" for kind, text in findings_of(tmp_path) if kind == "image missing"] == images
    assert [f"  {text}\n" for kind, text in findings_of(tmp_path) if kind == "annotation missing"] == annotations
    assert "incomplete training split: 25 of 28 images are left out" in builder.info.metadata["warnings"]


def test_error_counts_each_kind_of_fault_of_the_test_split(tmp_path, raw):
    for image_id in (TEST[0], TEST[1], TRAIN[0]):
        image(raw, image_id, "lwir").unlink()
    write(image(raw, TEST[0]), b"")
    place(raw, ANNOTATIONS, TEST[2]).unlink()
    with pytest.raises(
        InputError, match="the test split is incomplete: 1 annotation missing, 1 image unreadable, 2 image missing; "
    ):
        prepare(tmp_path)
    assert len(findings_of(tmp_path)) == 5


@pytest.mark.parametrize(("image_ids", "split"), [(TRAIN, "train"), (TEST, "test")])
def test_split_without_a_usable_pair_is_an_error_even_where_incomplete_data_are_allowed(
    tmp_path, raw, image_ids, split
):
    for image_id in image_ids:
        image(raw, image_id).unlink()
    with pytest.raises(InputError, match=f"nothing usable for the split {split}; .*findings.txt says what is wrong"):
        prepare(tmp_path, allow_incomplete=True)
    assert [name for name in files(tmp_path / "data") if "findings" not in name] == ["kaist/.lock"]


def test_copy_of_the_test_half_alone_can_be_scored_on_as_a_whole_one_can(tmp_path, raw, capsys):
    whole = read(prepare(tmp_path), "test")
    shutil.rmtree(tmp_path / "data")
    for image_id in TRAIN:
        for modality in ("visible", "lwir"):
            image(raw, image_id, modality).unlink()
    capsys.readouterr()
    builder = prepare(tmp_path)
    assert "no training image is there: nothing can be trained on this data set" in capsys.readouterr().out
    assert not [text for text in builder.info.metadata["warnings"] if "train" in text]
    assert "train" not in builder.info.metadata["table"]
    assert str(read(builder, "test")) == str(whole)
    assert list(builder.info.splits) == ["test"]


def test_findings_of_a_copy_that_was_mended_are_gone(tmp_path, raw):
    path = image(raw, TEST[0])
    content = path.read_bytes()
    path.unlink()
    with pytest.raises(InputError):
        prepare(tmp_path)
    assert findings_of(tmp_path)
    path.write_bytes(content)
    assert len(read(prepare(tmp_path), "test")) == 3
    assert findings_of(tmp_path) == []


def test_what_a_killed_preparation_left_is_removed(tmp_path, raw):
    builder = open_copy(tmp_path)
    leftover = tmp_path / "data" / "kaist" / builder.builder_config.name / "incomplete.A1B2C3_1.0.0"
    write(leftover / "kaist-train.array_record-00000-of-00026", "half")
    run(builder, raw)
    assert not leftover.exists()
    assert len(read(builder, "train")) == 3


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, OSError], ids=lambda one: one.__name__)
@pytest.mark.parametrize("record", [2, 5], ids=["in train", "in test"])
def test_preparation_that_ends_in_the_middle_of_writing_leaves_nothing_and_can_be_repeated(
    tmp_path, raw, monkeypatch, error, record
):
    objects, calls = records.objects, []

    def fail(annotations):
        calls.append(annotations)
        if len(calls) == record:
            raise error("in the middle")
        return objects(annotations)

    builder = open_copy(tmp_path)
    monkeypatch.setattr(records, "objects", fail)
    with pytest.raises(error):
        run(builder, raw)
    assert len(calls) == record
    folder = tmp_path / "data" / "kaist" / builder.builder_config.name
    assert list(folder.iterdir()) == []
    assert not list(tmp_path.rglob("*.array_record*"))
    for again in (run(builder, raw), open_copy(tmp_path)):
        assert names(read(again, "train")) == list(TRAIN)
        assert names(read(again, "test")) == list(TEST)
        assert again.info.metadata["warnings"] == [UNTOLD]


HOLDER = """
import fcntl, sys
file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def test_second_process_is_refused_while_the_first_prepares_and_not_afterwards(tmp_path, raw):
    lock = tmp_path / "data" / "kaist" / ".lock"
    write(lock, "")
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout.readline() == "held\n"
        builder = open_copy(tmp_path)
        leftover = tmp_path / "data" / "kaist" / builder.builder_config.name / "incomplete.A1B2C3_1.0.0"
        write(leftover / "kaist-train.array_record-00000-of-00026", "being written")
        with pytest.raises(InputError, match=rf"another process is preparing kaist in {lock.parent}; wait for it"):
            run(builder, raw)
        assert len(files(leftover)) == 1
        first.kill()
    assert len(read(run(builder, raw), "train")) == 3
    assert not leftover.exists()


def test_builder_made_before_another_prepared_the_data_reads_them(tmp_path, raw):
    builder = open_copy(tmp_path)
    prepare(tmp_path)
    assert names(read(run(builder, raw), "test")) == list(TEST)
    assert builder.info.metadata["warnings"] == [UNTOLD]


def test_file_system_without_locks_is_not_taken_for_another_process(tmp_path, raw, monkeypatch, capsys):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert prepare(tmp_path).info.splits["test"].num_examples == len(TEST)
    assert "cannot be locked (No locks available)" in capsys.readouterr().out


def test_no_manual_folder_says_how_to_get_a_copy(tmp_path):
    builder = open_copy(tmp_path)
    for config in (None, tfds.download.DownloadConfig()):
        with pytest.raises(InputError, match=r"is not prepared in .*\nKAIST cannot be downloaded"):
            builder.download_and_prepare(download_config=config)
    assert not (tmp_path / "data").exists()
