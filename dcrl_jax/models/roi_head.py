"""The region head of one modality (RDR stage)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from dcrl_jax.models.rpn import HEAD_INIT


class RoiHead(nn.Module):
    """Two fully connected layers with ReLU, then class logits and box offsets from one linear layer each.

    Attributes:
        hidden: units of fc6 and of fc7.
        dtype: of the activations; the outputs are float32.
    """

    hidden: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, roi_features: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Map float32 [B, R, s, s, C] to logits [B, R, 2] and normalised offsets [B, R, 4], float32."""
        init = nn.initializers.he_normal()
        hidden = roi_features.reshape(*roi_features.shape[:2], -1)
        for layer in ("fc6", "fc7"):
            hidden = nn.relu(nn.Dense(self.hidden, kernel_init=init, dtype=self.dtype, name=layer)(hidden))
        hidden = hidden.astype(jnp.float32)
        logits = nn.Dense(2, kernel_init=HEAD_INIT, name="logits")(hidden)
        offsets = nn.Dense(4, kernel_init=HEAD_INIT, name="offsets")(hidden)
        return logits, offsets
