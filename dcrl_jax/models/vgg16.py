"""The VGG-16 backbone, conv1_1 to conv5_3 (paper Sec. III-A), one instance per modality."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from dcrl_jax.models.layers import conv3x3_layer

# Channels at width 1 and number of convolutions of each block.
BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))

# Mean and standard deviation of ImageNet, RGB in 0..1, that torchvision's VGG-16 weights expect.
IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
IMAGENET_STD = np.array([0.229, 0.224, 0.225], np.float32)


def normalise(image: jax.Array, dtype: jnp.dtype = jnp.float32) -> jax.Array:
    """Normalise uint8 [..., 3] RGB or [..., 1] grey (replicated) to ``dtype`` [..., 3], as ImageNet weights expect."""
    scaled = image.astype(jnp.float32) / 255.0
    return ((scaled - IMAGENET_MEAN) / IMAGENET_STD).astype(dtype)


def block_channels(block: int, width: float) -> int:
    """Return the output channels of block 1..5 at a width multiplier, at least 4."""
    return max(4, round(BLOCKS[block - 1][0] * width))


def pools_after(stride: int) -> tuple[int, ...]:
    """Return the blocks that a 2x2 max pool follows: pool5 is never used, pool4 only at stride 16."""
    return (1, 2, 3) if stride == 8 else (1, 2, 3, 4)


class Vgg16(nn.Module):
    """The convolutions of VGG-16 in five blocks without their pools, so that CFL can follow a block directly.

    Attributes:
        width: multiplier of the channel counts.
        norm: 'none' as in the paper, or 'group': GroupNorm before each ReLU, for training without ImageNet weights.
        dtype: of the activations, float32 or bfloat16; the parameters are float32.
    """

    width: float = 1.0
    norm: str = "none"
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        """Create the convolutions and norms."""
        for block, (_, convolutions) in enumerate(BLOCKS, 1):
            channels = block_channels(block, self.width)
            for layer in range(1, convolutions + 1):
                setattr(self, f"conv{block}_{layer}", conv3x3_layer(channels, self.dtype))
                if self.norm == "group":
                    # A group of one channel would remove the contrast between channels; four or more keep it.
                    groups = max(1, min(32, channels // 4))
                    setattr(self, f"norm{block}_{layer}", nn.GroupNorm(num_groups=groups, dtype=self.dtype))

    def block(self, block: int, features: jax.Array) -> jax.Array:
        """Apply the convolutions of block 1..5: [B, H, W, C] to [B, H, W, C'] after its last ReLU."""
        for layer in range(1, BLOCKS[block - 1][1] + 1):
            features = getattr(self, f"conv{block}_{layer}")(features)
            if self.norm == "group":
                features = getattr(self, f"norm{block}_{layer}")(features)
            features = nn.relu(features)
        return features


def run_block(detector: nn.Module, block: int, features: Any) -> Any:
    """Return ``detector.block(block, features)``; with ``detector.remat`` its activations are not stored."""
    if not detector.remat:
        return detector.block(block, features)
    return nn.remat(lambda module, inputs: module.block(block, inputs))(detector, features)
