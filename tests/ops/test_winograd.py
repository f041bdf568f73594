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


# With two images: complete strips of 20 rows of tiles, one row of tiles more, one row of pixels more in a last tile;
# more tiles in a row than in a strip; sides that no tile divides; less than a tile. Then many channels.
@pytest.mark.parametrize(
    ("size", "channels"),
    [
        *(((2, height, width), (5, 7)) for height, width in ((2 * TILES, 8), (2 * TILES + 4, 8), (2 * TILES + 1, 7))),
        *(((2, height, width), (5, 7)) for height, width in ((9, 2 * TILES + 8), (9, 10), (3, 2), (1, 1))),
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
