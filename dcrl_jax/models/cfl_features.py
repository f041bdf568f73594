"""What the teacher's CFL modules learn before they combine it: S^m and R^m of every level (Fig. 7)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dcrl_jax.models.cfl import CrossModalFeatureLearning
from dcrl_jax.models.teacher import Teacher
from dcrl_jax.structures import MODALITIES, Array


class LevelFeatures(NamedTuple):
    """One level's features of (visible, lwir), before the gate and the ReLU.

    As ``cfl_features`` gives them each is [B, h, w, C] of the teacher's dtype; ``cfl_magnitudes`` makes float32
    [B, h, w] of it.
    """

    shared: tuple[Array, Array] | None  # S^1, S^2; None without SFL (alpha = 0)
    specific: tuple[Array, Array] | None  # R^1, R^2; None without MFL (alpha = 1)


def cfl_features(model: Teacher, params: Any, visible: Array, lwir: Array) -> list[LevelFeatures]:
    """Eq. 2 and 3: the features of every level, conv1 to conv5, as the modules themselves compute them.

    Args:
        model: with parameters ``params``.
        params: its parameter tree.
        visible: uint8 [B, H, W, 3].
        lwir: uint8 [B, H, W, 1].

    Returns:
        the levels in their order; none of a teacher without CFL.
    """
    _, collected = model.clone(remat=False).apply(
        {"params": params},
        visible,
        lwir,
        method="extract",
        capture_intermediates=lambda module, _: isinstance(module.parent, CrossModalFeatureLearning),
        mutable=["intermediates"],
    )
    blocks = collected.get("intermediates", {})
    return [_level(blocks[name]) for name in sorted(blocks)]


def cfl_magnitudes(model: Teacher, params: Any, visible: Array, lwir: Array) -> list[LevelFeatures]:
    """As ``cfl_features``, each map reduced to the mean over channels of its magnitude, float32 [B, h, w]."""
    features = cfl_features(model, params, visible, lwir)
    return jax.tree.map(lambda x: jnp.mean(jnp.abs(x.astype(jnp.float32)), axis=-1), features)


def _level(block):
    outputs = {name: captured["__call__"] for name, captured in block.items()}
    # W is one convolution that is called for one modality after the other.
    shared = outputs.get("shared")
    specific = None
    if f"grouped_{MODALITIES[0]}" in outputs:
        specific = tuple(outputs[f"grouped_{name}"][0] + outputs[f"pointwise_{name}"][0] for name in MODALITIES)
    return LevelFeatures(shared, specific)
