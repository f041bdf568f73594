"""LLVIP, FLIR-aligned, CVC-14 and M3FD by the options of their recipes: what is prepared, damaged, and trained on."""

import shutil

import jax
import numpy as np
import PIL.Image
import pytest
from prepared_data import findings_of, prepare, read, rows
from rgbt_trees import image_bytes, voc, write_cvc14, write_flir_aligned, write_llvip, write_m3fd

from configs import teacher
from datasets.checks import GREY
from datasets.rgbt_folder import open_builder
from dcrl_jax import decoding
from dcrl_jax.data import sources
from dcrl_jax.errors import InputError
from dcrl_jax.training import train

WRITERS = {"llvip": write_llvip, "flir-aligned": write_flir_aligned, "cvc14": write_cvc14, "m3fd": write_m3fd}
BRIGHTNESS = "day and night by brightness: {0} of {0} pairs"
BLOCKS = {"sequence_images": 2}  # of M3FD: its recipe's blocks are longer than the small tree


def open_set(folder, name, **changes):
    """Return the builder of a recipe's options."""
    options = teacher.get_config(name).data.options.to_dict()
    return open_builder(str(folder), **{**options, **(BLOCKS if name == "m3fd" else {}), **changes})


def person(*box):
    return ("person", list(box), 0, False)


LLVIP_TWO = [person(10, 12, 10, 32), person(70, 30, 10, 34)]
LLVIP_ONE = [person(1, 1, 8, 32)]
FLIR = [
    person(10, 12, 10, 32),
    ("car", [0, 40, 30, 20], 0, False),
    ("bicycle", [50, 40, 10, 20], 0, False),
    ("dog", [1, 2, 4, 4], 0, False),
]
CVC14 = [person(15, 18, 10, 24)]  # the file has the centre, 20 30
M3FD = [person(1, 1, 10, 30), ("Car", [40, 20, 40, 30], 0, False), ("Lamp", [5, 5, 3, 4], 0, False)]

