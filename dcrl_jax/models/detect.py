"""From images to detections: both stages, final scores, final NMS."""

from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp

from dcrl_jax.models.rpn import propose
from dcrl_jax.models.student import Student
from dcrl_jax.models.teacher import Teacher
from dcrl_jax.ops import boxes as box_ops
from dcrl_jax.ops.nms import nms
from dcrl_jax.structures import Array, Detections, RegionOutputs


class ProposalRules(NamedTuple):
    """The keyword arguments of ``rpn.propose``."""

    image_size: tuple[int, int]
    offset_std: tuple[float, float, float, float]
    min_size_px: float
    before_nms: int
    kept: int
    iou: float


class DetectionRules(NamedTuple):
    """The constants that turn the outputs of both stages into detections; the config's ``rpn`` and ``final`` keys."""

    proposals: ProposalRules
    min_score: float
    nms_iou: float
    max_detections: int


def detect(
    model: Teacher | Student, params: Any, anchors: Array, rules: DetectionRules, *images: Array
) -> tuple[Detections, Array | None]:
    """Detect pedestrians.

    Args:
        model: the detector's modules.
        params: its parameter tree.
        anchors: float32 [N, 4].
        rules: see DetectionRules.
        images: one array per modality of the model: visible, uint8 [B, H, W, 3], and for a teacher lwir,
            uint8 [B, H, W, 1].

    Returns:
        Detections in pixels of the network input, and a teacher's modality weights mu, float32 [B, M], else None.
    """
    features, rpg = propose_regions(model, params, *images)
    proposals = propose(rpg.logits, rpg.offsets, anchors, **rules.proposals._asdict())
    rois = jnp.where(proposals.mask[..., None], proposals.boxes, 0.0)
    rdr = refine(model, params, features, rois)
    return decide(rdr.logits, rdr.offsets, rois, proposals.mask, rules), rpg.modality_weights


def propose_regions(model: Teacher | Student, params: Any, *images: Array) -> tuple[Any, RegionOutputs]:
    """Run the backbones and the RPG stage; return the features for ``refine``, and the outputs of all anchors."""
    return cast(Any, model.apply({"params": params}, *images, method="propose_regions"))


def refine(model: Teacher | Student, params: Any, features: Any, rois: Array) -> RegionOutputs:
    """Return the outputs of the RDR stage for RoIs, float32 [B, R, 4], with the features of ``propose_regions``."""
    return cast(Any, model.apply({"params": params}, features, rois, method="refine"))


def decide(logits: Array, offsets: Array, rois: Array, mask: Array, rules: DetectionRules) -> Detections:
    """Return the detections of the RDR stage's outputs: decode the boxes, compute probabilities, apply NMS.

    Args:
        logits: float32 [B, R, 2].
        offsets: float32 [B, R, 4], normalised.
        rois: float32 [B, R, 4].
        mask: bool [B, R], False for padded RoIs.
        rules: see DetectionRules.

    Returns:
        Detections, ``rules.max_detections`` positions per image, in pixels of the network input.
    """

    def one_image(logits, offsets, rois, mask):
        scores = jax.nn.softmax(logits)[:, 1]
        decoded = box_ops.decode_offsets(offsets, rois, rules.proposals.offset_std)
        decoded = box_ops.clip_to_image(decoded, *rules.proposals.image_size)
        index, kept = nms(decoded, scores, mask & (scores >= rules.min_score), rules.nms_iou, rules.max_detections)
        return Detections(decoded[index], scores[index], kept)

    return jax.vmap(one_image)(logits, offsets, rois, mask)
