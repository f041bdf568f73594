"""The one rule by which files and arrays become the images of a network, in training, scoring and detection.

Images are turned upright as their orientation tag says: people draw boxes on what their program shows. A visible image
is RGB of 8 bits per channel. A thermal image is grey. ``ImageRules`` has what a detector may take besides: grey visible
images, and thermal ones of more than 8 bits with a range of their values, which becomes 0 to 255.

Files may be anybody's: ``open_image`` is the only way to open one, and it takes picture formats and sizes only.
"""

import contextlib
import io
import itertools
import re
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import cv2
import numpy as np
import PIL.Image
import PIL.ImageOps
from ml_collections import ConfigDict

from dcrl_jax.errors import InputError

# Pillow's names of the formats to open. It knows others that are programs: it gives EPS files to Ghostscript.
FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "AVIF", "BMP", "DIB", "GIF", "JPEG2000", "PPM", "QOI", "TGA")
# 256 MiB of RGB. Pillow only warns from here on, and raises an error at twice as many.
MAX_PIXELS = 2**28 // 3
MAX_SIDE = 65_535  # JPEG's; Pillow takes 20 s for a BMP file of 1 kB that states a side of 80,000,000
MAX_PAGES = 20_000  # of a file; Pillow finds the pages of a TIFF file in a time that grows with the square of these
# JPEG's rounding may make the channels of a grey image differ by a step.
GREY_DIFFERENCE = 3
_TOO_LARGE = (PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning)
_PAGED_FORMATS = ("AVIF", "GIF", "PNG", "TIFF", "WEBP")  # an MPO file's other images are previews or a second view
_PHOTOMETRIC = 262  # TIFF tag; 0: the value 0 is white
_TILE_WIDTH, _TILE_HEIGHT = 322, 323  # TIFF tags
# Orientation tags of quarter turns (TIFF 6.0, page 36).
_ORIENTATION, _QUARTER_TURNS = 0x0112, (5, 6, 7, 8)


class ImageRules(NamedTuple):
    """Which images a detector takes, and how they become uint8; the config's keys ``data.*`` of the same names."""

    lwir_range: tuple[float, ...] = ()  # thermal values that become 0 and 255; (): more than 8 bits are refused
    lwir_range_unit: str = "counts"  # of lwir_range: 'counts', or 'percent', percentiles of each image without 0
    grey_visible: bool = False  # whether grey visible images are taken, as three equal channels

    def describe_lwir(self) -> str:
        """Return what becomes 0 and 255, for people who scale thermal images themselves."""
        if not self.lwir_range:
            return "8 bits, 0 to 255"
        low, high = (f"{limit:g}" for limit in self.lwir_range)
        if self.lwir_range_unit == "percent":
            return (
                f"0 to 255: the percentiles {low} and {high} of each image's values, without those that are 0, become "
                "0 and 255, the rest is cut off"
            )
        return f"0 to 255: {low} becomes 0 and {high} becomes 255, the rest is cut off"


# Without grey visible images and thermal ones of more than 8 bits.
DEFAULT_RULES = ImageRules()
# Takes every image that some setting makes usable, to check files before the setting is known.
ANY_RULES = ImageRules((0, 1), grey_visible=True)


def image_rules_of(data: ConfigDict) -> ImageRules:
    """Return the rules that a config's ``data`` keys describe."""
    return ImageRules(tuple(data.lwir_range), data.lwir_range_unit, data.grey_visible)


def open_image(file: Path | IO[bytes], name: str | None = None) -> PIL.Image.Image:
    """Open an image of one of ``FORMATS`` without decoding it.

    Args:
        file: its path, or the open file.
        name: for messages; by default the path.

    Raises:
        InputError: the header states more than ``MAX_PIXELS``.
        Exception: Pillow's, of all kinds: the file cannot be read, or has another format.
    """
    name = name or str(file)
    try:
        image = PIL.Image.open(file, formats=FORMATS)
    except _TOO_LARGE as error:
        raise too_large(name) from error
    try:
        _check_size(image, name)
    except InputError:
        image.close()
        raise
    return image


def too_large(name: str) -> InputError:
    """Return the error for an image or the frame of a video that would take too much memory."""
    return InputError(f"{name}: more than {MAX_PIXELS:,} pixels, the limit of an image; make it smaller.")


