"""Paired decoding, geometry, augmentation and padding of one record."""

import cv2
import numpy as np
import pytest

from dcrl_jax.data import transforms
from dcrl_jax.data.transforms import BoxFilter
from dcrl_jax.errors import InputError
from dcrl_jax.structures import MODALITIES

HEIGHT, WIDTH = 20, 30
RGB_ONLY = ("visible",)
TOO_MANY_PIXELS = b"P6 1048575 1048575 255\n"  # the header of a PPM file


def make_record(objects=(), visible=None, lwir=None, condition=0):
    """Objects are (box xywh, label, occlusion, ignore)."""
    rng = np.random.default_rng(3)
    visible = rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8) if visible is None else visible
    lwir = rng.integers(0, 256, (HEIGHT, WIDTH), np.uint8) if lwir is None else lwir
    boxes, labels, occlusion, ignore = zip(*objects, strict=True) if objects else ([], [], [], [])
    columns = {"box": [np.float32(box) for box in boxes], "label": [label.encode() for label in labels]}
    columns |= {"occlusion": list(occlusion), "ignore": list(ignore)}
    images = {"visible": cv2.imencode(".png", visible[..., ::-1])[1].tobytes()}
    images["lwir"] = cv2.imencode(".png", lwir)[1].tobytes()
    return {"image_id": b"I00019", **images, "condition": condition, "objects": columns}


def person(x, y, w, h, occlusion=0, ignore=False, label="person"):
    return ((x, y, w, h), label, occlusion, ignore)


def decode(*objects, **images):
    return transforms.decode(make_record(objects, **images))


def without_lwir(mapping):
    return {name: value for name, value in mapping.items() if name != "lwir"}


def assert_equal_but_for_lwir(rgb_only, pair):
    assert set(rgb_only) == set(pair) - {"lwir"}
    for name, value in rgb_only.items():
        np.testing.assert_array_equal(value, pair[name])


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


def test_image_without_objects_has_empty_arrays():
    pair = decode()
    padded = transforms.to_padded(transforms.flip_pair(pair), 3, BoxFilter())
    assert padded["boxes"].shape == (3, 4)
    assert not (padded["is_person"] | padded["is_ignore"]).any()


@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("encoded", [b"", b"not an image", b"\x89PNG\r\n\x1a\n1234", TOO_MANY_PIXELS])
def test_broken_image_is_named_with_its_modality(modality, encoded):
    with pytest.raises(InputError, match=f"I00019: the {modality} image"):
        transforms.decode(make_record() | {modality: encoded})


def test_pair_of_two_sizes_is_refused_with_both():
    with pytest.raises(InputError, match=r"I00019.*30x20.*31x20"):
        decode(lwir=np.zeros((HEIGHT, WIDTH + 1), np.uint8))


def test_box_partly_outside_is_clipped_and_keeps_its_annotated_height():
    pair = decode(person(-4, -5, 10, 12), person(25, 11, 9, 30))
    assert pair["boxes"].tolist() == [[0, 0, 6, 7], [25, 11, 30, 20]]
    assert pair["annotated"][:, 3].tolist() == [12, 30]


NO_SIZE = [(1, 2, 0, 5), (1, 2, 3, -5), (1, 2, float("nan"), 5), (float("inf"), 2, 3, 5)]
OUTSIDE = [(30, 2, 3, 5), (-3, 2, 3, 5), (1, 20, 3, 5), (1, -9, 3, 9)]


@pytest.mark.parametrize(
    ("box", "problem"), [*((box, "no size") for box in NO_SIZE), *((box, "outside") for box in OUTSIDE)]
)
def test_box_without_size_or_outside_is_refused_with_image_and_box(box, problem):
    with pytest.raises(InputError, match=rf"I00019.*box 1 \(cyclist.*{problem}"):
        decode(person(2, 3, 4, 10), (box, "cyclist", 0, True))


def test_resize_scales_images_and_boxes_by_the_factor_of_each_axis():
    visible, lwir = np.zeros((40, 60, 3), np.uint8), np.zeros((40, 60), np.uint8)
    visible[8:32, 12:24], lwir[8:32, 12:24] = 255, 255
    pair = transforms.resize_pair(decode(person(12, 8, 12, 24), visible=visible, lwir=lwir), 20, 15)
    assert pair["boxes"].tolist() == [[3, 4, 6, 16]]
    assert pair["annotated"][:, 3].tolist() == [24]
    for modality, channels in zip(MODALITIES, (3, 1), strict=True):
        assert pair[modality].shape == (20, 15, channels)
        bright = np.argwhere(pair[modality][..., 0] > 127)
        assert [*bright.min(0), *(bright.max(0) + 1)] == [4, 3, 16, 6]
    assert transforms.resize_pair(pair, 20, 15) is pair


def test_flip_moves_both_images_and_the_boxes_together():
    pair = decode(person(2, 3, 4, 10))
    flipped = transforms.flip_pair(pair)
    again = transforms.flip_pair(flipped)
    assert flipped["boxes"].tolist() == [[24, 3, 28, 13]]
    for modality in MODALITIES:
        np.testing.assert_array_equal(flipped[modality][3:13, 24:28], pair[modality][3:13, 2:6][:, ::-1])
    for name in (*MODALITIES, "boxes"):
        np.testing.assert_array_equal(again[name], pair[name])


