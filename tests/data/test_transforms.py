"""Paired decoding, geometry, augmentation and padding of one record."""

import cv2
import jax
import numpy as np
import pytest

from dcrl_jax.data import transforms
from dcrl_jax.data.transforms import BoxFilter
from dcrl_jax.errors import InputError
from dcrl_jax.structures import MODALITIES

HEIGHT, WIDTH = 20, 30
TOO_MANY_PIXELS = b"P6 1048575 1048575 255\n"  # the header of a PPM file


def make_record(objects=(), visible=None, lwir=None, condition=0):
    """Objects are (box xywh, label, occlusion, ignore)."""
    rng = np.random.default_rng(3)
    visible = rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8) if visible is None else visible
    lwir = rng.integers(0, 256, (HEIGHT, WIDTH), np.uint8) if lwir is None else lwir
    boxes, labels, occlusion, ignore = zip(*objects, strict=True) if objects else ([], [], [], [])
    labels = [label.encode() for label in labels]
    return {
        "image_id": b"I00019",
        "visible": cv2.imencode(".png", visible[..., ::-1])[1].tobytes(),
        "lwir": cv2.imencode(".png", lwir)[1].tobytes(),
        "condition": condition,
        "objects": {"box": np.float32(boxes), "label": labels, "occlusion": occlusion, "ignore": ignore},
    }


def person(x, y, w, h, occlusion=0, ignore=False, label="person"):
    return ((x, y, w, h), label, occlusion, ignore)


def decode(*objects, **images):
    return transforms.decode(make_record(objects, **images))


def without_lwir(mapping):
    return {name: value for name, value in mapping.items() if name != "lwir"}


def test_decode_gives_rgb_order_grey_and_xyxy():
    visible = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    visible[..., 0] = 200  # red
    grey = np.arange(HEIGHT * WIDTH, dtype=np.uint8).reshape(HEIGHT, WIDTH)
    for lwir in (grey, np.repeat(grey[..., None], 3, axis=2)):  # files of one and of three channels
        pair = decode(person(2, 3, 4, 10), visible=visible, lwir=lwir, condition=1)
        assert pair["visible"].shape == (HEIGHT, WIDTH, 3)
        assert pair["visible"][0, 0].tolist() == [200, 0, 0]
        np.testing.assert_array_equal(pair["lwir"], grey[..., None])
        assert pair["boxes"].tolist() == [[2, 3, 6, 13]]
        assert pair["boxes"].dtype == np.float32
        assert (pair["image_id"], pair["is_night"]) == ("I00019", True)


@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("encoded", [b"", b"not an image", b"\x89PNG\r\n\x1a\n1234", TOO_MANY_PIXELS])
def test_broken_image_is_named_with_its_modality(modality, encoded):
    with pytest.raises(InputError, match=f"I00019: the {modality} image"):
        transforms.decode(make_record() | {modality: encoded})


def test_pair_of_two_sizes_is_refused_with_both():
    with pytest.raises(InputError, match="I00019: the lwir image: 31x20 pixels, but its visible image has 30x20"):
        decode(lwir=np.zeros((HEIGHT, WIDTH + 1), np.uint8))


def test_box_partly_outside_is_clipped_and_keeps_its_annotated_height():
    pair = decode(person(-4, -5, 10, 12), person(25, 11, 9, 30))
    assert pair["boxes"].tolist() == [[0, 0, 6, 7], [25, 11, 30, 20]]
    assert pair["annotated"][:, 3].tolist() == [12, 30]


@pytest.mark.parametrize(
    ("boxes", "problem"),
    [
        ([(1, 2, 0, 5), (1, 2, 3, -5), (1, 2, float("nan"), 5), (float("inf"), 2, 3, 5)], "no size"),
        ([(30, 2, 3, 5), (-3, 2, 3, 5), (1, 20, 3, 5), (1, -9, 3, 9)], "outside"),
    ],
)
def test_box_without_size_or_outside_is_refused_with_image_and_box(boxes, problem):
    for box in boxes:
        with pytest.raises(InputError, match=rf"I00019.*box 1 \(cyclist.*{problem}"):
            decode(person(2, 3, 4, 10), (box, "cyclist", 0, True))


