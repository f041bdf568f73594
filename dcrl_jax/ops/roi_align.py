"""RoIAlign with fixed shapes."""

import functools

import jax
import jax.numpy as jnp


def _interpolation(start: jax.Array, end: jax.Array, cells: int, bins: int, samples_per_bin: int) -> jax.Array:
    """Weights [R, bins, cells] that take a row of cells to its bins.

    ``start`` and ``end`` [R] are in cells, cell i having its centre at i. A bin is the mean of its samples, so the
    samples' two taps each are added up here and never stand in memory.
    """
    step = (end - start) / (bins * samples_per_bin)
    position = start[:, None] + (jnp.arange(bins * samples_per_bin) + 0.5) * step[:, None]
    is_inside = (position >= -1) & (position <= cells)
    position = jnp.clip(jnp.where(is_inside, position, 0), 0, cells - 1)
    taps = jnp.maximum(1 - jnp.abs(position[..., None] - jnp.arange(cells)), 0)
    taps = jnp.where(is_inside[..., None], taps, 0)
    return jnp.mean(taps.reshape(-1, bins, samples_per_bin, cells), axis=2)


@functools.partial(jax.jit, static_argnames=("stride", "output_size", "samples_per_bin", "chunk_size"))
def roi_align(
    features: jax.Array,
    rois: jax.Array,
    stride: int,
    output_size: int = 7,
    samples_per_bin: int = 2,
    chunk_size: int = 8,
) -> jax.Array:
    """Bilinear samples of one image's feature map, averaged in the bins of each RoI (Mask R-CNN, Sec. 3).

    Gives what ``torchvision.ops.roi_align`` gives with ``aligned=True`` and ``spatial_scale=1/stride``: samples more
    than one cell outside the map are zero, nearer ones take the border's value. The gradient flows to the features
    only, not to the RoIs.

    Args:
      features: float32 [H, W, C].
      rois: float32 [R, 4], pixels of the network input; one that is NaN (padding) gives zeros.
      stride: pixels per cell of the feature map.
      output_size: bins along each side.
      samples_per_bin: samples along each side of a bin.
      chunk_size: RoIs computed together.

    Returns:
      float32 [R, output_size, output_size, C].
    """
    height, width, channels = features.shape
    count = rois.shape[0]
    corners = jax.lax.stop_gradient(rois) / stride - 0.5
    rows = _interpolation(corners[:, 1], corners[:, 3], height, output_size, samples_per_bin)
    columns = _interpolation(corners[:, 0], corners[:, 2], width, output_size, samples_per_bin)

    def pool(weights):
        row, column = weights
        return jnp.einsum("ph,hwc,qw->pqc", row, features, column, optimize=[(0, 1), (0, 1)])

    bins = jax.lax.map(pool, (rows, columns), batch_size=min(chunk_size, count))
    return bins.reshape(count, output_size, output_size, channels)
