"""The images that a source names, and which of them are pairs."""

import pytest

from dcrl_jax.errors import InputError
from dcrl_jax.inference.pairs import Pair, find_pairs, is_video


def touch(folder, names):
    for name in names.split():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


@pytest.mark.parametrize(
    ("visible", "lwir", "name"),
    [
        ("set00/V000/visible/I00000.jpg", "set00/V000/lwir/I00000.jpg", "set00/V000/I00000"),
        ("set00_V000_I00000_visible.png", "set00_V000_I00000_lwir.png", "set00_V000_I00000"),
        ("test/vi/00151D.jpg", "test/ir/00151D.png", "test/00151D"),
        ("visible/test/a.jpg", "infrared/test/a.jpg", "test/a"),
        ("visible.PNG", "lwir.png", "pair"),
    ],
    ids=["KAIST", "flat copies of KAIST", "MSRS", "ICAFusion", "one pair"],
)
def test_pair_is_found_in_one_folder(tmp_path, visible, lwir, name):
    touch(tmp_path, f"{visible} {lwir}")
    assert find_pairs(str(tmp_path), None, True) == ([Pair(name, tmp_path / visible, tmp_path / lwir)], [])
    assert find_pairs(str(tmp_path), None, False) == ([Pair(name, tmp_path / visible, None)], [])


def test_pairs_of_two_sources_have_the_same_name(tmp_path):
    touch(tmp_path, "a/1.jpg a/2_visible.jpg a/3.jpg b/1.png b/2_thermal.jpg b/4.jpg")
    pairs, unmatched = find_pairs(str(tmp_path / "a"), str(tmp_path / "b"), True)
    files = [(pair.name, pair.visible.name, pair.lwir.name) for pair in pairs]
    assert files == [("1", "1.jpg", "1.png"), ("2", "2_visible.jpg", "2_thermal.jpg")]
    assert unmatched == [tmp_path / "a/3.jpg", tmp_path / "b/4.jpg"]
    # Two files are a pair whatever their names.
    (pair,), _ = find_pairs(str(tmp_path / "a/3.jpg"), str(tmp_path / "b/4.jpg"), True)
    assert pair == ("3", tmp_path / "a/3.jpg", tmp_path / "b/4.jpg")


SETS = "set00/visible/1.jpg set00/lwir/1.jpg set01/visible/1.jpg set01/lwir/1.jpg set01/x.txt"


@pytest.mark.parametrize(
    ("files", "source", "lwir", "names"),
    [
        (SETS, "set01/**", None, "1"),
        (SETS, "*/visible/*.jpg", "", "set00/1 set01/1"),
        (SETS, "*/visible/*", "*/lwir/*", "set00/1 set01/1"),
        ("b.jpg a.jpg sub/c.webp d.avif notes.txt film.mp4", "", "", "a b d sub/c"),
        ("lwir_camera.jpg visible.d/ir1.jpg", "", "", "lwir_camera visible.d/ir1"),
    ],
    ids=["pairs", "visible images", "two patterns", "folder, sorted", "words inside names"],
)
def test_folder_and_pattern_give_their_images(tmp_path, files, source, lwir, names):
    touch(tmp_path, files)
    lwir_source = f"{tmp_path}/{lwir}" if lwir else None
    pairs, _ = find_pairs(f"{tmp_path}/{source}", lwir_source, needs_lwir=lwir != "")
    assert [pair.name for pair in pairs] == names.split()


def test_videos_are_known_by_their_suffix_but_not_in_a_pattern(tmp_path):
    touch(tmp_path, "film.ts film[1].mp4")
    names = ("film.ts", "film[1].mp4", "missing.mkv", "*.mp4", "film.jpg")
    assert [is_video(tmp_path / name) for name in names] == [True, True, True, False, False]


@pytest.mark.parametrize(
    ("files", "source", "needs_lwir", "message"),
    [
        ("", "nowhere", False, "nowhere: no such file or folder"),
        ("", "", False, r"contains no image \(no files\); images end with .avif, .bmp, .jpeg, .jpg"),
        ("a.txt b.mp4", "", False, r"no image \(2 files, 1 of them videos, which must be given one by one\)"),
        ("a.jpg", "*.png", False, r"contains no image \(no files\)"),
        ("a.mp4 b.mp4", "*.mp4", False, r"no image \(2 files, 2 of them videos"),
        ("a_lwir.jpg", "", False, "thermal images only; this detector takes visible images"),
        ("a.jpg a.png", "", False, "a.jpg and .*a.png have the same name, 'a', in the results"),
        ("a.jpg", "a.jpg", True, "1 visible and 0 thermal images, no two with the same name .*or give .* with --lwir"),
        ("a_visible.jpg b_lwir.jpg", "", True, r"1 visible and 1 thermal images, .* \(.*a_vis.*b_l"),
    ],
)
def test_source_that_names_nothing_usable_is_refused(tmp_path, files, source, needs_lwir, message):
    touch(tmp_path, files)
    with pytest.raises(InputError, match=message):
        find_pairs(str(tmp_path / source), None, needs_lwir)
