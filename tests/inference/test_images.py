"""Images as a person gives them: what is taken, and how each kind that cannot be is refused."""

import cv2
import jax.numpy as jnp
import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest

from dcrl_jax.errors import InputError
from dcrl_jax.inference.images import read_lwir, read_visible


def colours(height=6, width=8):
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)


def grey(height=6, width=8):
    return np.random.default_rng(2).integers(0, 256, (height, width, 1), dtype=np.uint8)


def write(path, rgb):
    order = {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}
    channels = rgb.shape[2] if rgb.ndim == 3 else 1
    cv2.imwrite(str(path), cv2.cvtColor(rgb, order[channels]) if channels in order else rgb)
    return path


def with_alpha(value):
    return np.concatenate([colours(), np.full((6, 8, 1), value, np.uint8)], axis=2)


def test_visible_array_and_file_give_rgb(tmp_path):
    for given in (colours(), write(tmp_path / "a.png", colours()), str(tmp_path / "a.png")):
        np.testing.assert_array_equal(read_visible(given), colours())


def test_array_of_jax_gives_what_numpy_s_gives():
    np.testing.assert_array_equal(read_visible(jnp.asarray(colours())), colours())
    np.testing.assert_array_equal(read_lwir(jnp.asarray(grey()), colours()), grey())
    with pytest.raises(InputError, match="float32 values; expected uint8"):
        read_visible(jnp.asarray(colours(), jnp.float32))


@pytest.mark.parametrize(
    ("given", "kind"),
    [(None, "NoneType"), (b"\xff\xd8", "bytes"), (3, "int"), (PIL.Image.new("RGB", (8, 6)), "Image")],
    ids=["None", "bytes", "int", "PIL"],
)
def test_what_is_neither_path_nor_array_is_refused_with_its_type(given, kind):
    expected = r"expected a path or a uint8 array of NumPy or JAX \(np.asarray makes one of a PIL image\)\.$"
    with pytest.raises(InputError, match=f"^visible image: of type {kind}; {expected}"):
        read_visible(given)
    with pytest.raises(InputError, match=f"^thermal image: of type {kind}; {expected}"):
        read_lwir(given, colours())


def test_alpha_channel_that_hides_nothing_is_left_out(tmp_path):
    for given in (with_alpha(255), write(tmp_path / "a.png", with_alpha(255))):
        np.testing.assert_array_equal(read_visible(given), colours())


def test_alpha_channel_of_a_thermal_image_that_hides_nothing_is_left_out(tmp_path):
    pixels = np.dstack([np.repeat(grey(), 3, axis=2), np.full((6, 8, 1), 255, np.uint8)])
    for given in (pixels, write(tmp_path / "a.png", pixels)):
        np.testing.assert_array_equal(read_lwir(given, colours()), grey())


def test_thermal_image_of_one_channel_or_of_three_equal_ones_is_grey(tmp_path):
    three = np.repeat(grey(), 3, axis=2)
    for given in (grey(), grey()[..., 0], three, write(tmp_path / "a.png", grey()), write(tmp_path / "b.png", three)):
        np.testing.assert_array_equal(read_lwir(given, colours()), grey())


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (grey(), "grey, 1 channels; expected the three of an RGB image"),
        (grey()[..., 0], "grey, 1 channels; expected the three"),
        (with_alpha(128), "RGB with an alpha channel, 4 channels; expected the three"),
        (colours().astype(np.uint16) * 256, "uint16 values; expected uint8, 0 to 255"),
    ],
)
def test_visible_image_that_is_not_rgb_of_8_bits_is_refused(tmp_path, pixels, message):
    with pytest.raises(InputError, match=message) as refusal:
        read_visible(pixels)
    assert str(refusal.value).startswith("visible image: ")
    path = write(tmp_path / "a.png", pixels)
    with pytest.raises(InputError, match=message) as refusal:
        read_visible(path)
    assert str(refusal.value).startswith(f"{path}: ")


def test_floating_point_image_is_refused():
    with pytest.raises(InputError, match="float32 values; expected uint8"):
        read_visible(colours().astype(np.float32) / 255)


@pytest.mark.parametrize("shape", [(6, 0, 3), (8,), (1, 1, 6, 3)])
def test_array_that_is_no_image_is_refused_with_its_shape(shape):
    with pytest.raises(InputError, match="expected height, width and channels") as refusal:
        read_visible(np.zeros(shape, np.uint8))
    assert str(shape) in str(refusal.value)


def test_thermal_image_of_16_bits_is_refused_with_what_to_do(tmp_path):
    path = write(tmp_path / "a.png", grey().astype(np.uint16) * 64)
    with pytest.raises(InputError, match=r"uint16 values; .* must be scaled as those were"):
        read_lwir(path, colours())


def test_thermal_image_in_false_colours_is_refused():
    with pytest.raises(InputError, match="3 channels that are not the same; expected a grey thermal image"):
        read_lwir(colours(), colours())


def test_thermal_image_with_an_alpha_channel_is_refused():
    with pytest.raises(InputError, match=r"4 channels; expected a grey thermal image, .* without an alpha channel"):
        read_lwir(with_alpha(128), colours())


def test_thermal_image_of_another_size_is_refused_with_both():
    with pytest.raises(InputError, match="8x5 pixels, and its visible image 8x6"):
        read_lwir(grey(5), colours())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_of_a_pair_are_turned_as_their_orientation_tags_say(tmp_path, orientation):
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    # Smooth, so that JPEG changes it little, and no turn of it is like another.
    pixels = cv2.resize(colours(3, 4), (64, 48), interpolation=cv2.INTER_LINEAR)
    upright = []
    for mode in ("RGB", "L"):
        path = tmp_path / f"{mode}.jpg"
        PIL.Image.fromarray(pixels).convert(mode).save(path, quality=100, subsampling=0, exif=exif)
        with PIL.Image.open(path) as image:
            upright.append(np.asarray(PIL.ImageOps.exif_transpose(image)))
    visible = read_visible(tmp_path / "RGB.jpg")
    lwir = read_lwir(tmp_path / "L.jpg", visible)
    assert visible.shape[:2] == ((48, 64) if orientation < 5 else (64, 48))
    for found, expected in zip((visible, lwir[..., 0]), upright, strict=True):
        np.testing.assert_allclose(found.astype(int), expected, atol=4)


@pytest.mark.parametrize("content", [b"", b"no image", None], ids=["empty", "text", "truncated"])
def test_file_that_is_no_image_is_refused_with_its_name(tmp_path, content):
    path = tmp_path / "a.png"
    if content is None:
        content = write(path, colours()).read_bytes()[:20]
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"{len(content)} bytes that cannot be read as an image") as refusal:
        read_visible(path)
    assert str(path) in str(refusal.value)


@pytest.mark.parametrize("ending", ["png", "jpg", "bmp", "webp", "tif"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_truncated_file_of_any_format_is_refused(tmp_path, ending, share):
    path = tmp_path / f"a.{ending}"
    content = write(path, colours(60, 80)).read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match="bytes that cannot be read as an image"):
        read_visible(path)


def test_folder_is_no_image_and_it_is_said_what_takes_folders(tmp_path):
    with pytest.raises(InputError, match=f"^{tmp_path}: a folder; expected an image. --mode=detect takes folders.$"):
        read_visible(tmp_path)


def test_file_that_is_missing_is_refused_with_its_name(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        read_visible(tmp_path / "nothing.png")
