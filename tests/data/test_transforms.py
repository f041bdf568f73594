"""Paired decoding, geometry, augmentation and padding of one record."""

import cv2
import numpy as np
import pytest

from dcrl_jax.data import transforms
from dcrl_jax.data.transforms import BoxFilter
from dcrl_jax.errors import InputError
from dcrl_jax.structures import MODALITIES

HEIGHT, WIDTH = 20, 30
RGB_ALONE = ("visible",)


def make_record(objects=(), visible=None, lwir=None, condition=0):
    """Objects are (box xywh, label, occlusion, ignore)."""
    rng = np.random.default_rng(3)
    visible = rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8) if visible is None else visible
    lwir = rng.integers(0, 256, (HEIGHT, WIDTH), np.uint8) if lwir is None else lwir
    boxes, labels, occlusion, ignore = zip(*objects, strict=True) if objects else ([], [], [], [])
    return {
        "image_id": b"I00019",
        "visible": cv2.imencode(".png", visible[..., ::-1])[1].tobytes(),
        "lwir": cv2.imencode(".png", lwir)[1].tobytes(),
        "condition": condition,
        "objects": {
            "box": [np.float32(box) for box in boxes],
            "label": [label.encode() for label in labels],
            "occlusion": list(occlusion),
            "ignore": list(ignore),
        },
    }


def person(x, y, w, h, occlusion=0, ignore=False, label="person"):
    return ((x, y, w, h), label, occlusion, ignore)


def test_decode_gives_rgb_order_grey_and_xyxy():
    visible = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    visible[..., 0] = 200  # red
    lwir = np.full((HEIGHT, WIDTH), 77, np.uint8)
    pair = transforms.decode(make_record([person(2, 3, 4, 10)], visible, lwir, condition=1))
    assert pair["visible"].shape == (HEIGHT, WIDTH, 3)
    assert pair["lwir"].shape == (HEIGHT, WIDTH, 1)
    assert pair["visible"][0, 0].tolist() == [200, 0, 0]
    assert (pair["lwir"] == 77).all()
    assert pair["boxes"].tolist() == [[2, 3, 6, 13]]
    assert pair["boxes"].dtype == np.float32
    assert pair["image_id"] == "I00019"
    assert pair["is_night"] is True


def test_lwir_file_of_three_equal_channels_decodes_to_the_same_grey():
    grey = np.arange(HEIGHT * WIDTH, dtype=np.uint8).reshape(HEIGHT, WIDTH)
    pair = transforms.decode(make_record(lwir=np.repeat(grey[..., None], 3, axis=2)))
    np.testing.assert_array_equal(pair["lwir"][..., 0], grey)


def test_image_without_objects_has_empty_arrays_of_the_right_shape():
    pair = transforms.decode(make_record())
    assert pair["boxes"].shape == (0, 4)
    padded = transforms.to_padded(transforms.flip_pair(pair), 3, BoxFilter())
    assert padded["boxes"].shape == (3, 4)
    assert not padded["is_person"].any()
    assert not padded["is_ignore"].any()


@pytest.mark.parametrize("modality", ["visible", "lwir"])
@pytest.mark.parametrize("encoded", [b"", b"not an image", b"\x89PNG\r\n\x1a\n1234"])
def test_broken_image_is_named_with_its_modality(modality, encoded):
    with pytest.raises(InputError, match=f"I00019: the {modality} image"):
        transforms.decode(make_record() | {modality: encoded})


def test_pair_of_two_sizes_is_an_error_naming_both():
    with pytest.raises(InputError, match=r"I00019.*30x20.*31x20"):
        transforms.decode(make_record(lwir=np.zeros((HEIGHT, WIDTH + 1), np.uint8)))


def test_box_partly_outside_is_clipped_and_keeps_its_annotated_height():
    pair = transforms.decode(make_record([person(-4, -5, 10, 12), person(25, 11, 9, 30)]))
    assert pair["boxes"].tolist() == [[0, 0, 6, 7], [25, 11, 30, 20]]
    assert pair["annotated"][:, 3].tolist() == [12, 30]


@pytest.mark.parametrize(
    ("box", "problem"),
    [
        ((1, 2, 0, 5), "no size"),
        ((1, 2, 3, -5), "no size"),
        ((1, 2, float("nan"), 5), "no size"),
        ((float("inf"), 2, 3, 5), "no size"),
        ((30, 2, 3, 5), "outside"),
        ((-3, 2, 3, 5), "outside"),
        ((1, 20, 3, 5), "outside"),
        ((1, -9, 3, 9), "outside"),
    ],
)
def test_box_of_no_size_or_wholly_outside_is_an_error_naming_image_and_box(box, problem):
    record = make_record([person(2, 3, 4, 10), (box, "cyclist", 0, True)])
    with pytest.raises(InputError, match=rf"I00019.*box 1 \(cyclist.*{problem}"):
        transforms.decode(record)


