"""From images to detections: both stages, final scores, final NMS."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from dcrl_jax.models.build import Detector, ProposalRules, proposal_rules
from dcrl_jax.models.rpn import propose
from dcrl_jax.ops import boxes as box_ops
from dcrl_jax.ops.nms import nms
from dcrl_jax.structures import Array, Detections


class DetectionRules(NamedTuple):
    """How the outputs of both stages become detections; the config's ``rpn`` and ``final`` keys."""

    proposals: ProposalRules
    min_score: float
    nms_iou: float
    max_detections: int


def detection_rules(config: ConfigDict) -> DetectionRules:
    """The rules that a config asks for."""
    keys = config.final
    return DetectionRules(
        proposal_rules(config, config.rpn.kept_testing), keys.min_score, keys.nms_iou, keys.max_detections
    )


def detect(
    model: Detector, params: Any, anchors: Array, rules: DetectionRules, *images: Array
) -> tuple[Detections, jax.Array | None]:
    """Detect pedestrians.

    Args:
        model: with parameters ``params``.
        params: its parameter tree.
        anchors: float32 [N, 4].
        rules: see DetectionRules.
        images: those of ``model.modalities``: visible, uint8 [B, H, W, 3], and for a teacher lwir, uint8 [B, H, W, 1].

    Returns:
        Detections in pixels of the network input, and the modality weights mu, float32 [B, M], of a teacher.
    """
    variables = {"params": params}
    features, rpg = model.apply(variables, *images, method="propose_regions")
    proposals = propose(rpg.logits, rpg.offsets, anchors, **rules.proposals._asdict())
    rois = jnp.where(proposals.mask[..., None], proposals.boxes, 0.0)
    rdr = model.apply(variables, features, rois, method="refine")
    return decide(rdr.logits, rdr.offsets, rois, proposals.mask, rules), rpg.modality_weights


def decide(logits: Array, offsets: Array, rois: Array, mask: Array, rules: DetectionRules) -> Detections:
    """What the RDR stage says of its RoIs as detections: refined boxes, probabilities, NMS.

    Args:
        logits: float32 [B, R, 2].
        offsets: float32 [B, R, 4], normalised.
        rois: float32 [B, R, 4].
        mask: bool [B, R], False for padded RoIs.
        rules: see DetectionRules.
    """

    def one_image(logits, offsets, rois, mask):
        scores = jax.nn.softmax(logits)[:, 1]
        decoded = box_ops.decode_offsets(offsets, rois, rules.proposals.offset_std)
        decoded = box_ops.clip_to_image(decoded, *rules.proposals.image_size)
        index, kept = nms(decoded, scores, mask & (scores >= rules.min_score), rules.nms_iou, rules.max_detections)
        return Detections(decoded[index], scores[index], kept)

    return jax.vmap(one_image)(logits, offsets, rois, mask)
