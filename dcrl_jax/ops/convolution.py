"""The 3x3 convolution with stride 1 and zero padding, fast on a CPU in both directions.

XLA's CPU backend computes the gradient by a kernel four to six times slower than a matrix product allows. On a CPU,
``conv3x3`` therefore chooses an algorithm per shape: XLA's own, or Winograd's F(4x4, 3x3) (Lavin and Gray, arXiv
1509.09308), which takes a quarter of the multiplications. The gradient by the features is the same convolution with the
kernel turned. On GPUs, whose libraries choose such algorithms themselves, everything is XLA's.
"""

import jax
import jax.numpy as jnp
import numpy as np

# Along one axis, a tile has 6 inputs, the kernel 3 weights and the tile 4 outputs.
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
# Of each of a tile's inputs: its cell of 4, counted from the tile's first, and its position in the cell.
POSITIONS = [divmod(position, OUTPUTS) for position in range(TILE)]
# Both axes at once: XLA's CPU backend computes these small matrix products faster than the sums they replace.
_INPUT_2D, _OUTPUT_2D = np.kron(_INPUT, _INPUT), np.kron(_OUTPUT, _OUTPUT)
_KERNEL_2D = np.kron(_KERNEL, _KERNEL).astype(np.float32)

# Number of tiles that are computed together: few enough to keep the intermediate values in the cache, enough to use
# each kernel (forward) or sum of products (gradient by the kernel) often once it is loaded.
FORWARD_TILES, GRADIENT_TILES = 80, 320

# With fewer channels, transforming the tiles costs more than the products save.
MIN_FORWARD_CHANNELS, MIN_GRADIENT_CHANNELS = 128, 64
# Smaller maps are not worth the longer compilation.
MIN_PIXELS = 1024


