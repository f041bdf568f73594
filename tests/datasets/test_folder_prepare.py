"""The prepare command of a folder of pairs, what it prints, and its contact sheet."""

import csv
import io
import re
import tarfile
from collections import namedtuple
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest
from folder_copies import write, write_image, write_pairs

from datasets.rgbt_folder import contact_sheet, open_builder, prepare, summary
from dcrl_jax.annotations.types import Annotation

KAIST = Path(__file__).parents[2].parent / "shared" / "kaist"
Item = namedtuple("Item", ["condition", "objects"])
PERSON = Annotation("person", (0, 0, 4, 8))


def test_examples_are_of_every_split_by_day_and_night_with_people_first():
    items = [
        Item("night" if index % 2 else "day", [PERSON] if index % 4 < 2 and index < 40 else []) for index in range(80)
    ]
    chosen = summary.choose_examples({"train": items, "test": items[:3], "validation": []})
    train = [index for split, index in chosen if split == "train"]
    assert [index for split, index in chosen if split == "test"] == [0, 2, 1]
    assert (len(chosen), len(train)) == (12, 9)
    assert sum(items[index].condition == "day" for index in train) in (4, 5)
    assert all(items[index].objects for index in train)
    assert max(train) - min(train) > 25
    assert summary.choose_examples({"test": []}) == []


def test_the_command_prints_the_result_and_draws_pairs_that_it_names(tmp_path, capsys):
    root = write_pairs(tmp_path / "raw", [f"{split}/Straße {i}" for split in ("train", "test") for i in range(4)])
    for path in root.glob("visible/*/*.png"):
        write(root / "labels" / path.parent.name / f"{path.stem}.txt", "0 0.5 0.5 0.25 0.5\n1 0.25 0.25 0.25 0.25\n")
    write(root / "labels" / "classes.txt", "car\nPerson\n")
    write_image(root / "lwir" / "test" / "Straße 1.png", 1, dtype=np.uint16)
    arguments = [f"--manual_dir={root}", f"--data_dir={tmp_path / 'data'}", "--ignore_labels=car", "--split_seed=3"]
    prepare.main(arguments)
    printed = capsys.readouterr().out
    sheet = Path(re.search(r"look at these pairs and their boxes: (.*)\n", printed)[1])
    assert sheet == next((tmp_path / "data" / "rgbt_folder").glob("pairs-*")) / "contact_sheet.png"
    assert "\nclass names: car, Person (labels/classes.txt)\n" in printed
    with PIL.Image.open(sheet) as image:
        width, height = image.size
    assert 1900 < width < 2000
    assert height > 600
    sheet.unlink()
    other = tmp_path / "new" / "sheet.jpg"
    prepare.main([*arguments, f"--contact_sheet={other}"])
    again = capsys.readouterr().out
    assert "prepared already" in again
    assert "train: people" in again
    assert other.stat().st_size > 10_000
    assert not sheet.exists()
    with pytest.raises(SystemExit):
        prepare.main([*arguments, "--contact_sheet=sheet.docx"])
    assert "--contact_sheet=sheet.docx cannot be written" in capsys.readouterr().err


def test_a_registration_means_the_same_as_a_file_and_as_numbers(tmp_path, capsys):
    root = write_pairs(tmp_path / "raw", [f"{split}/{i}" for split in ("train", "test") for i in range(2)])
    for path in root.glob("visible/*/*.png"):
        write(root / "labels" / path.parent.name / f"{path.stem}.txt", "0 0.5 0.5 0.25 0.5\n")
    write(root / "where.txt", "0 0 32\n24\n")
    arguments = [f"--manual_dir={root}", f"--data_dir={tmp_path / 'data'}", "--class_names=person"]
    prepare.main([*arguments, "--lwir_to_visible=where.txt"])
    assert "prepared already" not in capsys.readouterr().out
    prepare.main([*arguments, "--lwir_to_visible=0, 0, 32, 24"])
    assert "prepared already" in capsys.readouterr().out


def test_boxes_lie_where_the_objects_are():
    """White people on black, of which the frame of the box covers the edge."""
    image = np.zeros((48, 64, 3), np.uint8)
    image[8:40, 16:32] = 255
    encoded = cv2.imencode(".png", image)[1].tobytes()
    objects = {"box": [np.array([16, 8, 16, 32], np.float32)], "label": [b"person"], "ignore": [False]}
    record = {"image_id": b"x" * 200, "visible": encoded, "lwir": encoded, "condition": 1, "objects": objects}
    file = io.BytesIO()
    contact_sheet.draw([("train", record)], "title").savefig(file)
    picture = np.asarray(PIL.Image.open(file).convert("RGB")).astype(int)
    is_green = (picture[..., 1] > 180) & (picture[..., 0] < 120)
    rows, columns = np.nonzero(is_green[contact_sheet._TITLE_PX + contact_sheet._NAME_PX :])
    # 5 pixels of the sheet to one of the image, from the gap at its left.
    assert (columns.min(), rows.min(), rows.max()) == (
        pytest.approx(4 + 5 * 16, abs=1),
        pytest.approx(5 * 8, abs=1),
        pytest.approx(5 * 40, abs=1),
    )
    assert columns.max() == pytest.approx(4 + 320 + 4 + 5 * 32, abs=1)


def test_the_flags_are_the_options(capsys):
    with pytest.raises(SystemExit):
        prepare.main(["--help"])
    text = capsys.readouterr().out
    for flag in ("--lwir_to_visible", "--missing_labels {background,error}", "--test_share", "--contact_sheet"):
        assert flag in text
    with pytest.raises(SystemExit):
        prepare.main(["--manual_dir=x", "--labels=fusion"])


@pytest.mark.skipif(not KAIST.is_dir(), reason="no real data beside the repository")
def test_flat_frames_of_kaist_are_split_by_sequence(tmp_path, capsys):
    pairs = KAIST / "train-pairs"
    with (pairs / "index.csv").open() as file:
        names = [row["name"] for row in csv.DictReader(file)]
    for path in pairs.glob("*.jpg"):
        (tmp_path / path.name).symlink_to(path)
    wanted = {f"annotations-xml-new/{name.replace('_', '/')}.xml": name for name in names}
    with tarfile.open(KAIST / "annotations-xml-new.tar.xz") as archive:
        for member in archive:
            if member.name in wanted and (content := archive.extractfile(member)):
                name = wanted.pop(member.name)
                write(tmp_path / "annotations-xml-new" / f"{name}.xml", content.read().decode())
            if not wanted:  # unpacking the rest takes long
                break
    data = tmp_path / "data"
    prepare.main([f"--manual_dir={tmp_path}", f"--data_dir={data}", "--night=set0[345]", "--split_seed=2"])
    builder = open_builder(str(data), night="set0[345]", split_seed=2)
    counts = {split: info.num_examples for split, info in builder.info.splits.items()}
    assert counts.keys() == {"train", "test"}
    assert sum(counts.values()) == 62
    assert 9 <= counts["test"] <= 15
    text = builder.info.metadata["table"]
    chosen = re.search(r"by sequence: \d+ of 14 test \(.*split_seed=2\): (.*)", text)[1].split(", ")
    assert all(re.fullmatch(r"set0\d_V00\d_I", name) for name in chosen)
    assert "label formats: KAIST 62" in text
    assert re.search(r"\nperson +198  person\ncyclist +21  cyclist \(ignored by default\)", text)
    with PIL.Image.open(next(data.rglob("contact_sheet.png"))) as image:
        assert image.size[1] > 1000
