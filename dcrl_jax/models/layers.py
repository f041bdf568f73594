"""The 3x3 convolution of backbone and RPN as a layer."""

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
