"""Evaluation of a network on a split: its detections, miss rates and COCO's average precision."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tensorflow_datasets as tfds
from jax.sharding import Mesh
from ml_collections import ConfigDict

from dcrl_jax import parallel
from dcrl_jax.data import pipeline, sources, transforms
from dcrl_jax.decoding import image_rules_of
from dcrl_jax.evaluation.coco_ap import Category, CocoScore, coco_scores
from dcrl_jax.evaluation.miss_rate import ImageDetections, ImageTruth, Score, score_subsets
from dcrl_jax.evaluation.rules import (
    CALTECH_REASONABLE,
    CONDITIONS,
    KAIST_OCCLUSION,
    KAIST_SCALE,
    NIGHTOWLS_SUBSETS,
    Subset,
    everyone,
    reasonable,
)
from dcrl_jax.evaluation.truths import Truths, read_truths
from dcrl_jax.models.network import Network
from dcrl_jax.ops.boxes import xyxy_to_xywh
from dcrl_jax.parallel import AXIS, batch_sharding
from dcrl_jax.progress import progress_bar
from dcrl_jax.structures import MODALITIES, Batch


class SplitDetections(NamedTuple):
    """The detections in the images of a split."""

    detections: dict[str, ImageDetections]  # in pixels as annotated
    image_weights: dict[str, np.ndarray]  # a teacher's mu by image id, float32 [M] each


class ParallelNetwork(NamedTuple):
    """A network on all devices of this process.

    ``run(params, *images)`` takes the images of each modality, uint8 [devices, B, H, W, C], and returns Detections and
    mu in the same layout; mu is None for a student.
    """

    network: Network
    run: Callable

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities that the network takes, in order."""
        return self.network.modalities


class Bench(NamedTuple):
    """A split, ready to score parameters on it."""

    config: ConfigDict
    mesh: Mesh
    source: Sequence[Any]
    truths: Truths
    detector: ParallelNetwork
    warnings: tuple[str, ...] = ()  # of the data set, printed with every score


def decode_image(bench: Bench, index: int, modalities: Sequence[str] = MODALITIES) -> transforms.Pair:
    """Return the images and annotations of a record of the bench's split at their own size."""
    return transforms.decode(bench.source[index], modalities, image_rules_of(bench.config.data))


class Evaluation(NamedTuple):
    """The scores of a detector; of a teacher also with each modality blanked."""

    scores: dict[str, Score]  # by the name of the subset
    coco: dict[str, CocoScore]  # of people of any height, by condition: all, day, night; sizes are NaN
    blanked_scores: dict[str, dict[str, Score]]  # by the modality that was blanked; empty unless asked for
    detections: dict[str, ImageDetections]
    image_weights: dict[str, np.ndarray]  # mu by image id, float32 [M] each; empty for one modality
    modality_weights: dict[str, list[float]]  # means of mu by condition: all, day, night
    further_scores: dict[str, Score]  # of KAIST's subsets by scale and occlusion, if the config asks for them
    warnings: tuple[str, ...]  # of the bench
    blank_probability: float = 0.0  # of the detector's training; above 0, a teacher has learnt to do with one camera


def subsets_of(config: ConfigDict) -> tuple[Subset, ...]:
    """Return the subsets that the config's ``eval`` keys ask for; the first one decides which parameters are the best.

    These are the reasonable subsets all, day and night, or the subsets of Caltech or NightOwls.
    """
    if config.eval.rules == "caltech":
        return (CALTECH_REASONABLE,)
    if config.eval.rules == "nightowls":
        return NIGHTOWLS_SUBSETS
    return reasonable(config.eval.min_height_px, tuple(config.eval.border_px) or None)


def parallelize(network: Network, mesh: Mesh) -> ParallelNetwork:
    """Put a network on all devices of the mesh; it is compiled at its first use."""
    in_axes = (None,) + (0,) * len(network.modalities)
    return ParallelNetwork(network, jax.pmap(network.detect, AXIS, in_axes=in_axes, devices=list(mesh.devices.flat)))


