"""Small folders of pairs for tests."""

import zlib

import cv2
import numpy as np

from datasets.rgbt_folder.files import Pair
from datasets.rgbt_folder.options import FolderConfig

WIDTH, HEIGHT = 32, 24


def write_image(path, channels=3, width=WIDTH, height=HEIGHT, dtype=np.uint8, low=0, high=None):
    """Write an image of noise, which differs with the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(zlib.crc32("/".join(path.parts[-3:]).encode()))
    image = noise.integers(low, high or np.iinfo(dtype).max, (height, width, channels), dtype)
    path.write_bytes(cv2.imencode(path.suffix, image if channels == 3 else image[..., 0])[1].tobytes())
    return path


def write_pairs(root, names, visible="visible/{}.png", lwir="lwir/{}.png"):
    """Write pairs of images; the patterns say where a name's images are."""
    for name in names:
        write_image(root / visible.format(name))
        write_image(root / lwir.format(name), channels=1)
    return root


def write(path, text):
    """Write a text file, and its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def pair(root, visible, lwir, name=None, **cells):
    """Return a pair of files below a folder."""
    stem = visible.rsplit(".", 1)[0]
    return Pair(name or stem, root / visible, root / lwir, visible, lwir, cells)


def config(**options):
    """Return the config of some options."""
    return FolderConfig(**options)