def test_brightness_scales_rounds_and_saturates_only_the_visible_image():
    visible = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    visible[0, 0] = 10, 101, 250
    pair = decode(visible=visible)
    brighter = transforms.scale_brightness(pair, 1.25)
    assert brighter["visible"][0, 0].tolist() == [12, 126, 255]
    np.testing.assert_array_equal(brighter["lwir"], pair["lwir"])
    np.testing.assert_array_equal(transforms.scale_brightness(pair, 1.0)["visible"], pair["visible"])


def test_random_blank_takes_each_modality_equally_often_and_never_both():
    pair, rng, rng_of_rgb = decode(), np.random.default_rng(5), np.random.default_rng(5)
    is_blank = []
    for _ in range(600):
        blanked = transforms.random_blank(pair, rng, 0.5)
        is_blank.append([(blanked[modality] == transforms.BLANK_GREY).all() for modality in MODALITIES])
        for modality, blank in zip(MODALITIES, is_blank[-1], strict=True):
            assert blank or blanked[modality] is pair[modality]
        # RGB-only data has the same visible images by the same draws.
        assert_equal_but_for_lwir(transforms.random_blank(without_lwir(pair), rng_of_rgb, 0.5), blanked)
    assert not np.all(is_blank, axis=1).any()
    np.testing.assert_allclose(np.mean(is_blank, axis=0), [0.25, 0.25], atol=0.06)
    assert rng.random() == rng_of_rgb.random()


def test_decoding_rgb_only_does_not_read_the_thermal_image():
    record = make_record([person(2, 3, 4, 10), person(-4, 5, 10, 12)], condition=1)
    pair = transforms.decode(record)
    for rgb_record in (without_lwir(record), record | {"lwir": b"not an image"}):
        assert_equal_but_for_lwir(transforms.decode(rgb_record, RGB_ONLY), pair)
    with pytest.raises(KeyError, match="lwir"):
        transforms.decode(without_lwir(record))


TRANSFORMS = {
    "enlarge": lambda pair: transforms.resize_pair(pair, 40, 45),
    "shrink": lambda pair: transforms.resize_pair(pair, 10, 15),
    "flip": transforms.flip_pair,
    "brightness": lambda pair: transforms.scale_brightness(pair, 1.25),
    "pad": lambda pair: transforms.to_padded(pair, 3, BoxFilter()),
}


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_transform_of_rgb_only_equals_that_of_the_pair(transform):
    pair = decode(person(2, 3, 4, 10), person(9, 5, 6, 12, ignore=True))
    assert_equal_but_for_lwir(transform(without_lwir(pair)), transform(pair))


def padded_roles(pair, box_filter, max_boxes=8):
    """x1 of the people and of the ignore regions."""
    padded = transforms.to_padded(pair, max_boxes, box_filter)
    assert not padded["boxes"][~(padded["is_person"] | padded["is_ignore"])].any()
    return [padded["boxes"][padded[name], 0].tolist() for name in ("is_person", "is_ignore")]


def test_filter_separates_people_ignore_regions_and_background():
    differences = [{}, {"ignore": True}, {}, {"occlusion": 2}, {"label": "people"}, {"label": "car"}, {"occlusion": 1}]
    differences.append({"label": "cyclist"})
    heights = [12, 12, 9, 12, 12, 12, 12, 12]
    pair = decode(*(person(x + 1, 1, 5, heights[x], **different) for x, different in enumerate(differences)))
    assert padded_roles(pair, BoxFilter(min_height_px=10, max_occlusion=1)) == [[1, 7], [2, 3, 4, 5, 8]]
    labels = BoxFilter(labels=("person", "cyclist"), ignore_labels=())
    assert padded_roles(pair, labels) == [[1, 3, 4, 7, 8], [2]]
    assert padded_roles(pair, None) == [[], []]


def test_height_limit_and_border_are_in_annotated_pixels():
    small = transforms.resize_pair(decode(person(2, 1, 5, 12)), 10, 15)
    assert padded_roles(small, BoxFilter(min_height_px=12)) == [[1], []]
    assert padded_roles(small, BoxFilter(min_height_px=12.5)) == [[], [1]]
    boxes = [(2, 2, 5, 5), (1, 2, 5, 5), (2, 1, 5, 5), (2, 2, 8.5, 5), (2, 2, 5, 8.5)]
    pair = transforms.flip_pair(transforms.resize_pair(decode(*(person(*box) for box in boxes)), 40, 60))
    assert padded_roles(pair, BoxFilter(border_px=(2, 2, 10, 10))) == [[46], [48, 46, 39, 46]]


def test_too_many_boxes_are_refused_with_the_image_and_the_key():
    pair = decode(*(person(i, 1, 5, 12) for i in range(4)), person(9, 1, 5, 12, label="car"))
    assert transforms.to_padded(pair, 4, BoxFilter())["is_person"].all()
    with pytest.raises(InputError, match=r"I00019.*4 people.*data\.max_boxes=3"):
        transforms.to_padded(pair, 3, BoxFilter())
