"""Cross-modal feature learning, Eq. 2-7, and its ablations of Table II."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.linen.initializers import zeros

from dcrl_jax.models.cfl import CrossModalFeatureLearning, GroupedConv, channel_gate

LN3 = np.log(3.0)


def module_and_params(channels=4, **attributes):
    """The module and parameters of the right shapes, all zero."""
    module = CrossModalFeatureLearning(**attributes)
    features = jnp.zeros((1, 1, 1, channels))
    shapes = jax.eval_shape(module.init, jax.random.key(0), (features, features))["params"]
    return module, jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)


def random_tree(tree, seed=0):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), tree)


def random_pair(channels, seed=1):
    rng = np.random.default_rng(seed)
    return tuple(rng.normal(size=(2, 3, 5, channels)).astype(np.float32) for _ in range(2))


def pixel(*channels):
    """A map of one pixel, [1, 1, 1, C]."""
    return jnp.array(channels, jnp.float32).reshape(1, 1, 1, -1)


def apply(module, params, visible, lwir):
    return [np.asarray(x) for x in module.apply({"params": params}, (visible, lwir))]


def conv3x3(x, kernel):
    """NumPy's 3x3 convolution [B, H, W, I] by [3, 3, I, O] with a border of zeros."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = x.shape[1:3]
    return sum(padded[:, i : i + height, j : j + width] @ kernel[i, j] for i in range(3) for j in range(3))


def shared_and_specific(params, name, x, split, groups):
    """S^m (Eq. 2) and R^m (Eq. 3) in NumPy, with the block-diagonal P written out as one full kernel."""
    own, channels = x[..., split:], x.shape[-1]
    grouped = params[f"grouped_{name}"]["kernel"]
    block = np.zeros((3, 3, own.shape[-1], channels), np.float32)
    rows, columns = own.shape[-1] // groups, channels // groups
    for g in range(groups):
        inside = slice(g * columns, (g + 1) * columns)
        block[:, :, g * rows : (g + 1) * rows, inside] = grouped[..., inside]
    shared = x[..., :split] @ params["shared"]["kernel"][0, 0]
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


def test_eq_2_w_is_one_set_of_weights_and_u_one_for_each_modality():
    _, params = module_and_params(channels=8, shared_fraction=0.5, groups=2)
    shapes = {name: {key: leaf.shape for key, leaf in tree.items()} for name, tree in params.items()}
    own = {"kernel": (3, 3, 2, 8)}
    pointwise = {"kernel": (1, 1, 4, 8)}
    assert shapes == {
        "shared": {"kernel": (1, 1, 4, 8)},
        "grouped_visible": own,
        "grouped_lwir": own,
        "pointwise_visible": pointwise,
        "pointwise_lwir": pointwise,
    }


def test_eq_2_gradient_of_w_comes_from_both_modalities_and_that_of_u_from_its_own():
    module, params = module_and_params(groups=2, aggregation="average")
    params = jax.tree.map(lambda leaf: np.full_like(leaf, 0.1), params)
    pair = pixel(1, 2, 3, 4), pixel(10, 20, 30, 40)

    def total(params, modality):
        return jnp.sum(module.apply({"params": params}, pair)[modality])

    visible, lwir = (jax.grad(total)(params, modality) for modality in (0, 1))
    np.testing.assert_allclose(visible["shared"]["kernel"][0, 0], [[0.5] * 4, [1.0] * 4], rtol=1e-6)
    np.testing.assert_allclose(lwir["shared"]["kernel"][0, 0], [[5.0] * 4, [10.0] * 4], rtol=1e-6)
    for kind in ("grouped", "pointwise"):
        assert np.any(visible[f"{kind}_visible"]["kernel"])
        assert not np.any(visible[f"{kind}_lwir"]["kernel"])
        assert np.any(lwir[f"{kind}_lwir"]["kernel"])
        assert not np.any(lwir[f"{kind}_visible"]["kernel"])


