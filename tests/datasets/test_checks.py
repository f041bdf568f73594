"""The checks that the fetched data sets share."""

import os

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
        findings = checks.check_image(path, size, "test: a")
        assert {finding.kind for finding in findings} <= {checks.IMAGE_UNREADABLE}
        return [finding.text for finding in findings]

    for suffix in (".png", ".jpg"):
        assert problem_of(suffix) == []
        expected = "test: a: 60x40 pixels; expected 40x60, in which the boxes are annotated"
        assert problem_of(suffix, (40, 60)) == [expected]
        assert problem_of(suffix, cut=13) == ["test: a: cut off: its end is missing"]
    assert problem_of(".bmp") == ["test: a: BMP image; expected JPEG or PNG"]
    path.write_text("no image at all")
    (unreadable,) = checks.check_image(path, (60, 40), "test: a")
    assert unreadable.text == "test: a: cannot be read (not an image, 15 bytes)"
    (absent,) = checks.check_image(tmp_path / "b", (60, 40), "test: b")
    assert absent.text == "test: b: cannot be read (No such file or directory, 0 bytes)"


def test_images_of_other_values_than_training_takes_are_found_in_the_header(tmp_path):
    path = tmp_path / "a.png"
    thermal, refused = Finding(checks.MORE_BITS, "a"), checks.REFUSED
    for shape, dtype, visible, lwir in (
        ((40, 60, 3), np.uint8, [], []),
        ((40, 60), np.uint8, [Finding(checks.GREY, "a")], []),
        ((40, 60), np.uint16, [Finding(refused, "a: 16 bits; expected RGB of 8 bits")], [thermal]),
        ((40, 60, 3), np.uint16, [Finding(refused, "a: 16 bits; expected RGB of 8 bits")], [thermal]),
    ):
        cv2.imwrite(os.fspath(path), np.zeros(shape, dtype))
        assert checks.check_image(path, (60, 40), "a") == visible
        assert checks.check_image(path, (60, 40), "a", "lwir") == lwir


def test_twenty_findings_of_a_kind_are_shown_and_all_are_written(tmp_path, capsys):
    path = tmp_path / "deep" / "findings.txt"
    checks.report_findings([], path)
    assert not path.parent.exists()
    checks.report_findings([Finding("missing", f"test: {n}") for n in range(22)] + [Finding("odd", "x")], path)
    shown = ["missing: 22", *(f"  test: {n}" for n in range(20)), "  and 2 more", "odd: 1", "  x"]
    assert capsys.readouterr().out.splitlines() == [*shown, f"all of these: {path}"]
    assert path.read_text().splitlines() == [*(f"missing\ttest: {n}" for n in range(22)), "odd\tx"]