def _check_size(image, name):
    # A compressed tile may be larger than its image, and is decoded completely.
    tags = image.tag_v2 if image.format == "TIFF" else {}
    tile = (tags.get(_TILE_WIDTH, 0), tags.get(_TILE_HEIGHT, 0))
    if not all(isinstance(side, int) for side in tile):  # a text, times a number
        raise InputError(f"{name}: tiles of a size that is no number; the file is damaged.")
    for width, height in (image.size, tile):
        if width * height > MAX_PIXELS:
            raise too_large(name)
        if max(width, height) > MAX_SIDE:
            raise InputError(f"{name}: {width} x {height} pixels; expected at most {MAX_SIDE:,} on a side.")


def decode_visible(encoded: bytes, name: str, rules: ImageRules = DEFAULT_RULES) -> np.ndarray:
    """Return the RGB image of a file, uint8 [H, W, 3]; ``name`` is for messages.

    Raises:
        InputError: the bytes cannot be decoded, or ``check_visible`` refuses the image.
    """
    return check_visible(*decode(encoded, name), name, rules)


def decode_lwir(encoded: bytes, name: str, size: tuple[int, int], rules: ImageRules = DEFAULT_RULES) -> np.ndarray:
    """Return the thermal image of a file, uint8 [H, W, 1]; for the other arguments and errors see ``check_lwir``."""
    return check_lwir(*decode(encoded, name), name, size, rules)


def decode(encoded: bytes, name: str) -> tuple[np.ndarray, str]:
    """Return the upright pixels of a file, [H, W] or [H, W, C], and the dtype of the values that the file holds.

    The two differ for RGB of 16 bits, of which the pixels have the upper 8.

    Raises:
        InputError: the bytes cannot be decoded, or hold too many pixels or pages.
    """
    try:
        with open_image(io.BytesIO(encoded), name) as image:
            indices = page_indices(image, name)
            if len(indices) == 1:
                image.seek(indices[0])
                return _pixels(image, name)
    except InputError:
        raise
    except Exception as error:  # Pillow's parsers raise all kinds of exceptions
        raise InputError(f"{name}: {len(encoded)} bytes that cannot be read as an image.") from error
    advice = "--mode=detect takes every page; in Python, give arrays." if indices else "Convert it to PNG or JPEG."
    raise InputError(f"{name}: holds {len(indices)} images besides previews; expected one. {advice}")


def decode_page(stack: PIL.Image.Image, index: int, name: str) -> tuple[np.ndarray, str]:
    """Return one of the images of an open file, as ``decode`` does; it is one of ``page_indices``."""
    try:
        stack.seek(index)
        return _pixels(stack, name)
    except InputError:
        raise
    except Exception as error:  # see decode
        raise InputError(f"{name}: a page that cannot be read as an image.") from error


def page_indices(image: PIL.Image.Image, name: str) -> list[int]:
    """Return the indices of the images that an open file holds, without previews and masks of others.

    Raises:
        InputError: there are more than ``MAX_PAGES``.
    """
    if image.format == "TIFF":
        indices = _tiff_indices(cast(Any, image), name)
        image.seek(0)
        return indices
    count = getattr(image, "n_frames", 1) if image.format in _PAGED_FORMATS else 1
    if count > MAX_PAGES:
        raise _too_many_pages(name)
    return list(range(count))


def _tiff_indices(image, name):
    indices = []
    with contextlib.suppress(EOFError):
        # One after another, since ``n_frames`` would read all of them first.
        for index in itertools.count():
            image.seek(index)
            if index == MAX_PAGES:
                raise _too_many_pages(name)
            # NewSubfileType (TIFF 6.0, page 36): bit 0 is a reduced image, bit 2 a mask.
            if not image.tag_v2.get(254, 0) & 0b101:
                indices.append(index)
    return indices


def _too_many_pages(name):
    return InputError(f"{name}: more than {MAX_PAGES:,} images in a file; split it.")