@jax.jit
def conv3x3(features: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolve; results and gradients equal the direct convolution's to 1e-4 of their largest value.

    Args:
        features: float32 or bfloat16 [B, H, W, C].
        kernel: the same dtype, [3, 3, C, K].

    Returns:
        [B, H, W, K] of the same dtype. Gradients exist in reverse mode.
    """
    return _conv3x3(features, kernel)


@jax.custom_vjp
def _conv3x3(features, kernel):
    return _convolve(features, kernel)


def _forward(features, kernel):
    return _convolve(features, kernel), (features, kernel)


def _backward(saved, gradient):
    features, kernel = saved
    turned = kernel[::-1, ::-1].swapaxes(2, 3)
    return _convolve(gradient, turned), _kernel_gradient(features, gradient)


_conv3x3.defvjp(_forward, _backward)


def _convolve(features, kernel):
    if min(kernel.shape[2:]) >= MIN_FORWARD_CHANNELS and _is_large(features):
        return jax.lax.platform_dependent(features, kernel, cpu=winograd, default=_direct)
    return _direct(features, kernel)


def _kernel_gradient(features, gradient):
    arguments, direct = (features, gradient), _direct_kernel_gradient
    if min(features.shape[3], gradient.shape[3]) >= MIN_GRADIENT_CHANNELS and _is_large(features):
        return jax.lax.platform_dependent(*arguments, cpu=winograd_kernel_gradient, default=direct)
    return direct(*arguments)


def _is_large(features):
    return features.dtype == jnp.float32 and features.shape[1] * features.shape[2] >= MIN_PIXELS


def _direct(features, kernel):
    return jax.lax.conv_general_dilated(features, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _direct_kernel_gradient(features, gradient):
    shape = jax.ShapeDtypeStruct((3, 3, features.shape[3], gradient.shape[3]), features.dtype)
    (kernel_gradient,) = jax.linear_transpose(lambda kernel: _direct(features, kernel), shape)(gradient)
    return kernel_gradient


def winograd(features: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolve float32 features with Winograd's algorithm; see ``conv3x3``."""
    batch, height, width, _ = features.shape
    channels, outputs = kernel.shape[2:]
    zero = _zero_after(features)
    transformed = _KERNEL_2D @ (kernel + zero).reshape(9, channels * outputs)
    transformed = transformed.reshape(TILE * TILE, channels, outputs)
    strips = _Strips(height, width, FORWARD_TILES)
    padded = strips.pad_inputs(features)

    def convolve_strip(index, results):
        tiles = strips.transformed_inputs(padded, index)
        products = jax.lax.dot_general(tiles, transformed, (((2,), (1,)), ((0,), (0,))))
        result = _OUTPUT_2D @ products.reshape(TILE * TILE, -1)
        result = result.reshape(OUTPUTS, OUTPUTS, strips.rows, strips.columns, outputs).transpose(2, 0, 3, 1, 4)
        return jax.lax.dynamic_update_index_in_dim(results, result.reshape(results.shape[1:]), index, 0)

    results = jnp.full((batch * strips.count, OUTPUTS * strips.rows, OUTPUTS * strips.columns, outputs), zero)
    results = jax.lax.fori_loop(0, len(results), convolve_strip, results)
    results = results.reshape(batch, OUTPUTS * strips.rows * strips.count, OUTPUTS * strips.columns, outputs)
    return results[:, :height, :width]


def winograd_kernel_gradient(features: jax.Array, gradient: jax.Array) -> jax.Array:
    """Return the gradient by the kernel of ``winograd``, its exact adjoint.

    Args:
        features: float32 [B, H, W, C].
        gradient: of the result, float32 [B, H, W, K].

    Returns:
        float32 [3, 3, C, K].
    """
    batch, height, width, channels = features.shape
    outputs = gradient.shape[3]
    strips = _Strips(height, width, GRADIENT_TILES)
    padded, padded_gradient = strips.pad_inputs(features), strips.pad_outputs(gradient)

    def add_strip(index, total):
        tiles = strips.transformed_inputs(padded, index)
        part = strips.outputs(padded_gradient, index)
        part = (_OUTPUT_2D.T @ part.reshape(OUTPUTS * OUTPUTS, -1)).reshape(TILE * TILE, -1, outputs)
        return total + jax.lax.dot_general(tiles, part, (((1,), (1,)), ((0,), (0,))))

    total = jnp.full((TILE * TILE, channels, outputs), _zero_after(gradient))
    total = jax.lax.fori_loop(0, batch * strips.count, add_strip, total)
    return (_KERNEL_2D.T @ total.reshape(TILE * TILE, -1)).reshape(3, 3, channels, outputs)


def _zero_after(features):
    """Return 0 once the features exist, for what would otherwise be computed when a program starts.

    XLA's CPU backend schedules all that depends on parameters or on nothing first, for all layers, and then holds it.
    """
    bits = jax.lax.bitcast_convert_type(features[0, 0, 0, 0], jnp.int32)
    return jnp.minimum(bits & 1, 0).astype(jnp.float32)  # in a form that XLA does not simplify


class _Strips:
    """The strips of a map: full rows of tiles that are computed together.

    Attributes:
        rows: rows of tiles in a strip.
        columns: tiles in a row.
        count: strips in an image.
    """

    def __init__(self, height: int, width: int, tiles: int):
        all_rows, self.columns = -(-height // OUTPUTS), -(-width // OUTPUTS)
        # Strips of nearly equal size, so that the last one has little padding.
        self.count = -(-all_rows // max(1, tiles // self.columns))
        self.rows = -(-all_rows // self.count)

    def pad_inputs(self, features: jax.Array) -> jax.Array:
        """Add one row and column of zeros before the map, and after it enough to complete its tiles."""
        _, height, width, _ = features.shape
        below = OUTPUTS * (self.rows * self.count + 1) - height - 1
        return jnp.pad(features, ((0, 0), (1, below), (1, OUTPUTS * (self.columns + 1) - width - 1), (0, 0)))

    def pad_outputs(self, gradient: jax.Array) -> jax.Array:
        """Add enough zeros after the map to complete its tiles."""
        _, height, width, _ = gradient.shape
        below, right = OUTPUTS * self.rows * self.count - height, OUTPUTS * self.columns - width
        return jnp.pad(gradient, ((0, 0), (0, below), (0, right), (0, 0)))

    def transformed_inputs(self, padded: jax.Array, index: jax.Array) -> jax.Array:
        """Return the transformed inputs of the tiles of strip ``index`` of all images, [36, tiles, C]."""
        channels = padded.shape[3]
        cells = self._cells(padded, index, self.rows + 1)

        # A cell holds 4 of a tile's 6 rows and columns; the last two are in the next cell.
        rows = jnp.stack([cells[down : down + self.rows, row] for down, row in POSITIONS])
        tiles = jnp.stack([rows[:, :, over : over + self.columns, column] for over, column in POSITIONS], 1)
        return jnp.matmul(_INPUT_2D, tiles.reshape(TILE * TILE, -1)).reshape(TILE * TILE, -1, channels)

    def outputs(self, padded: jax.Array, index: jax.Array) -> jax.Array:
        """Return the outputs of the tiles of strip ``index`` of all images, [4, 4, rows, columns, K]."""
        return self._cells(padded, index, self.rows).transpose(1, 3, 0, 2, 4)

    def _cells(self, padded, index, rows):
        image, strip = index // self.count, index % self.count
        start, size = (image, OUTPUTS * self.rows * strip, 0, 0), (1, OUTPUTS * rows, *padded.shape[2:])
        part = jax.lax.dynamic_slice(padded, start, size)
        return part.reshape(rows, OUTPUTS, -1, OUTPUTS, padded.shape[3])
