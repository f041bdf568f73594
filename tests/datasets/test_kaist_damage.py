"""Damaged copies of KAIST: all problems are counted and listed, and nothing incomplete is left."""

import pytest
from kaist_copies import (
    TEST,
    TRAIN,
    VIDEO_TREE,
    encoded,
    make_annotations,
    make_images,
    open_copy,
    place,
    prepare_copy,
    write,
)
from prepared_data import files_below, findings_of, names, prepare, read, rows

from dcrl_jax.errors import InputError

ANNOTATIONS = "annotations/{video}/{frame}.txt"
DOUBT = (
    "test annotations: annotations has all test frames of no video, so it cannot be told whether these are the "
    "original or the improved annotations"
)


@pytest.fixture
def raw(tmp_path):
    make_images(tmp_path / "raw")
    make_annotations(tmp_path / "raw")
    return tmp_path / "raw"


def image(raw, image_id, modality="visible"):
    return place(raw, VIDEO_TREE, image_id, modality)


def remove(modality):
    def damage(raw, image_id):
        image(raw, image_id, modality).unlink()
        return "image missing", f"{image_id} {modality}"

    return damage


def replace(content, problem, suffix=".jpg"):
    """Return a damage that replaces the thermal image, and its finding."""

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
    """Return a damage that replaces the annotation file, and its finding."""

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
    builder = prepare_copy(tmp_path)
    assert names(read(builder, "train")) == [TRAIN[0], TRAIN[2]]
    assert names(read(builder, "test")) == list(TEST)
    assert findings_of(tmp_path / "data") == [(kind, f"train: {text}")]
    assert f"\n{kind}: 1\n  train: {text}\n" in capsys.readouterr().out
    assert builder.info.metadata["warnings"] == [
        "incomplete train split: 1 of 3 images are left out",
        DOUBT,
    ]
    assert builder.info.metadata["table"].splitlines()[2].split() == ["train:", "pairs", "2", "1", "1"]


@pytest.mark.parametrize("damage", FATAL.values(), ids=FATAL)
def test_damaged_test_frame_is_an_error_unless_allowed(tmp_path, raw, capsys, damage):
    kind, text = damage(raw, TEST[1])
    builder = open_copy(tmp_path)
    with pytest.raises(InputError) as caught:
        prepare(builder, raw)
    findings = f"kaist/{builder.builder_config.name}/findings.txt"
    assert str(caught.value).startswith(
        f"the test split is incomplete: 1 {kind}; {tmp_path / 'data' / findings} lists them. Get the missing files, or "
    )
    assert "--allow_incomplete" in str(caught.value)
    assert files_below(tmp_path / "data") == ["kaist/.lock", findings]
    assert findings_of(tmp_path / "data") == [(kind, f"test: {text}")]
    assert f"\n{kind}: 1\n  test: {text}\n" in capsys.readouterr().out

    builder = prepare_copy(tmp_path, allow_incomplete=True)
    assert names(read(builder, "test")) == [TEST[0], TEST[2]]
    first, second = builder.info.metadata["warnings"]
    assert first == DOUBT
    assert second.startswith("incomplete test split: 1 of 3 images are left out; scores on it are not comparable")
    assert f"\nwarning: {second}\n" in capsys.readouterr().out
    assert findings_of(tmp_path / "data") == [(kind, f"test: {text}")]
    # Opened later, the data still have the warnings.
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
def test_harmless_problem_is_listed_and_the_frame_stays(tmp_path, raw, capsys, split, change, kind, text, labels):
    image_id = {"train": TRAIN, "test": TEST}[split][1]
    path = change(raw, image_id)
    builder = prepare_copy(tmp_path)
    records = read(builder, split)
    assert len(records) == 3
    assert [label for label, *_ in rows(records[1])] == ["person", "people", *labels]
    video, _, frame = image_id.rpartition("/")
    text = text.format(split=split, path=path, image_id=image_id, raw=raw, image=f"{video}/visible/{frame}.jpg")
    assert findings_of(tmp_path / "data") == [(kind, text)]
    assert f"\n{kind}: 1\n  {text}\n" in capsys.readouterr().out
    assert builder.info.metadata["warnings"] == [DOUBT]


def test_box_partly_in_the_image_stays_as_annotated(tmp_path, raw):
    path = annotate("cyclist 639 511 30 60")(raw, TEST[0])
    annotate("cyclist -29.5 -59 30 60")(raw, TEST[0])
    record = read(prepare_copy(tmp_path), "test")[0]
    assert [box for _, box, _, _ in rows(record)[2:]] == [[639, 511, 30, 60], [-29.5, -59, 30, 60]]
    assert findings_of(tmp_path / "data") == []
    assert path.is_file()


def test_error_counts_each_kind_of_finding_on_the_test_split(tmp_path, raw):
    for image_id in (TEST[0], TEST[1], TRAIN[0]):
        image(raw, image_id, "lwir").unlink()
    write(image(raw, TEST[0]), b"")
    place(raw, ANNOTATIONS, TEST[2]).unlink()
    with pytest.raises(
        InputError, match="the test split is incomplete: 1 annotation missing, 1 image unreadable, 2 image missing; "
    ):
        prepare_copy(tmp_path)
    assert len(findings_of(tmp_path / "data")) == 5


@pytest.mark.parametrize(("image_ids", "split"), [(TRAIN, "train"), (TEST, "test")])
def test_split_without_a_usable_pair_is_always_an_error(tmp_path, raw, image_ids, split):
    for image_id in image_ids:
        image(raw, image_id).unlink()
    with pytest.raises(InputError, match=f"nothing usable for the split {split}; .*findings.txt lists the problems"):
        prepare_copy(tmp_path, allow_incomplete=True)
    assert [name for name in files_below(tmp_path / "data") if "findings" not in name] == ["kaist/.lock"]


def test_findings_of_a_repaired_copy_are_deleted(tmp_path, raw):
    path = image(raw, TEST[0])
    content = path.read_bytes()
    path.unlink()
    with pytest.raises(InputError):
        prepare_copy(tmp_path)
    assert findings_of(tmp_path / "data")
    path.write_bytes(content)
    assert len(read(prepare_copy(tmp_path), "test")) == 3
    assert findings_of(tmp_path / "data") == []
