"""Cross-modal feature learning, Eq. 2-7, its ablations of Table II, and its features in a teacher."""

import jax
import numpy as np
import pytest
from flax.linen.initializers import zeros

from dcrl_jax.models.cfl import CrossModalFeatureLearning, GroupedConv, channel_gate
from dcrl_jax.models.cfl_features import cfl_features, cfl_magnitudes
from dcrl_jax.models.network import build_network
from dcrl_jax.models.vgg16 import normalise
from dcrl_jax.structures import CHANNELS, MODALITIES

pytestmark = pytest.mark.usefixtures("quick_compile", "shallow_backbone")

LN3 = np.log(3.0)
gate = jax.jit(channel_gate)


def module_and_params(channels=4, seed=None, **attributes):
    """The module and its parameters, zero or, with a seed, random."""
    module = CrossModalFeatureLearning(**attributes)
    features = np.zeros((1, 1, 1, channels), np.float32)
    shapes = jax.eval_shape(module.init, jax.random.key(0), (features, features))["params"]
    rng = np.random.default_rng(seed)

    def values(leaf):
        return (np.zeros(leaf.shape) if seed is None else rng.normal(size=leaf.shape)).astype(np.float32)

    return module, jax.tree.map(values, shapes)


def random_pair(channels):
    rng = np.random.default_rng(1)
    return tuple(rng.normal(size=(2, 3, 5, channels)).astype(np.float32) for _ in range(2))


def pixel(*channels):
    """A map of one pixel, [1, 1, 1, C]."""
    return np.float32(channels).reshape(1, 1, 1, -1)


def apply(module, params, visible, lwir):
    return jax.device_get(jax.jit(module.apply)({"params": params}, (visible, lwir)))


def apply_grouped(x, kernel, groups):
    module = GroupedConv(kernel.shape[-1], groups, kernel_init=zeros)
    return jax.jit(module.apply)({"params": {"kernel": kernel}}, x)


