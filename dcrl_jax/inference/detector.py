"""A trained detector as a function from images to people.

detector = Detector.from_checkpoint("runs/student")  # or from_pretrained("hf://OWNER/NAME")
people = detector("street.jpg")                       # one image: a path, or uint8 [H, W, 3] RGB
people.boxes, people.scores                           # [n, 4] x1, y1, x2, y2 in pixels of the image, and [n]
for people in detector(["a.jpg", "b.jpg"]): ...       # several images
Detector.from_checkpoint("runs/teacher")("visible.jpg", "lwir.jpg").modality_weights
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import numpy as np
from ml_collections import ConfigDict

from dcrl_jax import checkpoints, published
from dcrl_jax.data.transforms import resize
from dcrl_jax.decoding import lwir_scaling_of
from dcrl_jax.errors import InputError
from dcrl_jax.inference.images import Image, read_lwir, read_visible
from dcrl_jax.inference.trained import check_trained
from dcrl_jax.structures import Detections

FITS = ("letterbox", "stretch")


class People(NamedTuple):
    """The people in one image, by descending score."""

    boxes: np.ndarray  # float32 [n, 4], x1, y1, x2, y2 in pixels of the original image
    scores: np.ndarray  # float32 [n], probability of the pedestrian class
    modality_weights: dict[str, float] | None  # mu of Eq. 11 by modality (teacher); None for a student


class Detector:
    """A network with its parameters, and one compiled program per batch size in use."""

    def __init__(self, params: Any, config: ConfigDict, fit: str = "letterbox", batch_size: int = 8):
        """Build a detector from parameters in memory.

        Args:
            params: the parameters of ``build_network(config)``.
            config: the config of their training.
            fit: how an image gets the size of the network's input. 'letterbox' keeps the proportions and pads with
                black; 'stretch' does not keep them, as in training and scoring. Both are the same for an image with the
                proportions of the input.
            batch_size: the number of images per batch for several images; at least 1.

        Raises:
            InputError: the config or the parameters belong to another network or version, or ``fit`` or ``batch_size``
                is invalid.
        """
        if fit not in FITS:
            raise InputError(f"fit is {fit!r}; it must be one of: {', '.join(FITS)}.")
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}; it must be at least 1.")
        self.config = config
        self.batch_size = batch_size
        self._fit = fit
        network = check_trained(params, config)
        self.modalities = network.modalities
        self.lwir_scaling = lwir_scaling_of(config.data)
        self._input_size = network.input_size
        self._params = jax.device_put(params)
        self._run = jax.jit(network.detect)

    @classmethod
    def from_checkpoint(cls, path: str | Path, fit: str = "letterbox", batch_size: int = 8) -> "Detector":
        """Restore a detector, whatever devices it was trained on.

        Args:
            path: a run's workdir (which gives the parameters that the run scores), a folder of checkpoints, or one
                checkpoint, local or in a bucket; or a source of ``from_pretrained``.
            fit: see ``__init__``.
            batch_size: see ``__init__``.

        Raises:
            InputError: the path holds no checkpoint, cannot be read, or belongs to another network or version.
        """
        params, config, _ = checkpoints.restore_params(str(path))
        try:
            return cls(params, config, fit, batch_size)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error

    @classmethod
    def from_pretrained(cls, source: str | Path, fit: str = "letterbox", batch_size: int = 8) -> "Detector":
        """Restore a published detector.

        Args:
            source: ``hf://OWNER/NAME`` or ``hf://OWNER/NAME@REVISION`` on the Hugging Face hub, or a folder that
                ``--mode=publish`` wrote.
            fit: see ``__init__``.
            batch_size: see ``__init__``.

        Raises:
            InputError: the source cannot be fetched or read, or belongs to another network or version.
        """
        if not published.is_published(str(source)):
            raise InputError(
                f"{source} is not a published model: expected {published.HUB}OWNER/NAME, or a folder with "
                f"{published.PARAMS_FILE}. Detector.from_checkpoint opens the workdir of a run."
            )
        return cls.from_checkpoint(source, fit, batch_size)

    def __call__(
        self, visible: Image | Sequence[Image], lwir: Image | Sequence[Image] | None = None
    ) -> People | list[People]:
        """Detect the people in one image, or in several images of any sizes.

        Args:
            visible: a path or uint8 [H, W, 3], RGB, of NumPy or JAX; or several of them, or uint8 [B, H, W, 3].
            lwir: the registered thermal images of a teacher: paths, or uint8 [H, W], [H, W, 1] or grey [H, W, 3].

        Returns:
            People; a list of them if ``visible`` is several images.

        Raises:
            InputError: an image cannot be used, or a thermal image is missing or unexpected.
        """
        if len(self.modalities) > 1 and lwir is None:
            raise InputError("this detector is a teacher, which takes pairs: give the thermal images too.")
        if len(self.modalities) == 1 and lwir is not None:
            raise InputError(f"this detector is a {self.config.role}, which sees RGB only: give no thermal images.")
        if _is_single(visible):
            return self._detect([visible], None if lwir is None else [lwir])[0]
        visible, lwir = cast(Sequence[Image], visible), cast(Sequence[Image] | None, lwir)
        if lwir is not None and (_is_single(lwir) or len(lwir) != len(visible)):
            count = 1 if _is_single(lwir) else len(lwir)
            raise InputError(f"{len(visible)} visible images but {count} thermal ones: give as many of both.")
        return self._detect(list(visible), None if lwir is None else list(lwir))

    def run_network(self, *images: np.ndarray | jax.Array) -> tuple[Detections, jax.Array | None]:
        """Return the result of ``Network.detect`` for images of the network's size.

        Args:
            images: uint8 [B, H, W, 3] and, for a teacher, uint8 [B, H, W, 1].
        """
        return self._run(self._params, *images)

    def lower_network(self, *images: jax.ShapeDtypeStruct | np.ndarray | jax.Array) -> jax.stages.Lowered:
        """Return the program of ``run_network`` before compilation, to analyse its cost and memory."""
        return self._run.lower(self._params, *images)

    def _detect(self, visible, lwir):
        people = []
        for start in range(0, len(visible), self.batch_size):
            scenes = []
            for index in range(start, min(start + self.batch_size, len(visible))):
                try:
                    scene = [read_visible(visible[index])]
                    if lwir is not None:
                        scene.append(read_lwir(lwir[index], scene[0], self.lwir_scaling))
                except InputError as error:
                    # An array has no name for the message.
                    raise InputError(f"[{index}]: {error}" if len(visible) > 1 else str(error)) from error
                scenes.append(scene)
            people += self._detect_batch(scenes)
        return people

    def _detect_batch(self, scenes):
        regions = [self._region(*scene[0].shape[:2]) for scene in scenes]
        inputs = [
            [_place(image, region, *self._input_size) for image in scene]
            for scene, region in zip(scenes, regions, strict=True)
        ]
        # One program for single images, one for full batches: repeat the last scene to fill a batch.
        size = 1 if len(inputs) == 1 else self.batch_size
        inputs += [inputs[-1]] * (size - len(inputs))
        detections, weights = jax.device_get(self.run_network(*map(np.stack, zip(*inputs, strict=True))))
        people = []
        for row, (scene, region) in enumerate(zip(scenes, regions, strict=True)):
            height, width = scene[0].shape[:2]
            mask = detections.mask[row]
            scale = np.array([region.width / width, region.height / height] * 2)
            boxes = (detections.boxes[row][mask] - np.array([region.x, region.y] * 2)) / scale
            boxes = np.clip(boxes, 0, np.array([width, height] * 2)).astype(np.float32)
            by_modality = None if weights is None else dict(zip(self.modalities, weights[row].tolist(), strict=True))
            people.append(People(boxes, detections.scores[row][mask], by_modality))
        return people

    def _region(self, height, width):
        """Return the region of the network's input that an image of this size fills."""
        full_height, full_width = self._input_size
        if self._fit == "stretch":
            return _Region(0, 0, full_height, full_width)
        scale = min(full_height / height, full_width / width)
        height, width = max(1, round(height * scale)), max(1, round(width * scale))
        return _Region((full_width - width) // 2, (full_height - height) // 2, height, width)


class _Region(NamedTuple):
    """A region of the network's input, in pixels."""

    x: int
    y: int
    height: int
    width: int


def _is_single(image):
    if isinstance(image, (np.ndarray, jax.Array)):
        return image.ndim < 4
    # Any other object counts as one image, which is refused later.
    return isinstance(image, (str, bytes, os.PathLike)) or not isinstance(image, Iterable)


def _place(image, region, height, width):
    """Return a black image of the network's size with the image in a region of it."""
    if image.shape[:2] != (region.height, region.width):
        image = resize(image, region.height, region.width)
    if (region.height, region.width) == (height, width):
        return image
    canvas = np.zeros((height, width, image.shape[2]), np.uint8)
    canvas[region.y : region.y + region.height, region.x : region.x + region.width] = image
    return canvas
