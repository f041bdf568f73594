"""Named values that pass between data, models, losses and evaluation.

Notation: B images, G padded annotation boxes, N anchors, P proposals, R sampled anchors or RoIs, D detections, M
modalities (2). Boxes are ``[x1, y1, x2, y2]``, float32, pixels of the network input, continuous coordinates. Entries
whose mask is False are padding: their values are arbitrary and must not reach a loss or a score.
"""

from typing import NamedTuple

import jax
import numpy as np

from dcrl_jax.annotations.types import MODALITIES

Array = jax.Array | np.ndarray

CHANNELS = dict(zip(MODALITIES, (3, 1), strict=True))  # of the images of each modality

# What a pair is without a modality, for people.
WITHOUT = dict(zip(MODALITIES, ("thermal only", "visible only"), strict=True))


class Batch(NamedTuple):
    """A batch of images with their annotations.

    ``is_person`` and ``is_ignore`` exclude each other; both are False for a padded box. ``valid`` is False for images
    that only fill the last batch of an evaluation.
    """

    visible: Array  # uint8 [B, H, W, 3], RGB
    lwir: Array | None  # uint8 [B, H, W, 1], grey; None for an RGB-only detector
    boxes: Array  # float32 [B, G, 4]
    is_person: Array  # bool [B, G]
    is_ignore: Array  # bool [B, G]
    is_night: Array  # bool [B]
    index: Array  # int32 [B], index of the record in its split
    valid: Array  # bool [B]


class Proposals(NamedTuple):
    """Candidate regions of the RPG stage, by descending score."""

    boxes: Array  # float32 [B, P, 4]
    scores: Array  # float32 [B, P], logit of the pedestrian class minus that of the background
    mask: Array  # bool [B, P]


class Targets(NamedTuple):
    """Classification and regression targets of the sampled anchors or RoIs."""

    is_positive: Array  # bool [B, R]
    is_sampled: Array  # bool [B, R], True for the positives and negatives that the loss counts
    offsets: Array  # float32 [B, R, 4], normalised; defined for positives only


class RegionOutputs(NamedTuple):
    """Outputs of a stage for its anchors (RPG) or RoIs (RDR).

    A teacher's ``logits`` and ``offsets`` are the fused ones; the branches' outputs and the fusion weights follow. A
    student has one branch and no fusion: these fields are None. In the RDR stage, N stands for R.
    """

    logits: Array  # float32 [B, N, 2], background and pedestrian, Eq. 12
    offsets: Array  # float32 [B, N, 4], normalised, Eq. 13
    segmentation_logits: Array | None  # float32 [B, h, w, 2] (RPG) or [B, R, s, s, 2] (RDR); None without this task
    branch_logits: Array | None = None  # float32 [M, B, N, 2]
    branch_offsets: Array | None = None  # float32 [M, B, N, 4]
    modality_weights: Array | None = None  # float32 [B, M], mu of Eq. 11


class Detections(NamedTuple):
    """Final detections, by descending score."""

    boxes: Array  # float32 [B, D, 4]
    scores: Array  # float32 [B, D], probability of the pedestrian class
    mask: Array  # bool [B, D]
