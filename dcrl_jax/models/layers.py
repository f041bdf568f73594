"""Layers of the networks that are fast on a CPU too, with the parameters of Flax's own layers."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from dcrl_jax.ops.convolution import conv3x3


def conv3x3_layer(channels: int, dtype: jnp.dtype, name: str | None = None) -> nn.Conv:
    """Return a 3x3 convolution with bias, stride 1 and zero padding, for activations of ``dtype``."""

    def convolve(features: jax.Array, kernel: jax.Array, *_: Any, **__: Any) -> jax.Array:
        return conv3x3(features, kernel)

    init = nn.initializers.he_normal()
    return nn.Conv(channels, (3, 3), kernel_init=init, dtype=dtype, conv_general_dilated=convolve, name=name)


class GroupNorm(nn.Module):
    """Group normalisation (Wu and He, arXiv 1803.08494), from the sums of each channel.

    Flax's own layer reduces groups of neighbouring channels, which XLA's CPU backend does not vectorise.

    Attributes:
        groups: number of groups of channels.
        dtype: of the result; the statistics are computed in float32.
    """

    groups: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, features: jax.Array) -> jax.Array:
        """Normalise [B, H, W, C]."""
        batch, height, width, channels = features.shape
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        features = features.astype(jnp.float32)

        def mean_of_groups(values):
            sums = jnp.sum(values, (1, 2)).reshape(batch, self.groups, -1).sum(-1)
            mean = sums / (height * width * channels // self.groups)
            return jnp.repeat(mean, channels // self.groups, axis=1)

        mean = mean_of_groups(features)
        variance = jnp.maximum(mean_of_groups(jnp.square(features)) - jnp.square(mean), 0)
        gain = jax.lax.rsqrt(variance + 1e-6) * scale
        shift = bias - mean * gain
        return (features * gain[:, None, None] + shift[:, None, None]).astype(self.dtype)
