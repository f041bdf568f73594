"""The student's and the baseline's parts in their places: backbone, adaption layer, heads, segmentation."""

import inspect
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import baseline, student
from dcrl_jax.models.build import build_model, init_params
from dcrl_jax.models.roi_head import RoiHead
from dcrl_jax.models.rpn import RegionProposalNetwork
from dcrl_jax.models.student import Student
from dcrl_jax.models.vgg16 import Vgg16, normalise, pool
from dcrl_jax.ops.roi_align import roi_align

pytestmark = pytest.mark.usefixtures("quick_compile")

ROIS = np.array([[[0, 0, 20, 30], [10, 5, 25, 32]], [[30, 0, 48, 32], [0, 0, 0, 0]]], np.float32)
ADAPTION = {"['adaption_layer']['kernel']", "['adaption_layer']['bias']"}


def images():
    return np.random.default_rng(3).integers(0, 256, (2, 32, 48, 3), dtype=np.uint8)


def run_both_stages(model, params, visible):
    @jax.jit
    def run(params, visible):
        variables = {"params": params}
        features, rpg = model.apply(variables, visible, method="propose_regions")
        return features, rpg, model.apply(variables, features, ROIS, method="refine")

    return run(params, visible)


def features_by_hand(params, visible, width, pools):
    @jax.jit
    def run(params, visible):
        features = normalise(visible)
        for block in range(1, 6):
            features = Vgg16(width).apply({"params": params["backbone"]}, block, features, method="block")
            if block in pools:
                features = pool(features)
        return features

    return run(params, visible)


def by_path(tree):
    """Leaves by their path."""
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def param_shapes(config):
    """Shapes of the parameters by their path."""
    model = build_model(config)
    return {key: leaf.shape for key, leaf in by_path(jax.eval_shape(lambda: init_params(model, config, 0))).items()}


@pytest.fixture(scope="module")
def whole(tiny_config, random_params):
    """The complete student's config, model, parameters and outputs."""
    config = tiny_config("student")
    model = build_model(config)
    params = random_params(model, config)
    return config, model, params, run_both_stages(model, params, images())


def test_parameters_at_full_size_are_those_counted_by_hand():
    shapes = param_shapes(student.get_config())
    counts = {}
    for key, shape in shapes.items():
        module = key.split("'")[1]
        counts[module] = counts.get(module, 0) + math.prod(shape)
    assert counts == {
        # torchvision's VGG-16 without its classifier.
        "backbone": 14_714_688,
        # 512 to 1024 channels.
        "adaption_layer": 512 * 1024 + 1024,
        # 3x3 of 512 to 512 channels; two logits and four offsets of nine anchors.
        "rpn": (9 * 512 * 512 + 512) + (512 * 18 + 18) + (512 * 36 + 36),
        # 7x7 bins of 512 channels; two layers of 4096; two logits and four offsets.
        "roi_head": (49 * 512 * 4096 + 4096) + (4096 * 4096 + 4096) + (4096 * 2 + 2) + (4096 * 4 + 4),
        "segmentation_rpg": 512 * 2 + 2,
        "segmentation_rdr": 512 * 2 + 2,
    }
    assert sum(counts.values()) == 137_200_000


def test_baseline_is_the_student_without_the_adaption_layer():
    complete, left = param_shapes(student.get_config()), param_shapes(baseline.get_config())
    assert set(complete) - set(left) == ADAPTION
    assert left == {key: shape for key, shape in complete.items() if key not in ADAPTION}


@pytest.mark.parametrize("fea", [True, False])
def test_table_iv_the_adaption_layer_comes_with_fea_alone(fea):
    config = student.get_config()
    config.distillation.update(fea=fea, cls=not fea, bbr=not fea, seg=not fea)
    added = set(param_shapes(config)) - set(param_shapes(baseline.get_config()))
    assert added == (ADAPTION if fea else set())


def test_baseline_starts_from_the_student_s_values_bit_for_bit(tiny_config):
    started = {}
    for role in ("student", "baseline"):
        config = tiny_config(role)
        started[role] = by_path(jax.device_get(init_params(build_model(config), config, 7)))
    assert set(started["student"]) - set(started["baseline"]) == ADAPTION
    for key, value in started["baseline"].items():
        np.testing.assert_array_equal(value, started["student"][key], err_msg=key)
    assert started["student"]["['adaption_layer']['kernel']"].std() > 0


def test_it_has_one_image_and_no_place_for_a_thermal_one(whole):
    _, model, params, _ = whole
    assert model.modalities == ("visible",)
    assert Student.modalities == ("visible",)
    for method in (Student.extract, Student.propose_regions):
        assert list(inspect.signature(method).parameters) == ["self", "visible"]
    assert list(inspect.signature(Student.__call__).parameters) == ["self", "visible", "rois"]
    with pytest.raises(TypeError):
        model.apply({"params": params}, images(), images()[..., :1], method="propose_regions")


