"""Search for KAIST's files: every layout of the copies in use, with empty files."""

from pathlib import Path

import pytest

from dcrl_jax.annotations.kaist import folders
from dcrl_jax.annotations.types import MODALITIES
from dcrl_jax.errors import InputError

IDS = ("set00/V000/I01217", "set06/V001/I00019")
FLAT = tuple(one.replace("/", "_") for one in IDS)


def make(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def relative(root, by_modality):
    return {
        modality: {one: path.relative_to(root).as_posix() for one, path in by_id.items()}
        for modality, by_id in by_modality.items()
    }


def annotations(root, *names):
    """Make the files and return those of each annotation set, by its name, then by modality and image id."""
    make(root, *names)
    return {found.name: relative(root, found.files) for found in folders.index_annotations(root)}


# Of each layout: the files of both frames by modality, and its description.
LAYOUTS = {
    "video tree": (
        ["images/set00/V000/{visible}/I01217.jpg", "images/set06/V001/{visible}/I00019.jpg"],
        "video tree, images/setNN/VNNN/{modality}/INNNNN.jpg: 4 files",
    ),
    "video tree without images/": (
        ["set00/V000/{visible}/I01217.png", "set06/V001/{visible}/I00019.png"],
        "video tree, setNN/VNNN/{modality}/INNNNN.png: 4 files",
    ),
    "video tree in folders of the modality": (
        ["{RGB}/set00/V000/I01217.png", "{RGB}/set06/V001/I00019.png"],
        "video tree, {modality}/setNN/VNNN/INNNNN.png: 4 files",
    ),
    "flat in folders of the modality": (
        [f"train/images/{{visible}}/{FLAT[0]}.png", f"test/images/{{visible}}/{FLAT[1]}.png"],
        "flat, {split}/images/{modality}/setNN_VNNN_INNNNN.png: 4 files",
    ),
    "flat with a suffix": (
        [f"train/images/{FLAT[0]}_{{visible}}.png", f"test/images/{FLAT[1]}_{{visible}}.png"],
        "flat, {split}/images/setNN_VNNN_INNNNN_{modality}.png: 4 files",
    ),
    "flat with the suffixes rgb and ir": (
        [f"train/images/{FLAT[0]}_{{rgb}}.png", f"test/images/{FLAT[1]}_{{rgb}}.png"],
        "flat, {split}/images/setNN_VNNN_INNNNN_{modality}.png: 4 files",
    ),
    "flat with the suffixes vi and thermal": (
        [f"train/images/{FLAT[0]}_{{vi}}.png", f"test/images/{FLAT[1]}_{{vi}}.png"],
        "flat, {split}/images/setNN_VNNN_INNNNN_{modality}.png: 4 files",
    ),
    "flat with the modality within the name": (
        ["set00_V000_{visible}_I01217.jpg", "set06_V001_{visible}_I00019.jpg"],
        "flat, setNN_VNNN_{modality}_INNNNN.jpg: 4 files",
    ),
    "ICAFusion": (
        [f"{{infrared}}/train/{FLAT[0]}.png", f"{{infrared}}/test/{FLAT[1]}.png"],
        "ICAFusion, {modality}/{split}/setNN_VNNN_INNNNN.png: 4 files",
    ),
    "upper case": (
        [f"Train/{{VISIBLE}}/{FLAT[0].upper()}.PNG", f"Test/{{VISIBLE}}/{FLAT[1]}.PNG"],
        "flat, {split}/{modality}/setNN_VNNN_INNNNN.PNG: 4 files",
    ),
    "modality of the name before that of a folder": (
        [f"ir/{FLAT[0]}_{{visible}}.png", "lwir/set06/V001/{visible}/I00019.png"],
        "flat, {modality}/setNN_VNNN_INNNNN_{modality}.png: 2 files; "
        "video tree, {modality}/setNN/VNNN/{modality}/INNNNN.png: 2 files",
    ),
    "modality of the nearest folder": (
        [f"rgb/lwir/{{visible}}/{FLAT[0]}.png", f"ir/{{visible}}/{FLAT[1]}.png"],
        "flat, {modality}/{modality}/setNN_VNNN_INNNNN.png: 2 files; "
        "flat, {modality}/{modality}/{modality}/setNN_VNNN_INNNNN.png: 2 files",
    ),
}
# By the word of a template: that of the visible and that of the thermal images.
WORDS = {
    "visible": ("visible", "lwir"),
    "RGB": ("RGB", "Thermal"),
    "rgb": ("rgb", "ir"),
    "vi": ("vi", "thermal"),
    "infrared": ("visible", "infrared"),
    "VISIBLE": ("Visible", "LWIR"),
}


@pytest.mark.parametrize(("templates", "layout"), LAYOUTS.values(), ids=LAYOUTS)
def test_images_of_each_layout_are_found(tmp_path, templates, layout):
    expected = {}
    for index, modality in enumerate(MODALITIES):
        words = {name: both[index] for name, both in WORDS.items()}
        expected[modality] = {one: template.format(**words) for one, template in zip(IDS, templates, strict=True)}
        make(tmp_path, *expected[modality].values())
    found = folders.index_images(tmp_path)
    assert relative(tmp_path, found.files) == expected
    assert found.unused == []
    assert found.layout == layout


def test_mixed_layouts_are_listed_the_most_frequent_first(tmp_path):
    make(tmp_path, f"visible/{FLAT[0]}.png", "set06/V001/visible/I00019.jpg", f"lwir/{FLAT[0]}.png")
    make(tmp_path, f"{FLAT[1]}_lwir.png")
    assert folders.index_images(tmp_path).layout == (
        "flat, {modality}/setNN_VNNN_INNNNN.png: 2 files; flat, setNN_VNNN_INNNNN_{modality}.png: 1 files; "
        "video tree, setNN/VNNN/{modality}/INNNNN.jpg: 1 files"
    )


@pytest.mark.parametrize(
    "names",
    [
        [],
        [
            "readme.png",
            "visible/readme.txt",
            "set00/V000/visible/.I01217.jpg",
            "set00/V000/visible/._I01217.jpg",
            ".cache/set00/V000/visible/I01217.jpg",
            "set00/V000/.thumbnails/visible/I01217.jpg",
            "set00/V000/visible/I01217.jpg.part",
            "set00/V000/visible/I01217.npy",
            "set00/V000/visible/I01217",
            "set00/V000/visible/I1217.jpg",
            "set00/V000/visible/I01217_flipped.jpg",
            "set00/V000/fused/I01217.jpg",
            "set00/V0/visible/I01217.jpg",
            "set0/V000/visible/I01217.jpg",
            f"visible/flipped_{FLAT[0]}.png",
            f"visible/{FLAT[0]}_depth.png",
            "visible/set\u0660\u0660_V000_I01217.png",  # Arabic digits
            "visible/\u017fet00_V000_I01217.png",  # the long s, which a pattern without case takes for an s
        ],
    ],
    ids=["none", "other and hidden files"],
)
def test_folder_without_frames_has_no_files(tmp_path, names):
    make(tmp_path, *names)
    assert folders.index_images(tmp_path) == ({"visible": {}, "lwir": {}}, [], "no images recognised")
    assert folders.index_annotations(tmp_path) == []


def test_missing_folder_is_named(tmp_path):
    for index in (folders.index_images, folders.index_annotations):
        with pytest.raises(InputError, match="absent: this folder cannot be read"):
            index(tmp_path / "absent")


def test_image_of_no_known_modality_is_reported(tmp_path):
    make(tmp_path, f"images/{FLAT[0]}.png")
    _, unused, layout = folders.index_images(tmp_path)
    assert unused == [f"{tmp_path}/images/{FLAT[0]}.png: neither visible nor lwir by its path"]
    assert layout == "no images recognised"


def test_repeated_image_is_reported_and_the_first_by_name_is_taken(tmp_path):
    make(tmp_path, "a/set00/V000/lwir/I01217.jpg", "b/set00/V000/lwir/I01217.jpg", f"{FLAT[0]}_lwir.png")
    make(tmp_path, "b/set00/V000/visible/I01217.jpg", "b/set00/V000/visible/I01217.JPG")
    index = folders.index_images(tmp_path)
    first = tmp_path / f"{FLAT[0]}_lwir.png"
    visible = tmp_path / "b/set00/V000/visible"
    assert index.files == {"lwir": {IDS[0]: first}, "visible": {IDS[0]: visible / "I01217.JPG"}}
    assert index.unused == [
        f"{tmp_path}/a/set00/V000/lwir/I01217.jpg: {IDS[0]} lwir is {first} already",
        f"{tmp_path}/b/set00/V000/lwir/I01217.jpg: {IDS[0]} lwir is {first} already",
        f"{visible}/I01217.jpg: {IDS[0]} visible is {visible}/I01217.JPG already",
    ]
    assert index.layout.count("1 files") == 2  # repeated images are not counted


def test_links_are_followed_but_not_in_circles(tmp_path):
    make(tmp_path / "elsewhere", "set00/V000/visible/I01217.jpg")
    root = tmp_path / "copy"
    root.mkdir()
    (root / "images").symlink_to(tmp_path / "elsewhere")
    (root / "images/set00/up").symlink_to(tmp_path / "elsewhere")
    (root / "images/set00/V000/here").symlink_to(".")
    (root / "again").symlink_to(root)
    index = folders.index_images(root)
    assert index.files["visible"] == {IDS[0]: root / "images/set00/V000/visible/I01217.jpg"}
    assert index.unused == []


def test_annotation_sets_are_named_by_their_folder(tmp_path):
    found = annotations(
        tmp_path,
        "annotations/set00/V000/I01217.txt",
        "annotations/set06/V001/I00019.TXT",
        "annotations-xml-new/set00/V000/I01217.xml",
        f"train/annotations/{FLAT[0]}.xml",
        f"test/annotations/{FLAT[1]}.xml",
        f"labels/set00/V000/{FLAT[0]}.txt",
        f"labels/set06/V001/{FLAT[1]}.txt",
        "set00/V000/I01217.txt",
        f"{FLAT[1]}.xml",
        "images/set00/V000/visible/I01217.jpg",
        "images/set00/V000/visible/I01217.txt",
        "images/set00/V000/visible/classes.txt",
    )
    assert found == {
        "annotations": {
            None: {IDS[0]: "annotations/set00/V000/I01217.txt", IDS[1]: "annotations/set06/V001/I00019.TXT"}
        },
        "annotations-xml-new": {None: {IDS[0]: "annotations-xml-new/set00/V000/I01217.xml"}},
        "train/annotations": {None: {IDS[0]: f"train/annotations/{FLAT[0]}.xml"}},
        "test/annotations": {None: {IDS[1]: f"test/annotations/{FLAT[1]}.xml"}},
        "labels": {None: {IDS[0]: f"labels/set00/V000/{FLAT[0]}.txt", IDS[1]: f"labels/set06/V001/{FLAT[1]}.txt"}},
        ".": {None: {IDS[0]: "set00/V000/I01217.txt", IDS[1]: f"{FLAT[1]}.xml"}},
        "images": {"visible": {IDS[0]: "images/set00/V000/visible/I01217.txt"}},
    }
    assert list(found) == sorted(found)
    assert not any(one.is_paired for one in folders.index_annotations(tmp_path))


@pytest.mark.parametrize(
    "pattern",
    [
        "annotations_paired/{set}/{video}/{modality}/{frame}.txt",
        "annotations_paired/{modality}/{set}/{video}/{frame}.txt",
        "annotations_paired/{set}_{video}_{frame}_{modality}.txt",
        "{modality}/annotations_paired/{set}_{video}_{frame}.xml",
    ],
)
def test_paired_annotations_are_recognised(tmp_path, pattern):
    names = {
        modality: {
            one: pattern.format(**dict(zip(("set", "video", "frame"), one.split("/"), strict=True)), modality=modality)
            for one in IDS
        }
        for modality in MODALITIES
    }
    make(tmp_path, *(name for by_id in names.values() for name in by_id.values()))
    assert annotations(tmp_path) == {"annotations_paired": names}
    (found,) = folders.index_annotations(tmp_path)
    assert found.is_paired
    assert found.frames() == set(IDS)


def test_annotations_of_one_modality_are_not_paired(tmp_path):
    make(tmp_path, "labels/set00/V000/lwir/I01217.txt", f"labels/{FLAT[1]}.txt")
    (found,) = folders.index_annotations(tmp_path)
    assert not found.is_paired
    assert found.frames() == set(IDS)
    assert set(found.files) == {"lwir", None}
    assert found.by_image() == {
        IDS[0]: tmp_path / "labels/set00/V000/lwir/I01217.txt",
        IDS[1]: tmp_path / f"labels/{FLAT[1]}.txt",
    }


@pytest.mark.parametrize("second", ["set00/V000/I01217.xml", f"{FLAT[0]}.txt", "set00/V000/visible/I01217.txt"])
def test_two_annotation_files_of_one_frame_in_one_set_are_refused(tmp_path, second):
    paths = [tmp_path / "labels" / name for name in ("set00/V000/I01217.txt", second)]
    make(tmp_path, *(path.relative_to(tmp_path) for path in paths))
    with pytest.raises(InputError, match=f"both annotate {IDS[0]}; keep one of them") as caught:
        [found.by_image() for found in folders.index_annotations(tmp_path)]
    assert all(str(path) in str(caught.value) for path in paths)


def test_recognised_file_has_all_fields():
    root = Path("copy")
    path = root / "Sanitized/Set03/v001/LWIR/i00007.TXT"
    assert folders.recognise(path, root) == (
        path,
        "set03/V001/I00007",
        "lwir",
        "Sanitized",
        "Sanitized/setNN/VNNN/{modality}/INNNNN.TXT",
        "video tree",
    )
