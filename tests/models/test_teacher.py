"""The teacher's parts in their places: backbones, CFL, heads, segmentation, fusion, and the ablations of each."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dcrl_jax.models.build import build_model, init_params
from dcrl_jax.models.cfl import CrossModalFeatureLearning
from dcrl_jax.models.roi_head import RoiHead
from dcrl_jax.models.rpn import RegionProposalNetwork
from dcrl_jax.models.teacher import TeacherFeatures
from dcrl_jax.models.vgg16 import Vgg16, normalise, pool
from dcrl_jax.ops.roi_align import roi_align

pytestmark = pytest.mark.usefixtures("quick_compile")

ROIS = np.array([[[0, 0, 20, 30], [10, 5, 25, 32]], [[30, 0, 48, 32], [0, 0, 0, 0]]], np.float32)
BRANCHES = ("visible", "lwir")


def images():
    rng = np.random.default_rng(3)
    visible = rng.integers(0, 256, (2, 32, 48, 3), dtype=np.uint8)
    return visible, rng.integers(0, 256, (2, 32, 48, 1), dtype=np.uint8)


def run_both_stages(model, params, visible, lwir):
    @jax.jit
    def run(params, visible, lwir):
        variables = {"params": params}
        features, rpg = model.apply(variables, visible, lwir, method="propose_regions")
        return features, rpg, model.apply(variables, features, ROIS, method="refine")

    return run(params, visible, lwir)


def features_by_hand(params, visible, lwir, width, with_cfl):
    """The conv5 maps from the blocks in turn: convolutions, CFL, pool (not after blocks 4 and 5)."""

    @jax.jit
    def run(params, visible, lwir):
        maps = (normalise(visible), normalise(jnp.concatenate([lwir] * 3, axis=-1)))
        for block in range(1, 6):
            backbones = [{"params": params[f"backbones_{name}"]} for name in BRANCHES]
            maps = tuple(Vgg16(width).apply(v, block, x, method="block") for v, x in zip(backbones, maps, strict=True))
            if with_cfl:
                maps = CrossModalFeatureLearning().apply({"params": params[f"cfl_blocks_{block - 1}"]}, maps)
            if block <= 3:
                maps = tuple(pool(x) for x in maps)
        return maps

    return run(params, visible, lwir)


def param_shapes(config):
    """Shapes of the parameters by their path."""
    tree = jax.eval_shape(lambda: init_params(build_model(config), config, 0))
    return {jax.tree_util.keystr(path): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


@pytest.fixture(scope="module")
def whole(tiny_config, random_params):
    """The complete teacher's config, parameters and outputs."""
    config = tiny_config()
    model = build_model(config)
    params = random_params(model, config)
    return config, model, params, run_both_stages(model, params, *images())


@pytest.fixture(scope="module")
def without_cfl(tiny_config, random_params):
    config = tiny_config()
    config.cfl.enabled = False
    model = build_model(config)
    params = random_params(model, config)
    return config, params, run_both_stages(model, params, *images())


def test_cfl_stands_after_the_convolutions_of_each_block_and_before_its_pool(whole):
    config, _, params, ((features, _), *_) = whole
    expected = features_by_hand(params, *images(), config.backbone.width, with_cfl=True)
    assert features[0].shape == (2, 4, 6, 16)
    for found, by_hand in zip(features, expected, strict=True):
        assert jnp.std(by_hand) > 0.01
        np.testing.assert_allclose(found, by_hand, rtol=1e-4, atol=1e-5)


def test_without_cfl_features_pass_through_and_both_heads_see_them_joined(without_cfl):
    config, params, ((features, _), rpg, rdr) = without_cfl
    expected = features_by_hand(params, *images(), config.backbone.width, with_cfl=False)
    for found, by_hand in zip(features, expected, strict=True):
        np.testing.assert_allclose(found, by_hand, rtol=1e-4, atol=1e-5)
    joined = jnp.concatenate(features, axis=-1)
    pooled = jnp.concatenate([pool_rois(x) for x in features], axis=-1)
    for m, name in enumerate(BRANCHES):
        check_heads(params, name, joined, pooled, rpg, rdr, m)


