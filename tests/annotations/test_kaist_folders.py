"""Search for KAIST's files: every layout of the copies in use, with empty files."""

import pytest

from dcrl_jax.annotations.files import walk
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


def file_name(template, image_id, modality):
    """Return the name of a frame's file in a layout; ``m`` is its modality, capitals another spelling."""
    number, video, frame = image_id.split("/")
    flat, split = image_id.replace("/", "_"), "train" if number < "set06" else "test"
    parts = {"set": number, "video": video, "frame": frame, "flat": flat, "split": split, "m": modality, "other": "ir"}
    return template.format(**parts, FLAT=flat.swapcase(), SPLIT=split.title())


def relative(root, by_modality):
    return {
        modality: {one: path.relative_to(root).as_posix() for one, path in by_id.items()}
        for modality, by_id in by_modality.items()
    }


# The kind of layout, the files, and the words for visible and thermal images.
LAYOUTS = [
    ("video tree", "images/{set}/{video}/{m}/{frame}.jpg", "visible lwir"),
    ("video tree", "{set}/{video}/{m}/{frame}.png", "vis tir"),
    ("video tree", "{m}/{set}/{video}/{frame}.png", "RGB Thermal"),
    ("flat", "{split}/images/{m}/{flat}.png", "visible lwir"),
    ("flat", "{split}/images/{flat}_{m}.png", "rgb ir"),
    ("flat", "{set}_{video}_{m}_{frame}.jpg", "vi thermal"),
    ("ICAFusion", "{m}/{split}/{flat}.png", "visible infrared"),
    ("flat", "{SPLIT}/{m}/{FLAT}.PNG", "Visible LWIR"),
    # The modality of the name counts before that of a folder, and that of the nearest folder.
    ("flat", "{other}/{flat}_{m}.png", "visible lwir"),
    ("flat", "{other}/{other}/{m}/{flat}.png", "visible lwir"),
]


@pytest.mark.parametrize(("kind", "template", "words"), LAYOUTS, ids=[template for _, template, _ in LAYOUTS])
def test_images_of_each_layout_are_found(tmp_path, kind, template, words):
    expected = {
        modality: {image_id: file_name(template, image_id, word) for image_id in IDS}
        for modality, word in zip(MODALITIES, words.split(), strict=True)
    }
    make(tmp_path, *expected["visible"].values(), *expected["lwir"].values())
    index = folders.index_images(tmp_path)
    assert relative(tmp_path, index.files) == expected
    assert index.unused == []
    described = {"set": "setNN", "video": "VNNN", "frame": "INNNNN"} | dict.fromkeys(("m", "other"), "{modality}")
    described |= dict.fromkeys(("flat", "FLAT"), "setNN_VNNN_INNNNN") | dict.fromkeys(("split", "SPLIT"), "{split}")
    assert index.layout == f"{kind}, {template.format(**described)}: 4 files"


def test_mixed_layouts_are_listed_the_most_frequent_first(tmp_path):
    make(tmp_path, f"visible/{FLAT[0]}.png", "set06/V001/visible/I00019.jpg", f"lwir/{FLAT[0]}.png")
    make(tmp_path, f"{FLAT[1]}_lwir.png")
    expected = "flat, {modality}/setNN_VNNN_INNNNN.png: 2 files; flat, setNN_VNNN_INNNNN_{modality}.png: 1 files; "
    expected += "video tree, setNN/VNNN/{modality}/INNNNN.jpg: 1 files"
    assert folders.index_images(tmp_path).layout == expected


# With hidden files, Arabic digits, and the long s, which a pattern without case takes for an s.
OTHER_FILES = """readme.png visible/readme.txt set00/V000/visible/.I01217.jpg set00/V000/visible/._I01217.jpg
.cache/set00/V000/visible/I01217.jpg set00/V000/.thumbnails/visible/I01217.jpg set00/V000/visible/I01217.jpg.part
set00/V000/visible/I01217.npy set00/V000/visible/I01217 set00/V000/visible/I1217.jpg set00/V0/visible/I01217.jpg
set00/V000/visible/I01217_flipped.jpg set00/V000/fused/I01217.jpg set0/V000/visible/I01217.jpg
visible/flipped_set00_V000_I01217.png visible/set00_V000_I01217_depth.png
visible/set\u0660\u0660_V000_I01217.png visible/\u017fet00_V000_I01217.png"""


@pytest.mark.parametrize("names", [[], OTHER_FILES.split()], ids=["none", "other and hidden files"])
def test_folder_without_frames_has_no_files(tmp_path, names):
    make(tmp_path, *names)
    assert folders.index_images(tmp_path) == ({"visible": {}, "lwir": {}}, [], "no images recognised")
    assert folders.index_annotations(tmp_path) == []
    for index in (folders.index_images, folders.index_annotations):
        with pytest.raises(InputError, match="absent: this folder cannot be read"):
            index(tmp_path / "absent")


