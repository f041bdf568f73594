"""The named values that pass between data, model, losses and evaluation.

Notation: B images, G padded annotation boxes, N anchors, P proposals, R RoIs, D detections, M modalities (2). Boxes are
``[x1, y1, x2, y2]``, float32, pixels of the network input, continuous coordinates. Entries whose mask is False are
padding: their values mean nothing and may not reach a loss or a score.
"""

from typing import NamedTuple

import jax
import numpy as np

from dcrl_jax.annotations.types import MODALITIES

Array = jax.Array | np.ndarray

CHANNELS = dict(zip(MODALITIES, (3, 1), strict=True))  # of their images


class Batch(NamedTuple):
    """One batch of images with their annotations.

    ``is_person`` and ``is_ignore`` exclude each other; a padded box has neither. ``valid`` is False for images that
    only fill up the last batch of an evaluation.
    """

    visible: Array  # uint8 [B, H, W, 3], RGB
    lwir: Array | None  # uint8 [B, H, W, 1], grey; None for a detector that sees RGB alone
    boxes: Array  # float32 [B, G, 4]
    is_person: Array  # bool [B, G]
    is_ignore: Array  # bool [B, G]
    is_night: Array  # bool [B]
    index: Array  # int32 [B], place of the record in its split
    valid: Array  # bool [B]


class Proposals(NamedTuple):
    """Candidate regions of the RPG stage, by falling score."""

    boxes: Array  # float32 [B, P, 4]
    scores: Array  # float32 [B, P], logit of the pedestrian class minus that of the background
    mask: Array  # bool [B, P]


class Targets(NamedTuple):
    """What a sample of anchors or RoIs should be classified and regressed to."""

    is_positive: Array  # bool [B, R]
    is_sampled: Array  # bool [B, R], positives and negatives in the loss
    offsets: Array  # float32 [B, R, 4], normalised; meaningful for positives


class RegionOutputs(NamedTuple):
    """What a stage says of its anchors (RPG) or RoIs (RDR).

    In the teacher the first two are fused; what each branch said, and the weights of the fusion, follow. A student has
    one branch and nothing to fuse: None.
    """

    logits: Array  # float32 [B, N, 2], background and pedestrian, Eq. 12
    offsets: Array  # float32 [B, N, 4], normalised, Eq. 13
    segmentation_logits: Array | None  # float32 [B, h, w, 2] (RPG) or [B, R, 7, 7, 2] (RDR); None without that task
    branch_logits: Array | None = None  # float32 [M, B, N, 2]
    branch_offsets: Array | None = None  # float32 [M, B, N, 4]
    modality_weights: Array | None = None  # float32 [B, M], mu of Eq. 11


class Detections(NamedTuple):
    """Final detections, by falling score."""

    boxes: Array  # float32 [B, D, 4]
    scores: Array  # float32 [B, D], probability of the pedestrian class
    mask: Array  # bool [B, D]
