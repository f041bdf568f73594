"""Models with Winograd's algorithm in their wide convolutions give the same outputs."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dcrl_jax.models.fast_convolutions import transform_kernels, winograd_convolutions
from dcrl_jax.models.network import build_network
from dcrl_jax.structures import CHANNELS

pytestmark = pytest.mark.usefixtures("quick_compile", "shallow_backbone")

# At half of VGG's width, conv3_1 has 64 inputs and 128 outputs, conv2_1 32 and 64.
WIDE = [
    *(f"backbones_{name}/conv{block}_1" for name in CHANNELS for block in (3, 4, 5)),
    *(f"cfl_blocks_{block}/grouped_{name}" for name in CHANNELS for block in (3, 4)),
    *(f"rpns_{name}/conv" for name in CHANNELS),
]


def test_outputs_are_the_same_with_either_convolution(tiny_config, random_params):
    config = tiny_config("teacher")
    config.backbone.width = 0.5
    network = build_network(config)
    params = random_params(network)
    kernels = transform_kernels(params)
    assert sorted(kernels) == sorted(WIDE)
    pair = tuple(np.random.default_rng(0).normal(size=(2, 1, 4, 6, 128)).astype(np.float32))

    @jax.jit
    def run(params, kernels):
        with winograd_convolutions(kernels):
            return network.model.apply({"params": params}, 4, pair, method="block")

    for found, expected in zip(run(params, kernels), run(params, {}), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
        assert (np.asarray(found) != np.asarray(expected)).any()


def test_features_of_another_dtype_use_the_direct_convolution():
    x = np.random.default_rng(0).normal(size=(1, 8, 8, 64)).astype(jnp.bfloat16)
    module = nn.Conv(128, (3, 3), dtype=jnp.bfloat16)
    variables = jax.jit(module.init)(jax.random.key(0), x)
    kernels = transform_kernels(variables["params"])
    assert set(kernels) == {""}
    with winograd_convolutions(kernels):
        found = module.apply(variables, x)
    np.testing.assert_array_equal(found, module.apply(variables, x))