EXPECTED = {  # of each split: id, condition, objects; lines of the table; warnings
    "llvip": (
        {
            "train": [
                *((f"0{scene}0001", 0, LLVIP_TWO) for scene in (1, 2, 3)),
                *((f"0{scene}0002", 0, LLVIP_ONE) for scene in (1, 2, 3)),
            ],
            "test": [("190001", 0, LLVIP_TWO), ("190002", 0, LLVIP_ONE), ("200001", 0, LLVIP_TWO)],
        },
        ("splits: the folders", "image sizes: 80x64 9", "label formats: VOC 9"),
        [BRIGHTNESS.format(9)],
    ),
    "flir-aligned": (
        {
            "train": [(f"align/FLIR_0000{index}", 0, FLIR) for index in (2, 5, 6, 8)],
            "test": [(f"align/FLIR_0886{index}", 0, FLIR) for index in (3, 4)],
        },
        ("splits: lists: align_train.txt, align_validation.txt", "labels: lwir", "image sizes: 80x64 6"),
        [BRIGHTNESS.format(6)],
    ),
    "cvc14": (
        {
            "train": [
                (f"{day}/FramesPos/2014_05_{time}_32300{index}", night, CVC14 if index else [])
                for night, (day, time) in enumerate((("Day", "05_17_29_23"), ("Night", "01_23_14_33")))
                for index in range(3)
            ],
            "test": [
                (f"{day}/FramesPos/2014_05_{time}_32300{index}", night, CVC14 if index else [])
                for night, (day, time) in enumerate((("Day", "01_23_14_33"), ("Night", "04_23_14_09")))
                for index in range(2)
            ],
        },
        ("splits: the folders", "day and night: words in the names", "image sizes: 80x59 10"),
        [],
    ),
    "m3fd": (
        {
            "train": [(f"M3FD_Detection/0000{index}", 0, M3FD) for index in range(6)],
            "test": [(f"M3FD_Detection/0000{index}", 0, M3FD) for index in (6, 7)],
        },
        ("image sizes: 96x72 7, 88x52 1", "Lamp 8 Lamp (background)", "People 8 person"),
        [BRIGHTNESS.format(8)],
    ),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_recipe_prepares_its_set(tmp_path, name):
    root = WRITERS[name](tmp_path / "raw")
    builder = prepare(open_set(tmp_path / "data", name), root)
    splits, lines, warnings = EXPECTED[name]
    assert builder.info.full_name.startswith(f"rgbt_folder/{name.replace('-', '_')}-")
    assert set(builder.info.splits) == set(splits)
    for split, expected in splits.items():
        records = read(builder, split)
        found = [(record["image_id"].decode(), record["condition"], rows(record)) for record in records]
        assert sorted(found) == sorted(expected)
        for record in records:
            sizes = {decoding.decode(record[side], side)[0].shape[:2] for side in ("visible", "lwir")}
            assert len(sizes) == 1
    table = [" ".join(line.split()) for line in builder.info.metadata["table"].splitlines()]
    assert set(lines) <= set(table)
    assert list(sources.warnings_of(builder)) == warnings
    kinds = {kind for kind, _ in findings_of(tmp_path / "data")}
    assert kinds == ({GREY} if name == "cvc14" else set())


def test_visible_images_of_cvc14_are_stored_in_grey_and_each_camera_has_its_own_boxes(tmp_path):
    root = write_cvc14(tmp_path / "raw")
    builder = prepare(open_set(tmp_path / "data", "cvc14", labels="lwir"), root)
    record = read(builder, "test")[1]
    assert rows(record) == [person(18, 18, 10, 24), person(36, 10, 8, 20)]
    file = root / "Day/Visible/NewTest/FramesPos/2014_05_01_23_14_33_323001.tif"
    assert record["visible"] == file.read_bytes()
    assert decoding.decode(record["visible"], "visible")[0].shape[2:] in ((), (1,))
    both = prepare(open_set(tmp_path / "data", "cvc14", labels="both"), root)
    # 20 30 and 23 30 overlap by 7/13: one person, of whom the visible box stays.
    assert rows(read(both, "test")[1]) == [*CVC14, person(36, 10, 8, 20)]


def cut(path):
    path.write_bytes(path.read_bytes()[:-30])


def replace(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def resize(path, width, height):
    path.write_bytes(image_bytes(1, width, height, 3, PIL.Image.registered_extensions()[path.suffix]))


XML, LISTED = "Annotations/010001.xml", "align/align_train.txt"
DAMAGE = {  # the set, what happens to its tree, and the finding
    "image cut off": (
        "llvip",
        lambda root: cut(root / "visible/train/010001.jpg"),
        "image unreadable\ttrain: ROOT/visible/train/010001.jpg: cut off: its end is missing",
    ),
    "TIFF cut off": (
        "cvc14",
        lambda root: cut(root / "Day/FIR/Train/FramesPos/2014_05_05_17_29_23_323000.tif"),
        "image unreadable\ttrain: ROOT/Day/FIR/Train/FramesPos/2014_05_05_17_29_23_323000.tif: 4812 bytes that cannot "
        "be read as an image.",
    ),
    "empty image": (
        "m3fd",
        lambda root: (root / "M3FD_Detection/Ir/00000.png").write_bytes(b""),
        "image unreadable\ttrain: ROOT/M3FD_Detection/Ir/00000.png: cannot be read (not an image, 0 bytes)",
    ),
    "XML not well-formed": (
        "llvip",
        lambda root: replace(root / XML, "</object>", ""),
        f"annotation unreadable\ttrain: ROOT/{XML}: not well-formed XML: mismatched tag",
    ),
    "empty XML": (
        "llvip",
        lambda root: (root / XML).write_text(""),
        f"annotation unreadable\ttrain: ROOT/{XML}: an empty file; XML of an image without objects has an <annotation>",
    ),
    "XML of no image": (
        "llvip",
        lambda root: (root / "Annotations/010009.xml").write_text(voc([])),
        "label file, or another text, of no image that is there\tROOT/Annotations/010009.xml",
    ),
    "XML of another size": (
        "llvip",
        lambda root: replace(root / XML, "<width>80<", "<width>1280<"),
        f"labels of an image of another size\ttrain: ROOT/{XML}: 1280x64 pixels, but the image has 80x64",
    ),
    "box outside": (
        "llvip",
        lambda root: (root / XML).write_text(voc([("person", 90, 2, 99, 40)], size=(80, 64))),
        "box outside the image\ttrain: train/010001: person 90 2 9 38",
    ),
    "swapped corners": (
        "llvip",
        lambda root: (root / XML).write_text(voc([("person", 30, 40, 10, 4)], size=(80, 64))),
        f"box of no size\ttrain: ROOT/{XML}: person 30 40 -20 -36",
    ),
    "box twice": (
        "llvip",
        lambda root: (root / XML).write_text(voc([("person", 3, 4, 10, 40)] * 2, size=(80, 64))),
        f"annotation twice, counted once\ttrain: ROOT/{XML}: person 3 4 7 36, 2 times",
    ),
    "line of CVC-14 cut off": (
        "cvc14",
        lambda root: replace(
            root / "Day/Visible/Train/Annotations/2014_05_05_17_29_23_323001.txt", "0 7 0\n", "0 7 0\n20 30 10\n"
        ),
        "annotation unreadable\ttrain: ROOT/Day/Visible/Train/Annotations/2014_05_05_17_29_23_323001.txt: line 2: "
        "'20 30 10' is not CVC-14's eleven whole numbers",
    ),
    "no partner": (
        "flir-aligned",
        lambda root: (root / "align/JPEGImages/FLIR_00002_PreviewData.jpeg").unlink(),
        "visible image without a thermal one\tROOT/align/JPEGImages/FLIR_00002_RGB.jpg",
    ),
    "line that names nothing": (
        "flir-aligned",
        lambda root: replace(root / LISTED, "FLIR_00002_PreviewData", "FLIR_99999_PreviewData"),
        f"line of a list that names no pair\ttrain: ROOT/{LISTED}:1: FLIR_99999_PreviewData",
    ),
    "pair in no list": (
        "flir-aligned",
        lambda root: replace(root / LISTED, "FLIR_00002_PreviewData\n", ""),
        "pair of no split, left out\talign/FLIR_00002",
    ),
    "no label": (
        "llvip",
        lambda root: (root / XML).unlink(),
        "image without labels, taken as background\ttrain: train/010001",
    ),
    "image in two splits": (
        "llvip",
        lambda root: shutil.copy(root / "visible/test/190001.jpg", root / "visible/train/010001.jpg"),
        "visible image that is a copy of another pair's\ttrain: visible/train/010001.jpg: as test: "
        "visible/test/190001.jpg",
    ),
    "a list among the labels": (
        "llvip",
        lambda root: (root / "Annotations/notes.txt").write_text("checked by two people\n"),
        "label file, or another text, of no image that is there\tROOT/Annotations/notes.txt",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_of_training_pairs_is_a_finding(tmp_path, damage):
    name, change, expected = DAMAGE[damage]
    root = WRITERS[name](tmp_path / "raw")
    change(root)
    prepare(open_set(tmp_path / "data", name), root)
    found = ["\t".join(finding).replace(str(root), "ROOT") for finding in findings_of(tmp_path / "data")]
    assert [text for text in found if not text.startswith(GREY)][:1] == [
        next((text for text in found if text.startswith(expected)), expected)
    ]


REFUSALS = {
    "test image cut off": (
        "llvip",
        lambda root: cut(root / "infrared/test/190001.jpg"),
        r"^the test split is incomplete: 1 image unreadable; .*findings\.txt lists them.*--allow_incomplete",
    ),
    "test line that names nothing": (
        "flir-aligned",
        lambda root: replace(root / "align/align_validation.txt", "FLIR_08863", "FLIR_99999"),
        r"^the test split is incomplete: 1 line of a list that names no pair; ",
    ),
    "line in both lists": (
        "flir-aligned",
        lambda root: replace(root / LISTED, "FLIR_00002", "FLIR_08863"),
        r"align_validation\.txt:1: FLIR_08863_PreviewData: is in the list of the train pairs, too",
    ),
    "thermal image of another size": (
        "m3fd",
        lambda root: resize(root / "M3FD_Detection/Ir/00006.png", 48, 36),
        r"^the images of a pair differ in size: visible 96x72 thermal 48x36: 1 pairs\. .*lwir_to_visible=stretch",
    ),
    "other labels": (
        "llvip",
        lambda root: [replace_all(path, "person", "Mensch") for path in (root / "Annotations").iterdir()],
        r"^no label of the folder is a person's\. Found: Mensch \(14\)\. Expected one of: person, .*person_labels=",
    ),
    "labels in another place": (
        "llvip",
        lambda root: (root / "Annotations").rename(root.parent / "Annotations"),
        r"^no label for any of the 6 train images \(train/010001, .*\. Expected in the folder a file \.txt or \.xml",
    ),
    "lists are missing": (
        "flir-aligned",
        lambda root: (root / LISTED).unlink(),
        r"no file matches train_list='\*\*/align_train\.txt', a pattern that starts at the folder",
    ),
    "one camera is missing": (
        "m3fd",
        lambda root: shutil.rmtree(root / "M3FD_Detection/Ir"),
        r"8 visible and 0 thermal images, but no pair\.\n  visible by its name: 8 in M3FD_Detection/Vis/, such as 0",
    ),
    "folder of an archive": (
        "llvip",
        lambda root: [shutil.rmtree(root / name) for name in ("visible", "infrared", "Annotations")],
        r"no image \(no files\)\. Expected a folder of visible and thermal images",
    ),
}


def replace_all(path, old, new):
    path.write_text(path.read_text().replace(old, new))


@pytest.mark.parametrize("damage", REFUSALS)
def test_damage_that_spoils_a_score_is_refused(tmp_path, damage):
    name, change, message = REFUSALS[damage]
    root = WRITERS[name](tmp_path / "raw")
    change(root)
    with pytest.raises(InputError, match=f"(?s){message}"):
        prepare(open_set(tmp_path / "data", name), root)
    assert not list((tmp_path / "data").rglob("*.array_record*"))


@pytest.mark.slow
@pytest.mark.usefixtures("quick_compile", "shallow_backbone")
@pytest.mark.parametrize(
    ("name", "images", "people"), [("llvip", 3, 5), ("flir-aligned", 2, 2), ("cvc14", 4, 2), ("m3fd", 2, 2)]
)
def test_a_recipe_trains_a_step_and_is_scored(tmp_path, tiny_config, capsys, name, images, people):
    root = WRITERS[name](tmp_path / "raw")
    config, tiny = teacher.get_config(name), tiny_config("teacher")
    if name == "m3fd":  # thermal images of half the size
        for path in (root / "M3FD_Detection/Ir").iterdir():
            with PIL.Image.open(path) as image:
                half = image.resize((image.width // 2, image.height // 2))
            half.save(path)
        config.data.options.update(lwir_to_visible="stretch", **BLOCKS)
    for section in ("backbone", "anchors", "rpn", "roi", "fusion", "cfl"):
        config[section] = tiny[section]
    config.init.vgg16 = None
    config.init.rescale = False
    config.data.update(manual_dir=str(root), data_dir=str(tmp_path / "data"), height_px=48, width_px=64, max_boxes=16)
    batch_size = 2 * jax.local_device_count()
    config.train.update(batch_size=batch_size, steps=1, log_every_steps=1, evaluate_every_epochs=100.0)
    config.eval.update(batch_size=2, min_height_px=8.0)
    result = train.train_and_evaluate(config, tmp_path / "run")
    assert result.scores["reasonable-all"].images == images
    assert result.scores["reasonable-all"].people == people
    assert np.isfinite(result.scores["reasonable-all"].miss_rate)
    assert f"DCRL-PDN (teacher), step 1, {config.data.options.name} test" in capsys.readouterr().out
