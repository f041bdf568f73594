"""Shared and specific features of the teacher's CFL modules before their combination: S^m and R^m (Fig. 7)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dcrl_jax.models.cfl import CrossModalFeatureLearning
from dcrl_jax.models.teacher import Teacher
from dcrl_jax.structures import MODALITIES, Array


class LevelFeatures(NamedTuple):
    """Features of one level for (visible, lwir), before the gate and the ReLU.

    From ``cfl_features`` each is [B, h, w, C] of the teacher's dtype, from ``cfl_magnitudes`` float32 [B, h, w].
    """

    shared: tuple[Array, Array] | None  # S^1, S^2; None without SFL (alpha = 0)
    specific: tuple[Array, Array] | None  # R^1, R^2; None without MFL (alpha = 1)


def cfl_features(model: Teacher, params: Any, visible: Array, lwir: Array) -> list[LevelFeatures]:
    """Return S^m and R^m of Eq. 2 and 3 as the CFL modules compute them.

    Args:
        model: the teacher.
        params: its parameters.
        visible: uint8 [B, H, W, 3].
        lwir: uint8 [B, H, W, 1].

    Returns:
        The levels from conv1 to conv5; empty for a teacher without CFL.
    """
    _, collected = model.clone(remat=False).apply(
        {"params": params},
        visible,
        lwir,
        method="extract",
        capture_intermediates=lambda module, _: isinstance(module.parent, CrossModalFeatureLearning),
        mutable=["intermediates"],
    )
    blocks: Any = collected.get("intermediates", {})
    return [_level(blocks[name]) for name in sorted(blocks)]


def cfl_magnitudes(model: Teacher, params: Any, visible: Array, lwir: Array) -> list[LevelFeatures]:
    """Return ``cfl_features`` with each map reduced to its mean magnitude over channels, float32 [B, h, w]."""
    features = cfl_features(model, params, visible, lwir)
    return jax.tree.map(lambda x: jnp.mean(jnp.abs(x.astype(jnp.float32)), axis=-1), features)


def _level(block):
    outputs = {name: captured["__call__"] for name, captured in block.items()}
    # The shared convolution W is called once per modality, so it has two outputs.
    shared = outputs.get("shared")
    specific = None
    if f"grouped_{MODALITIES[0]}" in outputs:
        specific = tuple(outputs[f"grouped_{name}"][0] + outputs[f"pointwise_{name}"][0] for name in MODALITIES)
    return LevelFeatures(shared, specific)
