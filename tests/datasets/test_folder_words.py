"""The words in names of folders and files."""

import pytest

from datasets.rgbt_folder.words import CONDITION_OF, SPLIT_OF, meaning_of, split_modality, told_by


@pytest.mark.parametrize(
    ("folders", "words", "modality"),
    [
        (("Day", "FIR", "NewTest", "FramesPos"), "day test", "lwir"),
        (("labels", "infrared", "Validation"), "validation", "lwir"),
        (("crop_LR_visible", "set00", "V000"), "set 00 v 000", "visible"),
        (("thermal", "rgb images"), "", "visible"),
        (("rgb_thermal", "a-b"), "a b", None),
        (("T",), "", "lwir"),
        (("Größe 2",), "größe 2", None),
        ((), "", None),
    ],
)
def test_folders_tell_modality_and_words(folders, words, modality):
    assert meaning_of(folders) == (frozenset(words.split()), modality)


@pytest.mark.parametrize(
    ("stem", "expected"),
    [
        ("FLIR_00002_PreviewData", ("FLIR_00002", "lwir")),
        ("1_RGB", ("1", "visible")),
        ("thermal", ("thermal", None)),
        ("_ir", ("_ir", None)),
        ("2014_05", ("2014_05", None)),
    ],
)
def test_the_end_of_a_name_tells_the_modality(stem, expected):
    assert split_modality(stem) == expected


@pytest.mark.parametrize(
    ("names", "meanings", "expected"),
    [
        (("instances_val2017",), SPLIT_OF, "validation"),
        (("train_test_split", "test"), SPLIT_OF, "test"),
        (("test", "trainval"), SPLIT_OF, "test"),
        (("contest", "trainer"), SPLIT_OF, None),
        (("Day", "night-03"), CONDITION_OF, "night"),
        (("day_night",), CONDITION_OF, None),
    ],
)
def test_the_innermost_name_with_words_of_one_meaning_tells_it(names, meanings, expected):
    assert told_by(names, meanings) == expected
