"""The unweighted loss terms of a batch: those of Eq. 1, and what a frozen teacher adds for a student (Eq. 14-18)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dcrl_jax.losses import detection, distillation
from dcrl_jax.models.build import Detector
from dcrl_jax.models.rpn import propose
from dcrl_jax.models.student import Student
from dcrl_jax.models.teacher import Teacher
from dcrl_jax.structures import Array, Batch, RegionOutputs, Targets
from dcrl_jax.training.rules import TrainingRules
from dcrl_jax.training.targets import rpg_targets, sample_rois, take_anchors


class Stage(NamedTuple):
    """One stage's outputs for its sample, and what they should be."""

    outputs: RegionOutputs  # of the sampled anchors (RPG) or RoIs (RDR); segmentation of the whole map or of the RoIs
    targets: Targets
    is_pedestrian: jax.Array | None  # q of Eq. 8 or 9, bool; None without segmentation
    counted: jax.Array | None  # bool, the pixels in the loss


class Forward(NamedTuple):
    """A detector's forward pass on a batch, with the anchors and RoIs that it was sampled at."""

    features: Any  # of ``propose_regions``
    anchors: jax.Array  # int32 [B, R], places of the sampled anchors
    rois: jax.Array  # float32 [B, R, 4]
    rpg: Stage
    rdr: Stage


def forward(model: Detector, params: Any, anchors: Array, batch: Batch, keys: Array, rules: TrainingRules) -> Forward:
    """Run both stages, sampling anchors, then proposals.

    Args:
        model: with parameters ``params``.
        params: its parameter tree.
        anchors: float32 [N, 4].
        batch: of B images.
        keys: one random key per image, [B].
        rules: see TrainingRules.
    """
    variables = {"params": params}
    people = (batch.boxes, batch.is_person, batch.is_ignore)
    rpg_keys, rdr_keys = jnp.moveaxis(jax.vmap(jax.random.split)(keys), 1, 0)

    images = [getattr(batch, name) for name in model.modalities]
    features, outputs = model.apply(variables, *images, method="propose_regions")
    index, targets = rpg_targets(rpg_keys, anchors, batch, rules.rpg)
    masks = (None, None)
    if outputs.segmentation_logits is not None:
        masks = detection.rpg_masks(*outputs.segmentation_logits.shape[1:3], rules.stride, *people)
    rpg = Stage(take_anchors(outputs, index), targets, *masks)

    proposals = propose(outputs.logits, outputs.offsets, anchors, **rules.proposals._asdict())
    rois, targets = sample_rois(rdr_keys, proposals, batch, rules.rdr)
    outputs = model.apply(variables, features, rois, method="refine")
    masks = (None, None)
    if outputs.segmentation_logits is not None:
        size = outputs.segmentation_logits.shape[2]
        masks = detection.rdr_masks(rois, size, targets.is_sampled, *people)
    return Forward(features, index, rois, rpg, Stage(outputs, targets, *masks))


def detection_terms(run: Forward) -> dict[str, jax.Array]:
    """The terms of Eq. 1, of a teacher, a student or a baseline.

    Returns:
        ``rpg_cls, rpg_reg, rpg_seg, rdr_cls, rdr_reg, rdr_seg`` (those of stages with segmentation), and of a teacher
        ``rpg_branches, rdr_branches`` (see ``losses.detection.stage_terms``).
    """
    terms = {}
    for name in distillation.STAGES:
        stage = getattr(run, name)
        terms |= detection.stage_terms(stage.outputs, stage.targets, name)
        if stage.counted is not None:
            logits = stage.outputs.segmentation_logits
            terms[f"{name}_seg"] = detection.segmentation(logits, stage.is_pedestrian, stage.counted)
    return terms


def distillation_terms(
    run: Forward, model: Student, params: Any, teacher: Teacher, teacher_params: Any, batch: Batch, rules: TrainingRules
) -> dict[str, jax.Array]:
    """What the teacher adds to a student's terms.

    The teacher judges the student's own sample: the same anchors, and the student's RoIs on its own features. It makes
    no proposals, and of what stands here the compiler leaves out whatever the terms that are on do not use.

    Args:
        run: the student's forward pass.
        model, params: the student.
        teacher, teacher_params: frozen.
        batch: with both modalities.
        rules: which terms are on, and their constants.

    Returns:
        ``fea``, ``{stage}_cls_soft``, ``{stage}_reg_bound`` and ``{stage}_seg_soft``, those that are on.
    """
    on = rules.distillation
    variables = {"params": teacher_params}
    features, rpg = teacher.apply(variables, batch.visible, batch.lwir, method="propose_regions")
    rdr = teacher.apply(variables, features, run.rois, method="refine")
    terms = {}
    if on.fea:
        adapted = model.apply({"params": params}, run.features, method="adapt")
        terms["fea"] = distillation.features(adapted, features.concatenated())
    for name, guide in (("rpg", take_anchors(rpg, run.anchors)), ("rdr", rdr)):
        stage = getattr(run, name)
        own = stage.outputs
        if on.cls:
            terms[f"{name}_cls_soft"] = distillation.classification(
                own.logits, guide.logits, stage.targets, on.temperature
            )
        if on.bbr:
            terms[f"{name}_reg_bound"] = distillation.box_regression(
                own.offsets, guide.offsets, stage.targets, on.delta
            )
        if on.seg and stage.counted is not None:
            terms[f"{name}_seg_soft"] = distillation.segmentation(
                own.segmentation_logits, guide.segmentation_logits, stage.counted
            )
    return terms