def conv3x3(x, kernel):
    """NumPy's 3x3 convolution [B, H, W, I] by [3, 3, I, O] with a border of zeros."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = x.shape[1:3]
    return sum(padded[:, i : i + height, j : j + width] @ kernel[i, j] for i in range(3) for j in range(3))


def shared_and_specific(params, name, x, split, groups=2):
    """S^m (Eq. 2) and R^m (Eq. 3) in NumPy, with the block-diagonal P as one full kernel; None if absent."""
    own, channels = x[..., split:], x.shape[-1]
    shared = x[..., :split] @ params["shared"]["kernel"][0, 0] if split else None
    if split == channels:
        return shared, None
    grouped = params[f"grouped_{name}"]["kernel"]
    block = np.zeros((3, 3, own.shape[-1], channels), np.float32)
    rows, columns = own.shape[-1] // groups, channels // groups
    for g in range(groups):
        inside = slice(g * columns, (g + 1) * columns)
        block[:, :, g * rows : (g + 1) * rows, inside] = grouped[..., inside]
    return shared, conv3x3(own, block) + own @ params[f"pointwise_{name}"]["kernel"][0, 0]


def test_eq_2_first_alpha_channels_go_through_w_and_the_others_through_u():
    module, params = module_and_params(shared_fraction=0.25, groups=1, aggregation="average")
    params["shared"]["kernel"][0, 0] = [[1, 2, 3, 4]]
    params["pointwise_visible"]["kernel"][0, 0] = [[10, 0, 0, 0], [0, 100, 0, 0], [0, 0, 1000, 0]]
    params["pointwise_lwir"]["kernel"][0, 0] = [[0, 0, 0, 10], [0, 0, 10, 0], [0, 10, 0, 0]]
    visible, lwir = apply(module, params, pixel(2, 3, 5, 7), pixel(1, 2, 3, 4))
    # The plain average is half the sum W x + U x of Eq. 2.
    np.testing.assert_allclose(2 * visible.ravel(), [2 + 30, 4 + 500, 6 + 7000, 8])
    np.testing.assert_allclose(2 * lwir.ravel(), [1, 2 + 40, 3 + 30, 4 + 20])


@pytest.mark.parametrize(
    ("alpha", "expected"),
    [
        (0.0, {"grouped": (3, 3, 4, 8), "pointwise": (1, 1, 8, 8)}),
        (0.5, {"shared": (1, 1, 4, 8), "grouped": (3, 3, 2, 8), "pointwise": (1, 1, 4, 8)}),
        (1.0, {"shared": (1, 1, 8, 8)}),
    ],
    ids=["without SFL", "complete", "without MFL"],
)
def test_eq_2_w_has_one_set_of_weights_and_u_one_per_modality(alpha, expected):
    _, params = module_and_params(channels=8, shared_fraction=alpha, groups=2)
    shapes = {name: tree["kernel"].shape for name, tree in params.items()}
    own = [kind for kind in expected if kind != "shared"]
    assert shapes == {f"{kind}_{name}": expected[kind] for kind in own for name in MODALITIES} | {
        kind: shape for kind, shape in expected.items() if kind == "shared"
    }
    _, average = module_and_params(channels=8, shared_fraction=alpha, groups=2, aggregation="average")
    assert jax.tree.map(np.shape, average) == jax.tree.map(np.shape, params)


def test_eq_2_gradient_of_w_is_from_both_modalities_and_of_u_from_its_own():
    module, params = module_and_params(groups=2, aggregation="average")
    params = jax.tree.map(lambda leaf: np.full_like(leaf, 0.1), params)
    pair = pixel(1, 2, 3, 4), pixel(10, 20, 30, 40)
    gradients = jax.jit(jax.jacrev(lambda p: [x.sum() for x in module.apply({"params": p}, pair)]))(params)
    for name, other, gradient, scale in zip(MODALITIES, MODALITIES[::-1], gradients, (1, 10), strict=True):
        expected = np.float32([[0.5] * 4, [1.0] * 4]) * scale
        np.testing.assert_allclose(gradient["shared"]["kernel"][0, 0], expected, rtol=1e-6)
        for kind in ("grouped", "pointwise"):
            assert gradient[f"{kind}_{name}"]["kernel"].any()
            assert not gradient[f"{kind}_{other}"]["kernel"].any()


def test_eq_3_each_group_of_outputs_reads_its_own_group_of_inputs():
    # A row of two pixels: the taps 'left', 'centre' and 'right' of the kernel's middle row.
    kernel = np.zeros((3, 3, 1, 4), np.float32)
    kernel[1, 1, 0] = [1, 2, 3, 4]
    kernel[1, 2, 0] = [0, 10, 0, 10]
    kernel[1, 0, 0] = [0, 0, 0, 100]
    y = apply_grouped(np.float32([[[[2, 3], [5, 7]]]]), kernel, groups=2)
    # Outputs 0 and 1 belong to the first input channel (2, 5), outputs 2 and 3 to the second (3, 7).
    np.testing.assert_allclose(y[0, 0], [[2, 4 + 50, 9, 12 + 70], [5, 10, 21, 28 + 300]])


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_eq_3_p_equals_a_convolution_with_feature_groups(groups):
    rng = np.random.default_rng(groups)
    x = rng.normal(size=(2, 5, 4, 8)).astype(np.float32)
    kernel = rng.normal(size=(3, 3, 8 // groups, 12)).astype(np.float32)
    expected = jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=groups
    )
    np.testing.assert_allclose(apply_grouped(x, kernel, groups), expected, rtol=1e-5, atol=1e-5)


def test_eq_3_r_is_the_sum_of_p_and_v():
    module, params = module_and_params(shared_fraction=0.0, groups=2)
    params["grouped_visible"]["kernel"][1, 1, :, 0] = [1, 2]
    params["grouped_visible"]["kernel"][1, 1, :, 3] = [3, 4]
    params["pointwise_visible"]["kernel"][0, 0, :, 0] = [10, 20, 30, 40]
    params["pointwise_visible"]["kernel"][0, 0, :, 1] = [1, 1, 1, 1]
    visible, _ = apply(module, params, pixel(2, 3, 5, 7), pixel(0, 0, 0, 0))
    np.testing.assert_allclose(visible.ravel(), [2 + 6 + 20 + 60 + 150 + 280, 17, 0, 15 + 28])


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
    beta = gate(shared, specific)
    assert beta.shape == (1, 1, 1, 3)
    np.testing.assert_allclose(beta.ravel(), [0.75, 0.25, 0.5], rtol=1e-6)
    # Each image has its own beta, which does not overflow.
    beta = gate(np.float32([1e4, -1e4, LN3]).reshape(3, 1, 1, 1), np.zeros((3, 1, 1, 1), np.float32))
    np.testing.assert_allclose(beta.ravel(), [1.0, 0.0, 0.75], rtol=1e-6)


def test_eq_5_and_6_output_is_beta_of_s_and_one_minus_beta_of_r():
    module, params = module_and_params(groups=2)
    # S = (2 ln 3, 4, 1, 0) and R = (ln 3, 4, 1 + ln 3, 0): beta = (3/4, 1/2, 1/4, 1/2).
    params["shared"]["kernel"][0, 0] = [[2 * LN3, 4, 1, 0], [0, 0, 0, 0]]
    params["pointwise_lwir"]["kernel"][0, 0] = [[0, 0, 0, 0], [LN3, 4, 1 + LN3, 0]]
    _, lwir = apply(module, params, pixel(0, 0, 0, 0), pixel(1, 9, 9, 1))
    expected = [0.75 * 2 * LN3 + 0.25 * LN3, 4, 0.25 * 1 + 0.75 * (1 + LN3), 0]
    np.testing.assert_allclose(lwir.ravel(), expected, rtol=1e-6)


@pytest.mark.parametrize("aggregation", ["attention", "average"])
@pytest.mark.parametrize(("alpha", "split"), [(0.0, 0), (0.25, 2), (0.5, 4), (0.75, 6), (1.0, 8)])
def test_eq_7_output_equals_numpy_followed_by_a_relu(alpha, split, aggregation):
    module, params = module_and_params(8, seed=0, shared_fraction=alpha, groups=2, aggregation=aggregation)
    pair = random_pair(8)
    for name, x, y in zip(MODALITIES, pair, apply(module, params, *pair), strict=True):
        shared, specific = shared_and_specific(params, name, x, split)
        if shared is None or specific is None:
            combined = specific if shared is None else shared
        else:
            s, r = shared.mean((1, 2), keepdims=True), specific.mean((1, 2), keepdims=True)
            beta = np.exp(s) / (np.exp(s) + np.exp(r)) if aggregation == "attention" else 0.5
            combined = beta * shared + (1 - beta) * specific
        assert (combined < 0).any()
        np.testing.assert_allclose(y, np.maximum(combined, 0), rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def build(tiny_config, random_params):
    """Builds the tiny teacher with changed keys, and its parameters."""

    def make(changes=()):
        config = tiny_config()
        config.update_from_flattened_dict(dict(changes))
        network = build_network(config)
        return network.model, random_params(network)

    return make


@pytest.fixture(scope="module")
def pair():
    rng = np.random.default_rng(5)
    return [rng.integers(0, 256, (2, 32, 48, CHANNELS[name]), np.uint8) for name in MODALITIES]


def test_features_and_magnitudes_of_every_level_equal_eq_2_and_3(build, pair):
    model, params = build()

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
    assert [magnitudes.shared[0].shape[1:] for *_, magnitudes in levels] == [
        (32, 48), (16, 24), (8, 12), (4, 6), (4, 6)
    ]  # fmt: skip
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
        (("cfl.shared_fraction", 0.0), [(False, True)] * 5),
        (("cfl.shared_fraction", 0.5), [(True, True)] * 5),
        (("cfl.shared_fraction", 1.0), [(True, False)] * 5),
        (("cfl.enabled", False), []),
    ],
    ids=["without SFL", "complete", "without MFL", "without CFL"],
)
def test_features_that_an_ablation_does_not_learn_are_none(build, pair, change, levels):
    model, params = build([change, ("backbone.remat", True), ("backbone.dtype", "bfloat16")])
    for function, dtype in ((cfl_features, "bfloat16"), (cfl_magnitudes, "float32")):
        found = jax.eval_shape(lambda function=function: function(model, params, *pair))
        assert [tuple(features is not None for features in level) for level in found] == levels
        assert {str(leaf.dtype) for leaf in jax.tree.leaves(found)} == ({dtype} if levels else set())
