"""Day and night, from names and from brightness."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
from folder_copies import config, pair

from datasets.rgbt_folder.conditions import condition_of_image, conditions_of_names
from dcrl_jax.errors import InputError

SHARED = Path(__file__).parents[2].parent / "shared"


def told(root, names, /, cells=None, **options):
    pairs = [
        pair(root, f"{name}.png", "x.png", name, **({"condition": cell} if cell else {}))
        for name, cell in zip(names, cells or [None] * len(names), strict=True)
    ]
    return conditions_of_names(pairs, config(**options))


def test_names_tell_day_and_night(tmp_path):
    names = ["Day/Visible/1", "CVC/Night/x/1", "set_day_night/night_01", "monday/1", "nightingale/1", "a-daytime/2"]
    assert told(tmp_path, names) == (["day", "night", "night", None, None, "day"], "words in the names")
    assert told(tmp_path, ["Day/4N", "Day/4D"], night="N$") == (["night", "day"], "night='N$'")
    column = told(tmp_path, ["Day/1", "Day/2"], ["NIGHT", None], pairs="p.csv")
    assert column == (["night", None], "the column condition")
    with pytest.raises(InputError, match=r"p\.csv: 1 problem\n  a: condition 'dusk'\nExpected day or night"):
        told(tmp_path, ["a"], ["dusk"], pairs="p.csv")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_a_dark_upper_third_is_night(tmp_path, suffix):
    image = np.zeros((480, 640, 3), np.uint8)
    image[160:] = 255
    cv2.imwrite(str(tmp_path / f"night{suffix}"), image)
    cv2.imwrite(str(tmp_path / f"day{suffix}"), 255 - image)
    cv2.imwrite(str(tmp_path / f"grey{suffix}"), 255 - image[:2, :1, 0])
    assert [condition_of_image(tmp_path / f"{name}{suffix}") for name in ("night", "day", "grey")] == [
        "night",
        "day",
        "day",
    ]


@pytest.mark.skipif(not SHARED.is_dir(), reason="no real data beside the repository")
def test_the_error_rates_on_real_images_are_those_of_the_docstring():
    msrs = [(path, path.stem[-1] == "N") for path in (SHARED / "msrs").glob("*/vi/*")]
    folder = SHARED / "kaist" / "train-pairs"
    with (folder / "index.csv").open() as file:
        kaist = [(folder / f"{row['name']}_visible.jpg", row["daynight"] == "night") for row in csv.DictReader(file)]
    wrong = [sum((condition_of_image(path) == "night") != night for path, night in images) for images in (msrs, kaist)]
    assert (wrong, len(msrs), len(kaist)) == ([6, 6], 242, 62)