def test_resize_scales_each_axis_of_the_boxes_by_its_own_factor():
    pair = transforms.resize_pair(decode(person(3, 4, 6, 8)), 40, 45)
    assert pair["visible"].shape == (40, 45, 3)
    assert pair["lwir"].shape == (40, 45, 1)
    np.testing.assert_allclose(pair["boxes"], [[4.5, 8, 13.5, 24]])
    assert pair["annotated"][:, 3].tolist() == [8]
    assert transforms.resize_pair(pair, 40, 45) is pair


def test_resized_box_still_covers_its_object():
    visible, lwir = np.zeros((40, 60, 3), np.uint8), np.zeros((40, 60), np.uint8)
    visible[8:32, 12:24], lwir[8:32, 12:24] = 255, 255
    pair = transforms.resize_pair(decode(person(12, 8, 12, 24), visible=visible, lwir=lwir), 20, 15)
    x1, y1, x2, y2 = pair["boxes"][0].astype(int)
    for modality in MODALITIES:
        bright = np.argwhere(pair[modality][..., 0] > 127)
        assert [*bright.min(0), *(bright.max(0) + 1)] == [y1, x1, y2, x2]


def test_crop_cuts_images_and_boxes_and_ignores_what_is_mostly_cut_off():
    inside, cut, half, outside = person(8, 5, 4, 10), person(2, 5, 5, 10), person(18, 7, 4, 10), person(0, 0, 2, 5)
    pair = decode(inside, cut, half, outside, person(6, 15, 3, 4, occlusion=1, label="cyclist"))
    part = transforms.crop_pair(pair, 5, 4, 12, 15)
    np.testing.assert_array_equal(part["visible"], pair["visible"][4:16, 5:20])
    np.testing.assert_array_equal(part["lwir"], pair["lwir"][4:16, 5:20])
    assert part["boxes"].tolist() == [[3, 1, 7, 11], [0, 1, 2, 11], [13, 3, 15, 12], [1, 11, 4, 12]]
    assert part["labels"] == ("person", "person", "person", "cyclist")
    assert part["annotated"].tolist() == [[8, 5, 4, 10], [2, 5, 5, 10], [18, 7, 4, 10], [6, 15, 3, 4]]
    assert part["occlusion"].tolist() == [0, 0, 0, 1]
    # 2 of 5 columns are 40 %; 9 of 10 rows of 2 of 4 columns are 45 %; 1 of 4 rows is 25 %.
    assert part["ignore"].tolist() == [False, True, True, True]
    assert len(pair["labels"]) == 5


@pytest.mark.parametrize(
    ("box", "size", "places"),
    [
        ((20, 6, 4, 10), (12, 8), {(x, y) for x in range(16, 21) for y in range(4, 7)}),  # complete in every crop
        ((26, 8, 4, 10), (12, 8), {(22, y) for y in range(6, 9)}),  # at the right border
        ((5, 2, 6, 16), (12, 4), {(x, y) for x in range(5, 8) for y in range(2, 7)}),  # larger than the crop
    ],
)
def test_random_crops_show_a_person_in_every_place_that_can(box, size, places):
    # The smaller person is a cyclist, which the filter ignores.
    pair, rng = decode(person(*box), person(0, 0, 3, 4, label="cyclist")), np.random.default_rng(0)
    found = []
    for _ in range(600):
        part = transforms.random_crop(pair, rng, size, BoxFilter())
        assert part["visible"].shape == (*size, 3)
        assert part["lwir"].shape == (*size, 1)
        corner = np.argwhere((pair["visible"] == part["visible"][0, 0]).all(axis=-1))
        found.append(tuple(corner[0, ::-1].tolist()))
    around = sum(place in places for place in found)
    assert places <= set(found)
    assert set(found) - places  # one of four lies anywhere
    assert 0.7 < around / len(found) < 0.95


def test_random_crops_of_an_image_without_people_lie_anywhere():
    pair, rng = decode(), np.random.default_rng(0)
    parts = [transforms.random_crop(pair, rng, (19, 29), BoxFilter())["visible"] for _ in range(60)]
    assert {part[0, 0].tobytes() for part in parts} == {pair["visible"][y, x].tobytes() for y in (0, 1) for x in (0, 1)}


def test_flip_moves_both_images_and_the_boxes_together():
    pair = decode(person(2, 3, 4, 10))
    flipped = transforms.flip_pair(pair)
    assert flipped["boxes"].tolist() == [[24, 3, 28, 13]]
    for modality in MODALITIES:
        np.testing.assert_array_equal(flipped[modality][3:13, 24:28], pair[modality][3:13, 2:6][:, ::-1])


