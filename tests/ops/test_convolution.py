"""The 3x3 convolution and its gradients compared with XLA's direct convolution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dcrl_jax.ops import convolution
from dcrl_jax.ops.convolution import FORWARD_TILES, GRADIENT_TILES, TILE, conv3x3

pytestmark = pytest.mark.usefixtures("quick_compile")


def direct(features, kernel):
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(features, kernel, (1, 1), "SAME", dimension_numbers=layout, precision="highest")


def value_and_gradients(function):
    def run(features, kernel, gradient):
        value, pull_back = jax.vjp(function, features, kernel)
        return value, *pull_back(gradient)

    return jax.jit(run)


def arrays(size, channels, outputs, dtype=np.float32):
    rng = np.random.default_rng(0)
    features = np.maximum(rng.normal(size=(*size, channels)), 0)
    kernel, gradient = rng.normal(size=(3, 3, channels, outputs)), rng.normal(size=(*size, outputs))
    return [jnp.asarray(array, dtype) for array in (features, kernel, gradient)]


# Two images in several strips; with one row of pixels more in a last tile and a side that no tile divides; with more
# tiles in a row than in a strip; of less than a tile.
@pytest.mark.parametrize(
    "size", [(2, FORWARD_TILES, 8), (2, 2 * GRADIENT_TILES + 1, 7), (2, 9, 4 * FORWARD_TILES + 8), (2, 1, 1)]
)
def test_winograd_of_any_size_equals_the_direct_convolution(size):
    features, kernel, gradient = arrays(size, 5, 7)
    expected = value_and_gradients(direct)(features, kernel, gradient)
    turned = kernel[::-1, ::-1].swapaxes(2, 3)
    convolve, differentiate = jax.jit(convolution.winograd), jax.jit(convolution.winograd_kernel_gradient)
    found = convolve(features, kernel), convolve(gradient, turned), differentiate(features, gradient)
    for array, expected_array in zip(found, expected, strict=True):
        assert array.shape == expected_array.shape
        np.testing.assert_allclose(array, expected_array, rtol=0, atol=3e-5 * np.abs(expected_array).max())


# Inputs and outputs: Winograd's algorithm in all three products; in the gradient by the kernel only; in none.
@pytest.mark.parametrize("channels", [(128, 130), (64, 70), (8, 16)])
def test_every_choice_equals_the_direct_convolution(channels):
    inputs = arrays((1, 31, 34), *channels)
    found, expected = value_and_gradients(conv3x3)(*inputs), value_and_gradients(direct)(*inputs)
    for array, expected_array in zip(found, expected, strict=True):
        np.testing.assert_allclose(array, expected_array, rtol=0, atol=3e-5 * np.abs(expected_array).max())


def test_layers_share_the_memory_of_transformed_kernels():
    def temporary_bytes(layers):
        def run(features, kernels):
            for kernel in kernels:
                features = conv3x3(features, kernel)
            return features

        features, kernel, _ = arrays((1, 32, 32), 128, 128)
        return jax.jit(run).lower(features, [kernel] * layers).compile().memory_analysis().temp_size_in_bytes

    transformed_bytes = 4 * TILE * TILE * 128 * 128
    assert temporary_bytes(1) > transformed_bytes
    assert temporary_bytes(4) - temporary_bytes(2) < transformed_bytes / 2


def test_other_platforms_get_the_direct_convolution():
    inputs = arrays((1, 32, 32), 128, 128)
    lowered = value_and_gradients(conv3x3).trace(*inputs).lower(lowering_platforms=("cuda",)).as_text()
    assert lowered.count("stablehlo.convolution") == 3
    assert "stablehlo.while" not in lowered
    on_cpu = value_and_gradients(conv3x3).trace(*inputs).lower(lowering_platforms=("cpu",)).as_text()
    assert "stablehlo.convolution" not in on_cpu


def test_bfloat16_is_direct_and_stays_bfloat16():
    inputs = arrays((1, 32, 32), 128, 128, jnp.bfloat16)
    for array in value_and_gradients(conv3x3)(*inputs):
        assert array.dtype == jnp.bfloat16
    assert "while" not in str(jax.make_jaxpr(conv3x3)(*inputs[:2]))