@pytest.mark.parametrize(("stride", "pools", "cells"), [(8, (1, 2, 3), (4, 6)), (16, (1, 2, 3, 4), (2, 3))])
def test_features_are_vgg_s_blocks_with_a_pool_after_the_first_ones(whole, stride, pools, cells):
    config, _, params, _ = whole
    model = Student(width=config.backbone.width, stride=stride)
    found = jax.jit(lambda p, x: model.apply({"params": p}, x, method="extract"))(params, images())
    expected = features_by_hand(params, images(), config.backbone.width, pools)
    assert found.shape == (2, *cells, 16)
    assert jnp.std(expected) > 0.01
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_proposals_come_from_an_rpn_on_the_features(whole):
    _, _, params, (features, rpg, _) = whole
    logits, offsets = RegionProposalNetwork(16, 3).apply({"params": params["rpn"]}, features)
    assert rpg.logits.shape == (2, 4 * 6 * 3, 2)
    np.testing.assert_allclose(rpg.logits, logits, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(rpg.offsets, offsets, rtol=1e-4, atol=1e-5)


def pool_rois(features):
    return jnp.stack([roi_align(x, r, 8, 3, 2) for x, r in zip(features, ROIS, strict=True)])


def test_refining_is_roi_align_and_the_head(whole):
    _, _, params, (features, _, rdr) = whole
    logits, offsets = RoiHead(8).apply({"params": params["roi_head"]}, pool_rois(features))
    assert rdr.offsets.shape == (2, 2, 4)
    np.testing.assert_allclose(rdr.logits, logits, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(rdr.offsets, offsets, rtol=1e-4, atol=1e-5)
    # Different RoIs are told apart.
    assert not np.allclose(rdr.logits[0, 0], rdr.logits[0, 1], atol=1e-3)


def test_refining_at_stride_16_reads_the_map_at_that_stride(tiny_config):
    config = tiny_config("student")
    config.segmentation.stages = ()
    config.backbone.stride = 16
    model = build_model(config)
    # fc6 counts the first bin's first channel, fc7 and the logits pass it on.
    shapes = jax.eval_shape(lambda: init_params(model, config, 0))
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)
    for layer in ("fc6", "fc7", "logits"):
        params["roi_head"][layer]["kernel"][0, 0] = 1.0
    features = np.zeros((1, 2, 3, 16), np.float32)
    features[0, :, :, 0] = [[0, 16, 32], [0, 16, 32]]  # x of each cell's centre, less 8
    rois = np.array([[[8, 8, 38, 24]]], np.float32)
    rdr = model.apply({"params": params}, features, rois, method="refine")
    # The first of three bins spans 10 px from x = 8 on; its centre is at 13.
    np.testing.assert_allclose(rdr.logits[0, 0], [13 - 8, 0], rtol=1e-5)


def test_eq_15_adaption_is_a_1x1_convolution_to_the_teacher_s_channels_and_nothing_more(whole):
    _, model, params, (features, *_) = whole
    layer = params["adaption_layer"]
    assert layer["kernel"].shape == (1, 1, 16, 32)
    expected = features @ layer["kernel"][0, 0] + layer["bias"]
    found = model.apply({"params": params}, features, method="adapt")
    assert found.shape == (2, 4, 6, 32)
    # Without a ReLU.
    assert (expected < 0).any()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_eq_15_adapted_map_has_the_shape_of_the_teacher_s(whole, tiny_config):
    _, model, params, (features, *_) = whole
    config = tiny_config("teacher")
    teacher = build_model(config)
    visible = images()

    def of_teacher(params):
        return teacher.apply({"params": params}, visible, visible[..., :1], method="propose_regions")[0].concatenated()

    teacher_map = jax.eval_shape(of_teacher, jax.eval_shape(lambda: init_params(teacher, config, 0)))
    own = jax.eval_shape(lambda p: model.apply({"params": p}, features, method="adapt"), params)
    assert own.shape == teacher_map.shape


def test_eq_8_and_9_segmentation_is_a_raw_1x1_convolution_of_the_features(whole):
    _, _, params, (features, rpg, rdr) = whole
    for inputs, stage, found in ((features, "rpg", rpg), (pool_rois(features), "rdr", rdr)):
        layer = params[f"segmentation_{stage}"]
        assert layer["kernel"].shape == (1, 1, 16, 2)
        expected = inputs @ layer["kernel"][0, 0] + layer["bias"]
        assert (expected < 0).any()
        np.testing.assert_allclose(found.segmentation_logits, expected, rtol=1e-4, atol=1e-5)
    assert rpg.segmentation_logits.shape == (2, 4, 6, 2)
    assert rdr.segmentation_logits.shape == (2, 2, 3, 3, 2)


@pytest.mark.parametrize("stages", [(), ("rpg",), ("rdr",)])
def test_a_stage_without_segmentation_loses_its_layer_and_nothing_else(tiny_config, stages):
    config = tiny_config("student")
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
    _, rpg, rdr = jax.eval_shape(lambda p: run_both_stages(model, p, images()), params)
    assert (rpg.segmentation_logits is not None) == ("rpg" in stages)
    assert (rdr.segmentation_logits is not None) == ("rdr" in stages)


def test_there_are_no_branches_and_nothing_to_fuse(whole):
    *_, (_, rpg, rdr) = whole
    for outputs in (rpg, rdr):
        assert outputs.branch_logits is None
        assert outputs.branch_offsets is None
        assert outputs.modality_weights is None
