"""Terms of the distillation losses, Eq. 14-18, by which the student learns from the frozen teacher.

Eq. 15 is a term of its own. The others add to a term of ``losses.detection``: Eq. 16 a cross entropy with soft labels,
Eq. 17 a penalty where the teacher's error is smaller, Eq. 18 a cross entropy with soft masks. Terms are unweighted;
``loss_weights`` gives the weights of Eq. 14, including zeta, epsilon and xi.

Means are those of ``losses.detection``: per image, over the same anchors, RoIs or pixels as the detection term, then
over images. The teacher's outputs are constants without gradient.

Notation: B images, R sampled anchors or RoIs, h x w cells of the conv5 map, C its channels in the student.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from dcrl_jax.losses.detection import masked_mean
from dcrl_jax.structures import Array, Targets

STAGES = ("rpg", "rdr")


class Distillation(NamedTuple):
    """Distillation terms that are on, and their constants, by the paper's letters."""

    fea: bool  # Eq. 15
    cls: bool  # Eq. 16
    bbr: bool  # Eq. 17
    seg: bool  # Eq. 18
    rho: float  # weight of L_F, Eq. 14
    zeta: float  # weight of the hard labels, Eq. 16
    temperature: float  # T of Eq. 16, which divides the teacher's logits
    epsilon: float  # weight of L_b, Eq. 17
    delta: float  # margin of Eq. 17
    xi: float  # weight of the annotated masks, Eq. 18
    relative: bool = False  # whether Eq. 15 is in units of the teacher's features

    @property
    def any(self) -> bool:
        """Whether any term is on, so that a teacher is needed."""
        return self.fea or self.cls or self.bbr or self.seg


NO_DISTILLATION = Distillation(False, False, False, False, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0)


def features(adapted: Array, teacher: Array, relative: bool = False) -> jax.Array:
    """Return L_F, Eq. 15, divided by the number of elements: the mean squared difference of A(E^s) and E^t.

    Args:
        adapted: A(E^s), float32 [B, h, w, 2 C].
        teacher: E^t, float32 or bfloat16, the same shape.
        relative: whether to divide each image's difference by the mean square of E^t, so that the term of a student
            that predicts zeros is 1 and rho means the same for features of any scale. By itself, the term grows with
            their square: a teacher of full width had a mean square of 40, and L_F was five sixths of the loss.
    """
    teacher = jax.lax.stop_gradient(teacher)
    if not relative:
        return jnp.mean(jnp.square(adapted - teacher))
    error, scale = (jnp.mean(jnp.square(x), axis=(1, 2, 3), dtype=jnp.float32) for x in (adapted - teacher, teacher))
    return jnp.mean(error / jnp.maximum(scale, jnp.finfo(jnp.float32).tiny))


def soft_cross_entropy(logits: Array, teacher_logits: Array, temperature: float = 1.0) -> jax.Array:
    """Return g(phi(d^t / T), phi(d^s)) of Eq. 16, float32 [...], for two float32 [..., K]."""
    labels = jax.nn.softmax(jax.lax.stop_gradient(teacher_logits) / temperature)
    return optax.softmax_cross_entropy(logits, labels)


def _masked_cross_entropy(logits, teacher_logits, mask, temperature=1.0):
    # Masked before the softmax too, so that padding cannot reach the gradient.
    logits, teacher_logits = (jnp.where(mask[..., None], array, 0.0) for array in (logits, teacher_logits))
    return masked_mean(soft_cross_entropy(logits, teacher_logits, temperature), mask)


def classification(logits: Array, teacher_logits: Array, targets: Targets, temperature: float) -> jax.Array:
    """Return the second term of Ld_cls, Eq. 16, without its weight 1 - zeta: mean over the sampled anchors or RoIs.

    Args:
        logits: d^s, float32 [B, R, 2].
        teacher_logits: d^t of the same anchors or RoIs.
        targets: of the same; only ``is_sampled`` is used.
        temperature: T.
    """
    return _masked_cross_entropy(logits, teacher_logits, targets.is_sampled, temperature)


def box_regression(offsets: Array, teacher_offsets: Array, targets: Targets, delta: float) -> jax.Array:
    """Return L_b, Eq. 17, without its weight epsilon: the squared error of positives that the teacher regresses better.

    The sum is divided by the number of samples, as for L_reg of Eq. 1.

    Args:
        offsets: t_s, float32 [B, R, 4], normalised.
        teacher_offsets: t_t of the same anchors or RoIs.
        targets: of the same; ``offsets`` is y_reg.
        delta: the margin; a squared error counts if it exceeds the teacher's less ``delta``.
    """
    positive = targets.is_positive & targets.is_sampled
    # Masked before the difference, so that padding cannot reach the gradient.
    goal = jnp.where(positive[..., None], targets.offsets, 0.0)
    error = jnp.sum(jnp.square(jnp.where(positive[..., None], offsets, 0.0) - goal), axis=-1)
    bound = jnp.sum(jnp.square(jax.lax.stop_gradient(teacher_offsets) - goal), axis=-1)
    return masked_mean(jnp.where(error + delta > bound, error, 0.0), targets.is_sampled)


def segmentation(logits: Array, teacher_logits: Array, counted: Array) -> jax.Array:
    """Return the second term of Ld_seg, Eq. 18, without its weight 1 - xi: mean over the counted pixels.

    Args:
        logits: float32 [B, h, w, 2] (RPG) or [B, R, s, s, 2] (RDR), before the softmax.
        teacher_logits: of the same pixels, before the softmax.
        counted: bool, the shape of ``logits`` without the last axis, as in Eq. 8 and 9.
    """
    return _masked_cross_entropy(logits, teacher_logits, counted)


def loss_weights(rules: Distillation, box_weight: float, segmentation_weight: float) -> dict[str, float]:
    """Return the weight of each term in Eq. 14: L_TS is ``detection.weighted_sum`` of the terms with these weights.

    With every distillation term off, these are the weights of Eq. 1 for one branch: the baseline's loss.

    Args:
        rules: terms that are on, and their constants.
        box_weight: lambda of Eq. 1.
        segmentation_weight: eta of Eq. 1.
    """
    zeta, xi = (rules.zeta if rules.cls else 1.0), (rules.xi if rules.seg else 1.0)
    weights = {"fea": rules.rho if rules.fea else 0.0}
    for stage in STAGES:
        weights |= {
            f"{stage}_cls": zeta,
            f"{stage}_cls_soft": 1.0 - zeta,
            f"{stage}_reg": box_weight,
            f"{stage}_reg_bound": box_weight * rules.epsilon if rules.bbr else 0.0,
            f"{stage}_seg": segmentation_weight * xi,
            f"{stage}_seg_soft": segmentation_weight * (1.0 - xi),
        }
    return weights
