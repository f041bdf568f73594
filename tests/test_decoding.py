"""The rule of orientation and bit depth, wherever pixels enter."""

import io
import struct
import zlib

import cv2
import numpy as np
import PIL.EpsImagePlugin
import PIL.Image
import PIL.ImageFile
import pytest

from dcrl_jax import decoding
from dcrl_jax.config import default_config
from dcrl_jax.data import transforms
from dcrl_jax.decoding import ImageRules
from dcrl_jax.errors import InputError

COLOURS = np.random.default_rng(1).integers(0, 256, (4, 6, 3), dtype=np.uint8)
# Counts of a thermal camera; the upper byte alone would keep three values of them.
COUNTS = np.array([[7000, 7400, 7525], [7650, 7900, 9000]], np.uint16)


def encoded(pixels, suffix="png", orientation=None):
    exif = PIL.Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    file = io.BytesIO()
    image = pixels if isinstance(pixels, PIL.Image.Image) else PIL.Image.fromarray(pixels)
    image.save(file, suffix, exif=exif)
    return file.getvalue()


@pytest.mark.parametrize(
    ("scaling", "expected"),
    [
        (ImageRules((7400, 7900)), [[0, 0, 64], [128, 255, 255]]),
        # Of the six values, sorted, 20 and 80 percent are the second and the fifth.
        (ImageRules((20.0, 80.0), "percent"), [[0, 0, 64], [128, 255, 255]]),
    ],
    ids=["counts", "percent"],
)
@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_thermal_values_of_more_bits_are_scaled_by_the_range(scaling, expected, dtype):
    suffix = "png" if dtype == np.uint16 else "tiff"
    arrays = [(COUNTS.astype(dtype), np.dtype(dtype).name), decoding.decode(encoded(COUNTS.astype(dtype), suffix), "a")]
    for pixels, found_dtype in arrays:
        lwir = decoding.check_lwir(pixels, found_dtype, "a", (2, 3), scaling)
        assert lwir.dtype == np.uint8
        assert lwir[..., 0].tolist() == expected


def test_pgm_keeps_its_counts_whatever_its_maximum_is():
    pgm = b"P5\n3 2\n9000\n" + COUNTS.astype(">u2").tobytes()
    pixels, dtype = decoding.decode(pgm, "a")
    assert (pixels.tolist(), dtype) == (COUNTS.tolist(), "uint16")


def test_16_bits_of_which_the_values_are_not_known_are_refused():
    sixteen = np.repeat(COUNTS[..., None], 3, axis=2)
    ppm = b"P6\n3 2\n65535\n" + sixteen.astype(">u2").tobytes()
    for coloured in (ppm, cv2.imencode(".png", sixteen)[1].tobytes(), cv2.imencode(".tiff", sixteen)[1].tobytes()):
        with pytest.raises(InputError, match=r"^a: uint16 values; expected RGB of uint8"):
            decoding.decode_visible(coloured, "a")
        with pytest.raises(InputError, match=r"^a: colours of uint16, .* save it as grey uint16"):
            decoding.decode_lwir(coloured, "a", (2, 3), ImageRules((7400, 7900)))
    entry = b"\x06\x01\x03\0\x01\0\0\0"  # PhotometricInterpretation of a TIFF file
    white_is_zero = encoded(COUNTS, "tiff").replace(entry + b"\x01", entry + b"\0")
    with pytest.raises(InputError, match=r"^a: values of 16 bits of which 0 is white"):
        decoding.decode(white_is_zero, "a")


def test_range_leaves_8_bits_alone_and_an_image_without_contrast_is_black():
    eight, scaling = COUNTS.astype(np.uint8), ImageRules((7400, 7900))
    np.testing.assert_array_equal(decoding.check_lwir(eight, "uint8", "a", (2, 3), scaling)[..., 0], eight)
    flat = np.full((2, 3), 7500, np.uint16)
    # What registration filled with 0 does not take part.
    framed = np.pad(np.array([[22000, 22050, 22200]], np.uint16), 2)
    scaled = decoding.check_lwir(framed, "uint16", "a", (5, 7), ImageRules((0.0, 100.0), "percent"))
    assert scaled[2, :, 0].tolist() == [0, 0, 0, 64, 255, 0, 0]
    assert not decoding.check_lwir(flat, "uint16", "a", (2, 3), ImageRules((1.0, 99.0), "percent")).any()
    coloured = np.repeat(COUNTS[..., None], 3, axis=2)
    assert decoding.check_lwir(coloured, "uint16", "a", (2, 3), scaling)[..., 0].tolist() == [
        [0, 0, 64],
        [128, 255, 255],
    ]


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (COUNTS, r"uint16 values, 7000 to 9000; expected uint8, 0 to 255\. .*--config\.data\.lwir_range="),
        (np.where(COUNTS > 8000, np.nan, COUNTS).astype(np.float32), "values that are not finite"),
    ],
)
def test_thermal_values_without_a_range_are_refused_and_so_are_infinite_ones(pixels, message):
    scaling = ImageRules() if pixels.dtype == np.uint16 else ImageRules((7400, 7900))
    with pytest.raises(InputError, match=f"^a: {message}"):
        decoding.check_lwir(pixels, pixels.dtype.name, "a", (2, 3), scaling)


