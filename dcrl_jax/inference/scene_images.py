"""The images of a scene, read from its files."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import PIL.Image

from dcrl_jax.errors import InputError
from dcrl_jax.inference.detector import Detector, Images
from dcrl_jax.inference.images import Page
from dcrl_jax.inference.scenes import SceneFiles
from dcrl_jax.pairs.input_files import File

OpenStack = Callable[[Path], PIL.Image.Image]


class Scene(NamedTuple):
    """An image or a pair, and its name in the results."""

    name: str
    images: Images | InputError  # of ``Detector.read``, or the reason why they cannot be used


def read_scene(detector: Detector, files: SceneFiles, open_stack: OpenStack) -> Scene:
    """Return a scene; ``open_stack`` opens a file of several images."""
    try:
        pair = (file and _image(file, files.page, open_stack) for file in (files.visible, files.lwir))
        return Scene(files.name, detector.read(*pair))
    except InputError as error:
        return Scene(files.name, error)


def _image(file: File, page: int | None, open_stack: OpenStack) -> Path | Page:
    check_file(file)
    if page is None:
        return file.path
    name = f"{file.path}#{page + 1:04d}"
    try:
        return Page(name, open_stack(file.path), file.pages[page])
    except InputError:
        raise
    except Exception as error:  # Pillow's parsers raise all kinds of exceptions
        raise InputError(f"{name}: a page that cannot be read as an image.") from error


def check_file(file: File | None) -> None:
    """Raise InputError if a file cannot be what its name or its beginning promises."""
    if file and file.problem:
        raise InputError(f"{file.path}: {file.problem}")
