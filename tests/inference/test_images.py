"""Images that a network can use are read, and each other kind is refused with its reason."""

import cv2
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest

from dcrl_jax.errors import InputError
from dcrl_jax.inference.images import Page, read_lwir, read_visible

COLOURS = np.random.default_rng(1).integers(0, 256, (6, 8, 3), dtype=np.uint8)
GREY = np.random.default_rng(2).integers(0, 256, (6, 8, 1), dtype=np.uint8)
# JPEG changes this image little, and its turns all differ.
SMOOTH = cv2.resize(COLOURS[:3, :4], (64, 48), interpolation=cv2.INTER_LINEAR)
SUFFIXES = ["avif", "bmp", "jpg", "png", "tif", "webp"]


def write(path, rgb):
    order = {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}
    channels = rgb.shape[2] if rgb.ndim == 3 else 1
    assert cv2.imwrite(str(path), cv2.cvtColor(rgb, order[channels]) if channels in order else rgb)
    return path


def with_alpha(value, pixels=COLOURS):
    return np.dstack([pixels, np.full((6, 8, 1), value, np.uint8)])


def test_arrays_and_files_give_rgb_and_grey(tmp_path):
    path, opaque = write(tmp_path / "a.png", COLOURS), with_alpha(255)
    for image in (COLOURS, jnp.asarray(COLOURS), path, str(path), opaque, write(tmp_path / "b.png", opaque)):
        np.testing.assert_array_equal(read_visible(image), COLOURS)
    PIL.Image.fromarray(SMOOTH).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=100, subsampling=0)
    np.testing.assert_allclose(read_visible(tmp_path / "cmyk.jpg").astype(int), SMOOTH, atol=4)

    three = np.repeat(GREY, 3, axis=2)
    opaque = with_alpha(255, three)
    arrays = (GREY, jnp.asarray(GREY), GREY[..., 0], three, opaque, with_alpha(255, GREY))
    files = [write(tmp_path / f"{index}.png", pixels) for index, pixels in enumerate((GREY, three, opaque))]
    PIL.Image.fromarray(GREY[..., 0]).convert("LA").save(tmp_path / "la.png")
    for image in (*arrays, *files, tmp_path / "la.png"):
        np.testing.assert_array_equal(read_lwir(image, COLOURS), GREY)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_pixels_of_a_file_are_those_that_opencv_reads(tmp_path, suffix):
    image = PIL.Image.fromarray(SMOOTH)
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


@pytest.mark.parametrize("suffix", ["avif", "jpg", "png", "tif", "webp"])
def test_pair_is_turned_as_its_orientation_tags_say(tmp_path, suffix):
    # Quarter turns counterclockwise after mirroring, of each value of the tag (TIFF 6.0, page 36).
    turns = [(0, False), (0, True), (2, False), (2, True), (1, True), (3, False), (3, True), (1, False)]
    options = {"avif": {"quality": 100, "subsampling": "4:4:4"}, "webp": {"lossless": True}}
    options["jpg"] = {"quality": 100, "subsampling": 0}
    stored = {"RGB": SMOOTH, "L": cv2.cvtColor(SMOOTH, cv2.COLOR_RGB2GRAY)}
    for orientation, (turn, is_mirrored) in enumerate(turns, start=1):
        for mode in stored:
            exif = PIL.Image.Exif()  # of one image, since saving as AVIF removes its tag
            exif[0x0112] = orientation
            image = PIL.Image.fromarray(SMOOTH).convert(mode)
            image.save(tmp_path / f"{mode}.{suffix}", exif=exif, **options.get(suffix, {}))
        visible = read_visible(tmp_path / f"RGB.{suffix}")
        lwir = read_lwir(tmp_path / f"L.{suffix}", visible)
        for mode, pixels in (("RGB", visible), ("L", lwir[..., 0])):
            expected = np.rot90(stored[mode][:, ::-1] if is_mirrored else stored[mode], turn)
            np.testing.assert_allclose(pixels.astype(int), expected, atol=4)


