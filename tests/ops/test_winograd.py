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


# Two images in complete strips of 20 rows of tiles; with one row of pixels more in a last tile, and a side that no tile
# divides; with more tiles in a row than in a strip; of less than a tile. Then many channels.
@pytest.mark.parametrize(
    ("size", "channels"),
    [
        ((2, 2 * TILES, 8), (5, 7)),
        ((2, 2 * TILES + 1, 7), (5, 7)),
        ((2, 9, 2 * TILES + 8), (5, 7)),
        ((2, 1, 1), (5, 7)),
        ((1, 12, 12), (512, 64)),
    ],
)
def test_any_size_equals_the_direct_convolution(size, channels):
    rng = np.random.default_rng(0)
    features = np.maximum(rng.normal(size=(*size, channels[0])), 0).astype(np.float32)
    kernel = rng.normal(size=(3, 3, *channels)).astype(np.float32)
    found, expected = winograd(features, kernel), np.asarray(direct(features, kernel))
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * np.abs(expected).max())
