"""The pairs of a folder: by names, by patterns, and from a list."""

import pytest
from folder_copies import config, pair, write, write_image, write_pairs

from datasets.rgbt_folder import files
from dcrl_jax.errors import InputError


def found(root, **options):
    """Return the pairs as names and images, and the findings without the folder."""
    result = files.find_pairs(root, config(**options))
    rows = [(pair.name, pair.visible_name, pair.lwir_name) for pair in result.pairs]
    return rows, [(kind, text.replace(f"{root}/", "")) for kind, text in result.findings]


def test_pairs_are_found_by_their_names_in_any_folders(tmp_path):
    write_pairs(tmp_path, ["train/001", "test/Straße 7"], "LLVIP/visible/{}.JPG", "LLVIP/infrared/{}.png")
    write_image(tmp_path / "LLVIP" / "visible" / "train" / "002.png")
    write_image(tmp_path / "LLVIP" / "infrared" / "train" / "003.png", 1)
    (tmp_path / "LLVIP" / "visible" / "lost.png").symlink_to("nowhere.png")
    (tmp_path / "LLVIP" / "visible" / "._001.png").write_bytes(b"\0\5\x16\7")
    assert found(tmp_path) == (
        [
            ("LLVIP/test/Straße 7", "LLVIP/visible/test/Straße 7.JPG", "LLVIP/infrared/test/Straße 7.png"),
            ("LLVIP/train/001", "LLVIP/visible/train/001.JPG", "LLVIP/infrared/train/001.png"),
        ],
        [
            (files.UNUSED_FILE, "LLVIP/visible/lost.png: a link to nowhere.png, which does not exist."),
            (files.NO_PARTNER["visible"], "LLVIP/visible/train/002.png"),
            (files.NO_PARTNER["lwir"], "LLVIP/infrared/train/003.png"),
        ],
    )


def test_of_two_patterns_equal_wildcards_are_a_pair(tmp_path):
    write_pairs(tmp_path, ["FLIR_00002"], "align/JPEGImages/{}_RGB.jpg", "align/JPEGImages/{}_PreviewData.jpeg")
    write_pairs(
        tmp_path, ["FLIR_00002"], "align/AnnotatedImages/{}_RGB.jpg", "align/AnnotatedImages/{}_PreviewData.jpeg"
    )
    rows, findings = found(tmp_path, visible="**/JPEGImages/*_RGB.jpg", lwir="**/JPEGImages/*_PreviewData.jpeg")
    folder = "align/JPEGImages"
    assert rows == [("align/FLIR_00002", f"{folder}/FLIR_00002_RGB.jpg", f"{folder}/FLIR_00002_PreviewData.jpeg")]
    assert findings == []


def test_two_folders_pair_by_the_names_below_them(tmp_path):
    write_pairs(tmp_path, ["a/1", "a/2"], "colour camera/{}.png", "FLIR camera [left]/{}.png")
    rows, _ = found(tmp_path, visible="colour camera", lwir="FLIR camera [left]")
    assert [name for name, *_ in rows] == ["a/1", "a/2"]


def test_a_list_names_pairs_with_their_cells(tmp_path):
    write_pairs(tmp_path, ["1", "2"], "cam0/{}.png", "cam1/x{}.png")
    header = "thermal;visible;split;condition;other"
    lines = [header, "cam1\\x1.png;cam0\\1.png;train;Night;?", "cam1/x2.png;cam0/2.png;;;"]
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "pairs.csv").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    result = files.find_pairs(tmp_path, config(pairs="lists/pairs.csv"))
    assert [(pair.name, pair.lwir_name, pair.cells) for pair in result.pairs] == [
        ("cam0/1", "cam1/x1.png", {"split": "train", "condition": "Night"}),
        ("cam0/2", "cam1/x2.png", {}),
    ]
    assert result.source == "the list lists/pairs.csv, columns visible, lwir, split, condition"
    path = write(tmp_path / "pairs.csv", "visible,lwir\ncam0/1.png,cam1/x1.png\ncam0/1.png,c.png\nd.png,\n")
    message = r"2 problems\n  .*csv:3: cam0/1\.png is in line 2 already\.\n  .*csv:4: 'd\.png,'"
    with pytest.raises(InputError, match=message):
        files.find_pairs(tmp_path, config(pairs="pairs.csv"))
    path.write_text("RGB image;thermal image\ncam0/1.png;cam1/x1.png\n")
    with pytest.raises(
        InputError, match=r"csv:1: neither .*/RGB image nor .*/thermal image is a file.*names of columns"
    ):
        files.find_pairs(tmp_path, config(pairs="pairs.csv"))


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        ((), {}, r"no image \(1 other files \(\.txt 1\)\)\. Expected a folder of visible and thermal images"),
        (
            ("cam0/a.png", "cam1/a.png"),
            {},
            r"2 visible and 0 thermal images, but no pair.*1 in cam1/, such as a\.png.*",
        ),
        (("cam0/a.png",), {"visible": "*.jpg", "lwir": "cam1"}, r"no image matches '\*\.jpg'"),
        (("cam0/a.png",), {"pairs": "list.csv"}, r"list\.csv: no such file; pairs is a CSV list"),
    ],
)
def test_a_folder_without_pairs_says_how_files_are_recognised(tmp_path, images, options, message):
    write(tmp_path / "README.txt", "")
    for name in images:
        write_image(tmp_path / name)
    with pytest.raises(InputError, match=f"(?s){message}"):
        files.find_pairs(tmp_path, config(**options))


def test_image_ids_lose_the_folder_of_the_split_where_they_stay_unique(tmp_path):
    names = ["train/00004N", "test/00005D", "Day/NewTest/a/0"]
    pairs = [pair(tmp_path, f"{name}.png", f"{name}_ir.png") for name in names]
    assert files.image_ids(pairs) == ["00004N", "00005D", "Day/a/0"]
    pairs.append(pair(tmp_path, "val/00004N.png", "val/00004N_ir.png"))
    assert files.image_ids(pairs) == [*names, "val/00004N"]