def test_without_cfl_no_cfl_parameters_are_left_and_only_the_heads_inputs_widen(tiny_config):
    config = tiny_config()
    complete = param_shapes(config)
    config.cfl.enabled = False
    left = param_shapes(config)
    assert set(complete) - set(left) == {key for key in complete if key.startswith("['cfl_blocks_")}
    assert len(set(complete) - set(left)) == 5 * 5
    widened = {key for key in left if left[key] != complete[key]}
    assert widened == {f"['rpns_{m}']['conv']['kernel']" for m in BRANCHES} | {
        f"['roi_heads_{m}']['fc6']['kernel']" for m in BRANCHES
    }
    assert left["['rpns_lwir']['conv']['kernel']"] == (3, 3, 32, 16)
    assert left["['roi_heads_lwir']['fc6']['kernel']"] == (3 * 3 * 32, 8)


def pool_rois(features):
    return jnp.stack([roi_align(x, r, 8, 3, 2) for x, r in zip(features, ROIS, strict=True)])


def check_heads(params, name, features, pooled, rpg, rdr, m):
    logits, offsets = RegionProposalNetwork(16, 3).apply({"params": params[f"rpns_{name}"]}, features)
    np.testing.assert_allclose(rpg.branch_logits[m], logits, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(rpg.branch_offsets[m], offsets, rtol=1e-4, atol=1e-5)
    logits, offsets = RoiHead(8).apply({"params": params[f"roi_heads_{name}"]}, pooled)
    np.testing.assert_allclose(rdr.branch_logits[m], logits, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(rdr.branch_offsets[m], offsets, rtol=1e-4, atol=1e-5)


def test_each_branch_s_heads_see_its_own_features(whole):
    _, _, params, ((features, _), rpg, rdr) = whole
    assert rpg.branch_logits.shape == (2, 2, 72, 2)
    assert rdr.branch_offsets.shape == (2, 2, 2, 4)
    for m, name in enumerate(BRANCHES):
        check_heads(params, name, features[m], pool_rois(features[m]), rpg, rdr, m)


def test_eq_12_and_13_both_stages_are_fused_by_the_same_weights(whole):
    *_, ((_, mu), rpg, rdr) = whole
    assert mu.shape == (2, 2)
    np.testing.assert_allclose(mu.sum(1), 1, rtol=1e-6)
    assert np.abs(mu - 0.5).min() > 1e-3
    for stage in (rpg, rdr):
        np.testing.assert_array_equal(stage.modality_weights, mu)
        for fused, branches in ((stage.logits, stage.branch_logits), (stage.offsets, stage.branch_offsets)):
            expected = mu[:, 0, None, None] * branches[0] + mu[:, 1, None, None] * branches[1]
            np.testing.assert_allclose(fused, expected, rtol=1e-4, atol=1e-6)


def test_eq_15_features_to_be_matched_are_both_maps_side_by_side_the_visible_first(whole):
    *_, (features, _, _) = whole
    joined = features.concatenated()
    assert joined.shape == (2, 4, 6, 32)
    for m in range(2):
        np.testing.assert_array_equal(joined[..., 16 * m : 16 * (m + 1)], features.maps[m])


def test_eq_8_and_9_segmentation_is_a_raw_1x1_convolution_of_the_joined_features(whole):
    _, _, params, ((features, _), rpg, rdr) = whole
    pooled = [pool_rois(x) for x in features]
    for maps, stage, found in ((features, "rpg", rpg), (pooled, "rdr", rdr)):
        layer = params[f"segmentation_{stage}"]
        expected = np.concatenate(maps, axis=-1) @ layer["kernel"][0, 0] + layer["bias"]
        assert (expected < 0).any()
        np.testing.assert_allclose(found.segmentation_logits, expected, rtol=1e-4, atol=1e-5)
    assert rpg.segmentation_logits.shape == (2, 4, 6, 2)
    assert rdr.segmentation_logits.shape == (2, 2, 3, 3, 2)


def test_thermal_image_changes_the_thermal_branch_alone_until_the_fusion(whole):
    _, model, params, ((features, mu), rpg, _) = whole
    visible, lwir = images()
    (new_features, new_mu), new_rpg, _ = run_both_stages(model, params, visible, 255 - lwir)
    np.testing.assert_array_equal(features[0], new_features[0])
    np.testing.assert_array_equal(rpg.branch_logits[0], new_rpg.branch_logits[0])
    assert not np.allclose(features[1], new_features[1])
    assert not np.allclose(rpg.branch_logits[1], new_rpg.branch_logits[1])
    assert not np.allclose(mu, new_mu)


def test_grey_pair_gives_equal_branches_where_their_weights_are_equal(whole):
    _, model, params, _ = whole
    twins = dict(params)
    for name in ("backbones", "rpns", "roi_heads"):
        twins[f"{name}_lwir"] = params[f"{name}_visible"]
    for block in range(5):
        cfl = params[f"cfl_blocks_{block}"]
        own = {f"{kind}_lwir": cfl[f"{kind}_visible"] for kind in ("grouped", "pointwise")}
        twins[f"cfl_blocks_{block}"] = cfl | own
    _, lwir = images()
    (features, _), rpg, rdr = run_both_stages(model, twins, np.repeat(lwir, 3, axis=-1), lwir)
    for first, second in (features, rpg.branch_logits, rdr.branch_offsets):
        np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("stages", [(), ("rpg",), ("rdr",)])
def test_table_vi_a_stage_without_segmentation_loses_its_layer_and_nothing_else(tiny_config, stages):
    config = tiny_config()
    complete = param_shapes(config)
    config.segmentation.stages = stages
    left = param_shapes(config)
    lost = {"rpg", "rdr"} - set(stages)
    assert set(complete) - set(left) == {
        f"['segmentation_{stage}']['{kind}']" for stage in lost for kind in ("kernel", "bias")
    }
    assert left == {key: shape for key, shape in complete.items() if key in left}
    model = build_model(config)
    params = jax.eval_shape(lambda: init_params(model, config, 0))
    _, rpg, rdr = jax.eval_shape(lambda p: run_both_stages(model, p, *images()), params)
    assert (rpg.segmentation_logits is not None) == ("rpg" in stages)
    assert (rdr.segmentation_logits is not None) == ("rdr" in stages)


def test_table_iii_fusion_strategies_differ_in_the_fusion_s_parameters_alone(tiny_config):
    config = tiny_config()
    shapes = {}
    for strategy in ("maf", "linear", "average"):
        config.fusion.strategy = strategy
        shapes[strategy] = param_shapes(config)

    def fusion_keys(strategy):
        return {key for key in shapes[strategy] if key.startswith("['modality_fusion']")}

    assert len(fusion_keys("maf")) == 4
    assert shapes["maf"]["['modality_fusion']['hidden']['kernel']"] == (2 * 2 * 3 * 16, 8)
    assert fusion_keys("linear") == {"['modality_fusion']['weights']"}
    assert fusion_keys("average") == set()
    rest = {key: shape for key, shape in shapes["maf"].items() if key not in fusion_keys("maf")}
    assert shapes["average"] == rest
    assert {key: shape for key, shape in shapes["linear"].items() if key not in fusion_keys("linear")} == rest


@pytest.mark.parametrize(("stride", "cells"), [(8, (4, 6)), (16, (2, 3))])
def test_stride_16_has_a_pool_more_and_the_same_parameters(tiny_config, stride, cells):
    config = tiny_config()
    at_8 = param_shapes(config)
    config.backbone.stride = stride
    assert param_shapes(config) == at_8
    model = build_model(config)
    params = jax.eval_shape(lambda: init_params(model, config, 0))
    (features, _), rpg, _ = jax.eval_shape(lambda p: run_both_stages(model, p, *images()), params)
    assert [x.shape for x in features] == [(2, *cells, 16)] * 2
    assert rpg.logits.shape == (2, cells[0] * cells[1] * 3, 2)


def test_refining_at_stride_16_reads_the_map_at_that_stride(tiny_config):
    config = tiny_config()
    config.segmentation.stages = ()
    config.fusion.strategy = "average"
    config.backbone.stride = 16
    model = build_model(config)
    # fc6 counts the first bin's first channel, fc7 and the logits pass it on.
    shapes = jax.eval_shape(lambda: init_params(model, config, 0))
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)
    head = params["roi_heads_visible"]
    for layer in ("fc6", "fc7", "logits"):
        head[layer]["kernel"][0, 0] = 1.0
    features = np.zeros((1, 2, 3, 16), np.float32)
    features[0, :, :, 0] = [[0, 16, 32], [0, 16, 32]]  # x of each cell's centre, less 8
    rois = np.array([[[8, 8, 38, 24]]], np.float32)
    both = TeacherFeatures((features, features), np.array([[1.0, 0.0]], np.float32))
    rdr = model.apply({"params": params}, both, rois, method="refine")
    # The first of three bins spans 10 px from x = 8 on; its centre is at 13.
    np.testing.assert_allclose(rdr.logits[0, 0], [13 - 8, 0], rtol=1e-5)
