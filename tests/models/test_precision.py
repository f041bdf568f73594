"""Activations in bfloat16, and recomputed blocks: the same parameters, nearly or exactly the same results."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dcrl_jax.models.network import build_network
from dcrl_jax.structures import CHANNELS

pytestmark = pytest.mark.usefixtures("quick_compile", "shallow_backbone")

ROIS = np.float32([[[0, 0, 20, 30], [10, 5, 25, 32]]])
BFLOAT16, REMAT = ("backbone.dtype", "bfloat16"), ("backbone.remat", True)

# The teacher's gradients take a while to compile.
both_roles = pytest.mark.parametrize("role", [pytest.param("teacher", marks=pytest.mark.slow), "student"])


@pytest.fixture(scope="module")
def run(tiny_config, random_params):
    """Returns features, outputs, gradient and number of recomputed blocks of the tiny model with changed keys."""

    @functools.cache
    def make(role, *changes):
        config = tiny_config(role)
        network = build_network(config)
        params = random_params(network)
        config.update_from_flattened_dict(dict(changes))
        model = build_network(config).model
        assert build_network(config).param_shapes() == network.param_shapes()
        rng = np.random.default_rng(3)
        images = [rng.integers(0, 256, (1, 32, 48, CHANNELS[name]), np.uint8) for name in model.modalities]

        def loss(params):
            variables = {"params": params}
            features, rpg = model.apply(variables, *images, method="propose_regions")
            rdr = model.apply(variables, features, ROIS, method="refine")
            adapted = model.apply(variables, features, method="adapt") if role == "student" else None
            total = sum(jnp.sum(jnp.square(leaf)) for leaf in (rdr.logits, rdr.offsets))
            return total, (features, (rpg, rdr, adapted))

        program = jax.jit(jax.grad(loss, has_aux=True)).trace(params)
        gradient, (features, outputs) = program.lower().compile()(params)
        recomputed_blocks = str(program.jaxpr).count("differentiated=True")
        return *jax.device_get((features, outputs, gradient)), recomputed_blocks

    return make


def norm(tree):
    return np.sqrt(sum(np.sum(np.square(leaf, dtype=np.float64)) for leaf in jax.tree.leaves(tree)))


@both_roles
def test_bfloat16_features_give_float32_results_near_those_of_float32(run, role):
    (_, exact, gradient, _), (features, rounded, rounded_gradient, _) = run(role), run(role, BFLOAT16)
    maps = jax.tree.leaves(features.maps if role == "teacher" else features)
    assert {leaf.dtype for leaf in maps} == {jnp.dtype("bfloat16")}
    assert {leaf.dtype for leaf in jax.tree.leaves((rounded, rounded_gradient))} == {np.dtype(np.float32)}
    pairs = list(zip(*map(jax.tree.leaves, (exact, rounded)), strict=True))
    assert any((expected != found).any() for expected, found in pairs)
    for expected, found in pairs:
        # Eight bits of mantissa, through five blocks and a head.
        assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()
    assert norm(jax.tree.map(np.subtract, gradient, rounded_gradient)) < 0.1 * norm(gradient)


@both_roles
def test_recomputed_blocks_give_the_same_outputs_and_gradients(run, role):
    (_, *stored, none), (_, *recomputed, blocks) = run(role), run(role, REMAT)
    assert (none, blocks) == (0, 5)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6 * norm(stored[1]))
    jax.tree.map(close, recomputed, stored)
