"""The images that a source names, and which of them are pairs."""

import pytest

from dcrl_jax.errors import InputError
from dcrl_jax.inference.pairs import Pair, find_pairs, is_video


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


# The layouts of KAIST's video tree, of its flat copies, of MSRS, of ICAFusion, and of a folder with one pair.
LAYOUTS = {
    "kaist": ("set00/V000/visible/I00000.jpg", "set00/V000/lwir/I00000.jpg", "set00/V000/I00000"),
    "flat": ("set00_V000_I00000_visible.png", "set00_V000_I00000_lwir.png", "set00_V000_I00000"),
    "msrs": ("test/vi/00151D.jpg", "test/ir/00151D.png", "test/00151D"),
    "icafusion": ("visible/test/a.jpg", "infrared/test/a.jpg", "test/a"),
    "one": ("visible.PNG", "lwir.png", "pair"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pair_is_found_in_one_folder(tmp_path, layout):
    visible, lwir, name = LAYOUTS[layout]
    touch(tmp_path, visible, lwir)
    assert find_pairs(str(tmp_path), None, True) == ([Pair(name, tmp_path / visible, tmp_path / lwir)], [])
    assert find_pairs(str(tmp_path), None, False) == ([Pair(name, tmp_path / visible, None)], [])


def test_pairs_of_two_folders_have_the_same_name(tmp_path):
    touch(tmp_path, "a/1.jpg", "a/2_visible.jpg", "a/3.jpg", "b/1.png", "b/2_thermal.jpg", "b/4.jpg")
    pairs, unmatched = find_pairs(str(tmp_path / "a"), str(tmp_path / "b"), True)
    assert [(pair.name, pair.visible.name, pair.lwir.name) for pair in pairs] == [
        ("1", "1.jpg", "1.png"),
        ("2", "2_visible.jpg", "2_thermal.jpg"),
    ]
    assert unmatched == [tmp_path / "a/3.jpg", tmp_path / "b/4.jpg"]


def test_two_files_are_a_pair_whatever_their_names(tmp_path):
    touch(tmp_path, "street.jpg", "heat.png")
    (pair,), _ = find_pairs(str(tmp_path / "street.jpg"), str(tmp_path / "heat.png"), True)
    assert pair == ("street", tmp_path / "street.jpg", tmp_path / "heat.png")


@pytest.mark.parametrize(
    ("pattern", "lwir_pattern", "names"),
    [
        ("set01/**", None, ["1"]),
        ("*/visible/*.jpg", "", ["set00/1", "set01/1"]),
        ("*/visible/*", "*/lwir/*", ["set00/1", "set01/1"]),
    ],
)
def test_pattern_finds_what_matches_it(tmp_path, pattern, lwir_pattern, names):
    touch(tmp_path, "set00/visible/1.jpg", "set00/lwir/1.jpg", "set01/visible/1.jpg", "set01/lwir/1.jpg", "set01/x.txt")
    lwir = f"{tmp_path}/{lwir_pattern}" if lwir_pattern else None
    pairs, _ = find_pairs(f"{tmp_path}/{pattern}", lwir, needs_lwir=lwir_pattern != "")
    assert [pair.name for pair in pairs] == names


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["b.jpg", "a.jpg", "sub/c.webp", "d.avif", "notes.txt", "film.mp4"], ["a", "b", "d", "sub/c"]),
        (["lwir_camera.jpg", "visible.d/ir1.jpg"], ["lwir_camera", "visible.d/ir1"]),
    ],
    ids=["sorted by name", "words inside names"],
)
def test_folder_gives_its_visible_images(tmp_path, files, names):
    touch(tmp_path, *files)
    assert [pair.name for pair in find_pairs(str(tmp_path), None, False).pairs] == names


def test_videos_are_known_by_their_suffix_but_not_in_a_pattern(tmp_path):
    touch(tmp_path, "film.ts", "film[1].mp4")
    assert is_video(tmp_path / "film.ts")
    assert is_video(tmp_path / "film[1].mp4")
    assert is_video(tmp_path / "missing.mkv")
    assert not is_video(tmp_path / "*.mp4")
    assert not is_video(tmp_path / "film.jpg")


@pytest.mark.parametrize(
    ("files", "source", "needs_lwir", "message"),
    [
        ([], "nowhere", False, "nowhere: no such file or folder"),
        ([], "", False, r"contains no image \(no files\); images end with .avif, .bmp, .jpeg, .jpg"),
        (["a.txt", "b.mp4"], "", False, r"no image \(2 files, 1 of them videos, which must be given one by one\)"),
        (["a.jpg"], "*.png", False, r"contains no image \(no files\)"),
        (["a.mp4", "b.mp4"], "*.mp4", False, r"no image \(2 files, 2 of them videos"),
        (["a_lwir.jpg"], "", False, "thermal images only; this detector takes visible images"),
        (["a.jpg", "a.png"], "", False, "a.jpg and .*a.png have the same name, 'a', in the results"),
        (
            ["a.jpg"],
            "a.jpg",
            True,
            "1 visible and 0 thermal images, no two with the same name .*or give .* with --lwir",
        ),
        (["a_visible.jpg", "b_lwir.jpg"], "", True, r"1 visible and 1 thermal images, .* \(.*a_vis.*b_l"),
    ],
)
def test_source_that_names_nothing_usable_is_refused(tmp_path, files, source, needs_lwir, message):
    touch(tmp_path, *files)
    with pytest.raises(InputError, match=message):
        find_pairs(str(tmp_path / source), None, needs_lwir)