def test_brightness_scales_rounds_and_saturates_only_the_visible_image():
    visible = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    visible[0, 0] = 10, 101, 250
    pair = decode(visible=visible)
    brighter = transforms.scale_brightness(pair, 1.25)
    assert brighter["visible"][0, 0].tolist() == [12, 126, 255]
    np.testing.assert_array_equal(brighter["lwir"], pair["lwir"])
    np.testing.assert_array_equal(transforms.scale_brightness(pair, 1.0)["visible"], pair["visible"])


def test_random_blank_takes_each_modality_equally_often_and_never_both():
    pair, rng = decode(), np.random.default_rng(5)
    is_blank = []
    for _ in range(600):
        blanked = transforms.random_blank(pair, rng, 0.5)
        is_blank.append([(blanked[modality] == transforms.BLANK_GREY).all() for modality in MODALITIES])
        for modality, blank in zip(MODALITIES, is_blank[-1], strict=True):
            assert blank or blanked[modality] is pair[modality]
    assert not np.all(is_blank, axis=1).any()
    np.testing.assert_allclose(np.mean(is_blank, axis=0), [0.25, 0.25], atol=0.06)


def test_decoding_rgb_only_does_not_read_the_thermal_image():
    record = make_record([person(2, 3, 4, 10), person(-4, 5, 10, 12)], condition=1)
    pair = transforms.decode(record)
    for rgb_record in (without_lwir(record), record | {"lwir": b"not an image"}):
        jax.tree.map(np.testing.assert_array_equal, transforms.decode(rgb_record, ("visible",)), without_lwir(pair))
    with pytest.raises(KeyError, match="lwir"):
        transforms.decode(without_lwir(record))


def padded_roles(pair, box_filter, max_boxes=8):
    """x1 of the people and of the ignore regions."""
    padded = transforms.to_padded(pair, max_boxes, box_filter)
    assert not padded["boxes"][~(padded["is_person"] | padded["is_ignore"])].any()
    return [padded["boxes"][padded[name], 0].tolist() for name in ("is_person", "is_ignore")]


def test_filter_separates_people_ignore_regions_and_background():
    changes = {2: {"ignore": True}, 3: {"h": 9}, 4: {"occlusion": 2}, 5: {"label": "people"}, 6: {"label": "car"}}
    changes |= {1: {}, 7: {"occlusion": 1}, 8: {"label": "cyclist"}}
    pair = decode(*(person(**({"x": x, "y": 1, "w": 5, "h": 12} | changes[x])) for x in sorted(changes)))
    assert padded_roles(pair, BoxFilter(min_height_px=10, max_occlusion=1)) == [[1, 7], [2, 3, 4, 5, 8]]
    assert padded_roles(pair, BoxFilter(labels=("person", "cyclist"), ignore_labels=())) == [[1, 3, 4, 7, 8], [2]]
    assert padded_roles(pair, None) == [[], []]


def test_height_limit_and_border_are_in_annotated_pixels():
    small = transforms.resize_pair(decode(person(2, 1, 5, 12)), 10, 15)
    assert padded_roles(small, BoxFilter(min_height_px=12)) == [[1], []]
    assert padded_roles(small, BoxFilter(min_height_px=12.5)) == [[], [1]]
    boxes = [(2, 2, 5, 5), (1, 2, 5, 5), (2, 1, 5, 5), (2, 2, 8.5, 5), (2, 2, 5, 8.5)]
    pair = transforms.flip_pair(transforms.resize_pair(decode(*(person(*box) for box in boxes)), 40, 60))
    assert padded_roles(pair, BoxFilter(border_px=(2, 2, 10, 10))) == [[46], [48, 46, 39, 46]]


def test_boxes_are_padded_and_too_many_are_refused_with_image_and_key():
    pair = decode(*(person(i, 1, 5, 12) for i in range(4)), person(9, 1, 5, 12, label="car"))
    assert transforms.to_padded(pair, 4, BoxFilter())["is_person"].all()
    nobody = transforms.to_padded(transforms.flip_pair(decode()), 3, BoxFilter())
    assert not any(nobody[name].any() for name in ("boxes", "is_person", "is_ignore"))
    with pytest.raises(InputError, match=r"I00019.*4 people.*data\.max_boxes=3"):
        transforms.to_padded(pair, 3, BoxFilter())
