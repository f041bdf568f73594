"""Which label files belong to which pairs, for the layouts that people have."""

import json

import pytest
from folder_copies import config, pair, write

from datasets.rgbt_folder.matching import NOT_USED, SEVERAL_PAIRS, SURPASSED, match_labels
from dcrl_jax.errors import InputError


def matched(root, pairs, label_files, /, **options):
    """Return the label files of each pair by side, and the findings, without the folder."""
    for name in label_files:
        write(root / name, "")
    result = match_labels(root, pairs, config(**options), [])
    of_pairs = [
        {side: str(file).replace(f"{root}/", "") for side, file in labels.items()} for labels in result.of_pairs
    ]
    return of_pairs, [(kind, text.replace(f"{root}/", "")) for kind, text in result.findings]


LAYOUTS = {  # the images of a pair, its label file, and the side whose label it is
    "LLVIP": ("visible/test/190001.jpg", "infrared/test/190001.jpg", "Annotations/190001.xml", "pair"),
    "FLIR": (
        "align/JPEGImages/FLIR_2_RGB.jpg",
        "align/JPEGImages/FLIR_2_PreviewData.jpeg",
        "align/Annotations/FLIR_2_PreviewData.xml",
        "lwir",
    ),
    "CVC-14": (
        "CVC-14/Day/Visible/Train/FramesPos/2014_05.tif",
        "CVC-14/Day/FIR/Train/FramesPos/2014_05.tif",
        "CVC-14/Day/Visible/Train/Annotations/2014_05.txt",
        "visible",
    ),
    "M3FD": ("Vis/00000.png", "Ir/00000.png", "Annotation/00000.xml", "pair"),
    "KAIST flat": ("set01_V0_I1_visible.jpg", "set01_V0_I1_lwir.jpg", "annotations/set01_V0_I1.xml", "pair"),
    "MSRS": ("train/vi/4N.png", "train/ir/4N.png", "labels/infrared/train/4N.txt", "lwir"),
    "YOLO": ("images/train/rgb/1.png", "images/train/thermal/1.png", "labels/train/1.txt", "pair"),
    "beside the image": ("a/rgb/1.png", "a/thermal/1.png", "a/rgb/1.txt", "visible"),
    "suffix of the image": ("rgb/1.png", "ir/1.png", "labels/1.png.txt", "pair"),
    "word at the end": ("rgb/1.png", "ir/1.png", "labels/1_thermal.txt", "lwir"),
    "annotator": ("train/rgb/1.png", "train/ir/1.png", "Anna, v2/train/1.txt", "pair"),
    "German": ("Bilder/rgb/1.png", "Bilder/ir/1.png", "Beschriftungen/1.txt", "pair"),
    "composed letters": ("rgb/\u00fc.png", "ir/\u00fc.png", "labels/u\u0308.txt", "pair"),
    "Roboflow": ("rgb/1_jpg.rf.a1.jpg", "ir/1_jpg.rf.b2.jpg", "labels/ir/1_jpg.rf.b2.txt", "lwir"),
    "other words of a split": ("val/rgb/1.png", "val/ir/1.png", "labels_validation/1.txt", "pair"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_label_file_belongs_to_its_pair(tmp_path, layout):
    visible, lwir, label, side = LAYOUTS[layout]
    labels = {"pair": "visible"}.get(side, side)
    expected = labels if side == "pair" else side
    of_pairs, findings = matched(tmp_path, [pair(tmp_path, visible, lwir)], [label], labels=labels)
    assert (of_pairs, findings) == ([{expected: label}], [])
    if side != "pair":
        other = "lwir" if side == "visible" else "visible"
        result = match_labels(tmp_path, [pair(tmp_path, visible, lwir)], config(labels=other), [])
        assert (result.of_pairs, result.other_side) == ([{}], 1)


@pytest.mark.parametrize(
    ("visible", "label"),
    [
        ("test/vi/1.png", "labels/train/1.txt"),
        ("Night/Visible/Train/FramesPos/1.tif", "Day/Visible/Train/Annotations/1.txt"),
        ("siteA/rgb/1.png", "siteB/1.txt"),
        ("set00/V000/visible/1.png", "annotations/set00/V001/1.xml"),
        ("test/vi/1.png", "labels/test/2.txt"),
    ],
)
def test_no_image_gets_the_labels_of_another_split_day_or_folder(tmp_path, visible, label):
    pairs = [pair(tmp_path, visible, visible), pair(tmp_path, "elsewhere/9.png", "elsewhere/9.png")]
    assert matched(tmp_path, pairs, [label]) == ([{}, {}], [(NOT_USED, label)])


def test_a_label_file_that_may_be_that_of_two_pairs_is_of_none(tmp_path):
    pairs = [pair(tmp_path, f"{split}/rgb/1.png", f"{split}/ir/1.png") for split in ("train", "test")]
    names = "train/rgb/1, test/rgb/1"
    assert matched(tmp_path, pairs, ["labels/1.txt"]) == ([{}, {}], [(SEVERAL_PAIRS, f"labels/1.txt: {names}")])


def test_two_label_files_of_a_pair_are_an_error_that_names_both(tmp_path):
    pairs = [pair(tmp_path, "rgb/1.png", "ir/1.png")]
    with pytest.raises(
        InputError, match=r"1 problem\n  rgb/1: .*/Annotations/1\.xml and .*/labels/1\.txt\n.*label_folder="
    ):
        matched(tmp_path, pairs, ["labels/1.txt", "Annotations/1.xml"])
    assert matched(tmp_path, pairs, [], label_folder="labels")[0] == [{"visible": "labels/1.txt"}]
    with pytest.raises(InputError, match="no such folder; label_folder is a folder within"):
        matched(tmp_path, pairs, [], label_folder="label")


def test_a_folder_of_labels_of_one_split_is_for_that_split(tmp_path):
    pairs = [pair(tmp_path, f"{split}/vi/{name}.png", f"{split}/ir/{name}.png") for split, name in ("a1", "b2")]
    pairs += [pair(tmp_path, f"{split}/vi/{split}.png", f"{split}/ir/{split}.png") for split in ("train", "test")]
    files = ["v2/train/train.txt", "v2/train/test.txt"]
    of_pairs, findings = matched(tmp_path, pairs, files, label_folder="v2/train")
    assert of_pairs == [{}, {}, {"visible": files[0]}, {}]
    assert findings == [(NOT_USED, files[1])]
    flat = [pair(tmp_path, "rgb/test.png", "ir/test.png")]
    assert matched(tmp_path, flat, [], label_folder="v2/train")[0] == [{"visible": files[1]}]


def test_the_label_file_whose_folders_agree_best_is_taken(tmp_path):
    pairs = [pair(tmp_path, f"train/vi/{name}.png", f"train/ir/{name}.png") for name in "12"]
    fusion = [f"labels/fusion/train/{name}.txt" for name in "12"]
    of_pairs, findings = matched(tmp_path, pairs, ["labels/visible/train/1.txt", *fusion])
    assert of_pairs == [{"visible": "labels/visible/train/1.txt"}, {"visible": fusion[1]}]
    assert findings == [(SURPASSED, fusion[0])]


def test_both_sides_have_their_own_files(tmp_path):
    pairs = [pair(tmp_path, f"train/vi/{name}.png", f"train/ir/{name}.png") for name in "12"]
    files = ["labels/visible/train/1.txt", "labels/infrared/train/1.txt", "labels/infrared/train/2.txt"]
    assert matched(tmp_path, pairs, files, labels="both")[0] == [
        {"visible": files[0], "lwir": files[1]},
        {"lwir": files[2]},
    ]
    with pytest.raises(InputError, match=r"labels/train/1\.txt"):
        matched(tmp_path, pairs, ["labels/train/1.txt"], labels="both")
    # Within a folder of labels only what is below it tells, but for the modality.
    (tmp_path / "labels/train/1.txt").rename(tmp_path / "labels/visible/train/2.txt")
    assert matched(tmp_path, pairs, [], label_folder="labels/infrared", labels="lwir")[0] == [
        {"lwir": files[1]},
        {"lwir": files[2]},
    ]


@pytest.mark.parametrize(
    ("json_name", "file_name", "expected"),
    [
        ("coco.json", "train/vi/1.png", {"visible": "train/vi/1.png"}),
        ("coco.json", "/home/x/msrs/train/vi/1.png", {"visible": "/home/x/msrs/train/vi/1.png"}),
        ("annotations/instances_train2017.json", "1.png", {"visible": "1.png"}),
        ("annotations/instances_test2017.json", "1.png", {}),
        ("annotations/thermal/train.json", "1.jpg", {}),
        ("coco.json", "coco/elsewhere/train/1.jpg", {"visible": "coco/elsewhere/train/1.jpg"}),
        ("coco.json", "test/1.jpg", {}),
        ("x.json", "1.png", {}),  # two pairs have this name
        ("x.json", "train/ir/1.png", {}),
    ],
)
def test_images_of_coco_files_are_label_files_at_their_path(tmp_path, json_name, file_name, expected):
    content = {
        "images": [{"id": 7, "file_name": file_name, "width": 32, "height": 24}],
        "annotations": [],
        "categories": [{"id": 1, "name": "person"}],
    }
    write(tmp_path / json_name, json.dumps(content))
    write(tmp_path / "settings.json", "{}")
    pairs = [pair(tmp_path, f"{split}/vi/1.png", f"{split}/ir/1.png") for split in ("train", "val")]
    of_pairs, _ = matched(tmp_path, pairs, [])
    assert of_pairs == [{side: f"{json_name}, {name}" for side, name in expected.items()}, {}]


def test_a_coco_file_of_a_split_has_the_labels_of_images_in_no_folder_of_a_split(tmp_path):
    content = {"images": [{"id": 1, "file_name": "1.png"}], "annotations": [], "categories": []}
    write(tmp_path / "instances_val.json", json.dumps(content))
    of_pairs, findings = matched(tmp_path, [pair(tmp_path, "rgb/1.png", "ir/1.png")], [])
    assert (of_pairs, findings) == ([{"visible": "instances_val.json, 1.png"}], [])


@pytest.mark.parametrize(("folder", "is_its_own"), [("test", True), ("TESTSET", True), ("images", False)])
def test_a_folder_that_is_one_split_takes_labels_that_say_so(tmp_path, folder, is_its_own):
    root = tmp_path / folder
    content = {"images": [{"id": 1, "file_name": "test/vi/1.png"}], "annotations": [], "categories": []}
    write(root / "coco.json", json.dumps(content))
    of_pairs, _ = matched(root, [pair(root, "vi/1.png", "ir/1.png")], ["test/2.txt", "train/1.txt"])
    assert of_pairs == [{"visible": "coco.json, test/vi/1.png"} if is_its_own else {}]


def test_cells_of_a_list_decide(tmp_path):
    pairs = [pair(tmp_path, "a/1.png", "b/1.png", labels="my labels\\x.txt"), pair(tmp_path, "a/2.png", "b/2.png")]
    of_pairs, findings = matched(tmp_path, pairs, ["my labels/x.txt", "a/1.txt", "2.txt"], pairs="l.csv")
    assert of_pairs == [{"visible": "my labels/x.txt"}, {"visible": "2.txt"}]
    assert findings == [(NOT_USED, "a/1.txt")]
    with pytest.raises(InputError, match=r"none\.txt: no such file; l\.csv names it as the labels of a/1"):
        matched(tmp_path, [pair(tmp_path, "a/1.png", "b/1.png", labels="none.txt")], [], pairs="l.csv")