def test_eq_3_each_group_of_outputs_sees_its_own_group_of_inputs():
    # A row of two pixels: the taps 'left', 'centre' and 'right' of the kernel's middle row.
    kernel = np.zeros((3, 3, 1, 4), np.float32)
    kernel[1, 1, 0] = [1, 2, 3, 4]
    kernel[1, 2, 0] = [0, 10, 0, 10]
    kernel[1, 0, 0] = [0, 0, 0, 100]
    x = jnp.array([[[[2.0, 3.0], [5.0, 7.0]]]])
    y = GroupedConv(features=4, groups=2, kernel_init=zeros).apply({"params": {"kernel": kernel}}, x)
    # Outputs 0 and 1 belong to the first input channel (2, 5), outputs 2 and 3 to the second (3, 7).
    expected = [[2, 4 + 50, 9, 12 + 70], [5, 10, 21, 28 + 300]]
    np.testing.assert_allclose(y[0, 0], expected)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_eq_3_p_equals_a_convolution_with_feature_groups(groups):
    rng = np.random.default_rng(groups)
    x = rng.normal(size=(2, 5, 4, 8)).astype(np.float32)
    kernel = rng.normal(size=(3, 3, 8 // groups, 12)).astype(np.float32)
    y = GroupedConv(features=12, groups=groups, kernel_init=zeros).apply({"params": {"kernel": kernel}}, x)
    expected = jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=groups
    )
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


def test_eq_3_r_is_the_sum_of_p_and_v():
    module, params = module_and_params(shared_fraction=0.0, groups=2)
    params["grouped_visible"]["kernel"][1, 1, :, 0] = [1, 2]
    params["grouped_visible"]["kernel"][1, 1, :, 3] = [3, 4]
    params["pointwise_visible"]["kernel"][0, 0, :, 0] = [10, 20, 30, 40]
    params["pointwise_visible"]["kernel"][0, 0, :, 1] = [1, 1, 1, 1]
    visible, _ = apply(module, params, pixel(2, 3, 5, 7), pixel(0, 0, 0, 0))
    np.testing.assert_allclose(visible.ravel(), [2 + 6 + 20 + 60 + 150 + 280, 17, 0, 15 + 28])


@pytest.mark.parametrize(("gain", "ratio"), [(1.0, 1.0), (2.0, np.sqrt(2.0))])
def test_eq_3_r_starts_with_the_scale_of_s_where_its_two_parts_have_half_of_he_s_variance(gain, ratio):
    x = np.maximum(np.random.default_rng(0).normal(size=(4, 8, 8, 256)), 0).astype(np.float32)
    spread = {}
    for alpha in (0.0, 1.0):
        module = CrossModalFeatureLearning(shared_fraction=alpha, specific_gain=gain)
        (visible, _), _ = module.init_with_output(jax.random.key(1), (x, x))
        # A ReLU stands behind: of values that lie evenly about zero half of the mean square is left.
        spread[alpha] = np.sqrt(2 * np.mean(np.square(visible)))
    assert spread[1.0] == pytest.approx(np.sqrt(2 * np.mean(np.square(x))), rel=0.1)
    assert spread[0.0] / spread[1.0] == pytest.approx(ratio, rel=0.1)


def test_eq_4_beta_is_the_softmax_of_the_averages():
    # Averages over the two pixels: s = (ln 3, 0, 1), r = (0, ln 3, 1).
    shared = jnp.array([0.0, 0.0, -4.0, 2 * LN3, 0.0, 6.0]).reshape(1, 2, 1, 3)
    specific = jnp.array([1.0, 2 * LN3, 1.0, -1.0, 0.0, 1.0]).reshape(1, 1, 2, 3)
    beta = channel_gate(shared, specific)
    assert beta.shape == (1, 1, 1, 3)
    np.testing.assert_allclose(beta.ravel(), [0.75, 0.25, 0.5], rtol=1e-6)


def test_eq_4_is_of_each_image_and_does_not_overflow():
    shared = jnp.array([1e4, -1e4, LN3]).reshape(3, 1, 1, 1)
    beta = channel_gate(shared, jnp.zeros((3, 1, 1, 1)))
    np.testing.assert_allclose(beta.ravel(), [1.0, 0.0, 0.75], rtol=1e-6)


def test_eq_5_and_6_output_is_beta_of_s_and_one_minus_beta_of_r():
    module, params = module_and_params(groups=2)
    # S = (2 ln 3, 4, 1, 0) and R = (ln 3, 4, 1 + ln 3, 0): beta = (3/4, 1/2, 1/4, 1/2).
    params["shared"]["kernel"][0, 0] = [[2 * LN3, 4, 1, 0], [0, 0, 0, 0]]
    params["pointwise_lwir"]["kernel"][0, 0] = [[0, 0, 0, 0], [LN3, 4, 1 + LN3, 0]]
    _, lwir = apply(module, params, pixel(0, 0, 0, 0), pixel(1, 9, 9, 1))
    expected = [0.75 * 2 * LN3 + 0.25 * LN3, 4, 0.25 * 1 + 0.75 * (1 + LN3), 0]
    np.testing.assert_allclose(lwir.ravel(), expected, rtol=1e-6)


@pytest.mark.parametrize(("alpha", "split"), [(0.5, 4), (0.25, 2), (0.75, 6)])
def test_eq_7_whole_module_equals_numpy_with_a_relu_behind(alpha, split):
    module, params = module_and_params(channels=8, shared_fraction=alpha, groups=2)
    params = random_tree(params)
    pair = random_pair(8)
    outputs = apply(module, params, *pair)
    for name, x, y in zip(("visible", "lwir"), pair, outputs, strict=True):
        shared, specific = shared_and_specific(params, name, x, split, groups=2)
        s, r = shared.mean((1, 2), keepdims=True), specific.mean((1, 2), keepdims=True)
        beta = np.exp(s) / (np.exp(s) + np.exp(r))
        combined = beta * shared + (1 - beta) * specific
        assert (combined < 0).any()
        np.testing.assert_allclose(y, np.maximum(combined, 0), rtol=1e-4, atol=1e-5)


def test_eq_7_modalities_share_weights_but_no_features():
    module, params = module_and_params(channels=8)
    params = random_tree(params)
    visible, lwir = random_pair(8)
    before = apply(module, params, visible, lwir)
    after = apply(module, params, visible, lwir + 1)
    np.testing.assert_array_equal(before[0], after[0])
    assert not np.allclose(before[1], after[1])


def test_without_sfl_only_the_specific_parameters_are_left_and_the_output_is_r():
    module, params = module_and_params(channels=8, shared_fraction=0.0, groups=2)
    assert set(params) == {"grouped_visible", "grouped_lwir", "pointwise_visible", "pointwise_lwir"}
    assert params["grouped_lwir"]["kernel"].shape == (3, 3, 4, 8)
    params = random_tree(params)
    pair = random_pair(8)
    reference = params | {"shared": {"kernel": np.zeros((1, 1, 0, 8), np.float32)}}
    for name, x, y in zip(("visible", "lwir"), pair, apply(module, params, *pair), strict=True):
        _, specific = shared_and_specific(reference, name, x, 0, groups=2)
        np.testing.assert_allclose(y, np.maximum(specific, 0), rtol=1e-4, atol=1e-5)


def test_without_mfl_only_w_is_left_and_the_output_is_s():
    module, params = module_and_params(channels=8, shared_fraction=1.0)
    assert set(params) == {"shared"}
    assert params["shared"]["kernel"].shape == (1, 1, 8, 8)
    params = random_tree(params)
    pair = random_pair(8)
    for x, y in zip(pair, apply(module, params, *pair), strict=True):
        np.testing.assert_allclose(y, np.maximum(x @ params["shared"]["kernel"][0, 0], 0), rtol=1e-4, atol=1e-5)


def test_without_aas_the_output_is_the_plain_average_of_s_and_r_from_the_same_parameters():
    module, params = module_and_params(channels=8, aggregation="average")
    _, with_attention = module_and_params(channels=8)
    assert jax.tree.map(np.shape, params) == jax.tree.map(np.shape, with_attention)
    params = random_tree(params)
    pair = random_pair(8)
    for name, x, y in zip(("visible", "lwir"), pair, apply(module, params, *pair), strict=True):
        shared, specific = shared_and_specific(params, name, x, 4, groups=2)
        np.testing.assert_allclose(y, np.maximum((shared + specific) / 2, 0), rtol=1e-4, atol=1e-5)
