"""The training data that a config describes."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from dcrl_jax.data import pipeline, transforms
from dcrl_jax.data.transforms import Augmentation, BoxFilter
from dcrl_jax.decoding import image_rules_of
from dcrl_jax.structures import CHANNELS, MODALITIES, Batch
from dcrl_jax.training.terms import training_rules


def box_filter_of(data: ConfigDict) -> BoxFilter:
    """Return the rules of a config's ``data`` keys: which objects train as pedestrians or become ignore regions."""
    return BoxFilter(
        labels=tuple(data.train_labels),
        ignore_labels=tuple(data.train_ignore_labels),
        min_height_px=data.train_min_height_px,
        max_occlusion=data.train_max_occlusion,
        border_px=tuple(data.train_border_px),
    )


def open_train_source(builder: tfds.core.DatasetBuilder, data: ConfigDict) -> Sequence[Any]:
    """Return the training records that a config's ``data`` keys select.

    Raises:
        InputError: the split is missing or empty, or has no image of ``data.validation_videos``.
    """
    return _train_and_videos(builder, data)[0]


def open_sources(builder: tfds.core.DatasetBuilder, data: ConfigDict) -> tuple[Sequence[Any], Sequence[Any]]:
    """Return the records of ``open_train_source``, and those that score the run during training.

    Raises:
        InputError: as ``open_train_source``, or the validation split is missing.
    """
    source, videos = _train_and_videos(builder, data)
    return source, pipeline.open_split(builder, data.validation_split) if videos is None else videos


def _train_and_videos(builder, data):
    """Return the training records, and those of ``data.validation_videos`` or None."""
    source, videos = pipeline.open_split(builder, data.train_split), None
    if data.validation_videos:
        source, videos = pipeline.split_by_name(source, data.validation_videos)
    if data.train_drop_empty:
        total, source = len(source), pipeline.drop_empty(source, box_filter_of(data))
        print(f"training images with people: {len(source):,} of {total:,}", flush=True)
    return source, videos


def validation_name(data: ConfigDict) -> str:
    """Return the name of these records in logs: that of their split, or ``validation`` if videos are chosen."""
    return "validation" if data.validation_videos else data.validation_split


def train_batches(
    source: Sequence[Any], config: ConfigDict, sharding: jax.sharding.Sharding | None, num_threads: int | None = None
) -> Any:
    """Return the endless Grain iterator over this process's share of the augmented training batches.

    A teacher's batches have both modalities, and so have those of a student that distils, for its teacher. For all
    others no thermal image is read.

    Args:
        source: the records of ``open_train_source``.
        config: the run's config.
        sharding: the placement on devices; None gives NumPy arrays.
        num_threads: threads that read and transform; None for the number of CPUs, at most 16.
    """
    data = config.data
    return pipeline.train_iterator(
        source,
        height=data.height_px,
        width=data.width_px,
        max_boxes=data.max_boxes,
        batch_size=config.train.batch_size // jax.process_count(),
        seed=config.seed,
        box_filter=box_filter_of(data),
        augmentation=Augmentation(data.flip_probability, data.brightness_jitter, data.blank_probability),
        crop=tuple(data.crop) or None,
        modalities=_modalities(config),
        image_rules=image_rules_of(data),
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        sharding=sharding,
        num_threads=num_threads,
    )


def check_first_record(source: Sequence[Any], config: ConfigDict) -> None:
    """Decode one record as training does, to refuse images of another kind before hours of work.

    Raises:
        InputError: the images cannot be used.
    """
    transforms.decode(source[0], _modalities(config), image_rules_of(config.data))


def sample_images(source: Sequence[Any], config: ConfigDict, count: int = 8) -> list[np.ndarray]:
    """Return up to ``count`` training images from all parts of the records, of each modality of the detector.

    Returns:
        uint8 [count, H, W, 3 or 1] at the size of the network's input.
    """
    modalities = MODALITIES if config.role == "teacher" else MODALITIES[:1]
    height, width = config.data.height_px, config.data.width_px
    indices = np.linspace(0, len(source) - 1, min(count, len(source))).round().astype(int)
    decoded = (transforms.decode(source[i], modalities, image_rules_of(config.data)) for i in indices)
    pairs = [transforms.resize_pair(pair, height, width) for pair in decoded]
    return [np.stack([pair[name] for pair in pairs]) for name in modalities]


def empty_batch(config: ConfigDict, devices: int) -> Batch:
    """Return zeros in the shapes and dtypes of a batch of ``train_batches`` on ``devices`` devices of this process."""
    leading = (devices, config.train.batch_size // jax.device_count())
    size, boxes = (config.data.height_px, config.data.width_px), (config.data.max_boxes,)
    images = {name: np.zeros((*leading, *size, CHANNELS[name]), np.uint8) for name in _modalities(config)}
    return Batch(
        visible=images["visible"],
        lwir=images.get("lwir"),
        boxes=np.zeros((*leading, *boxes, 4), np.float32),
        is_person=np.zeros((*leading, *boxes), bool),
        is_ignore=np.zeros((*leading, *boxes), bool),
        is_night=np.zeros(leading, bool),
        index=np.zeros(leading, np.int32),
        valid=np.zeros(leading, bool),
    )


def _modalities(config: ConfigDict) -> tuple[str, ...]:
    needs_pairs = config.role == "teacher" or training_rules(config).distillation.any
    return MODALITIES if needs_pairs else MODALITIES[:1]