def has_16_bits(image: PIL.Image.Image) -> bool:
    """Return whether the values of an image that is opened but not decoded have 16 bits."""
    # Pillow drops the low bytes of 16-bit colours; only the raw mode of a tile shows them.
    raw_modes = (str(tile[3]) for tile in cast(Any, image).tile)
    return max(_netpbm_maxima(image), default=0) > 255 or any(re.search(";16[BLN]", mode) for mode in raw_modes)


def _netpbm_maxima(image):
    """Return the largest value that a PGM or PPM file states, in a list that is empty for other formats."""
    return [tile[3][1] for tile in image.tile if tile[0].startswith("ppm") and isinstance(tile[3], tuple)]


def _pixels(image, name):
    _check_size(image, name)  # of this page
    is_wide, maxima = has_16_bits(image), _netpbm_maxima(image)
    if image.format == "TIFF" and image.mode.startswith("I;16") and image.tag_v2.get(_PHOTOMETRIC) == 0:
        # Pillow inverts 8 bits only; of more bits, a range of values would not tell what is hot.
        raise InputError(f"{name}: values of 16 bits of which 0 is white (WhiteIsZero); save it with 0 as black.")
    try:
        image.load()
    except _TOO_LARGE as error:
        raise too_large(name) from error
    image = _upright(image)
    if "transparency" in image.info:
        image = image.convert("LA" if image.mode in ("1", "L") else "RGBA")
    elif image.mode == "1":
        image = image.convert("L")
    elif image.mode not in ("L", "LA", "RGB", "RGBA", "F") and not image.mode.startswith("I"):
        image = image.convert("RGB")  # a palette, CMYK, YCbCr
    pixels = np.array(image)
    if image.mode == "I" and maxima:
        # Pillow scales the values to 16 bits.
        pixels = np.round(pixels * (maxima[0] / 65535)).astype(np.uint16)
    return pixels, "uint16" if is_wide else pixels.dtype.name


def check_visible(pixels: np.ndarray, dtype: str, name: str, rules: ImageRules = DEFAULT_RULES) -> np.ndarray:
    """Return a visible image, uint8 [H, W, 3] RGB; a grey one has three equal channels.

    Args:
        pixels: [H, W] or [H, W, C].
        dtype: of the values that the file holds.
        name: for messages.
        rules: whether grey images are taken.

    Raises:
        InputError: the image does not have 8 bits per channel or is not RGB. An alpha channel that hides something is
            refused, since the pixels below it are unknown, and so are grey images without ``grey_visible``.
    """
    if dtype != "uint8":
        raise InputError(f"{name}: {dtype} values; expected RGB of uint8, 0 to 255. Convert the image to 8 bits.")
    pixels = _without_alpha(pixels)
    channels = pixels.shape[2]
    if channels == 1 and rules.grey_visible:
        return cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)
    if channels != 3:
        kind = {1: "grey", 2: "grey with an alpha channel", 4: "RGB with an alpha channel"}.get(channels, "unknown")
        hint = ""
        if channels == 1:
            hint = (
                " To train with grey visible images: --config.data.grey_visible=True. A trained detector takes what it "
                "was trained with."
            )
        raise InputError(f"{name}: {kind}, {channels} channels; expected the three of an RGB image.{hint}")
    return np.ascontiguousarray(pixels)


def grey_lwir(pixels: np.ndarray, dtype: str, name: str) -> np.ndarray:
    """Return a thermal image as it was stored, but with one channel, [H, W, 1].

    Args:
        pixels: [H, W], [H, W, 1], or [H, W, 3] with three equal channels.
        dtype: of the values that the file holds.
        name: for messages.

    Raises:
        InputError: the image is not grey.
    """
    if dtype != "uint8" and pixels.dtype == np.uint8:
        raise InputError(f"{name}: colours of {dtype}, of which the low bytes cannot be read; save it as grey {dtype}.")
    pixels = _without_alpha(pixels) if dtype == "uint8" else np.atleast_3d(pixels)
    if pixels.shape[2] == 3 and is_grey(pixels):
        pixels = pixels[..., 1:2] if dtype != "uint8" else cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[..., None]
    if pixels.shape[2] != 1:
        kind = "3 channels that differ" if pixels.shape[2] == 3 else f"{pixels.shape[2]} channels"
        raise InputError(
            f"{name}: {kind}; expected a grey thermal image, without the false colours of a display and without an "
            "alpha channel."
        )
    return pixels