def test_images_without_a_modality_or_of_a_repeated_frame_are_reported(tmp_path):
    make(tmp_path, "a/set00/V000/lwir/I01217.jpg", "b/set00/V000/lwir/I01217.jpg", f"{FLAT[0]}_lwir.png")
    make(tmp_path, "b/set00/V000/visible/I01217.jpg", "b/set00/V000/visible/I01217.JPG", f"images/{FLAT[0]}.png")
    index = folders.index_images(tmp_path)
    # The first by name is taken.
    first, visible = tmp_path / f"{FLAT[0]}_lwir.png", tmp_path / "b/set00/V000/visible"
    assert index.files == {"lwir": {IDS[0]: first}, "visible": {IDS[0]: visible / "I01217.JPG"}}
    assert index.unused == [
        f"{tmp_path}/a/set00/V000/lwir/I01217.jpg: {IDS[0]} lwir is {first} already",
        f"{tmp_path}/b/set00/V000/lwir/I01217.jpg: {IDS[0]} lwir is {first} already",
        f"{visible}/I01217.jpg: {IDS[0]} visible is {visible}/I01217.JPG already",
        f"{tmp_path}/images/{FLAT[0]}.png: neither visible nor lwir by its path",
    ]
    assert index.layout.count("1 files") == 2  # the layouts of the two images that are taken


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


def test_folders_that_link_to_one_another_are_searched_once(tmp_path):
    folders_of_set = [tmp_path / f"set{number:02}" for number in range(12)]
    for folder in folders_of_set:
        folder.mkdir()
        for other in folders_of_set:
            if other != folder:
                (folder / f"to_{other.name}").symlink_to(other)
    (tmp_path / "set11" / "a.txt").touch()
    assert list(walk(tmp_path, (".txt",))) == [tmp_path / "set11" / "a.txt"]


def test_annotation_sets_are_named_by_their_folder(tmp_path):
    expected = {
        ".": {None: {IDS[0]: "set00/V000/I01217.txt", IDS[1]: f"{FLAT[1]}.xml"}},
        "images": {"visible": {IDS[0]: "images/set00/V000/visible/I01217.txt"}},
        "labels": {None: {IDS[0]: f"labels/set00/V000/{FLAT[0]}.txt", IDS[1]: "labels/set06/V001/I00019.TXT"}},
        "test/labels": {None: {IDS[1]: f"test/labels/{FLAT[1]}.xml"}},
        "train/labels": {None: {IDS[0]: f"train/labels/{FLAT[0]}.xml"}},
    }
    for by_modality in expected.values():
        make(tmp_path, *(name for by_id in by_modality.values() for name in by_id.values()))
    make(tmp_path, "images/set00/V000/visible/I01217.jpg", "images/set00/V000/visible/classes.txt")
    sets = folders.index_annotations(tmp_path)
    assert [(one.name, relative(tmp_path, one.files)) for one in sets] == list(expected.items())
    assert not any(one.is_paired for one in sets)


PAIRED = """paired/{set}/{video}/{m}/{frame}.txt paired/{m}/{set}/{video}/{frame}.txt paired/{flat}_{m}.txt
{m}/paired/{flat}.xml"""


@pytest.mark.parametrize("template", PAIRED.split())
def test_paired_annotations_are_recognised(tmp_path, template):
    files = {modality: {one: file_name(template, one, modality) for one in IDS} for modality in MODALITIES}
    make(tmp_path, *files["visible"].values(), *files["lwir"].values())
    (paired,) = folders.index_annotations(tmp_path)
    assert (paired.name, relative(tmp_path, paired.files)) == ("paired", files)
    assert (paired.is_paired, paired.frames()) == (True, set(IDS))


def test_annotations_of_one_modality_are_not_paired(tmp_path):
    names = ("labels/set00/V000/lwir/I01217.txt", f"labels/{FLAT[1]}.txt")
    make(tmp_path, *names)
    (labels,) = folders.index_annotations(tmp_path)
    assert (labels.is_paired, labels.frames(), set(labels.files)) == (False, set(IDS), {"lwir", None})
    assert labels.by_image() == {image_id: tmp_path / name for image_id, name in zip(IDS, names, strict=True)}


@pytest.mark.parametrize("second", ["set00/V000/I01217.xml", f"{FLAT[0]}.txt", "set00/V000/visible/I01217.txt"])
def test_two_annotation_files_of_one_frame_in_one_set_are_refused(tmp_path, second):
    names = ("labels/set00/V000/I01217.txt", f"labels/{second}")
    make(tmp_path, *names)
    with pytest.raises(InputError, match=f"both annotate {IDS[0]}; keep one of them") as caught:
        [one.by_image() for one in folders.index_annotations(tmp_path)]
    assert all(f"{tmp_path}/{name}" in str(caught.value) for name in names)
