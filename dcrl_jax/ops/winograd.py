"""3x3 convolutions with a quarter of the multiplications: Winograd's F(4x4, 3x3) (Lavin and Gray, arXiv 1509.09308).

They are faster on a CPU if there are many channels. The libraries of GPUs choose such algorithms themselves.
"""

from typing import cast

import jax
import jax.numpy as jnp
import numpy as np

# Along one axis, a tile reads 6 inputs and gives 4 outputs; the kernel has 3 weights.
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
# Both axes at once: XLA's CPU backend computes these small matrix products faster than the sums they replace.
_INPUT_2D, _OUTPUT_2D = np.kron(_INPUT, _INPUT), np.kron(_OUTPUT, _OUTPUT)
_KERNEL_2D = np.kron(_KERNEL, _KERNEL).astype(np.float32)

# Number of tiles, in full rows, that are computed together: few enough to keep the intermediate values in the cache,
# enough to use each kernel often once it is loaded.
TILES = 80


def transform_kernel(kernel: jax.Array) -> jax.Array:
    """Transform a kernel, float32 [3, 3, C, K], to the form that ``conv3x3`` takes, float32 [36, C, K]."""
    _, _, channels, outputs = kernel.shape
    transformed = cast(jax.Array, _KERNEL_2D @ kernel.reshape(9, channels * outputs))
    return transformed.reshape(TILE * TILE, channels, outputs)


def conv3x3(features: jax.Array, transformed: jax.Array) -> jax.Array:
    """Return the 3x3 convolution with stride 1 and zero padding, within 1e-4 of the direct one's largest value.

    Args:
        features: float32 [B, H, W, C].
        transformed: float32 [36, C, K], from ``transform_kernel``.

    Returns:
        float32 [B, H, W, K].
    """
    batch, height, width, channels = features.shape
    rows, columns = -(-height // OUTPUTS), -(-width // OUTPUTS)
    # Rows of tiles per strip, and the number of strips.
    strip = min(max(1, TILES // (batch * columns)), rows)
    strips = -(-rows // strip)
    # One row and column of zeros before the map; after it, enough to complete the last strip and its tiles.
    below, right = OUTPUTS * (strips * strip + 1) - height - 1, OUTPUTS * (columns + 1) - width - 1
    padded = jnp.pad(features, ((0, 0), (1, below), (1, right), (0, 0)))

    def convolve_strip(index):
        size = OUTPUTS * (strip + 1)
        inputs = jax.lax.dynamic_slice_in_dim(padded, index * OUTPUTS * strip, size, axis=1)
        cells = inputs.reshape(batch, strip + 1, OUTPUTS, columns + 1, OUTPUTS, channels)

        def tile_inputs(row, column):
            """Return the input at this position of every tile, [B, strip, columns, C].

            A cell holds 4 of a tile's 6 rows and columns; the last two are in the next cell.
            """
            (down, row), (over, column) = divmod(row, OUTPUTS), divmod(column, OUTPUTS)
            return cells[:, down : down + strip, row, over : over + columns, column]

        tiles = jnp.stack([tile_inputs(row, column) for row in range(TILE) for column in range(TILE)])
        tiles = (_INPUT_2D @ tiles.reshape(TILE * TILE, -1)).reshape(TILE * TILE, -1, channels)
        products = jax.lax.dot_general(tiles, transformed, (((2,), (1,)), ((0,), (0,))))
        outputs = _OUTPUT_2D @ products.reshape(TILE * TILE, -1)
        outputs = outputs.reshape(OUTPUTS, OUTPUTS, batch, strip, columns, -1).transpose(2, 3, 0, 4, 1, 5)
        return outputs.reshape(batch, OUTPUTS * strip, OUTPUTS * columns, -1)

    outputs = jax.lax.map(convolve_strip, jnp.arange(strips))
    outputs = jnp.moveaxis(outputs, 0, 1).reshape(batch, OUTPUTS * strip * strips, OUTPUTS * columns, -1)
    return outputs[:, :height, :width]
