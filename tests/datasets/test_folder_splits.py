"""The splits of a folder of pairs, by list, folder and sequence."""

import json

import pytest
from folder_copies import config, pair, write

from datasets.rgbt_folder import splits
from datasets.rgbt_folder.sequences import choose_sequences, sequence_names
from dcrl_jax.errors import InputError


def pairs_of(root, names, **cells):
    return sorted(pair(root, f"rgb/{name}.png", f"ir/{name}.png", name, **cells) for name in names)


def split_of(root, pairs, /, **options):
    """Return the names of the pairs by split, and the result."""
    result = splits.split_pairs(root, pairs, config(**options))
    by_split = {}
    for item, split in zip(pairs, result.of_pairs, strict=True):
        by_split.setdefault(split, []).append(item.name)
    return by_split, result


@pytest.mark.parametrize(
    ("folders", "expected", "source"),
    [
        (
            ["train", "NewTest/FramesPos", "cam/valid", "Trainset/x", "contest"],
            "train test validation train None",
            "the folders",
        ),
        (["Train_LLVIP_vi", "Test_LLVIP_vi", "training data"], "train test train", "words in the names"),
        (["train_station/test/a", "train_station/b"], "test None", "the folders"),
        (["rgb/train_", "rgb/val-", "rgb/Test "], "train validation test", "words in the names"),
    ],
)
def test_names_decide(tmp_path, folders, expected, source):
    ends = ["" if folder[-1] in "_- " else "/" for folder in folders]
    folders = [folder + end for folder, end in zip(folders, ends, strict=True)]
    pairs = [pair(tmp_path, f"{folder}{index}.png", "x.png", str(index)) for index, folder in enumerate(folders)]
    result = splits.split_pairs(tmp_path, pairs, config())
    assert [str(split) for split in result.of_pairs] == expected.split()
    assert result.source == source
    left_out = [(splits.NO_SPLIT, str(index)) for index, split in enumerate(expected.split()) if split == "None"]
    assert result.findings == left_out


def test_a_word_in_some_folders_is_no_split(tmp_path):
    names = [f"{folder}/{frame}" for folder in ("train_station", "park") for frame in range(2)]
    pairs = [pair(tmp_path, f"{name}.png", "x.png", name) for name in names]
    assert split_of(tmp_path, pairs)[1].source.startswith("by sequence: 1 of 2 test")


def test_options_about_sequences_come_before_folders(tmp_path):
    pairs = [pair(tmp_path, f"train/{name}.png", "x.png", f"train/{name}") for name in ("a1", "a2", "b1")]
    assert set(split_of(tmp_path, pairs, sequence="a|b")[0]) == {"train", "test"}
    assert set(split_of(tmp_path, pairs, split="sequence")[0]) == {"train", "test"}
    assert set(split_of(tmp_path, pairs)[0]) == {"train"}


def test_the_column_of_a_list_decides_before_folders(tmp_path):
    pairs = [
        pair(tmp_path, "train/1.png", "x.png", "1", split="VAL"),
        pair(tmp_path, "train/2.png", "x.png", "2", split="test"),
        pair(tmp_path, "train/3.png", "x.png", "3"),
    ]
    assert split_of(tmp_path, pairs, pairs="p.csv")[0] == {"validation": ["1"], "test": ["2"], None: ["3"]}
    with pytest.raises(InputError, match=r"p\.csv: 1 problem\n  1: split 'trian'\nExpected train, validation or test"):
        split_of(tmp_path, [pair(tmp_path, "1.png", "x.png", "1", split="trian")], pairs="p.csv")


def test_lists_name_pairs_with_or_without_folders_and_suffix(tmp_path):
    pairs = [
        pair(tmp_path, f"align/JPEG/FLIR_{index}_RGB.jpg", f"align/JPEG/FLIR_{index}_PreviewData.jpeg", f"FLIR_{index}")
        for index in range(6)
    ]
    lines = ["FLIR_0_PreviewData", "align/JPEG/FLIR_1_RGB.jpg", "/data/x/FLIR_2_RGB.png", "FLIR_3\t-1", "", "FLIR_99"]
    write(tmp_path / "align" / "align_train.txt", "\ufeff" + "\r\n".join(lines))
    write(tmp_path / "align" / "align_validation.txt", "FLIR_4\n")
    options = {"train_list": "**/align_train.txt", "test_list": "align/align_validation.txt"}
    by_split, result = split_of(tmp_path, pairs, **options)
    assert by_split == {"train": [f"FLIR_{index}" for index in range(4)], "test": ["FLIR_4"], None: ["FLIR_5"]}
    assert result.source == "lists: align_train.txt, align_validation.txt"
    place = tmp_path / "align" / "align_train.txt"
    assert result.findings == [(splits.NO_PAIR, f"train: {place}:6: FLIR_99"), (splits.NO_SPLIT, "FLIR_5")]
    assert [path.name for path in result.files] == ["align_train.txt", "align_validation.txt"]


