"""Activations in bfloat16, and recomputed blocks: the same parameters, nearly or exactly the same results."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dcrl_jax.models.network import build_network
from dcrl_jax.structures import CHANNELS

pytestmark = pytest.mark.usefixtures("quick_compile", "shallow_backbone")

ROIS = np.float32([[[0, 0, 20, 30], [10, 5, 25, 32]]])
BFLOAT16, REMAT = ("backbone.dtype", "bfloat16"), ("backbone.remat", True)

both_roles = pytest.mark.parametrize("role", ["teacher", "student"])


class Results(NamedTuple):
    """What a model makes of an image or pair."""

    features: Any  # conv5 maps and, of a teacher, mu
    outputs: Any  # of both stages, and the adapted features of a student
    gradient: Any  # of the sum of squares of the second stage's outputs
    recomputed_blocks: int


@pytest.fixture(scope="module")
def run(tiny_config, random_params):
    """Runs the tiny model of a role with changed keys, and the parameters of the unchanged one, once."""

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
        count = str(program.jaxpr).count("differentiated=True")
        return Results(*jax.device_get((features, outputs, gradient)), count)

    return make


def norm(tree):
    return np.sqrt(sum(np.sum(np.square(leaf, dtype=np.float64)) for leaf in jax.tree.leaves(tree)))


@both_roles
def test_bfloat16_features_give_float32_results_near_those_of_float32(run, role):
    exact, rounded = run(role), run(role, BFLOAT16)
    maps = jax.tree.leaves(rounded.features.maps if role == "teacher" else rounded.features)
    assert {leaf.dtype for leaf in maps} == {jnp.dtype("bfloat16")}
    assert {leaf.dtype for leaf in jax.tree.leaves((rounded.outputs, rounded.gradient))} == {np.dtype(np.float32)}
    pairs = list(zip(*map(jax.tree.leaves, (exact.outputs, rounded.outputs)), strict=True))
    assert any((expected != found).any() for expected, found in pairs)
    for expected, found in pairs:
        # Eight bits of mantissa, through five blocks and a head.
        assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()
    assert norm(jax.tree.map(np.subtract, exact.gradient, rounded.gradient)) < 0.1 * norm(exact.gradient)


@both_roles
def test_recomputed_blocks_give_the_same_outputs_and_gradients(run, role):
    stored, recomputed = run(role), run(role, REMAT)
    assert (stored.recomputed_blocks, recomputed.recomputed_blocks) == (0, 5)
    atol = 1e-6 * norm(stored.gradient)
    for expected, found in ((stored.outputs, recomputed.outputs), (stored.gradient, recomputed.gradient)):
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=atol), found, expected)
