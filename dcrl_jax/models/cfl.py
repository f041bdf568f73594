"""Cross-modal feature learning, Eq. 2-7: shared and modality-specific channels, gated per channel."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from dcrl_jax.ops.convolution import conv3x3
from dcrl_jax.structures import MODALITIES


def channel_gate(shared: jax.Array, specific: jax.Array) -> jax.Array:
    """Return beta of Eq. 4, the softmax weight of the shared features, from the global averages of both.

    Args:
        shared: S^m, float32 or bfloat16 [B, H, W, C].
        specific: R^m, the same shape and dtype.

    Returns:
        float32 [B, 1, 1, C] in 0..1; gamma of Eq. 5 is 1 - beta.
    """
    s = jnp.mean(shared, axis=(1, 2), keepdims=True, dtype=jnp.float32)
    r = jnp.mean(specific, axis=(1, 2), keepdims=True, dtype=jnp.float32)
    return jax.nn.sigmoid(s - r)


class GroupedConv(nn.Module):
    """The block-diagonal 3x3 convolution P of Eq. 3, without bias.

    Written as one convolution per group, because XLA's CPU backend is many times slower in the backward pass of
    ``feature_group_count``. The kernel has the layout of a grouped convolution, [3, 3, C_in / G, C_out].

    Attributes:
        features: C_out.
        groups: G.
        kernel_init: initialiser of the kernel.
        dtype: of the activations; the kernel is float32.
    """

    features: int
    groups: int
    kernel_init: nn.initializers.Initializer
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Map [B, H, W, C_in] to [B, H, W, C_out]."""
        shape = (3, 3, inputs.shape[-1] // self.groups, self.features)
        kernel = self.param("kernel", self.kernel_init, shape).astype(self.dtype)
        groups = zip(*(jnp.split(array, self.groups, axis=-1) for array in (inputs, kernel)), strict=True)
        return jnp.concatenate([conv3x3(*group) for group in groups], axis=-1)


class CrossModalFeatureLearning(nn.Module):
    """The CFL module (Fig. 3), applied to the features of one VGG block of both modalities.

    The shared 1x1 convolution W maps the first alpha C channels to S^m. The modality's own grouped convolution P^m and
    1x1 convolution V^m map the other channels to R^m, their sum. The output is ReLU(beta S^m + gamma R^m), per channel:
    Eq. 6 with a ReLU added. The convolutions have no biases, as in the equations.

    Attributes:
        shared_fraction: alpha. Table II: 0 computes R only (without SFL), 1 computes S only (without MFL).
        groups: G of Eq. 3.
        aggregation: 'attention' (Eq. 4-6) or 'average' (beta = gamma = 0.5; Table II, without AAS).
        start: 'gaussian' as in the paper, or 'identity': W and V map every channel to itself and P is zero, so that the
            next block of an ImageNet backbone reads the channels that it was trained on.
        specific_gain: with 'gaussian', initial variance of the weights of P and of V, times their fan-in. W has 2 (He).
            With 1 the sum R has He's variance, with 2 twice that.
        dtype: of the activations; the gate is computed in float32.
    """

    shared_fraction: float = 0.5
    groups: int = 2
    aggregation: str = "attention"
    start: str = "gaussian"
    specific_gain: float = 1.0
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, features: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        """Map (visible, lwir), each [B, H, W, C] of ``dtype``, to two maps of the same shape and dtype."""
        channels = features[0].shape[-1]
        split = round(self.shared_fraction * channels)
        if self.start == "identity":
            shared_init, grouped_init, pointwise_init = _diagonal(0), nn.initializers.zeros, _diagonal(split)
        else:
            shared_init = nn.initializers.he_normal()
            grouped_init = nn.initializers.variance_scaling(self.specific_gain, "fan_in", "truncated_normal")
            pointwise_init = grouped_init

        def pointwise_conv(name, init):
            return nn.Conv(channels, (1, 1), use_bias=False, kernel_init=init, dtype=self.dtype, name=name)

        shared_conv = pointwise_conv("shared", shared_init) if split else None
        outputs = []
        for name, x in zip(MODALITIES, features, strict=True):
            if shared_conv is not None:
                shared = shared_conv(x[..., :split])
            if split < channels:
                own = x[..., split:]
                grouped = GroupedConv(channels, self.groups, grouped_init, self.dtype, name=f"grouped_{name}")(own)
                specific = grouped + pointwise_conv(f"pointwise_{name}", pointwise_init)(own)
            if split == 0:
                combined = specific
            elif split == channels:
                combined = shared
            else:
                beta = channel_gate(shared, specific) if self.aggregation == "attention" else 0.5
                beta, gamma = (jnp.asarray(weight, self.dtype) for weight in (beta, 1.0 - beta))
                combined = beta * shared + gamma * specific
            outputs.append(nn.relu(combined))
        return tuple(outputs)


def _diagonal(first: int) -> nn.initializers.Initializer:
    """Return the initialiser of a 1x1 kernel that maps input channel i to output channel ``first`` + i."""
    return lambda key, shape, dtype=jnp.float32: jnp.eye(*shape[2:], k=first, dtype=dtype)[None, None]
