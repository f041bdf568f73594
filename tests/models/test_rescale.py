"""ImageNet's features at one scale: RMS 1 in every layer, and a backbone that computes what it did before."""

import jax
import numpy as np
import pytest

from dcrl_jax.models.cfl_features import cfl_features
from dcrl_jax.models.network import build_network
from dcrl_jax.models.rescale import rescale
from dcrl_jax.structures import CHANNELS

pytestmark = pytest.mark.usefixtures("quick_compile")


@pytest.fixture
def rescaled(tiny_config, random_params):
    """A detector's model with its parameters before and after, and the images."""

    def make(role, **changes):
        config = tiny_config(role)
        config.update_from_flattened_dict(changes)
        network, rng = build_network(config), np.random.default_rng(0)
        images = [rng.integers(0, 256, (3, 32, 48, CHANNELS[name]), np.uint8) for name in network.modalities]
        params = random_params(network)
        return network.model, params, rescale(network.model, params, images), images

    return make


def features(model, params, images):
    return jax.device_get(jax.jit(lambda p, *x: model.apply({"params": p}, *x, method="extract"))(params, *images))


def rms(values):
    return float(np.sqrt(np.mean(np.square(values))))


def test_a_backbone_computes_the_same_but_for_one_factor(rescaled):
    model, before, after, images = rescaled("baseline")
    old, new = (features(model, params, images) for params in (before, after))
    assert rms(new) == pytest.approx(1, rel=1e-3)
    assert rms(old) != pytest.approx(1, rel=0.1)
    np.testing.assert_allclose(new, old / rms(old), rtol=1e-3, atol=1e-4)
    changed = {name for name in before if jax.tree.leaves(before[name])[0] is not jax.tree.leaves(after[name])[0]}
    assert changed == {"backbone"}


@pytest.mark.parametrize("init", ["identity", "gaussian"])
def test_both_outputs_of_every_cfl_module_together_have_rms_1(rescaled, init):
    model, before, after, images = rescaled("teacher", **{"cfl.init": init})
    assert rms(np.stack(features(model, after, images))) == pytest.approx(1, rel=0.02)
    # W, P and V keep their proportions.
    for block in range(5):
        old, new = (jax.tree.leaves(params[f"cfl_blocks_{block}"]) for params in (before, after))
        factors = [np.linalg.norm(b) / np.linalg.norm(a) for a, b in zip(old, new, strict=True) if np.any(a)]
        assert factors == pytest.approx([factors[0]] * len(factors), rel=1e-4)
    levels = jax.jit(lambda params: cfl_features(model, params, *images))(after)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(levels))


def test_without_cfl_each_branch_has_rms_1(rescaled):
    model, _, after, images = rescaled("teacher", **{"cfl.enabled": False})
    assert [rms(x) for x in features(model, after, images)] == pytest.approx([1, 1], rel=1e-3)
