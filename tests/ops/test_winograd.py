"""Winograd's convolution against XLA's direct one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dcrl_jax.ops.winograd import TILES, conv3x3, transform_kernel


def direct(features, kernel):
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        features.astype(np.float64), kernel.astype(np.float64), (1, 1), "SAME", dimension_numbers=layout
    )


def assert_equal_to_direct(features, kernel):
    found = conv3x3(jnp.asarray(features), transform_kernel(jnp.asarray(kernel)))
    expected = np.asarray(direct(features, kernel))
    assert found.shape == expected.shape
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * np.abs(expected).max())


# Of two images: whole strips of 20 rows of tiles, a row of tiles more, a row of pixels more in a last tile; more tiles
# in a row than in a strip; sides that no tile divides; less than a tile.
@pytest.mark.parametrize(
    ("height", "width"),
    [(2 * TILES, 8), (2 * TILES + 4, 8), (2 * TILES + 1, 7), (9, 2 * TILES + 8), (9, 10), (3, 2), (1, 1)],
)
def test_any_size_gives_what_the_direct_convolution_gives(height, width):
    rng = np.random.default_rng(height * width)
    features = rng.normal(size=(2, height, width, 5)).astype(np.float32)
    assert_equal_to_direct(features, rng.normal(size=(3, 3, 5, 7)).astype(np.float32))


def test_many_channels_stay_within_rounding():
    rng = np.random.default_rng(0)
    features = np.maximum(rng.normal(size=(1, 12, 12, 512)), 0).astype(np.float32)
    assert_equal_to_direct(features, rng.normal(size=(3, 3, 512, 64)).astype(np.float32) * 0.02)


def test_kernel_of_one_in_its_centre_gives_the_features_back():
    features = np.arange(6 * 9, dtype=np.float32).reshape(1, 6, 9, 1)
    kernel = np.zeros((3, 3, 1, 1), np.float32)
    kernel[1, 1] = 1
    np.testing.assert_allclose(conv3x3(features, transform_kernel(kernel)), features, atol=1e-4)


def test_kernel_of_one_in_a_corner_moves_the_features_and_fills_up_with_zeros():
    features = np.arange(1, 6 * 9 + 1, dtype=np.float32).reshape(1, 6, 9, 1)
    kernel = np.zeros((3, 3, 1, 1), np.float32)
    kernel[0, 2] = 1  # one row up, one column to the right
    expected = np.zeros_like(features)
    expected[:, 1:, :-1] = features[:, :-1, 1:]
    np.testing.assert_allclose(conv3x3(features, transform_kernel(kernel)), expected, atol=1e-4)