def test_lists_called_after_a_split_are_found_if_they_name_pairs(tmp_path):
    pairs = pairs_of(tmp_path, ["a1", "a2", "b1"])
    write(tmp_path / "ImageSets" / "Main" / "train.txt", "a1\na2\n")
    write(tmp_path / "ImageSets" / "Main" / "val.txt", "b1.png\n")
    write(tmp_path / "labels" / "test.txt", "0 0.5 0.5 0.1 0.1\n")
    assert split_of(tmp_path, pairs)[0] == {"train": ["a1", "a2"], "validation": ["b1"]}
    write(tmp_path / "train.txt", "a1\n")
    with pytest.raises(InputError, match=r"train\.txt and ImageSets/Main/train\.txt name different.*train_list=FILE"):
        split_of(tmp_path, pairs)
    write(tmp_path / "train.txt", "a2\na1\n")
    assert split_of(tmp_path, pairs)[0] == {"train": ["a1", "a2"], "validation": ["b1"]}


def test_coco_files_of_splits_are_lists(tmp_path):
    pairs = pairs_of(tmp_path, ["a1", "a2", "b1"])
    for name, images in (("rgb_train", ["a1", "a2"]), ("thermal_train", ["a2", "a1"]), ("instances_val2017", ["b1"])):
        rows = [{"id": number, "file_name": f"{image}.png"} for number, image in enumerate(images)]
        content = {"images": rows, "annotations": [], "categories": []}
        write(tmp_path / f"annotations/{name}.json", json.dumps(content))
    write(tmp_path / "training.json", "{}")
    by_split, result = split_of(tmp_path, pairs)
    assert by_split == {"train": ["a1", "a2"], "validation": ["b1"]}
    assert result.source == "lists: instances_val2017.json, rgb_train.json, thermal_train.json"
    options = {"train_list": "annotations/rgb_*.json", "test_list": "annotations/*val*"}
    assert split_of(tmp_path, pairs, **options)[0] == {"train": ["a1", "a2"], "test": ["b1"]}


def test_lists_of_kaist_name_flat_frames(tmp_path):
    pairs = pairs_of(tmp_path, ["set00_V000_I00000", "set06_V000_I00019"])
    write(tmp_path / "test.txt", "set06/V000/I00019\n")
    by_split = split_of(tmp_path, pairs, test_list="test.txt")[0]
    assert by_split == {None: ["set00_V000_I00000"], "test": ["set06_V000_I00019"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a1\nb1\n", r"test\.txt:2: b1: is in the list of the train pairs, too"),
        ("a1\n7\n", r"test\.txt:2: 7: names several pairs, x/7, y/7"),
        ("c1\n", r"test\.txt: no line names a pair such as a1"),
    ],
)
def test_lists_that_cannot_be_used_are_refused(tmp_path, text, message):
    pairs = pairs_of(tmp_path, ["a1", "b1", "x/7", "y/7"])
    write(tmp_path / "test.txt", text)
    lists = {"test_list": "test.txt"}
    if "b1" in text:
        write(tmp_path / "train.txt", "b1")
        lists["train_list"] = "train.txt"
    with pytest.raises(InputError, match=message):
        split_of(tmp_path, pairs, **lists)
    with pytest.raises(InputError, match="no file matches test_list='lists/'"):
        split_of(tmp_path, pairs, test_list="lists/")


def test_whole_sequences_are_chosen_by_a_seed(tmp_path):
    names = [f"set{number:02}_V000_I{frame:05}" for number in range(10) for frame in range(10)]
    pairs = pairs_of(tmp_path, names)
    by_split, result = split_of(tmp_path, pairs)
    chosen = {name[:5] for name in by_split["test"]}
    assert (len(chosen), len(by_split["test"]), len(by_split["train"])) == (2, 20, 80)
    start = "by sequence: 2 of 10 test (20% of the pairs, asked for 20%, split_seed=0): set"
    assert result.source.startswith(start)
    assert all(f"{name}_V000_I" in result.source for name in chosen)
    assert split_of(tmp_path, pairs)[0] == by_split
    assert split_of(tmp_path, pairs, split_seed=1)[0] != by_split
    assert len(split_of(tmp_path, pairs, test_share=0.5)[0]["test"]) == 50


