"""3x3 convolutions in a quarter of the multiplications: Winograd's F(4x4, 3x3) (Lavin and Gray, arXiv 1509.09308).

Worth it on a CPU, and for many channels. GPUs' libraries choose such algorithms themselves.
"""

import jax
import jax.numpy as jnp
import numpy as np

# Of one axis: a tile of 6 inputs, a kernel of 3, 4 outputs.
TILE, OUTPUTS = 6, 4
_INPUT = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    np.float32,
)
_KERNEL = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]], np.float64) / 24
_OUTPUT = np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]], np.float32)
# Of both axes at once: small matrix products, which XLA's CPU backend does faster than the sums that they stand for.
_INPUT_2D, _OUTPUT_2D = np.kron(_INPUT, _INPUT), np.kron(_OUTPUT, _OUTPUT)
_KERNEL_2D = np.kron(_KERNEL, _KERNEL).astype(np.float32)

# Tiles that are worked on together, whole rows of them: what stands between the products stays in the cache, and there
# is work enough for each kernel that is fetched.
TILES = 80


def transform_kernel(kernel: jax.Array) -> jax.Array:
    """The kernel, float32 [3, 3, C, K], as ``conv3x3`` takes it: float32 [36, C, K]."""
    _, _, channels, outputs = kernel.shape
    return (_KERNEL_2D @ kernel.reshape(9, channels * outputs)).reshape(TILE * TILE, channels, outputs)


def conv3x3(features: jax.Array, transformed: jax.Array) -> jax.Array:
    """A 3x3 convolution of stride 1 between zeros; equal to the direct one to 1e-4 of its largest value.

    Args:
        features: float32 [B, H, W, C].
        transformed: float32 [36, C, K], of ``transform_kernel``.

    Returns:
        float32 [B, H, W, K].
    """
    batch, height, width, channels = features.shape
    rows, columns = -(-height // OUTPUTS), -(-width // OUTPUTS)
    strip = min(max(1, TILES // (batch * columns)), rows)
    strips = -(-rows // strip)
    # A border of one in front, and the last strip and its tiles filled up behind.
    below, right = OUTPUTS * (strips * strip + 1) - height - 1, OUTPUTS * (columns + 1) - width - 1
    padded = jnp.pad(features, ((0, 0), (1, below), (1, right), (0, 0)))

    def one_strip(index):
        size = OUTPUTS * (strip + 1)
        part = jax.lax.dynamic_slice_in_dim(padded, index * OUTPUTS * strip, size, axis=1)
        cells = part.reshape(batch, strip + 1, OUTPUTS, columns + 1, OUTPUTS, channels)

        def of_tiles(row, column):
            """The input at this place of every tile, [B, strip, columns, C]; the last two lie in the next cell."""
            (down, row), (over, column) = divmod(row, OUTPUTS), divmod(column, OUTPUTS)
            return cells[:, down : down + strip, row, over : over + columns, column]

        tiles = jnp.stack([of_tiles(row, column) for row in range(TILE) for column in range(TILE)])
        tiles = (_INPUT_2D @ tiles.reshape(TILE * TILE, -1)).reshape(TILE * TILE, -1, channels)
        products = jax.lax.dot_general(tiles, transformed, (((2,), (1,)), ((0,), (0,))))
        outputs = _OUTPUT_2D @ products.reshape(TILE * TILE, -1)
        outputs = outputs.reshape(OUTPUTS, OUTPUTS, batch, strip, columns, -1).transpose(2, 3, 0, 4, 1, 5)
        return outputs.reshape(batch, OUTPUTS * strip, OUTPUTS * columns, -1)

    outputs = jax.lax.map(one_strip, jnp.arange(strips))
    outputs = jnp.moveaxis(outputs, 0, 1).reshape(batch, OUTPUTS * strip * strips, OUTPUTS * columns, -1)
    return outputs[:, :height, :width]