def test_resize_scales_each_axis_of_the_boxes_by_its_own_factor():
    pair = transforms.resize_pair(transforms.decode(make_record([person(3, 4, 6, 8)])), 40, 45)
    assert pair["visible"].shape == (40, 45, 3)
    assert pair["lwir"].shape == (40, 45, 1)
    np.testing.assert_allclose(pair["boxes"], [[4.5, 8, 13.5, 24]])
    assert pair["annotated"][:, 3].tolist() == [8]


def test_resized_box_still_covers_the_object_it_covered():
    visible, lwir = np.zeros((40, 60, 3), np.uint8), np.zeros((40, 60), np.uint8)
    visible[8:32, 12:24], lwir[8:32, 12:24] = 255, 255
    pair = transforms.resize_pair(transforms.decode(make_record([person(12, 8, 12, 24)], visible, lwir)), 20, 15)
    x1, y1, x2, y2 = pair["boxes"][0].astype(int)
    for modality in MODALITIES:
        bright = np.argwhere(pair[modality][..., 0] > 127)
        assert [*bright.min(0), *(bright.max(0) + 1)] == [y1, x1, y2, x2]


def test_resize_to_the_same_size_changes_nothing():
    pair = transforms.decode(make_record([person(3, 4, 6, 8)]))
    assert transforms.resize_pair(pair, HEIGHT, WIDTH) is pair


def test_flip_moves_both_images_and_the_boxes_together():
    pair = transforms.decode(make_record([person(2, 3, 4, 10)]))
    flipped = transforms.flip_pair(pair)
    assert flipped["boxes"].tolist() == [[24, 3, 28, 13]]
    for modality in MODALITIES:
        np.testing.assert_array_equal(flipped[modality][3:13, 24:28], pair[modality][3:13, 2:6][:, ::-1])
        np.testing.assert_array_equal(transforms.flip_pair(flipped)[modality], pair[modality])
    np.testing.assert_array_equal(transforms.flip_pair(flipped)["boxes"], pair["boxes"])


def test_brightness_scales_rounds_and_saturates_the_visible_image_alone():
    visible = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    visible[0, 0] = 10, 101, 250
    pair = transforms.decode(make_record(visible=visible))
    brighter = transforms.scale_brightness(pair, 1.25)
    assert brighter["visible"][0, 0].tolist() == [12, 126, 255]
    np.testing.assert_array_equal(brighter["lwir"], pair["lwir"])
    np.testing.assert_array_equal(transforms.scale_brightness(pair, 1.0)["visible"], pair["visible"])


def test_blank_switches_off_one_modality_and_keeps_the_other():
    pair = transforms.decode(make_record())
    blanked = transforms.blank(pair, "lwir")
    assert (blanked["lwir"] == transforms.BLANK_GREY).all()
    np.testing.assert_array_equal(blanked["visible"], pair["visible"])
    assert pair["lwir"].any()


def test_random_blank_takes_each_modality_equally_often_and_never_both():
    rng = np.random.default_rng(5)
    pair = transforms.decode(make_record())
    blanked = [transforms.random_blank(pair, rng, 0.5) for _ in range(600)]
    is_blank = np.array([[not one[modality].any() for modality in MODALITIES] for one in blanked])
    assert not is_blank.all(1).any()
    np.testing.assert_allclose(is_blank.mean(0), [0.25, 0.25], atol=0.06)


def without_lwir(record):
    return {name: value for name, value in record.items() if name != "lwir"}


def test_decoding_rgb_alone_needs_no_thermal_image_and_gives_the_rest_unchanged():
    record = make_record([person(2, 3, 4, 10), person(-4, 5, 10, 12)], condition=1)
    alone, pair = transforms.decode(without_lwir(record), RGB_ALONE), transforms.decode(record)
    assert set(alone) == set(pair) - {"lwir"}
    for name, value in alone.items():
        np.testing.assert_array_equal(value, pair[name])


def test_decoding_rgb_alone_does_not_look_at_a_thermal_image_that_is_there():
    record = make_record(lwir=np.zeros((HEIGHT, WIDTH + 1), np.uint8)) | {"lwir": b"not an image"}
    assert "lwir" not in transforms.decode(record, RGB_ALONE)


def test_pair_that_lacks_its_thermal_image_is_not_passed_off_as_rgb():
    with pytest.raises(KeyError, match="lwir"):
        transforms.decode(without_lwir(make_record()))