@pytest.mark.parametrize(
    ("counts", "share", "expected"),
    [
        ({"a": 50, "b": 50}, 0.1, 1),
        ({"a": 90, "b": 10}, 0.2, {"b"}),
        ({"a": 1, "b": 1, "c": 98}, 0.02, {"a", "b"}),
        ({"a": 1, "b": 1}, 0.99, 1),
    ],
)
def test_the_share_is_met_as_nearly_as_sequences_allow(counts, share, expected):
    names = [name for name, count in counts.items() for _ in range(count)]
    for seed in range(5):
        chosen = choose_sequences(names, share, seed)
        assert len(chosen) == expected if isinstance(expected, int) else set(chosen) == expected


@pytest.mark.parametrize(
    ("names", "options", "expected"),
    [
        (["V000/1", "V000/2", "V001/1", "V001/2"], {}, ["V000", "V000", "V001", "V001"]),
        (["day/a_1", "day/b_1", "night/a_1"], {}, ["a_", "b_", "a_"]),
        (["walk/a_1", "walk/a_2", "walk/b_1"], {}, ["walk/a_", "walk/a_", "walk/b_"]),
        # One folder or one name for each pair, dates with a time, and random names tell frames, not sequences.
        (["p1/pair", "p2/pair", "p3/pair"], {}, ["", "", ""]),
        (["2014_05_05_17_29_23_0", "2014_05_05_17_29_23_5", "2014_05_05_17_29_24_0"], {}, ["", "", ""]),
        (["DJI_20240601112000_0001", "DJI_20240601112001_0002"], {}, ["", ""]),
        (["1717245600123_1", "1717245600123_2", "1717245600456_1"], {}, ["", "", ""]),
        (["3a9f0c", "b4862b", "c0ffee"], {}, ["", "", ""]),
        (
            [f"20240601_12{minute}00_{frame:03}" for minute in (10, 15) for frame in range(100)],
            {},
            ["20240601_121000_"] * 100 + ["20240601_121500_"] * 100,
        ),
        (["190001", "190002", "260001"], {"sequence": "^.."}, ["19", "19", "26"]),
        (["a-1-x", "b-1-y"], {"sequence": "-(.)-(.)"}, ["1/x", "1/y"]),
        (["000", "001", "002", "003", "004"], {"sequence_images": 2}, [f"images#{i}" for i in (1, 1, 2, 2, 3)]),
        (["f1", "f10", "f11", "f2"], {"sequence_images": 2}, [f"images#{i}" for i in (1, 2, 2, 1)]),
        (["a/0", "a/1", "b/0"], {"sequence_images": 1}, ["a#1", "a#2", "b#1"]),
    ],
)
def test_sequences_are_told_by_names(tmp_path, names, options, expected):
    assert sequence_names(pairs_of(tmp_path, names), config(**options)) == expected


def test_the_column_sequence_decides(tmp_path):
    pairs = [pair(tmp_path, f"{index}.png", "x.png", sequence=name) for index, name in enumerate("xyx")]
    assert sequence_names(pairs, config()) == ["x", "y", "x"]
    assert set(split_of(tmp_path, pairs)[0]) == {"train", "test"}


def test_one_sequence_is_never_split_by_frame(tmp_path):
    pairs = pairs_of(tmp_path, ["190001", "190002", "190003"])
    with pytest.raises(
        InputError, match=r"names of the 3 pairs \(190001, .*do not tell sequences.*nearly alike"
    ) as caught:
        split_of(tmp_path, pairs)
    for remedy in ("sequence=REGEX", "sequence_images=N", "pairs=FILE.csv", "train_list, test_list", "split=train"):
        assert f"\n  {remedy}" in str(caught.value)
    with pytest.raises(InputError, match=r"sequence='\^x' finds nothing in the name '190001' of a pair"):
        split_of(tmp_path, pairs, sequence="^x")
    assert split_of(tmp_path, pairs, split="test")[0] == {"test": ["190001", "190002", "190003"]}


@pytest.mark.parametrize(
    ("names", "start"),
    [
        (["train"], "no test split: nothing to score on"),
        (["train", "validation"], "no test split: runs score the validation split with --config.data.test_split="),
        (["train", "validation", "test"], "the best checkpoint is chosen on the validation split with"),
        (["train", "test"], None),
        (["test"], None),
    ],
)
def test_advice_tells_what_the_splits_allow(names, start):
    lines = splits.advice(names)
    assert (len(lines), not start or lines[0].startswith(start)) == (bool(start), True)
