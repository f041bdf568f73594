"""Images that a network can use are read, and each other kind is refused with its reason."""

import cv2
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest

from dcrl_jax.errors import InputError
from dcrl_jax.inference.images import read_lwir, read_visible


def colours(height=6, width=8):
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)


def grey(height=6, width=8):
    return np.random.default_rng(2).integers(0, 256, (height, width, 1), dtype=np.uint8)


def smooth():
    """An image that JPEG changes little, and whose turns all differ."""
    return cv2.resize(colours(3, 4), (64, 48), interpolation=cv2.INTER_LINEAR)


def write(path, rgb):
    order = {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}
    channels = rgb.shape[2] if rgb.ndim == 3 else 1
    assert cv2.imwrite(str(path), cv2.cvtColor(rgb, order[channels]) if channels in order else rgb)
    return path


def with_alpha(value, pixels=None):
    return np.dstack([colours() if pixels is None else pixels, np.full((6, 8, 1), value, np.uint8)])


def test_visible_arrays_and_files_give_rgb(tmp_path):
    path = write(tmp_path / "a.png", colours())
    opaque = with_alpha(255)
    for image in (colours(), jnp.asarray(colours()), path, str(path), opaque, write(tmp_path / "b.png", opaque)):
        np.testing.assert_array_equal(read_visible(image), colours())


def test_thermal_arrays_and_files_give_grey(tmp_path):
    three = np.repeat(grey(), 3, axis=2)
    opaque = with_alpha(255, three)
    arrays = (grey(), jnp.asarray(grey()), grey()[..., 0], three, opaque, with_alpha(255, grey()))
    files = [write(tmp_path / f"{index}.png", pixels) for index, pixels in enumerate((grey(), three, opaque))]
    PIL.Image.fromarray(grey()[..., 0]).convert("LA").save(tmp_path / "la.png")
    for image in (*arrays, *files, tmp_path / "la.png"):
        np.testing.assert_array_equal(read_lwir(image, colours()), grey())


@pytest.mark.parametrize("suffix", ["avif", "bmp", "jpg", "png", "tif", "webp"])
def test_pixels_of_a_file_are_those_that_opencv_reads(tmp_path, suffix):
    image = PIL.Image.fromarray(smooth())
    versions = [image, image.convert("L")]
    if suffix in ("bmp", "png", "tif"):
        versions += [image.quantize(16), image.convert("L").convert("1")]
    for number, version in enumerate(versions):
        path = tmp_path / f"{number}.{suffix}"
        version.save(path)
        expected = cv2.imread(str(path), cv2.IMREAD_COLOR)[..., ::-1]
        if version.mode in ("1", "L"):
            # WebP has no grey images; the weights of its three channels round.
            np.testing.assert_allclose(read_lwir(path, expected).astype(int), expected[..., :1], atol=suffix == "webp")
        else:
            np.testing.assert_array_equal(read_visible(path), expected)


def test_cmyk_photograph_gives_rgb(tmp_path):
    PIL.Image.fromarray(smooth()).convert("CMYK").save(tmp_path / "a.jpg", quality=100, subsampling=0)
    np.testing.assert_allclose(read_visible(tmp_path / "a.jpg").astype(int), smooth(), atol=4)


