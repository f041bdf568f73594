"""Which images are meant, and which thermal image belongs to which visible one."""

import pytest

from dcrl_jax.errors import InputError
from dcrl_jax.inference.pairs import Pair, find_pairs


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


# The habits of KAIST's video tree, of its flat copies, of MSRS, of ICAFusion, and a folder with one pair.
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
    expected = [Pair(name, tmp_path / visible, tmp_path / lwir)]
    assert find_pairs(str(tmp_path), None, True) == (expected, [])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_student_gets_the_visible_images_alone(tmp_path, layout):
    visible, lwir, name = LAYOUTS[layout]
    touch(tmp_path, visible, lwir)
    assert find_pairs(str(tmp_path), None, False) == ([Pair(name, tmp_path / visible, None)], [])


def test_pairs_of_two_folders_have_the_same_name(tmp_path):
    touch(tmp_path, "a/1.jpg", "a/2_visible.jpg", "a/3.jpg", "b/1.png", "b/2_thermal.jpg", "b/4.jpg")
    pairs, unmatched = find_pairs(str(tmp_path / "a"), str(tmp_path / "b"), True)
    assert [(pair.name, pair.visible.name, pair.lwir.name) for pair in pairs] == [
        ("1", "1.jpg", "1.png"),
        ("2", "2_visible.jpg", "2_thermal.jpg"),
    ]
    assert unmatched == [tmp_path / "a/3.jpg", tmp_path / "b/4.jpg"]


def test_two_files_need_no_common_name(tmp_path):
    touch(tmp_path, "street.jpg", "heat.png")
    (pair,), _ = find_pairs(str(tmp_path / "street.jpg"), str(tmp_path / "heat.png"), True)
    assert pair == ("street", tmp_path / "street.jpg", tmp_path / "heat.png")


def test_pattern_takes_what_fits_it(tmp_path):
    touch(tmp_path, "set00/visible/1.jpg", "set00/lwir/1.jpg", "set01/visible/1.jpg", "set01/lwir/1.jpg", "set01/x.txt")
    pairs, _ = find_pairs(f"{tmp_path}/set01/**", None, True)
    assert [pair.name for pair in pairs] == ["1"]
    pairs, _ = find_pairs(f"{tmp_path}/*/visible/*.jpg", None, False)
    assert [pair.name for pair in pairs] == ["set00/1", "set01/1"]
    pairs, _ = find_pairs(f"{tmp_path}/*/visible/*", f"{tmp_path}/*/lwir/*", True)
    assert [pair.name for pair in pairs] == ["set00/1", "set01/1"]


def test_folder_and_pattern_give_images_in_the_order_of_their_names(tmp_path):
    touch(tmp_path, "b.jpg", "a.jpg", "sub/c.webp", "notes.txt", "film.mp4")
    assert [pair.name for pair in find_pairs(str(tmp_path), None, False).pairs] == ["a", "b", "sub/c"]


def test_word_of_a_modality_within_a_name_means_nothing(tmp_path):
    touch(tmp_path, "lwir_camera.jpg", "visible.d/ir1.jpg")
    assert [pair.name for pair in find_pairs(str(tmp_path), None, False).pairs] == ["lwir_camera", "visible.d/ir1"]


@pytest.mark.parametrize(
    ("files", "given", "needs_lwir", "message"),
    [
        ([], "nowhere", False, "nowhere: no such file or folder"),
        ([], "", False, r"no image in it \(no files\); images end with .bmp, .jpeg, .jpg"),
        (["a.txt", "b.mp4"], "", False, r"no image in it \(2 files, 1 of them videos, which are given one by one\)"),
        (["a.jpg"], "*.png", False, r"no image in it \(no files\)"),
        (
            ["a.mp4", "b.mp4"],
            "*.mp4",
            False,
            r"no image in it \(2 files, 2 of them videos, which are given one by one\)",
        ),
        (["a_lwir.jpg"], "", False, "thermal images alone; this detector looks at visible ones"),
        (["a.jpg", "a.png"], "", False, "a.jpg and .*a.png have one name, 'a', in the results"),
        (["a.jpg"], "a.jpg", True, "1 visible and 0 thermal images, no two of one name .*or give .* by --lwir"),
        (
            ["a_visible.jpg", "b_lwir.jpg"],
            "",
            True,
            r"1 visible and 1 thermal images, no two of one name \(.*a_vis.*b_l",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path, files, given, needs_lwir, message):
    touch(tmp_path, *files)
    with pytest.raises(InputError, match=message):
        find_pairs(str(tmp_path / given), None, needs_lwir)