@pytest.mark.parametrize(
    ("kind", "pixels", "message"),
    [
        ("visible", GREY, "grey, 1 channels; expected the three of an RGB image"),
        ("visible", with_alpha(128), "RGB with an alpha channel, 4 channels; expected the three"),
        ("visible", COLOURS.astype(np.uint16) * 256, "uint16 values; expected RGB of uint8, 0 to 255"),
        ("thermal", COLOURS, "3 channels that differ; expected a grey thermal image"),
        ("thermal", with_alpha(128), "4 channels; expected a grey thermal image, .* without an alpha channel"),
        ("thermal", GREY[:5], "8x5 pixels, but its visible image has 8x6"),
        ("thermal", GREY.astype(np.uint16) * 64, "uint16 values, .* expected uint8, .* --config.data.lwir_range="),
    ],
    ids=["grey", "alpha", "16 bits", "false colours", "thermal alpha", "other size", "thermal 16 bits"],
)
def test_image_of_another_kind_is_refused(tmp_path, kind, pixels, message):
    files = [write(tmp_path / f"a.{suffix}", pixels) for suffix in ("png", "tif")]
    for image, name in ((pixels, f"{kind} image"), *((file, file) for file in files)):
        with pytest.raises(InputError, match=f"^{name}: {message}"):
            read_visible(image) if kind == "visible" else read_lwir(image, COLOURS)


@pytest.mark.parametrize(
    ("mode", "transparency", "message"),
    [
        ("L", 0, "grey with an alpha channel, 2 channels; expected the three"),
        ("P", 0, "RGB with an alpha channel, 4 channels; expected the three"),
        ("RGB", (0, 0, 0), "RGB with an alpha channel, 4 channels; expected the three"),
        ("I", None, "int32 values; expected RGB of uint8"),
        ("F", None, "float32 values; expected RGB of uint8"),
    ],
)
def test_file_with_a_transparent_colour_or_32_bits_is_refused(tmp_path, mode, transparency, message):
    path = tmp_path / ("a.tif" if transparency is None else "a.png")
    image = PIL.Image.fromarray(np.zeros((6, 8, 3), np.uint8)).convert("L" if mode in "IF" else mode).convert(mode)
    image.save(path, transparency=transparency)
    with pytest.raises(InputError, match=f"^{path}: {message}"):
        read_visible(path)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((6, 0, 3), np.uint8), r"an array of shape \(6, 0, 3\); expected height, width and channels\.$"),
        (np.zeros(8, np.uint8), r"an array of shape \(8,\)"),
        (jnp.asarray(COLOURS / np.float32(255)), "float32 values"),
        (None, r"of type NoneType; expected a path or a uint8 array of NumPy or JAX \(np.asarray makes one of a PIL"),
        (b"\xff\xd8", "of type bytes; expected a path"),
        (PIL.Image.new("RGB", (8, 6)), "of type Image; expected a path"),
    ],
    ids=["empty", "one axis", "floats of JAX", "None", "bytes", "PIL"],
)
def test_object_that_is_no_image_is_refused(image, message):
    with pytest.raises(InputError, match=f"^visible image: {message}"):
        read_visible(image)
    with pytest.raises(InputError, match=f"^thermal image: {message}"):
        read_lwir(image, COLOURS)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_file_that_cannot_be_decoded_is_refused_with_its_name(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    PIL.Image.fromarray(np.random.default_rng(3).integers(0, 256, (60, 80, 3), dtype=np.uint8)).save(path)
    content = path.read_bytes()
    cut = [content[: int(share * len(content))] for share in (0, 0.3, 0.9)]
    for unreadable in (*cut, b"no image", b"\x89PNG\r\n\x1a\n"):
        path.write_bytes(unreadable)
        with pytest.raises(InputError) as refusal:
            read_visible(path)
        assert str(refusal.value) == f"{path}: {len(unreadable)} bytes that cannot be read as an image."


@pytest.mark.parametrize("suffix", ["gif", "png", "tif", "webp"])
def test_one_page_of_several_is_not_taken_for_the_file(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    pages = [PIL.Image.fromarray(np.roll(SMOOTH, shift, 0)) for shift in range(3)]
    options = {"lossless": True} if suffix == "webp" else {}
    pages[0].save(path, save_all=True, append_images=pages[1:], **options)
    with pytest.raises(
        InputError, match=f"^{path}: holds 3 images besides previews; expected one. --mode=detect takes"
    ):
        read_visible(path)
    if suffix != "gif":  # of 256 colours
        with PIL.Image.open(path) as stack:
            pixels = read_visible(Page("a#0003", stack, 2))
            np.testing.assert_array_equal(pixels, np.roll(SMOOTH, 2, 0))
            with pytest.raises(InputError, match=r"^a#0004: a page that cannot be read as an image"):
                read_visible(Page("a#0004", stack, 3))


def test_folder_and_missing_file_are_refused(tmp_path):
    with pytest.raises(InputError, match=f"^{tmp_path}: a folder; expected an image. --mode=detect takes folders.$"):
        read_visible(tmp_path)
    with pytest.raises(InputError, match=r"nothing\.png: No such file"):
        read_visible(tmp_path / "nothing.png")