@pytest.mark.parametrize("suffix", ["avif", "jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pair_is_turned_as_its_orientation_tags_say(tmp_path, suffix, orientation):
    turns = {1: (0, False), 2: (0, True), 3: (2, False), 4: (2, True), 5: (1, True), 6: (3, False), 7: (3, True)}
    turn, is_mirrored = turns.get(orientation, (1, False))
    options = {"avif": {"quality": 100, "subsampling": "4:4:4"}, "webp": {"lossless": True}}
    options["jpg"] = {"quality": 100, "subsampling": 0}
    for mode in ("RGB", "L"):
        exif = PIL.Image.Exif()
        exif[0x0112] = orientation
        image = PIL.Image.fromarray(smooth()).convert(mode)
        image.save(tmp_path / f"{mode}.{suffix}", exif=exif, **options.get(suffix, {}))
    visible = read_visible(tmp_path / f"RGB.{suffix}")
    lwir = read_lwir(tmp_path / f"L.{suffix}", visible)
    for found, stored in ((visible, smooth()), (lwir[..., 0], cv2.cvtColor(smooth(), cv2.COLOR_RGB2GRAY))):
        expected = np.rot90(stored[:, ::-1] if is_mirrored else stored, turn)
        np.testing.assert_allclose(found.astype(int), expected, atol=4)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (grey(), "grey, 1 channels; expected the three of an RGB image"),
        (grey()[..., 0], "grey, 1 channels; expected the three"),
        (with_alpha(128), "RGB with an alpha channel, 4 channels; expected the three"),
        (colours().astype(np.uint16) * 256, "uint16 values; expected uint8, 0 to 255"),
    ],
    ids=["grey", "two axes", "alpha", "16 bits"],
)
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_visible_image_that_is_not_rgb_of_8_bits_is_refused(tmp_path, pixels, message, suffix):
    path = write(tmp_path / f"a.{suffix}", pixels)
    for image, name in ((pixels, "visible image"), (path, path)):
        with pytest.raises(InputError, match=f"^{name}: {message}"):
            read_visible(image)


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("L", "grey with an alpha channel, 2 channels"),
        ("P", "RGB with an alpha channel, 4 channels"),
        ("RGB", "RGB with an alpha channel, 4 channels"),
    ],
)
def test_visible_file_with_a_transparent_colour_is_refused(tmp_path, mode, message):
    image = PIL.Image.fromarray(np.zeros((6, 8, 3), np.uint8)).convert(mode)
    image.save(tmp_path / "a.png", transparency=(0, 0, 0) if mode == "RGB" else 0)
    with pytest.raises(InputError, match=f"a.png: {message}; expected the three"):
        read_visible(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (colours(), "3 channels that differ; expected a grey thermal image"),
        (with_alpha(128), "4 channels; expected a grey thermal image, .* without an alpha channel"),
        (grey(5), "8x5 pixels, but its visible image has 8x6"),
        (grey().astype(np.uint16) * 64, "uint16 values; expected uint8, 0 to 255. Scale thermal images of more bits"),
    ],
    ids=["false colours", "alpha", "another size", "16 bits"],
)
def test_thermal_image_that_is_not_registered_grey_of_8_bits_is_refused(tmp_path, pixels, message):
    path = write(tmp_path / "a.png", pixels)
    for image, name in ((pixels, "thermal image"), (path, path)):
        with pytest.raises(InputError, match=f"^{name}: {message}"):
            read_lwir(image, colours())


@pytest.mark.parametrize("mode", ["I", "F"])
def test_file_of_32_bits_is_refused_with_its_type(tmp_path, mode):
    PIL.Image.fromarray(grey()[..., 0]).convert(mode).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match=r"a.tif: (int32|float32) values; expected uint8"):
        read_lwir(tmp_path / "a.tif", colours())


@pytest.mark.parametrize("array", [np.zeros(shape, np.uint8) for shape in ((6, 0, 3), (8,), (1, 1, 6, 3))])
def test_array_that_is_no_image_is_refused_with_its_shape(array):
    with pytest.raises(InputError) as refusal:
        read_visible(array)
    shape = f"visible image: an array of shape {array.shape}; expected height, width and channels."
    assert str(refusal.value) == shape


def test_floating_point_arrays_are_refused():
    for module in (np, jnp):
        with pytest.raises(InputError, match=r"^visible image: float32 values; expected uint8"):
            read_visible(module.asarray(colours(), module.float32) / 255)


@pytest.mark.parametrize(
    ("image", "kind"),
    [(None, "NoneType"), (b"\xff\xd8", "bytes"), (3, "int"), (PIL.Image.new("RGB", (8, 6)), "Image")],
    ids=["None", "bytes", "int", "PIL"],
)
def test_object_that_is_neither_path_nor_array_is_refused(image, kind):
    expected = r"expected a path or a uint8 array of NumPy or JAX \(np.asarray makes one of a PIL image\)\.$"
    with pytest.raises(InputError, match=f"^visible image: of type {kind}; {expected}"):
        read_visible(image)
    with pytest.raises(InputError, match=f"^thermal image: of type {kind}; {expected}"):
        read_lwir(image, colours())


@pytest.mark.parametrize("suffix", ["avif", "bmp", "jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_truncated_file_is_refused_with_its_name(tmp_path, suffix, share):
    path = tmp_path / f"a.{suffix}"
    PIL.Image.fromarray(colours(60, 80)).save(path)
    content = path.read_bytes()[: int(share * path.stat().st_size)]
    path.write_bytes(content)
    with pytest.raises(InputError) as refusal:
        read_visible(path)
    assert str(refusal.value) == f"{path}: {len(content)} bytes that cannot be read as an image."


@pytest.mark.parametrize(
    "content", [b"", b"no image", b"\x89PNG\r\n\x1a\n", None], ids=["empty", "text", "cut", "bomb"]
)
def test_file_that_is_no_image_is_refused_with_its_name(tmp_path, content):
    if content is None:  # a header that asks for a gigapixel
        content = bytearray(write(tmp_path / "a.bmp", colours()).read_bytes())
        content[18:26] = np.array([40000, 40000], np.int32).tobytes()
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(InputError, match=f"a.png: {len(content)} bytes that cannot be read as an image"):
        read_visible(tmp_path / "a.png")


def test_folder_and_missing_file_are_refused(tmp_path):
    with pytest.raises(InputError, match=f"^{tmp_path}: a folder; expected an image. --mode=detect takes folders.$"):
        read_visible(tmp_path)
    with pytest.raises(InputError, match=r"nothing\.png: No such file"):
        read_visible(tmp_path / "nothing.png")