def split_batches(source: Sequence[Any], config: ConfigDict, mesh: Mesh, modalities: Sequence[str]) -> Iterable[Batch]:
    """Return this process's part of the split in batches on its devices; the last ones are padded.

    Only images of ``modalities`` are decoded, and the batches have no boxes. ``config.eval.batch_size`` is rounded up
    to a size that all devices share evenly.
    """
    devices, processes = mesh.devices.size, jax.process_count()
    return pipeline.evaluation_batches(
        source,
        height=config.data.height_px,
        width=config.data.width_px,
        max_boxes=config.data.max_boxes,
        box_filter=None,  # scoring has no limit on the annotations of an image
        modalities=modalities,
        image_rules=image_rules_of(config.data),
        batch_size=-(-config.eval.batch_size // (devices * processes)) * devices,
        process_index=jax.process_index(),
        process_count=processes,
        sharding=batch_sharding(mesh),
    )


def detect_split(
    detector: ParallelNetwork,
    params: Any,
    batches: Iterable[Batch],
    truths: Truths,
    input_size: tuple[int, int],
    blank: str | None = None,
) -> SplitDetections:
    """Return the detections in a split; every process runs its part of the images and gets the detections of all.

    Args:
        detector: the network from ``parallelize``.
        params: its parameters, replicated on its devices.
        batches: the split's images from ``split_batches``.
        truths: the split's annotations, for image ids and sizes.
        input_size: height and width of the network input.
        blank: the modality to switch off, ``visible`` or ``lwir``; None for neither.
    """
    parts = []
    title = f"detecting, {blank} blanked" if blank else "detecting"
    with progress_bar(None, title, len(truths.images), "images", leave=False) as bar:
        for batch in batches:
            images = {name: getattr(batch, name) for name in detector.modalities}
            if blank:
                images[blank] = jnp.full_like(images[blank], transforms.BLANK_GREY)
            outputs = jax.device_get((detector.run(params, *images.values()), batch.index, batch.valid))
            parts.append(jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), outputs))
            bar.update(min(jax.process_count() * int(parts[-1][2].sum()), bar.total - bar.n))
    outputs = jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)
    (padded, mu), indices, valid = parallel.gather(outputs)
    detections, weights = {}, {}
    # In the order of the images, whichever process ran them.
    for row in sorted(np.flatnonzero(valid), key=lambda row: indices[row]):
        truth, size = truths.images[indices[row]], truths.sizes[indices[row]]
        kept = padded.mask[row]
        boxes = _to_annotated(padded.boxes[row][kept], input_size, size)
        detections[truth.image_id] = ImageDetections(boxes, padded.scores[row][kept].astype(np.float64))
        if mu is not None:
            weights[truth.image_id] = mu[row]
    return SplitDetections(detections, weights)


def open_bench(
    detector: ParallelNetwork, builder: tfds.core.DatasetBuilder, source: Sequence[Any], config: ConfigDict, mesh: Mesh
) -> Bench:
    """Return records of a prepared data set, ready to score a detector from ``parallelize`` on them."""
    truths = read_truths(source)
    return Bench(config, mesh, source, truths, detector, (*sources.warnings_of(builder), *truths.warnings))


def evaluate(bench: Bench, params: Any, blanked: bool = False) -> Evaluation:
    """Score parameters on the bench's split.

    Args:
        bench: from ``open_bench``.
        params: the detector's parameters, replicated on its devices.
        blanked: whether to score a teacher also with each modality blanked, which takes three times as long.
    """
    config, truths = bench.config, bench.truths
    subsets = subsets_of(config)
    input_size = (config.data.height_px, config.data.width_px)
    modalities = bench.detector.modalities
    batches = split_batches(bench.source, config, bench.mesh, modalities)
    split = detect_split(bench.detector, params, batches, truths, input_size)
    blanked_scores = {}
    for modality in modalities if blanked and len(modalities) > 1 else ():
        without = detect_split(bench.detector, params, batches, truths, input_size, modality)
        blanked_scores[modality] = score_subsets(truths.images, without.detections, subsets)
    return Evaluation(
        scores=score_subsets(truths.images, split.detections, subsets),
        coco=_coco(truths.images, split.detections),
        blanked_scores=blanked_scores,
        detections=split.detections,
        image_weights=split.image_weights,
        modality_weights=_mean_weights(split.image_weights, truths.images),
        further_scores=score_subsets(
            truths.images, split.detections, KAIST_SCALE + KAIST_OCCLUSION if config.eval.scale_and_occlusion else ()
        ),
        warnings=bench.warnings,
    )


def _coco(truths: Sequence[ImageTruth], detections: Mapping[str, ImageDetections]) -> dict[str, CocoScore]:
    """Return COCO's figures for all people, by the conditions that images have."""
    found = {truth.condition for truth in truths}
    conditions = [condition for condition in CONDITIONS if condition == "all" or condition in found]
    scores = coco_scores(truths, {"people": Category(everyone(), detections)}, conditions, by_size=False)
    return {condition: score.mean for condition, score in scores.items()}


def _mean_weights(weights: Mapping[str, np.ndarray], truths: Sequence[ImageTruth]) -> dict[str, list[float]]:
    """Return the mean of mu by condition, without conditions that have no images; empty if there are no weights."""
    rows = {
        condition: [weights[truth.image_id] for truth in truths if condition in ("all", truth.condition)]
        for condition in (CONDITIONS if weights else ())
    }
    return {condition: np.mean(mu, axis=0).tolist() for condition, mu in rows.items() if mu}


def _to_annotated(boxes, input_size, annotated_size):
    """Return boxes [n, 4], x1, y1, x2, y2 in the network input, as x, y, width, height in the annotated image.

    ``input_size`` is height and width, ``annotated_size`` width and height, in pixels.
    """
    height, width = input_size
    scale = np.array([annotated_size[0] / width, annotated_size[1] / height] * 2)
    return xyxy_to_xywh(boxes.astype(np.float64) * scale)
