"""What the builders of fetched data sets share, where no builder's own tests show it."""

from pathlib import Path

import cv2
import numpy as np

from datasets import copies
from dcrl_jax.annotations.types import Annotation, Finding


def test_boxes_that_share_a_pixel_with_the_image_are_kept():
    boxes = [(-29.9, 0, 30, 10), (-30, 0, 30, 10), (0, 99.9, 1, 9), (0, 100, 1, 9), (199.9, 0, 1, 1), (200, 0, 1, 1)]
    annotations = [Annotation("person", box) for box in boxes] + [Annotation("cow", (1, 2, 3, 0))]
    kept, findings = copies.inside(annotations, 200, 100, "test: a")
    assert [one.box for one in kept] == boxes[::2]
    assert findings == [
        Finding("box outside the image", "test: a: person -30 0 30 10"),
        Finding("box outside the image", "test: a: person 0 100 1 9"),
        Finding("box outside the image", "test: a: person 200 0 1 1"),
        Finding("box of no size", "test: a: cow 1 2 3 0"),
    ]


def write(path, suffix):
    image = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
    path.write_bytes(cv2.imencode(suffix, image)[1].tobytes())
    return path


def test_images_are_judged_by_their_header_and_their_end(tmp_path):
    for suffix in (".png", ".jpg"):
        path = write(tmp_path / "a", suffix)
        assert copies.problem_of_image(path, (60, 40)) is None
        assert copies.problem_of_image(path, (40, 60)).startswith("60x40 pixels; expected 40x60")
        path.write_bytes(path.read_bytes()[:-13])
        assert copies.problem_of_image(path, (60, 40)) == "cut off: its end is missing"
    assert copies.problem_of_image(write(tmp_path / "a", ".bmp"), (60, 40)) == "BMP image; expected JPEG or PNG"
    (tmp_path / "a").write_text("nothing of the kind")
    assert copies.problem_of_image(tmp_path / "a", (60, 40)) == "cannot be read (not an image, 19 bytes)"
    absent = copies.problem_of_image(tmp_path / "b", (60, 40))
    assert absent == "cannot be read (No such file or directory, 0 bytes)"


def test_many_findings_are_shown_in_part_and_written_in_full(tmp_path, capsys):
    findings = [Finding("image missing", f"test: {number}") for number in range(22)] + [Finding("odd", "x")]
    copies.report(findings, Path(tmp_path / "deep" / "findings.txt"))
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "image missing: 22"
    assert printed[1:22] == [*(f"  test: {number}" for number in range(20)), "  and 2 more"]
    assert printed[22:] == ["odd: 1", "  x", f"all of these: {tmp_path}/deep/findings.txt"]
    assert (tmp_path / "deep" / "findings.txt").read_text().splitlines()[20:] == [
        "image missing\ttest: 20",
        "image missing\ttest: 21",
        "odd\tx",
    ]


def test_nothing_is_reported_of_nothing(tmp_path, capsys):
    copies.report([], tmp_path / "findings.txt")
    assert capsys.readouterr().out == ""
    assert not (tmp_path / "findings.txt").exists()


def test_table_has_names_on_the_left_and_numbers_on_the_right():
    assert copies.count_table(["", "all", "day"], [["people", 1234567, 8], ["x", 9, 10]]) == (
        "              all  day\npeople  1,234,567    8\nx               9   10"
    )
