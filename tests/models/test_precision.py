"""Activations of bfloat16, and blocks computed again: the same parameters, nearly or exactly the same results."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dcrl_jax.models.build import build_model, init_params

pytestmark = pytest.mark.usefixtures("quick_compile", "shallow_backbone")

ROIS = np.array([[[0, 0, 20, 30], [10, 5, 25, 32]]], np.float32)
CHANNELS = {"visible": 3, "lwir": 1}
ROLES = ("teacher", "student")


def images_of(model):
    rng = np.random.default_rng(3)
    return [rng.integers(0, 256, (1, 32, 48, CHANNELS[name]), dtype=np.uint8) for name in model.modalities]


@pytest.fixture(scope="module")
def build(tiny_config, random_params):
    """Makes a model and its parameters, which do not depend on how it computes."""

    def make(role, **backbone):
        config = tiny_config(role)
        params = random_params(build_model(config), config)
        config.backbone.update(backbone)
        return build_model(config), config, params

    return make


def outputs_of(model, params):
    @jax.jit
    def run(params):
        variables = {"params": params}
        features, rpg = model.apply(variables, *images_of(model), method="propose_regions")
        rdr = model.apply(variables, features, ROIS, method="refine")
        adapted = model.apply(variables, features, method="adapt") if model.modalities == ("visible",) else None
        return features, (rpg, rdr, adapted)

    return run(params)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("backbone", [{"dtype": "bfloat16"}, {"remat": True}, {"dtype": "bfloat16", "remat": True}])
def test_parameters_have_the_same_names_shapes_and_float32_however_it_computes(build, role, backbone):
    plain_model, plain, _ = build(role)
    model, config, _ = build(role, **backbone)
    expected = jax.eval_shape(lambda: init_params(plain_model, plain, 0))
    found = jax.eval_shape(lambda: init_params(model, config, 0))
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    assert jax.tree.leaves(found) == jax.tree.leaves(expected)
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {np.dtype(np.float32)}


@pytest.mark.parametrize("role", ROLES)
def test_bfloat16_features_give_float32_outputs_near_those_of_float32(build, role):
    _, exact = outputs_of(*build(role)[::2])
    features, rounded = outputs_of(*build(role, dtype="bfloat16")[::2])
    maps = jax.tree.leaves(features.maps if role == "teacher" else features)
    assert {leaf.dtype for leaf in maps} == {jnp.dtype("bfloat16")}
    assert {leaf.dtype for leaf in jax.tree.leaves(rounded)} == {np.dtype(np.float32)}
    for one, other in zip(jax.tree.leaves(exact), jax.tree.leaves(rounded), strict=True):
        # Eight bits of mantissa, through five blocks and a head.
        assert np.abs(other - one).max() < 0.05 * np.abs(one).max()
    assert any((one != other).any() for one, other in zip(*map(jax.tree.leaves, (exact, rounded)), strict=True))


def loss_of(model):
    """Value and gradient of a loss of everything, as a function of the parameters."""

    def loss(params):
        outputs = model.apply({"params": params}, *images_of(model), ROIS)
        return sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves((outputs.logits, outputs.offsets)))

    return jax.value_and_grad(loss)


@pytest.mark.parametrize("role", ROLES)
def test_gradients_through_bfloat16_are_float32_and_near_the_exact_ones(build, role):
    (_, exact), (_, rounded) = (
        jax.jit(loss_of(build(role, dtype=dtype)[0]))(build(role)[2]) for dtype in ("float32", "bfloat16")
    )

    def norm(tree):
        return np.sqrt(sum(np.sum(np.square(leaf, dtype=np.float64)) for leaf in jax.tree.leaves(tree)))

    assert {leaf.dtype for leaf in jax.tree.leaves(rounded)} == {np.dtype(np.float32)}
    assert norm(jax.tree.map(lambda a, b: a - b, jax.device_get(exact), jax.device_get(rounded))) < 0.1 * norm(exact)


@pytest.mark.parametrize("role", ROLES)
def test_blocks_computed_again_give_the_same_outputs_and_gradients(build, role):
    plain_model, _, params = build(role)
    model, _, _ = build(role, remat=True)
    assert str(jax.make_jaxpr(loss_of(plain_model))(params)).count("differentiated=True") == 0
    # Five blocks, in the backward pass.
    assert str(jax.make_jaxpr(loss_of(model))(params)).count("differentiated=True") == 5
    one, other = (jax.jit(loss_of(which))(params) for which in (plain_model, model))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6 * abs(float(one[0]))), one, other)
