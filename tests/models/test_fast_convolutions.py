"""Models whose wide convolutions go another way find the same people."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dcrl_jax.models.build import build_model
from dcrl_jax.models.fast_convolutions import transform_kernels, winograd_convolutions

WIDE_OF_VGG = ["conv2_1", "conv2_2", "conv3_1", "conv3_2", "conv3_3"]
WIDE_OF_VGG += [f"conv{block}_{layer}" for block in (4, 5) for layer in (1, 2, 3)]


@pytest.fixture(scope="module")
def full_width(tiny_config):
    """Config, model and the shapes of its parameters at width 1, by role."""

    def make(role):
        config = tiny_config(role)
        config.backbone.width, config.backbone.norm = 1.0, "none"
        model = build_model(config)
        images = [jnp.zeros((1, 32, 48, {"visible": 3, "lwir": 1}[name]), jnp.uint8) for name in model.modalities]
        params = jax.eval_shape(model.init, jax.random.key(0), *images, jnp.zeros((1, 1, 4)))["params"]
        rng = np.random.default_rng(0)

        def values(leaf):
            # Gaussian scaled by fan-in, so that features neither fade nor grow.
            scale = np.sqrt(2 / np.prod(leaf.shape[:-1])) if leaf.ndim > 1 else 0.1
            return (rng.standard_normal(leaf.shape, np.float32) * scale).astype(np.float32)

        return (
            model,
            jax.tree.map(values, params),
            [np.asarray(rng.integers(0, 256, i.shape), np.uint8) for i in images],
        )

    return make


def test_wide_convolutions_of_a_student_are_those_of_its_backbone_and_its_rpn(full_width):
    _, params, _ = full_width("student")
    kernels = transform_kernels(params)
    assert sorted(kernels) == sorted([*(f"backbone/{layer}" for layer in WIDE_OF_VGG), "rpn/conv"])
    assert kernels["backbone/conv2_1"].shape == (36, 64, 128)


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_both_stages_give_the_same_by_either_convolution(full_width, role):
    model, params, images = full_width(role)
    kernels = transform_kernels(params)
    if role == "teacher":
        assert "cfl_blocks_4/grouped_visible" in kernels

    def run(kernels):
        with winograd_convolutions(kernels):
            _, outputs = model.apply({"params": params}, *images, method="propose_regions")
        return outputs.logits, outputs.offsets

    used, direct = jax.jit(run)(kernels), run({})
    for found, expected in zip(used, direct, strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
        assert (np.asarray(found) != np.asarray(expected)).any()


class Other(nn.Module):
    """A convolution of bfloat16 by the name of a wide one."""

    @nn.compact
    def __call__(self, x):
        return nn.Conv(128, (3, 3), dtype=jnp.bfloat16, name="conv")(x)


def test_features_of_another_type_go_the_direct_way():
    x = np.random.default_rng(0).normal(size=(1, 8, 8, 64)).astype(jnp.bfloat16)
    params = Other().init(jax.random.key(0), x)["params"]
    with winograd_convolutions(transform_kernels(params)):
        found = Other().apply({"params": params}, x)
    np.testing.assert_array_equal(found, Other().apply({"params": params}, x))
