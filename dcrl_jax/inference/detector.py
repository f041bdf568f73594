"""A trained detector as a function: images in, people out.

detector = Detector.from_checkpoint("runs/student")  # or from_pretrained("hf://OWNER/NAME")
found = detector("street.jpg")                        # one image, a path or uint8 [H, W, 3] RGB
found.boxes, found.scores                             # [n, 4] x1, y1, x2, y2 in its pixels, and [n]
for found in detector(["a.jpg", "b.jpg"]): ...        # several
Detector.from_checkpoint("runs/teacher")("visible.jpg", "lwir.jpg").modality_weights
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from dcrl_jax import checkpoints, published
from dcrl_jax.data import transforms
from dcrl_jax.errors import InputError
from dcrl_jax.inference.images import Image, read_lwir, read_visible
from dcrl_jax.inference.trained import check_trained
from dcrl_jax.models.fast_convolutions import transform_kernels, winograd_convolutions
from dcrl_jax.structures import MODALITIES, Detections

FITS = ("letterbox", "stretch")


class People(NamedTuple):
    """Who was found in one image, by falling score."""

    boxes: np.ndarray  # float32 [n, 4], x1, y1, x2, y2 in pixels of the image that was given
    scores: np.ndarray  # float32 [n], probability of being a pedestrian
    modality_weights: dict[str, float] | None  # of a teacher: mu of Eq. 11 by modality; None of a student


class Detector:
    """Parameters, their model and its compiled programs, one for each size of batch that was asked for."""

    def __init__(self, params: Any, config: ConfigDict, fit: str = "letterbox", batch_size: int = 8):
        """Make a detector of parameters in memory.

        Args:
            params: of ``build_network(config)``.
            config: that they were trained with.
            fit: how an image gets the network's size: 'letterbox' keeps its proportions and fills up with black,
                'stretch' does not; training and scoring stretch. Both are the same for images of the network's
                proportions.
            batch_size: images that are looked at together, where there are as many; at least 1.

        Raises:
            InputError: the config or the parameters are of another model or version, ``fit`` is neither, or
                ``batch_size`` is less than 1.
        """
        if fit not in FITS:
            raise InputError(f"fit is {fit!r}; it must be one of: {', '.join(FITS)}.")
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}; it must be at least 1.")
        self.config = config
        self._fit, self.batch_size = fit, batch_size
        network = check_trained(params, config)
        self.modalities = network.modalities
        self._params = jax.device_put(params)
        # GPUs' libraries choose such algorithms themselves.
        self._kernels = transform_kernels(self._params) if jax.default_backend() == "cpu" else {}

        def run(params, kernels, *images):
            with winograd_convolutions(kernels):
                return network.detect(params, *images)

        self._run = jax.jit(run)

    @classmethod
    def from_checkpoint(cls, path: str | Path, fit: str = "letterbox", batch_size: int = 8) -> "Detector":
        """Restore a detector, whatever devices it was trained on.

        Args:
            path: a run's workdir (the parameters that it scored), a folder of checkpoints, or one checkpoint; also in a
                bucket; or what ``from_pretrained`` takes.
            fit, batch_size: see ``__init__``.

        Raises:
            InputError: nothing is there, it cannot be read, or it is of another model or version.
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
            source: ``hf://OWNER/NAME`` or ``hf://OWNER/NAME@REVISION`` of the Hugging Face hub, or a folder that
                ``--mode=publish`` wrote.
            fit, batch_size: see ``__init__``.

        Raises:
            InputError: it cannot be fetched or read, or is of another model or version.
        """
        if not published.is_published(str(source)):
            raise InputError(
                f"{source} is no published model: expected {published.HUB}OWNER/NAME, or a folder with "
                f"{published.PARAMS_FILE}. Detector.from_checkpoint opens the workdir of a run."
            )
        return cls.from_checkpoint(source, fit, batch_size)

    def __call__(
        self, visible: Image | Sequence[Image], lwir: Image | Sequence[Image] | None = None
    ) -> People | list[People]:
        """Find the people in one image, or in several of any sizes.

        Args:
            visible: a path or uint8 [H, W, 3], RGB, of NumPy or JAX; or several of them, or uint8 [B, H, W, 3].
            lwir: of a teacher, the registered thermal images: paths or uint8 [H, W] or [H, W, 1] or grey [H, W, 3].

        Returns:
            People, or a list of them where several images were given.

        Raises:
            InputError: an image cannot be used, or a thermal one is missing or is not wanted.
        """
        if len(self.modalities) > 1 and lwir is None:
            raise InputError("this detector is a teacher, which looks at pairs: give it the thermal images too.")
        if len(self.modalities) == 1 and lwir is not None:
            raise InputError(f"this detector is a {self.config.role}, which sees RGB alone: give it no thermal images.")
        if _is_one(visible):
            return self._detect([visible], None if lwir is None else [lwir])[0]
        if lwir is not None and (_is_one(lwir) or len(lwir) != len(visible)):
            count = 1 if _is_one(lwir) else len(lwir)
            raise InputError(f"{len(visible)} visible images and {count} thermal ones: give as many of both.")
        return self._detect(list(visible), None if lwir is None else list(lwir))

    def run_network(self, *images: np.ndarray | jax.Array) -> tuple[Detections, jax.Array | None]:
        """What ``detect`` gives for images of the network's size, uint8 [B, H, W, 3] and for a teacher [B, H, W, 1]."""
        return self._run(self._params, self._kernels, *images)

    def lower_network(self, *images: jax.ShapeDtypeStruct | np.ndarray | jax.Array) -> jax.stages.Lowered:
        """The program of ``run_network`` for such images before it is compiled; what it needs can be asked of it."""
        return self._run.lower(self._params, self._kernels, *images)

    def _detect(self, visible, lwir):
        found = []
        for start in range(0, len(visible), self.batch_size):
            stop = start + self.batch_size
            pairs = []
            for place in range(start, min(stop, len(visible))):
                try:
                    pair = (read_visible(visible[place]),)
                    pairs.append(pair if lwir is None else (*pair, read_lwir(lwir[place], pair[0])))
                except InputError as error:
                    # An array has no name of its own.
                    raise InputError(f"[{place}]: {error}" if len(visible) > 1 else str(error)) from error
            found += self._detect_batch(pairs)
        return found

    def _detect_batch(self, pairs):
        data = self.config.data
        places = [self._place(pair[0].shape[:2]) for pair in pairs]
        fitted = [
            tuple(_put(image, place, data.height_px, data.width_px) for image in pair)
            for pair, place in zip(pairs, places, strict=True)
        ]
        # One program for single images and one for batches, the last of which is filled up.
        size = 1 if len(fitted) == 1 else self.batch_size
        fitted += [fitted[-1]] * (size - len(fitted))
        detections, mu = jax.device_get(self.run_network(*map(np.stack, zip(*fitted, strict=True))))
        found = []
        for row, (pair, place) in enumerate(zip(pairs, places, strict=True)):
            height, width = pair[0].shape[:2]
            kept = detections.mask[row]
            boxes = (detections.boxes[row][kept] - np.array([place.x, place.y] * 2)) / np.array(
                [place.width / width, place.height / height] * 2
            )
            boxes = np.clip(boxes, 0, np.array([width, height] * 2)).astype(np.float32)
            weights = None if mu is None else dict(zip(MODALITIES, mu[row].tolist(), strict=True))
            found.append(People(boxes, detections.scores[row][kept], weights))
        return found

    def _place(self, size):
        height, width = size
        data = self.config.data
        if self._fit == "stretch":
            return _Place(0, 0, data.height_px, data.width_px)
        scale = min(data.height_px / height, data.width_px / width)
        inner_height, inner_width = max(1, round(height * scale)), max(1, round(width * scale))
        return _Place(
            (data.width_px - inner_width) // 2, (data.height_px - inner_height) // 2, inner_height, inner_width
        )


class _Place(NamedTuple):
    """Where an image stands in the network's input, in its pixels."""

    x: int
    y: int
    height: int
    width: int


def _is_one(image):
    if isinstance(image, (np.ndarray, jax.Array)):
        return image.ndim < 4
    # What is none of all this is one image too, which is then refused.
    return isinstance(image, (str, bytes, os.PathLike)) or not isinstance(image, Iterable)


def _put(image, place, height, width):
    """The image at its place in a black one of the network's size."""
    if image.shape[:2] != (place.height, place.width):
        image = transforms.resize(image, place.height, place.width)
    if (place.height, place.width) == (height, width):
        return image
    filled = np.zeros((height, width, image.shape[2]), np.uint8)
    filled[place.y : place.y + place.height, place.x : place.x + place.width] = image
    return filled
