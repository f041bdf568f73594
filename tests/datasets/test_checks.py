"""The checks that the fetched data sets share."""

import cv2
import numpy as np

from datasets import checks
from dcrl_jax.annotations.types import Annotation, Finding


def test_boxes_that_share_a_pixel_with_the_image_are_kept_once():
    boxes = [(-29.9, 0, 30, 10), (-30, 0, 30, 10), (0, 99.9, 1, 9), (0, 100, 1, 9), (199.9, 0, 1, 1), (200, 0, 1, 1)]
    annotations = [Annotation("person", box) for box in boxes] + [Annotation("cow", (1, 2, 3, 0))]
    # Only the first two are equal to others in all fields.
    others = [
        Annotation("cow", boxes[0]),
        Annotation("person", boxes[0], 1),
        Annotation("person", boxes[0], ignore=True),
    ]
    annotations += [*others, annotations[0], annotations[2], annotations[0]]
    kept, findings = checks.usable_objects(annotations, 200, 100, "test: a")
    assert kept == [*annotations[:6:2], *others]
    assert findings == [
        Finding("annotation twice, counted once", "test: a: person -29.9 0 30 10, 3 times"),
        Finding("annotation twice, counted once", "test: a: person 0 99.9 1 9, 2 times"),
        Finding("box outside the image", "test: a: person -30 0 30 10"),
        Finding("box outside the image", "test: a: person 0 100 1 9"),
        Finding("box outside the image", "test: a: person 200 0 1 1"),
        Finding("box of no size", "test: a: cow 1 2 3 0"),
    ]


def test_images_are_checked_by_their_header_and_their_end(tmp_path):
    path = tmp_path / "a"

    def problem_of(suffix, size=(60, 40), cut=0):
        image = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
        encoded = cv2.imencode(suffix, image)[1].tobytes()
        path.write_bytes(encoded[: len(encoded) - cut])
        return checks.image_problem(path, size)

    for suffix in (".png", ".jpg"):
        assert problem_of(suffix) is None
        assert problem_of(suffix, (40, 60)).startswith("60x40 pixels; expected 40x60")
        assert problem_of(suffix, cut=13) == "cut off: its end is missing"
    assert problem_of(".bmp") == "BMP image; expected JPEG or PNG"
    path.write_text("no image at all")
    assert checks.image_problem(path, (60, 40)) == "cannot be read (not an image, 15 bytes)"
    absent = checks.image_problem(tmp_path / "b", (60, 40))
    assert absent == "cannot be read (No such file or directory, 0 bytes)"


def test_twenty_findings_of_a_kind_are_shown_and_all_are_written(tmp_path, capsys):
    path = tmp_path / "deep" / "findings.txt"
    checks.report_findings([], path)
    assert not path.parent.exists()
    checks.report_findings([Finding("missing", f"test: {n}") for n in range(22)] + [Finding("odd", "x")], path)
    shown = ["missing: 22", *(f"  test: {n}" for n in range(20)), "  and 2 more", "odd: 1", "  x"]
    assert capsys.readouterr().out.splitlines() == [*shown, f"all of these: {path}"]
    assert path.read_text().splitlines() == [*(f"missing\ttest: {n}" for n in range(22)), "odd\tx"]