def check_lwir(
    pixels: np.ndarray, dtype: str, name: str, size: tuple[int, int] | None, rules: ImageRules = DEFAULT_RULES
) -> np.ndarray:
    """Return a thermal image, uint8 [H, W, 1].

    Args:
        pixels: see ``grey_lwir``.
        dtype: of the values that the file holds.
        name: for messages.
        size: height and width of the registered visible image; None if there is none.
        rules: how values that are not uint8 are scaled.

    Raises:
        InputError: the image is not grey, has another size than its visible image, or has other values than uint8
            and no range is given for them.
    """
    pixels = grey_lwir(pixels, dtype, name)
    height, width = pixels.shape[:2]
    if size is not None and (height, width) != size:
        raise InputError(
            f"{name}: {width}x{height} pixels, but its visible image has {size[1]}x{size[0]}; the images of a "
            "pair must be registered and of one size. For a thermal camera that sees another part of the scene, or at "
            "another resolution, there is the option lwir_to_visible (README.md)."
        )
    if dtype != "uint8":
        pixels = _scaled(pixels, dtype, name, rules)
    return np.ascontiguousarray(pixels)


def is_grey(pixels: np.ndarray) -> bool:
    """Return whether the three channels of an image, [H, W, 3], are equal but for rounding."""
    first, second, third = cv2.split(pixels)
    return all(cv2.absdiff(first, other).max() <= GREY_DIFFERENCE for other in (second, third))


def upright_size(image: PIL.Image.Image) -> tuple[int, int]:
    """Return the width and height of an image that is opened but not decoded, once its tag has turned it upright."""
    # Pillow turns the size of a TIFF file by itself.
    is_turned = False
    if image.format != "TIFF" and _may_have_tag(image):
        with contextlib.suppress(SyntaxError):  # as in ``_upright``
            is_turned = image.getexif().get(_ORIENTATION) in _QUARTER_TURNS
    width, height = image.size
    return (height, width) if is_turned else (width, height)


def _upright(image):
    """Return a copy, turned by its tag; other pages of the file may follow."""
    try:
        return PIL.ImageOps.exif_transpose(image)
    except SyntaxError:  # Pillow ignores tags that cannot be read in a JPEG file only
        return image.copy()


def _may_have_tag(image):
    """Return False for a PNG file without tags, which Pillow would decode completely to find some behind the pixels."""
    if image.format != "PNG" or "exif" in image.info or "Raw profile type exif" in image.info:
        return True
    position = image.fp.tell()
    rest = image.fp.read()
    image.fp.seek(position)
    return b"eXIf" in rest or b"Raw profile type exif" in rest


def _without_alpha(pixels):
    """Return [H, W, C] without an alpha channel that hides nothing."""
    pixels = np.atleast_3d(pixels)
    return pixels[..., :-1] if pixels.shape[2] in (2, 4) and (pixels[..., -1] == 255).all() else pixels


def _scaled(pixels, dtype, name, rules):
    if not rules.lwir_range:
        low, high = np.min(pixels), np.max(pixels)
        raise InputError(
            f"{name}: {dtype} values, {low:g} to {high:g}; expected uint8, 0 to 255. To train with thermal images of "
            "more bits, name the values that become 0 and 255: --config.data.lwir_range='(LOW, HIGH)', or percentiles "
            "of each image with --config.data.lwir_range_unit=percent. A trained detector keeps the range of its "
            "training."
        )
    values = pixels.astype(np.float32)
    if not np.isfinite(values).all():
        raise InputError(f"{name}: values that are not finite; expected numbers, of which a range becomes 0 to 255.")
    low, high = rules.lwir_range
    if rules.lwir_range_unit == "percent":
        # Registration makes the pixels that a thermal camera does not see 0, and they would be the darkest percentiles.
        seen = values[values != 0]
        low, high = np.percentile(seen if seen.size else values, rules.lwir_range)
    # An image of one value has no contrast, and no percentiles that differ.
    scaled = (values - low) * (255 / (high - low) if high > low else 0)
    return np.clip(np.round(scaled), 0, 255).astype(np.uint8)
