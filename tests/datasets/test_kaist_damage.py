"""Damaged copies of KAIST: all problems are counted and listed. Shared behaviour is in test_fetched."""

import pytest
from kaist_copies import (
    TEST,
    TRAIN,
    VIDEO_TREE,
    encoded,
    make_annotations,
    make_images,
    place,
    prepare_copy,
    write,
)
from prepared_data import findings_of, names, read, rows

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


def rewrite(content, problem):
    """Return a damage that replaces the annotation file, and its finding."""

    def damage(raw, image_id):
        path = place(raw, ANNOTATIONS, image_id)
        write(path, content)
        return "annotation unreadable", f"{path}: {problem}"

    return damage


FATAL = {
    "no visible image": remove("visible"),
    "no lwir image": remove("lwir"),
    "JPEG padded with zeros": replace(encoded(".jpg")[:4000] + bytes(5000), "cut off: its end is missing"),
    "PNG cut off in its header": replace(encoded(".png")[:20], "cannot be read (not an image, 20 bytes)", ".png"),
    "image of another size": replace(
        encoded(".jpg", 320, 256), "320x256 pixels; expected 640x512, in which the boxes are annotated"
    ),
    "link to nothing": link_to_nothing,
    "no annotation": remove_annotation,
    "annotation cut off": rewrite(
        "% bbGt version=3\nperson 10 20 30 60 1 0 0 0 0 0 0\nperson 10 20",
        "line 3: 3 fields instead of 12, label x y w h occ vx vy vw vh ignore angle",
    ),
    "annotation that is no text": rewrite(b"\xff\xd8\xff\xe0", "is not a text file"),
}


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("damage", FATAL.values(), ids=FATAL)
def test_damaged_frame_is_left_out_listed_and_counted(tmp_path, raw, capsys, damage, split):
    kind, text = damage(raw, {"train": TRAIN, "test": TEST}[split][1])
    if split == "test":
        with pytest.raises(InputError, match=f"the test split is incomplete: 1 {kind}; .* Get the missing files, or "):
            prepare_copy(tmp_path)
    builder = prepare_copy(tmp_path, allow_incomplete=split == "test")
    assert names(read(builder, "train")) == [TRAIN[0], *TRAIN[1 + (split == "train") :]]
    assert names(read(builder, "test")) == [TEST[0], *TEST[1 + (split == "test") :]]
    assert findings_of(tmp_path / "data") == [(kind, f"{split}: {text}")]
    assert f"\n{kind}: 1\n  {split}: {text}\n" in capsys.readouterr().out
    warnings = builder.info.metadata["warnings"]
    (warning,) = [one for one in warnings if one != DOUBT]
    assert warning.startswith(f"incomplete {split} split: 1 of 3 images are left out")
    assert len(warnings) == 2


def annotate(line):
    def change(raw, image_id):
        path = place(raw, ANNOTATIONS, image_id)
        write(path, path.read_text() + line + " 0 0 0 0 0 0 0\n")
        return path

    return change


def add(layout):
    def change(raw, image_id):
        path = place(raw, layout, image_id, "visible")
        write(path, encoded(".png"))
        return path

    return change


HARMLESS = {
    "unknown label": (annotate("tree 10 20 30 60"), "unknown label", "{split}: {path}: 'tree'", ["tree"]),
    "box without width": (annotate("cyclist 10 20 0 60"), "box of no size", "{split}: {path}: cyclist 10 20 0 60", []),
    "box outside the image": (
        annotate("cyclist 640 20 30 60"),
        "box outside the image",
        "{split}: {image_id}: cyclist 640 20 30 60",
        [],
    ),
    "image of no known modality": (
        add("depth/{flat}.png"),
        "image file that is not used",
        "{path}: neither visible nor lwir by its path",
        [],
    ),
    "second file of an image": (
        add("again/{flat}_{modality}.png"),
        "image file that is not used",
        "{image}: {image_id} visible is {path} already",
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
    text = text.format(split=split, path=path, image_id=image_id, image=image(raw, image_id))
    assert findings_of(tmp_path / "data") == [(kind, text)]
    assert f"\n{kind}: 1\n  {text}\n" in capsys.readouterr().out
    assert builder.info.metadata["warnings"] == [DOUBT]


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


def test_findings_of_a_repaired_copy_are_deleted(tmp_path, raw):
    content = image(raw, TEST[0]).read_bytes()
    image(raw, TEST[0]).unlink()
    with pytest.raises(InputError):
        prepare_copy(tmp_path)
    assert findings_of(tmp_path / "data")
    image(raw, TEST[0]).write_bytes(content)
    assert len(read(prepare_copy(tmp_path), "test")) == 3
    assert findings_of(tmp_path / "data") == []
