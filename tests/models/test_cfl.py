"""Cross-modal feature learning, Eq. 2-7, its ablations of Table II, and its features in a teacher."""

import functools

import jax
import numpy as np
import pytest
from module_cases import apply, random_params

from dcrl_jax.models.cfl import CrossModalFeatureLearning, channel_gate
from dcrl_jax.models.cfl_features import cfl_features, cfl_magnitudes
from dcrl_jax.models.network import build_network
from dcrl_jax.models.vgg16 import normalise
from dcrl_jax.structures import CHANNELS, MODALITIES

pytestmark = pytest.mark.usefixtures("quick_compile", "shallow_backbone")

LN3 = np.log(3.0)


def shared_and_specific(params, name, x, split, groups=2):
    """S^m (Eq. 2) and R^m (Eq. 3) without the module; None if absent."""
    own, channels = x[..., split:], x.shape[-1]
    shared = x[..., :split] @ params["shared"]["kernel"][0, 0] if split else None
    if split == channels:
        return shared, None
    layout = {"dimension_numbers": ("NHWC", "HWIO", "NHWC"), "feature_group_count": groups}
    kernel = params[f"grouped_{name}"]["kernel"]
    grouped = np.asarray(jax.lax.conv_general_dilated(own, kernel, (1, 1), "SAME", **layout))
    return shared, grouped + own @ params[f"pointwise_{name}"]["kernel"][0, 0]


@pytest.mark.parametrize(
    ("alpha", "gain", "ratio"), [(1.0, 1.0, 1.0), (0.0, 1.0, 1.0), (0.0, 2.0, np.sqrt(2.0))], ids=["S", "R", "R of He"]
)
def test_eq_3_initial_scale_of_s_and_r(alpha, gain, ratio):
    x = np.maximum(np.random.default_rng(0).normal(size=(4, 8, 8, 256)), 0).astype(np.float32)
    module = CrossModalFeatureLearning(shared_fraction=alpha, specific_gain=gain)
    (visible, _), _ = jax.jit(module.init_with_output)(jax.random.key(1), (x, x))
    # Values are symmetric about zero: half of the mean square is left after the ReLU.
    spread = np.sqrt(2 * np.mean(np.square(visible)))
    assert spread == pytest.approx(ratio * np.sqrt(2 * np.mean(np.square(x))), rel=0.1)


def test_eq_4_beta_is_the_softmax_of_the_averages():
    # Averages over the two pixels: s = (ln 3, 0, 1), r = (0, ln 3, 1).
    shared = np.float32([0.0, 0.0, -4.0, 2 * LN3, 0.0, 6.0]).reshape(1, 2, 1, 3)
    specific = np.float32([1.0, 2 * LN3, 1.0, -1.0, 0.0, 1.0]).reshape(1, 1, 2, 3)
    beta = channel_gate(shared, specific)
    assert beta.shape == (1, 1, 1, 3)
    np.testing.assert_allclose(beta.ravel(), [0.75, 0.25, 0.5], rtol=1e-6)
    # Each image has its own beta, which does not overflow.
    beta = channel_gate(np.float32([1e4, -1e4, LN3]).reshape(3, 1, 1, 1), np.zeros((3, 1, 1, 1), np.float32))
    np.testing.assert_allclose(beta.ravel(), [1.0, 0.0, 0.75], rtol=1e-6)