@pytest.mark.parametrize(
    "transform",
    [
        lambda pair: transforms.resize_pair(pair, 40, 45),
        lambda pair: transforms.resize_pair(pair, 10, 15),
        transforms.flip_pair,
        lambda pair: transforms.scale_brightness(pair, 1.25),
        lambda pair: transforms.blank(pair, "visible"),
        lambda pair: transforms.to_padded(pair, 3, BoxFilter()),
    ],
    ids=["enlarge", "shrink", "flip", "brightness", "blank", "pad"],
)
def test_transform_of_rgb_alone_is_that_of_the_pair_without_its_thermal_image(transform):
    record = make_record([person(2, 3, 4, 10), person(9, 5, 6, 12, ignore=True)])
    alone, pair = transform(transforms.decode(without_lwir(record), RGB_ALONE)), transform(transforms.decode(record))
    assert set(alone) == set(pair) - {"lwir"}
    for name, value in alone.items():
        np.testing.assert_array_equal(value, pair[name])


def test_random_blank_of_rgb_alone_takes_the_images_that_it_takes_of_pairs_and_as_many_draws():
    pair = transforms.decode(make_record())
    alone = {name: value for name, value in pair.items() if name != "lwir"}
    first, second = np.random.default_rng(5), np.random.default_rng(5)
    blanked = set()
    for _ in range(60):
        of_pair = transforms.random_blank(pair, first, 0.5)
        of_alone = transforms.random_blank(alone, second, 0.5)
        np.testing.assert_array_equal(of_alone["visible"], of_pair["visible"])
        assert "lwir" not in of_alone
        blanked.add((bool(of_pair["visible"].any()), bool(of_pair["lwir"].any())))
    assert blanked == {(True, True), (True, False), (False, True)}
    assert first.random() == second.random()


def test_filter_separates_people_ignore_regions_and_background():
    objects = [
        person(1, 1, 5, 12),
        person(2, 1, 5, 12, ignore=True),
        person(3, 1, 5, 9),
        person(4, 1, 5, 12, occlusion=2),
        person(5, 1, 5, 12, label="people"),
        person(6, 1, 5, 12, label="car"),
        person(7, 1, 5, 12, occlusion=1),
    ]
    pair = transforms.decode(make_record(objects))
    padded = transforms.to_padded(pair, 8, BoxFilter(min_height_px=10, max_occlusion=1))
    assert padded["boxes"][:6, 0].tolist() == [1, 2, 3, 4, 5, 7]
    assert padded["is_person"].tolist() == [True, False, False, False, False, True, False, False]
    assert padded["is_ignore"].tolist() == [False, True, True, True, True, False, False, False]
    assert not padded["boxes"][6:].any()


def test_other_labels_can_be_people():
    pair = transforms.decode(make_record([person(1, 1, 5, 12, label="cyclist"), person(2, 1, 5, 12)]))
    padded = transforms.to_padded(pair, 2, BoxFilter(labels=("person", "cyclist"), ignore_labels=()))
    assert padded["is_person"].tolist() == [True, True]


def test_height_limit_is_in_annotated_pixels_not_in_those_of_the_network():
    pair = transforms.resize_pair(transforms.decode(make_record([person(1, 1, 5, 12)])), 10, 15)
    assert transforms.to_padded(pair, 1, BoxFilter(min_height_px=12))["is_person"].tolist() == [True]
    assert transforms.to_padded(pair, 1, BoxFilter(min_height_px=12.5))["is_ignore"].tolist() == [True]


def test_border_is_in_annotated_pixels_and_whoever_leaves_it_is_an_ignore_region():
    objects = [person(2, 2, 5, 5), person(1, 2, 5, 5), person(2, 1, 5, 5), person(2, 2, 8.5, 5), person(2, 2, 5, 8.5)]
    pair = transforms.flip_pair(transforms.resize_pair(transforms.decode(make_record(objects)), 40, 60))
    padded = transforms.to_padded(pair, 5, BoxFilter(border_px=(2, 2, 10, 10)))
    assert padded["is_person"].tolist() == [True, False, False, False, False]
    assert padded["is_ignore"].tolist() == [False, True, True, True, True]


def test_too_many_boxes_names_the_image_and_the_key():
    objects = [person(i, 1, 5, 12) for i in range(4)] + [person(9, 1, 5, 12, label="car")]
    pair = transforms.decode(make_record(objects))
    assert transforms.to_padded(pair, 4, BoxFilter())["is_person"].all()
    with pytest.raises(InputError, match=r"I00019.*4 people.*data\.max_boxes=3"):
        transforms.to_padded(pair, 3, BoxFilter())
