"""Finding KAIST's files: every layout of the copies in use, made small."""

from pathlib import Path

import pytest

from dcrl_jax.annotations.kaist import folders
from dcrl_jax.errors import InputError

IDS = ("set00/V000/I01217", "set06/V001/I00019")
FLAT = tuple(one.replace("/", "_") for one in IDS)


def make(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def images(root, **files):
    """What index_images finds of the given files, by modality in the order of IDS; checks that nothing is repeated."""
    for pair in files.values():
        make(root, *pair)
    index = folders.index_images(root)
    assert index.files == {
        modality: {one: root / name for one, name in zip(IDS, pair, strict=True)} for modality, pair in files.items()
    }
    assert index.unused == []
    return index.layout


def annotations(root, *names):
    """The annotation sets among the given files: names of the files by name of the set, modality and frame."""
    make(root, *names)
    return {
        found.name: {
            modality: {one: path.relative_to(root).as_posix() for one, path in by_id.items()}
            for modality, by_id in found.files.items()
        }
        for found in folders.index_annotations(root)
    }


def test_video_tree(tmp_path):
    layout = images(
        tmp_path,
        visible=("images/set00/V000/visible/I01217.jpg", "images/set06/V001/visible/I00019.jpg"),
        lwir=("images/set00/V000/lwir/I01217.jpg", "images/set06/V001/lwir/I00019.jpg"),
    )
    assert layout == "video tree, images/setNN/VNNN/{modality}/INNNNN.jpg: 4 files"


def test_video_tree_without_the_folder_images(tmp_path):
    layout = images(
        tmp_path,
        visible=("set00/V000/visible/I01217.png", "set06/V001/visible/I00019.png"),
        lwir=("set00/V000/lwir/I01217.png", "set06/V001/lwir/I00019.png"),
    )
    assert layout == "video tree, setNN/VNNN/{modality}/INNNNN.png: 4 files"


def test_video_tree_within_folders_of_the_modality(tmp_path):
    layout = images(
        tmp_path,
        visible=("RGB/set00/V000/I01217.png", "RGB/set06/V001/I00019.png"),
        lwir=("Thermal/set00/V000/I01217.png", "Thermal/set06/V001/I00019.png"),
    )
    assert layout == "video tree, {modality}/setNN/VNNN/INNNNN.png: 4 files"


def test_flat_with_folders_of_the_modality(tmp_path):
    layout = images(
        tmp_path,
        visible=(f"train/images/visible/{FLAT[0]}.png", f"test/images/visible/{FLAT[1]}.png"),
        lwir=(f"train/images/lwir/{FLAT[0]}.png", f"test/images/lwir/{FLAT[1]}.png"),
    )
    assert layout == "flat, {split}/images/{modality}/setNN_VNNN_INNNNN.png: 4 files"


@pytest.mark.parametrize("suffixes", [("visible", "lwir"), ("rgb", "ir"), ("vi", "thermal")])
def test_flat_with_the_modality_behind_the_name(tmp_path, suffixes):
    names = {
        modality: (f"train/images/{FLAT[0]}_{suffix}.png", f"test/images/{FLAT[1]}_{suffix}.png")
        for modality, suffix in zip(("visible", "lwir"), suffixes, strict=True)
    }
    assert images(tmp_path, **names) == "flat, {split}/images/setNN_VNNN_INNNNN_{modality}.png: 4 files"


def test_flat_with_the_modality_within_the_name(tmp_path):
    layout = images(
        tmp_path,
        visible=("set00_V000_visible_I01217.jpg", "set06_V001_visible_I00019.jpg"),
        lwir=("set00_V000_lwir_I01217.jpg", "set06_V001_lwir_I00019.jpg"),
    )
    assert layout == "flat, setNN_VNNN_{modality}_INNNNN.jpg: 4 files"


def test_icafusion(tmp_path):
    layout = images(
        tmp_path,
        visible=(f"visible/train/{FLAT[0]}.png", f"visible/test/{FLAT[1]}.png"),
        lwir=(f"infrared/train/{FLAT[0]}.png", f"infrared/test/{FLAT[1]}.png"),
    )
    assert layout == "ICAFusion, {modality}/{split}/setNN_VNNN_INNNNN.png: 4 files"


def test_upper_case_endings_and_folders_are_no_matter(tmp_path):
    layout = images(
        tmp_path,
        visible=(f"Train/Visible/{FLAT[0]}.PNG", f"Test/Visible/{FLAT[1]}.PNG"),
        lwir=(f"Train/LWIR/{FLAT[0].upper()}.PNG", f"Test/LWIR/{FLAT[1].upper()}.PNG"),
    )
    assert layout == "flat, {split}/{modality}/setNN_VNNN_INNNNN.PNG: 4 files"


def test_name_says_the_modality_rather_than_a_folder(tmp_path):
    images(
        tmp_path,
        visible=(f"lwir/{FLAT[0]}_visible.png", "lwir/set06/V001/visible/I00019.png"),
        lwir=(f"visible/{FLAT[0]}_lwir.png", "visible/set06/V001/lwir/I00019.png"),
    )


def test_nearest_folder_of_a_modality_counts(tmp_path):
    images(
        tmp_path,
        visible=(f"rgb/lwir/visible/{FLAT[0]}.png", f"ir/visible/{FLAT[1]}.png"),
        lwir=(f"rgb/lwir/{FLAT[0]}.png", f"ir/{FLAT[1]}.png"),
    )


def test_mixed_layouts_are_all_named_the_most_frequent_first(tmp_path):
    layout = images(
        tmp_path,
        visible=(f"visible/{FLAT[0]}.png", "set06/V001/visible/I00019.jpg"),
        lwir=(f"lwir/{FLAT[0]}.png", f"{FLAT[1]}_lwir.png"),
    )
    assert layout == (
        "flat, {modality}/setNN_VNNN_INNNNN.png: 2 files; flat, setNN_VNNN_INNNNN_{modality}.png: 1 files; "
        "video tree, setNN/VNNN/{modality}/INNNNN.jpg: 1 files"
    )


def test_strangers_and_hidden_files_are_no_images(tmp_path):
    make(
        tmp_path,
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
        "visible/\u017fet00_V000_I01217.png",  # the long s, an s to a pattern that leaves case aside
    )
    assert folders.index_images(tmp_path) == ({"visible": {}, "lwir": {}}, [], "no images recognised")
    assert folders.index_annotations(tmp_path) == []


def test_image_of_no_modality_is_none(tmp_path):
    make(tmp_path, f"images/{FLAT[0]}.png", "set00/V000/I01217.jpg")
    assert folders.index_images(tmp_path).layout == "no images recognised"


def test_empty_folder_has_no_files(tmp_path):
    assert folders.index_images(tmp_path) == ({"visible": {}, "lwir": {}}, [], "no images recognised")
    assert folders.index_annotations(tmp_path) == []


def test_folder_that_is_not_there_is_named(tmp_path):
    for index in (folders.index_images, folders.index_annotations):
        with pytest.raises(InputError, match="absent: this folder cannot be read"):
            index(tmp_path / "absent")


def test_image_of_no_known_modality_is_reported(tmp_path):
    make(tmp_path, f"images/{FLAT[0]}.png")
    unused = [f"{tmp_path}/images/{FLAT[0]}.png: neither visible nor lwir by its path"]
    assert folders.index_images(tmp_path).unused == unused


def test_flat_names_in_folders_of_the_videos_are_one_set(tmp_path):
    make(tmp_path, *(f"labels/{one.rpartition('/')[0]}/{flat}.txt" for one, flat in zip(IDS, FLAT, strict=True)))
    (found,) = folders.index_annotations(tmp_path)
    assert found.name == "labels"
    assert set(found.files[None]) == set(IDS)


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
    assert index.layout.count("1 files") == 2  # repeated ones are not counted


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


def test_annotations_of_the_video_tree_and_flat_ones_are_sets_by_their_folder(tmp_path):
    found = annotations(
        tmp_path,
        "annotations/set00/V000/I01217.txt",
        "annotations/set06/V001/I00019.TXT",
        "annotations-xml-new/set00/V000/I01217.xml",
        f"train/annotations/{FLAT[0]}.xml",
        f"test/annotations/{FLAT[1]}.xml",
    )
    assert found == {
        "annotations": {
            None: {IDS[0]: "annotations/set00/V000/I01217.txt", IDS[1]: "annotations/set06/V001/I00019.TXT"}
        },
        "annotations-xml-new": {None: {IDS[0]: "annotations-xml-new/set00/V000/I01217.xml"}},
        "train/annotations": {None: {IDS[0]: f"train/annotations/{FLAT[0]}.xml"}},
        "test/annotations": {None: {IDS[1]: f"test/annotations/{FLAT[1]}.xml"}},
    }
    assert list(found) == sorted(found)
    assert not any(one.is_paired for one in folders.index_annotations(tmp_path))


def test_annotations_at_the_root_are_a_set_named_by_a_dot(tmp_path):
    assert annotations(tmp_path, "set00/V000/I01217.txt", f"{FLAT[1]}.xml") == {
        ".": {None: {IDS[0]: "set00/V000/I01217.txt", IDS[1]: f"{FLAT[1]}.xml"}}
    }


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
        for modality in folders.MODALITIES
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


def test_frame_of_two_files_has_not_one(tmp_path):
    make(tmp_path, "labels/set00/V000/I01217.txt", "labels/set00/V000/visible/I01217.txt")
    (found,) = folders.index_annotations(tmp_path)
    first, second = (tmp_path / "labels/set00/V000" / name for name in ("I01217.txt", "visible/I01217.txt"))
    with pytest.raises(InputError) as caught:
        found.by_image()
    assert str(caught.value) == f"{first} and {second} both annotate {IDS[0]}; keep one of them"


def test_annotations_beside_images_are_found_with_them(tmp_path):
    make(tmp_path, *(f"images/set00/V000/{modality}/I01217.jpg" for modality in ("visible", "lwir")))
    make(tmp_path, "images/set00/V000/visible/I01217.txt", "images/set00/V000/visible/classes.txt")
    make(tmp_path, f"test/visible/{FLAT[1]}.png", f"test/lwir/{FLAT[1]}.png", f"test/lwir/{FLAT[1]}.xml")
    index = folders.index_images(tmp_path)
    assert {modality: set(by_id) for modality, by_id in index.files.items()} == {"visible": set(IDS), "lwir": set(IDS)}
    assert annotations(tmp_path) == {
        "images": {"visible": {IDS[0]: "images/set00/V000/visible/I01217.txt"}},
        "test": {"lwir": {IDS[1]: f"test/lwir/{FLAT[1]}.xml"}},
    }


@pytest.mark.parametrize("second", ["labels/set00/V000/I01217.xml", f"labels/{FLAT[0]}.txt"])
def test_two_annotation_files_of_one_frame_in_one_set_are_refused(tmp_path, second):
    make(tmp_path, "labels/set00/V000/I01217.txt", second)
    with pytest.raises(InputError) as caught:
        folders.index_annotations(tmp_path)
    assert f"both annotate {IDS[0]}; keep one of them" in str(caught.value)
    assert all(f"{tmp_path}/{name}" in str(caught.value) for name in ("labels/set00/V000/I01217.txt", second))


def test_recognised_file_says_all_of_itself():
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
