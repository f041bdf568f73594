"""Which files belong together by their names."""

import pytest

from dcrl_jax.pairs.by_name import NamedPair, pair_by_name


@pytest.mark.parametrize(
    ("visible", "lwir", "name"),
    [
        ("set00/V000/visible/I00000.jpg", "set00/V000/lwir/I00000.jpg", "set00/V000/I00000"),
        ("set00_V000_I00000_visible.png", "set00_V000_I00000_lwir.png", "set00_V000_I00000"),
        ("set00_V000_visible_I00000.png", "set00_V000_lwir_I00000.png", "set00_V000_I00000"),
        ("test/vi/00151D.jpg", "test/ir/00151D.png", "test/00151D"),
        ("visible/test/a.jpg", "infrared/test/a.jpg", "test/a"),
        ("Day/Visible/Train/a.png", "Day/FIR/Train/a.png", "Day/Train/a"),
        ("Vis/00000.png", "Ir/00000.png", "00000"),
        ("crop_LR_visible/FLIR_00006.jpg", "cropinfrared/FLIR_00006.jpg", "FLIR_00006"),
        ("FLIR_00000_RGB.jpg", "FLIR_00000_PreviewData.jpeg", "FLIR_00000"),
        ("train/RGB/FLIR_1.jpg", "train/thermal_8_bit/FLIR_1.jpeg", "train/FLIR_1"),
        ("DJI_2024_0000_W.JPG", "DJI_2024_0000_T.JPG", "DJI_2024_0000"),
        ("DJI_0000_V.JPG", "DJI_0000_T.JPG", "DJI_0000"),
        ("RGB/1.jpg", "T/1.jpg", "1"),
        ("run/visible/00001v.jpg", "run/infrared/00001i.jpg", "run/00001"),
        ("rgb_1/I0.png", "thermal_1/I0.png", "1/I0"),
        ("I0-visible.png", "I0-lwir.png", "I0"),
        ("I0.visible.tif", "I0.lwir.tif", "I0"),
        ("rgb 7.png", "thermal 7.png", "7"),
        ("rgb1.png", "thermal1.png", "1"),
        ("rgb_ir/visible/ir_1.png", "rgb_ir/lwir/ir_1.png", "rgb_ir/ir_1"),
        ("visible.PNG", "lwir.png", "pair"),
        ("a.jpg", "a_ir.jpg", "a"),
        ("rgb/u\u0308.png", "ir/\u00fc.png", "\u00fc"),
        ("rgb/1_jpg.rf.0a1b.jpg", "thermal/1_png.rf.9f8e.jpg", "1"),
        ("rgb.v1i/train/1.rf.0a1b.jpg", "thermal.v1i/train/1.rf.9f8e.jpg", "v1i/train/1"),
        ("rgb/1.rf.0a1b.jpg", "thermal/1.rf.0a1b.jpg", "1.rf.0a1b"),
    ],
)
def test_pair_is_found_by_the_habits_of_the_field(visible, lwir, name):
    assert pair_by_name([lwir, visible]) == ([NamedPair(name, visible, lwir)], [], [], [])


def test_numbers_and_folders_keep_pairs_apart():
    names = ["rgb_1/a.png", "thermal_1/a.png", "rgb_2/a.png", "thermal_2/a.png", "1/rgb.png", "1/thermal.png"]
    pairs, visible, lwir, _ = pair_by_name([*names, "2/rgb.png"])
    assert [pair.name for pair in pairs] == ["1/a", "1/pair", "2/a"]
    assert (visible, lwir) == (["2/rgb.png"], [])
    assert [pair.name for pair in pair_by_name(["1_rgb23.png", "1_ir23.png", "12_rgb3.png"]).pairs] == ["1_23"]
    assert pair_by_name(["run_1_rgb2.png", "run_12_ir.png"]).pairs == []


@pytest.mark.parametrize(
    ("names", "lwir"),
    [
        ("street_t.jpg street.jpg plan_T.png T.png t/a.png", ""),
        ("lwir_camera.jpg visible.d/ir1.jpg thermal_1/a.jpg FIR/a.jpg a-ir.jpg", ""),
        ("street_ir.jpg thermal/b.jpg", "street_ir.jpg thermal/b.jpg"),
        ("IMG_W.jpg IMG_V.jpg IMG_Z.jpg wide.jpg", ""),
    ],
)
def test_only_certain_words_make_a_file_without_partner_thermal(names, lwir):
    pairing = pair_by_name(names.split())
    assert (pairing.pairs, pairing.lwir) == ([], lwir.split())


def test_best_of_several_cameras_is_taken_and_equal_ones_are_a_problem():
    dji = pair_by_name(["0_Z.JPG", "0_W.JPG", "0_T.JPG", "1_T.JPG"])
    assert dji == ([NamedPair("0", "0_W.JPG", "0_T.JPG")], ["0_Z.JPG", "1_T.JPG"], [], [])
    flir = pair_by_name(["RGB/1.jpg", "thermal_16_bit/1.tiff", "thermal_8_bit/1.jpeg"])
    assert flir == ([NamedPair("1", "RGB/1.jpg", "thermal_8_bit/1.jpeg")], [], ["thermal_16_bit/1.tiff"], [])
    unclear = pair_by_name(["a_rgb.png", "a_rgb.jpg", "a_ir.jpg", "b_rgb.jpg", "b_ir.jpg"])
    assert [pair.name for pair in unclear.pairs] == ["b"]
    (problem,) = unclear.problems
    assert problem.startswith("a_rgb.jpg and a_rgb.png (visible), a_ir.jpg (thermal): both have the name 'a'; it is un")


def test_files_of_two_folders_need_no_words():
    visible, lwir = ["1.jpg", "2_visible.jpg", "3.jpg", "FLIR_0_RGB.jpg"], ["1.png", "2_thermal.jpg", "4.jpg"]
    pairs, unpaired, unpaired_lwir, _ = pair_by_name(visible, [*lwir, "FLIR_0_PreviewData.jpeg"])
    assert pairs == [
        ("1", "1.jpg", "1.png"),
        ("2", "2_visible.jpg", "2_thermal.jpg"),
        ("FLIR_0", "FLIR_0_RGB.jpg", "FLIR_0_PreviewData.jpeg"),
    ]
    assert (unpaired, unpaired_lwir) == (["3.jpg"], ["4.jpg"])
    assert pair_by_name(["v001.jpg"], ["i001.jpg"]).pairs == [("001", "v001.jpg", "i001.jpg")]
