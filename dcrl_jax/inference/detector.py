"""A trained detector as a function from images to people.

detector = Detector.from_checkpoint("runs/student")  # or from_pretrained("hf://OWNER/NAME")
people = detector("street.jpg")                       # one image: a path, or uint8 [H, W, 3] RGB
people.boxes, people.scores                           # [n, 4] x1, y1, x2, y2 in pixels of the image, and [n]
for people in detector(["a.jpg", "b.jpg"]): ...       # several images
teacher = Detector.from_checkpoint("runs/teacher")
teacher("visible.jpg", "lwir.jpg").modality_weights
teacher(lwir="lwir.jpg")                              # one camera, if it was trained with data.blank_probability
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import numpy as np
from ml_collections import ConfigDict

from dcrl_jax import checkpoints, published
from dcrl_jax.decoding import image_rules_of
from dcrl_jax.errors import InputError
from dcrl_jax.inference.images import Image, Page, read_lwir, read_visible
from dcrl_jax.inference.placement import FITS, blank, find_region, map_back, place
from dcrl_jax.inference.trained import check_trained, find_registration
from dcrl_jax.structures import CHANNELS, Detections

Images = tuple[np.ndarray | None, ...]  # of a scene, one per modality of the detector; None for a missing one


class People(NamedTuple):
    """The people in one image, by descending score."""

    boxes: np.ndarray  # float32 [n, 4], x1, y1, x2, y2 in pixels of the original image, the visible one of a pair
    scores: np.ndarray  # float32 [n], probability of the pedestrian class
    modality_weights: dict[str, float] | None  # mu of Eq. 11 by modality (teacher); None for a student
    modalities: tuple[str, ...] = ("visible",)  # of the images that were given


class Detector:
    """A network with its parameters, and one compiled program per batch size in use."""

    def __init__(
        self,
        params: Any,
        config: ConfigDict,
        fit: str = "letterbox",
        batch_size: int = 8,
        lwir_to_visible: str | Sequence[float] | None = None,
    ):
        """Build a detector from parameters in memory.

        Args:
            params: the parameters of ``build_network(config)``.
            config: the config of their training.
            fit: how an image gets the size of the network's input. 'letterbox' keeps the proportions and pads with
                black; 'stretch' does not keep them, as in training and scoring. Both are the same for an image with the
                proportions of the input.
            batch_size: the number of images per batch for several images; at least 1.
            lwir_to_visible: of a teacher, where a thermal image lies in its visible one; see
                ``registration.read_registration``. None: as in its training, ``data.options.lwir_to_visible``, or
                registered already. Every pair is registered so, also one of equal sizes; for pairs that are registered
                already, give 'stretch'.

        Raises:
            InputError: the config or the parameters belong to another network or version, or ``fit``, ``batch_size`` or
                ``lwir_to_visible`` is invalid.
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
        self.image_rules = image_rules_of(config.data)
        self.registration = find_registration(config, lwir_to_visible)
        self._input_size = network.input_size
        self._params = jax.device_put(params)
        self._run = jax.jit(network.detect)

    @classmethod
    def from_checkpoint(
        cls,
        path: str | Path,
        fit: str = "letterbox",
        batch_size: int = 8,
        lwir_to_visible: str | Sequence[float] | None = None,
    ) -> "Detector":
        """Restore a detector, whatever devices it was trained on.

        Args:
            path: a run's workdir (which gives the parameters that the run scores), a folder of checkpoints, or one
                checkpoint, local or in a bucket; or a source of ``from_pretrained``.
            fit: see ``__init__``.
            batch_size: see ``__init__``.
            lwir_to_visible: see ``__init__``.

        Raises:
            InputError: the path holds no checkpoint, cannot be read, or belongs to another network or version.
        """
        params, config, _ = checkpoints.restore_params(str(path))
        try:
            return cls(params, config, fit, batch_size, lwir_to_visible)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        fit: str = "letterbox",
        batch_size: int = 8,
        lwir_to_visible: str | Sequence[float] | None = None,
    ) -> "Detector":
        """Restore a published detector.

        Args:
            source: ``hf://OWNER/NAME`` or ``hf://OWNER/NAME@REVISION`` on the Hugging Face hub, or a folder that
                ``--mode=publish`` wrote.
            fit: see ``__init__``.
            batch_size: see ``__init__``.
            lwir_to_visible: see ``__init__``.

        Raises:
            InputError: the source cannot be fetched or read, or belongs to another network or version.
        """
        if not published.is_published(str(source)):
            raise InputError(
                f"{source} is not a published model: expected {published.HUB}OWNER/NAME, or a folder with "
                f"{published.PARAMS_FILE}. Detector.from_checkpoint opens the workdir of a run."
            )
        return cls.from_checkpoint(source, fit, batch_size, lwir_to_visible)

    def __call__(
        self,
        visible: Image | Sequence[Image | None] | None = None,
        lwir: Image | Sequence[Image | None] | None = None,
    ) -> People | list[People]:
        """Detect the people in one image, or in several images of any sizes.

        A teacher takes pairs. One that was trained with ``data.blank_probability`` also takes one image of a pair:
        without the other argument, or with None in its place. The other one is then blank, as in training.

        Args:
            visible: a path or uint8 [H, W, 3], RGB, of NumPy or JAX; or several of them, or uint8 [B, H, W, 3].
            lwir: the thermal images of a teacher: paths, or uint8 [H, W], [H, W, 1] or grey [H, W, 3].

        Returns:
            People; a list of them if several images are given. A thermal image alone is taken as it is, not registered,
            and its boxes are in its own pixels.

        Raises:
            InputError: an image cannot be used, or is missing or unexpected.
        """
        if _is_single(visible) and _is_single(lwir):
            return self.detect([self.read(cast(Image | None, visible), cast(Image | None, lwir))])[0]
        columns = [None if images is None else _as_list(images) for images in (visible, lwir)]
        counts = [len(column) for column in columns if column is not None]
        if len(set(counts)) > 1:
            raise InputError(f"{counts[0]} visible images but {counts[1]} thermal ones: give as many of both.")
        scenes = list(zip(*(column or [None] * counts[0] for column in columns), strict=True))
        people = []
        for start in range(0, len(scenes), self.batch_size):
            batch = []
            for index, scene in enumerate(scenes[start : start + self.batch_size], start):
                try:
                    batch.append(self.read(*scene))
                except InputError as error:
                    # An array has no name for the message.
                    raise InputError(f"[{index}]: {error}" if len(scenes) > 1 else str(error)) from error
            people += self.detect(batch)
        return people

    def read(self, visible: Image | Page | None, lwir: Image | Page | None = None) -> Images:
        """Return the images of a scene as ``detect`` takes them: checked, 8 bits, and registered.

        Args:
            visible: see ``__call__``; None if it is missing.
            lwir: the same.

        Raises:
            InputError: an image cannot be used, or is missing or unexpected.
        """
        if len(self.modalities) == 1:
            if lwir is not None:
                raise InputError(f"this detector is a {self.config.role}, which sees RGB only: give no thermal images.")
            return (read_visible(cast(Image, visible), self.image_rules),)
        if visible is None and lwir is None:
            raise InputError("neither a visible nor a thermal image; give at least one of them.")
        if visible is None or lwir is None:
            self.check_one_image(f"give the {'thermal' if lwir is None else 'visible'} images too")
        pixels = None if visible is None else read_visible(visible, self.image_rules)
        return pixels, None if lwir is None else read_lwir(lwir, pixels, self.image_rules, self.registration)

    @property
    def takes_one_image(self) -> bool:
        """Whether one image is enough: for a student, and for a teacher that was trained with blank images."""
        return len(self.modalities) == 1 or self.config.data.blank_probability > 0

    def check_one_image(self, remedy: str) -> None:
        """Check that the detector takes an image without its partner.

        Raises:
            InputError: it does not; the message begins with the remedy.
        """
        if not self.takes_one_image:
            raise InputError(
                f"this detector is a teacher, which takes pairs: {remedy}. It has never seen an image without its "
                "partner; for one camera alone, train a teacher with, for example, "
                "--config.data.blank_probability=0.2."
            )

    def run_network(self, *images: np.ndarray | jax.Array) -> tuple[Detections, jax.Array | None]:
        """Return the result of ``Network.detect`` for images of the network's size.

        Args:
            images: uint8 [B, H, W, 3] and, for a teacher, uint8 [B, H, W, 1].
        """
        return self._run(self._params, *images)

    def lower_network(self, *images: jax.ShapeDtypeStruct | np.ndarray | jax.Array) -> jax.stages.Lowered:
        """Return the program of ``run_network`` before compilation, to analyse its cost and memory."""
        return self._run.lower(self._params, *images)

    def detect(self, scenes: Sequence[Images]) -> list[People]:
        """Detect the people in at most ``batch_size`` scenes, the results of ``read``."""
        sizes = [next(image for image in scene if image is not None).shape[:2] for scene in scenes]
        regions = [find_region(self._fit, size, self._input_size) for size in sizes]
        inputs = [
            [
                blank(CHANNELS[name], self._input_size) if image is None else place(image, region, self._input_size)
                for name, image in zip(self.modalities, scene, strict=True)
            ]
            for scene, region in zip(scenes, regions, strict=True)
        ]
        # One program for single images, one for full batches: repeat the last scene to fill a batch.
        size = 1 if len(inputs) == 1 else self.batch_size
        inputs += [inputs[-1]] * (size - len(inputs))
        detections, weights = jax.device_get(self.run_network(*map(np.stack, zip(*inputs, strict=True))))
        people = []
        for row, (scene, size, region) in enumerate(zip(scenes, sizes, regions, strict=True)):
            mask = detections.mask[row]
            boxes = map_back(detections.boxes[row][mask], region, size)
            by_modality = None if weights is None else dict(zip(self.modalities, weights[row].tolist(), strict=True))
            given = tuple(name for name, image in zip(self.modalities, scene, strict=True) if image is not None)
            people.append(People(boxes, detections.scores[row][mask], by_modality, given))
        return people


def _is_single(image):
    if isinstance(image, (np.ndarray, jax.Array)):
        return image.ndim < 4
    # Any other object counts as one image, which is refused later.
    return isinstance(image, (str, bytes, os.PathLike)) or not isinstance(image, Iterable)


def _as_list(images):
    return [images] if _is_single(images) else list(images)