@pytest.mark.parametrize("suffix", ["png", "tiff", None])
@pytest.mark.parametrize("mode", ["grey", "grey with alpha", "one bit", "RGB"])
def test_grey_visible_images_have_three_equal_channels_if_the_key_is_set(suffix, mode):
    pixels = {
        "grey": COLOURS[..., 0],
        "grey with alpha": np.dstack([COLOURS[..., 0], np.full(COLOURS.shape[:2], 255, np.uint8)]),
        "one bit": np.where(COLOURS[..., 0] > 127, 255, 0).astype(np.uint8),
        "RGB": COLOURS,
    }[mode]
    if suffix is None:
        stored = (pixels, "uint8")
    else:
        image = PIL.Image.fromarray(pixels)
        file = io.BytesIO()
        (image.convert("1") if mode == "one bit" else image).save(file, suffix)
        stored = decoding.decode(file.getvalue(), "a")
    grey = pixels[..., 0] if pixels.ndim == 3 else pixels
    expected = COLOURS if mode == "RGB" else np.repeat(grey[..., None], 3, axis=2)
    taken = decoding.check_visible(*stored, "a", ImageRules(grey_visible=True))
    np.testing.assert_array_equal(taken, expected)
    if mode != "RGB":
        with pytest.raises(InputError, match=r"^a: grey, 1 channels; .* train with .*--config.data.grey_visible=True"):
            decoding.check_visible(*stored, "a")


def test_grey_visible_images_are_those_of_a_training_pair():
    config = default_config("teacher")
    assert decoding.image_rules_of(config.data) == ImageRules()
    config.data.grey_visible = True
    record = {
        "image_id": b"a",
        "visible": encoded(COLOURS[..., 0]),
        "lwir": encoded(COLOURS[..., 1]),
        "condition": 0,
        "objects": {"box": [], "label": [], "occlusion": [], "ignore": []},
    }
    pair = transforms.decode(record, rules=decoding.image_rules_of(config.data))
    np.testing.assert_array_equal(pair["visible"], np.repeat(COLOURS[..., :1], 3, axis=2))
    with pytest.raises(InputError, match=r"^image a: the visible image: grey, 1 channels"):
        transforms.decode(record)


@pytest.mark.parametrize("suffix", ["jpeg", "png", "tiff", "webp"])
@pytest.mark.parametrize("orientation", [None, 1, 3, 6, 8])
def test_boxes_of_a_training_pair_are_those_of_the_upright_image(suffix, orientation):
    visible, lwir = np.zeros((16, 24, 3), np.uint8), np.zeros((16, 24), np.uint8)
    visible[4:8, 16:24], lwir[4:8, 16:24] = 255, 255
    turn = {3: 2, 6: 3, 8: 1}.get(orientation, 0)  # counterclockwise
    upright = np.rot90(lwir, turn)
    rows, columns = np.nonzero(upright > 127)
    x, y, width, height = columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1
    record = {
        "image_id": b"a",
        "visible": encoded(visible, suffix, orientation),
        "lwir": encoded(lwir, suffix, orientation),
        "condition": 0,
        "objects": {"box": [[x, y, width, height]], "label": [b"person"], "occlusion": [0], "ignore": [False]},
    }
    pair = transforms.decode(record)
    assert pair["visible"].shape[:2] == pair["lwir"].shape[:2] == upright.shape
    x1, y1, x2, y2 = pair["boxes"][0].astype(int)
    for name in ("visible", "lwir"):
        inside = pair[name][y1:y2, x1:x2]
        assert inside.size == pair[name].shape[2] * 32
        assert inside.min() > 200
    size = decoding.upright_size(PIL.Image.open(io.BytesIO(record["visible"])))
    assert size == upright.shape[::-1]


