"""Winograd's convolution compared with XLA's direct convolution."""

import jax
import numpy as np
import pytest

from dcrl_jax.ops.winograd import TILES, conv3x3, transform_kernel

pytestmark = pytest.mark.usefixtures("quick_compile")


@jax.jit
def winograd(features, kernel):
    return conv3x3(features, transform_kernel(kernel))


@jax.jit
def direct(features, kernel):
    return jax.lax.conv_general_dilated(
        features, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), precision="highest"
    )


def assert_equals_direct(features, kernel):
    found, expected = winograd(features, kernel), np.asarray(direct(features, kernel))
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * np.abs(expected).max())


# With two images: complete strips of 20 rows of tiles, one row of tiles more, one row of pixels more in a last tile;
# more tiles in a row than in a strip; sides that no tile divides; less than a tile.
@pytest.mark.parametrize(
    ("height", "width"),
    [(2 * TILES, 8), (2 * TILES + 4, 8), (2 * TILES + 1, 7), (9, 2 * TILES + 8), (9, 10), (3, 2), (1, 1)],
)
def test_any_size_equals_the_direct_convolution(height, width):
    rng = np.random.default_rng(height * width)
    features = rng.normal(size=(2, height, width, 5)).astype(np.float32)
    assert_equals_direct(features, rng.normal(size=(3, 3, 5, 7)).astype(np.float32))


def test_many_channels_stay_within_rounding():
    rng = np.random.default_rng(0)
    features = np.maximum(rng.normal(size=(1, 12, 12, 512)), 0).astype(np.float32)
    assert_equals_direct(features, rng.normal(size=(3, 3, 512, 64)).astype(np.float32) * 0.02)


def test_kernel_with_a_single_one_moves_the_features():
    features = np.arange(1, 6 * 9 + 1, dtype=np.float32).reshape(1, 6, 9, 1)
    moved = np.zeros_like(features)
    moved[:, 1:, :-1] = features[:, :-1, 1:]
    # The centre; one row up and one column to the right, where zeros fill the border.
    for tap, expected in (((1, 1), features), ((0, 2), moved)):
        kernel = np.zeros((3, 3, 1, 1), np.float32)
        kernel[tap] = 1
        np.testing.assert_allclose(winograd(features, kernel), expected, atol=1e-4)