@pytest.mark.parametrize("aggregation", ["attention", "average"])
@pytest.mark.parametrize(
    ("alpha", "split", "groups"), [(0.0, 0, 2), (0.25, 2, 1), (0.5, 4, 2), (0.5, 4, 4), (0.75, 6, 2), (1.0, 8, 2)]
)
def test_eq_7_output_equals_the_equations_followed_by_a_relu(alpha, split, groups, aggregation):
    module = CrossModalFeatureLearning(alpha, groups, aggregation)
    pair = tuple(np.random.default_rng(1).normal(size=(2, 2, 3, 5, 8)).astype(np.float32))
    params = random_params(module, pair)
    for name, x, y in zip(MODALITIES, pair, apply(module, params, pair), strict=True):
        shared, specific = shared_and_specific(params, name, x, split, groups)
        if shared is None or specific is None:
            combined = specific if shared is None else shared
        else:
            s, r = shared.mean((1, 2), keepdims=True), specific.mean((1, 2), keepdims=True)
            beta = np.exp(s) / (np.exp(s) + np.exp(r)) if aggregation == "attention" else 0.5
            combined = beta * shared + (1 - beta) * specific
        assert (combined < 0).any()
        np.testing.assert_allclose(y, np.maximum(combined, 0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("alpha", "split"), [(0.0, 0), (0.25, 2), (0.5, 4), (1.0, 8)])
def test_identity_passes_every_channel_weighted_by_its_gate(alpha, split):
    pair = tuple(np.maximum(np.random.default_rng(1).normal(size=(2, 2, 3, 5, 8)), 0).astype(np.float32))
    module = CrossModalFeatureLearning(alpha, start="identity")
    outputs, _ = jax.jit(module.init_with_output)(jax.random.key(0), pair)
    for x, y in zip(pair, outputs, strict=True):
        # Of S and R, one is the input and the other is zero.
        gate = 1 / (1 + np.exp(-x.mean((1, 2), keepdims=True))) if split in range(1, 8) else 1.0
        np.testing.assert_allclose(y, gate * x, rtol=1e-5)


@pytest.fixture(scope="module")
def pair():
    rng = np.random.default_rng(5)
    return [rng.integers(0, 256, (2, 32, 48, CHANNELS[name]), np.uint8) for name in MODALITIES]


def test_features_and_magnitudes_of_every_level_equal_eq_2_and_3(tiny_config, random_params, pair):
    network = build_network(tiny_config())
    model, params = network.model, random_params(network)

    def cfl_inputs(module, *images):
        features, inputs = tuple(normalise(image) for image in images), []
        for block in range(1, 6):
            pairs = zip(MODALITIES, features, strict=True)
            inputs.append(tuple(module.backbones[name].block(block, x) for name, x in pairs))
            features = module.block(block, features)
        return inputs

    @jax.jit
    def run(params, *images):
        inputs = model.apply({"params": params}, *images, method=cfl_inputs)
        return inputs, cfl_features(model, params, *images), cfl_magnitudes(model, params, *images)

    levels = list(zip(*jax.device_get(run(params, *pair)), strict=True))
    assert [magnitudes.shared[0].shape[2] for *_, magnitudes in levels] == [48, 24, 12, 6, 6]
    for number, (inputs, *found) in enumerate(levels):
        for m, (name, x) in enumerate(zip(MODALITIES, inputs, strict=True)):
            expected = shared_and_specific(params[f"cfl_blocks_{number}"], name, x, x.shape[-1] // 2)
            for kind, by_hand in zip(("shared", "specific"), expected, strict=True):
                features, magnitudes = (getattr(level, kind)[m] for level in found)
                assert by_hand.std() > 0
                np.testing.assert_allclose(features, by_hand, rtol=1e-4, atol=1e-4)
                np.testing.assert_allclose(magnitudes, np.abs(features).mean(axis=-1), rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "levels"),
    [
        ({"cfl.shared_fraction": 0.0}, [(False, True)] * 5),
        ({"cfl.shared_fraction": 1.0}, [(True, False)] * 5),
        ({"cfl.enabled": False}, []),
    ],
    ids=["without SFL", "without MFL", "without CFL"],
)
def test_features_that_an_ablation_does_not_learn_are_none(tiny_config, pair, change, levels):
    config = tiny_config()
    config.update_from_flattened_dict(change | {"backbone.remat": True, "backbone.dtype": "bfloat16"})
    network = build_network(config)
    for function, dtype in ((cfl_features, "bfloat16"), (cfl_magnitudes, "float32")):
        found = jax.eval_shape(functools.partial(function, network.model), network.param_shapes(), *pair)
        assert [tuple(features is not None for features in level) for level in found] == levels
        assert {str(leaf.dtype) for leaf in jax.tree.leaves(found)} == ({dtype} if levels else set())