def test_tag_behind_the_pixels_of_a_png_file_turns_image_and_size():
    content = encoded(COLOURS, "png", 6)
    start = content.index(b"eXIf") - 4
    length = int.from_bytes(content[start : start + 4], "big") + 12
    end = content.index(b"IEND") - 4
    late = content[:start] + content[start + length : end] + content[start : start + length] + content[end:]
    assert decoding.decode(late, "a")[0].shape == (6, 4, 3)
    for png, size in ((late, (4, 6)), (content, (4, 6)), (encoded(COLOURS), (6, 4))):
        image = PIL.Image.open(io.BytesIO(png))
        assert decoding.upright_size(image) == size
        assert image.convert("RGB").size == (6, 4)  # it can still be decoded


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def test_tags_that_cannot_be_read_turn_no_image():
    png, jpeg = encoded(COLOURS), encoded(COLOURS, "jpeg", 6)
    content = png[:33] + chunk(b"eXIf", b"no tags at all") + png[33:]
    for damaged, suffix in ((content, "png"), (jpeg.replace(b"II*\0", b"no *").replace(b"MM\0*", b"no *"), "jpeg")):
        assert decoding.decode(damaged, f"a.{suffix}")[0].shape == (4, 6, 3)
        assert decoding.upright_size(PIL.Image.open(io.BytesIO(damaged))) == (6, 4)


def png(width, height, *chunks):
    """A grey PNG file of some bytes that states a size, and has black pixels for no more than a part of it."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(100_000)))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + pixels + chunk(b"IEND", b"")


def tiff(*pages):
    """A TIFF file with one pixel for all of its pages, whose tags are given by number."""
    content = b"II*\0" + struct.pack("<I", 8)
    for page in pages:
        # Size, bits, compression, black is zero, and the strip: the file's first byte.
        tags = {256: 1, 257: 1, 258: 8, 259: 1, 262: 1, 273: 0, 277: 1, 278: 1, 279: 1} | page
        entries = b"".join(
            struct.pack("<HHI4s", tag, 2, len(value), value)
            if isinstance(value, bytes)
            else struct.pack("<HHII", tag, 4, 1, value)
            for tag, value in sorted(tags.items())
        )
        following = len(content) + 2 + len(entries) + 4
        content += struct.pack("<H", len(tags)) + entries + struct.pack("<I", following)
    return content[:-4] + bytes(4)


TOO_LARGE = "a: more than 89,478,485 pixels, the limit of an image; make it smaller."
TOO_MANY = "a: more than 20 images in a file; split it."


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (png(50_000, 50_000), TOO_LARGE),
        (png(10_000, 10_000), TOO_LARGE),
        (encoded(COLOURS, "bmp")[:18] + struct.pack("<ii", 50_000, 50_000) + encoded(COLOURS, "bmp")[26:], TOO_LARGE),
        (b"P5 50000 50000 255\n", TOO_LARGE),
        (b"P5 80000000 1 255\n", "a: 80000000 x 1 pixels; expected at most 65,535 on a side."),
        (tiff({256: 50_000, 257: 50_000}), TOO_LARGE),
        (tiff({322: 50_000, 323: 50_000}), TOO_LARGE),
        (tiff({254: 1}, {256: 50_000, 257: 50_000}), TOO_LARGE),
        (png(1, 1, chunk(b"acTL", struct.pack(">II", 2**31, 0))), TOO_MANY),
        (tiff(*[{}] * 21), TOO_MANY),
        (tiff({322: b"aaa", 323: 533_000_000}), "a: tiles of a size that is no number; the file is damaged."),
        (tiff({254: b"aaa"}), "a: 134 bytes that cannot be read as an image."),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "a: 61 bytes that cannot be read as an"),
    ],
    ids=[
        "png",
        "warned of",
        "bmp",
        "pgm",
        "side",
        "tiff",
        "tile",
        "second page",
        "apng",
        "pages",
        "tile of text",
        "page of text",
        "eps",
    ],
)
def test_bombs_and_programs_are_refused_by_their_headers(monkeypatch, content, message):
    monkeypatch.setattr(decoding, "MAX_PAGES", 20)
    monkeypatch.setattr(PIL.ImageFile.ImageFile, "load", lambda _: pytest.fail("decoded"))
    monkeypatch.setattr(PIL.EpsImagePlugin, "Ghostscript", lambda *_, **__: pytest.fail("run"))
    assert len(content) < 3_000_000
    with pytest.raises(InputError) as refusal:
        decoding.decode(content, "a")
    assert str(refusal.value).startswith(message)


def test_page_of_a_stack_has_the_limit_of_an_image():
    with decoding.open_image(io.BytesIO(tiff({}, {256: 50_000, 257: 50_000}, {})), "a") as stack:
        assert decoding.page_indices(stack, "a") == [0, 1, 2]
        assert decoding.decode_page(stack, 2, "a")[0].tolist() == [[ord("I")]]
        with pytest.raises(InputError, match=f"^{TOO_LARGE}$"):
            decoding.decode_page(stack, 1, "a")


@pytest.mark.parametrize("suffix", ["jpeg", "png", "tiff", "webp", "avif", "bmp", "gif", "jpeg2000", "ppm", "tga"])
def test_formats_of_cameras_and_tools_are_opened(suffix):
    pixels, dtype = decoding.decode(encoded(COLOURS, suffix), "a")
    assert (pixels.shape, dtype) == ((4, 6, 3), "uint8")
