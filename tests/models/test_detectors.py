"""Teacher, student and baseline: their parts in place, and what each ablation removes."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dcrl_jax.models.cfl import CrossModalFeatureLearning
from dcrl_jax.models.network import build_network
from dcrl_jax.models.roi_head import RoiHead
from dcrl_jax.models.rpn import RegionProposalNetwork
from dcrl_jax.models.teacher import TeacherFeatures
from dcrl_jax.models.vgg16 import Vgg16, normalise, pool
from dcrl_jax.ops.roi_align import roi_align
from dcrl_jax.structures import CHANNELS, RegionOutputs

pytestmark = pytest.mark.usefixtures("quick_compile", "shallow_backbone")

ROIS = np.float32([[[0, 0, 20, 30], [10, 5, 25, 32]], [[30, 0, 48, 32], [0, 0, 0, 0]]])
# Endings of the names of each role's branches.
BRANCHES = {"teacher": ("s_visible", "s_lwir"), "student": ("",)}
WIDTH = 1 / 32
STRIDE_16 = ("backbone.stride", 16)
NO_CFL = ("cfl.enabled", False)

both_roles = pytest.mark.parametrize("role", BRANCHES)


class Built(NamedTuple):
    """A detector and what it makes of ``images_of``."""

    model: Any
    params: Any
    maps: tuple[jax.Array, ...]  # of each branch
    features: Any
    rpg: RegionOutputs
    rdr: RegionOutputs


def images_of(model):
    rng = np.random.default_rng(3)
    return [rng.integers(0, 256, (2, 32, 48, CHANNELS[name]), np.uint8) for name in model.modalities]


def run_both_stages(model, params, *images):
    variables = {"params": params}
    features, rpg = model.apply(variables, *images, method="propose_regions")
    return features, rpg, model.apply(variables, features, ROIS, method="refine")


@pytest.fixture(scope="module")
def build(tiny_config, random_params):
    """Builds and runs the tiny detector of a role with changed keys, once."""

    def make(role, *changes):
        config = tiny_config(role)
        config.update_from_flattened_dict(dict(changes))
        network = build_network(config)
        model, params = network.model, random_params(network)
        features, rpg, rdr = jax.jit(functools.partial(run_both_stages, model))(params, *images_of(model))
        maps = features.maps if role == "teacher" else (features,)
        return Built(model, params, maps, features, rpg, rdr)

    return functools.cache(make)


@pytest.fixture(scope="module")
def shapes(tiny_config):
    """Gives the shapes of all parameters by their path, and of the outputs, for a role with changed keys."""

    def make(role, *changes):
        config = tiny_config(role)
        config.update_from_flattened_dict(dict(changes))
        network = build_network(config)
        tree = network.param_shapes()
        outputs = jax.eval_shape(functools.partial(run_both_stages, network.model), tree, *images_of(network.model))
        leaves = jax.tree_util.tree_leaves_with_path(tree)
        return {"/".join(key.key for key in path): leaf.shape for path, leaf in leaves}, outputs

    return functools.cache(make)


def features_by_hand(params, images, branches, pools, with_cfl):
    """The conv5 maps from the blocks in turn: convolutions, CFL, pool."""

    @jax.jit
    def run(params, images):
        maps = [normalise(image) for image in images]
        for block in range(1, 6):
            backbones = [{"params": params[f"backbone{branch}"]} for branch in branches]
            maps = [Vgg16(WIDTH).apply(v, block, x, method="block") for v, x in zip(backbones, maps, strict=True)]
            if with_cfl:
                maps = CrossModalFeatureLearning().apply({"params": params[f"cfl_blocks_{block - 1}"]}, tuple(maps))
            if block in pools:
                maps = [pool(x) for x in maps]
        return maps

    return run(params, images)


def pool_rois(features):
    return jnp.stack([roi_align(x, r, 8, 3, 2) for x, r in zip(features, ROIS, strict=True)])


def assert_close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("role", "changes", "pools", "cells"),
    [
        ("teacher", (), (1, 2, 3), (4, 6)),
        ("teacher", (NO_CFL,), (1, 2, 3), (4, 6)),
        ("student", (), (1, 2, 3), (4, 6)),
        ("student", (STRIDE_16,), (1, 2, 3, 4), (2, 3)),
    ],
    ids=["teacher", "teacher without CFL", "student", "student of stride 16"],
)
def test_features_are_blocks_then_cfl_then_pool(build, role, changes, pools, cells):
    built = build(role, *changes)
    with_cfl = role == "teacher" and not changes
    expected = features_by_hand(built.params, images_of(built.model), BRANCHES[role], pools, with_cfl)
    for found, by_hand in zip(built.maps, expected, strict=True):
        assert found.shape == (2, *cells, 16)
        assert jnp.std(by_hand) > 0.01
        assert_close(found, by_hand)


@pytest.mark.parametrize(("role", "changes"), [("teacher", ()), ("teacher", (NO_CFL,)), ("student", ())])
def test_heads_of_a_branch_read_its_features_or_both_without_cfl(build, role, changes):
    built = build(role, *changes)
    for m, branch in enumerate(BRANCHES[role]):
        maps = built.maps if changes else built.maps[m : m + 1]
        pooled = jnp.concatenate([pool_rois(x) for x in maps], axis=-1)
        for outputs, head, name, inputs in (
            (built.rpg, RegionProposalNetwork(16, 3), "rpn", jnp.concatenate(maps, axis=-1)),
            (built.rdr, RoiHead(8), "roi_head", pooled),
        ):
            expected = jax.jit(head.apply)({"params": built.params[f"{name}{branch}"]}, inputs)
            if role == "teacher":
                found = outputs.branch_logits[m], outputs.branch_offsets[m]
            else:
                found = outputs.logits, outputs.offsets
            assert found[0].shape == ((2, 4 * 6 * 3, 2) if name == "rpn" else (2, 2, 2))
            assert (outputs.modality_weights is None) == (role == "student")
            jax.tree.map(assert_close, found, expected)


@both_roles
def test_eq_8_and_9_segmentation_is_a_linear_1x1_convolution(build, role):
    built = build(role)
    pooled = [pool_rois(x) for x in built.maps]
    for maps, stage, found in ((built.maps, "rpg", built.rpg), (pooled, "rdr", built.rdr)):
        layer = built.params[f"segmentation_{stage}"]
        expected = np.concatenate(maps, axis=-1) @ layer["kernel"][0, 0] + layer["bias"]
        assert (expected < 0).any()
        assert_close(found.segmentation_logits, expected)
    assert built.rpg.segmentation_logits.shape == (2, 4, 6, 2)
    assert built.rdr.segmentation_logits.shape == (2, 2, 3, 3, 2)


def test_eq_12_and_13_both_stages_are_fused_by_the_same_weights(build):
    built = build("teacher")
    mu = np.asarray(built.features.weights)
    assert mu.shape == (2, 2)
    np.testing.assert_allclose(mu.sum(1), 1, rtol=1e-6)
    assert np.abs(mu - 0.5).min() > 1e-3
    for stage in (built.rpg, built.rdr):
        np.testing.assert_array_equal(stage.modality_weights, mu)
        for fused, branches in ((stage.logits, stage.branch_logits), (stage.offsets, stage.branch_offsets)):
            expected = mu[:, 0, None, None] * branches[0] + mu[:, 1, None, None] * branches[1]
            np.testing.assert_allclose(fused, expected, rtol=1e-4, atol=1e-6)


def test_eq_15_adaption_maps_to_the_teachers_concatenated_features(build):
    teacher, student = build("teacher"), build("student")
    joined = np.asarray(teacher.features.concatenated())
    np.testing.assert_array_equal(joined[..., :16], teacher.maps[0])
    np.testing.assert_array_equal(joined[..., 16:], teacher.maps[1])
    layer = student.params["adaption_layer"]
    expected = student.features @ layer["kernel"][0, 0] + layer["bias"]
    found = student.model.apply({"params": student.params}, student.features, method="adapt")
    assert found.shape == joined.shape == (2, 4, 6, 32)
    assert (expected < 0).any()  # there is no ReLU
    assert_close(found, expected)


def layer(name, *kinds):
    return {f"{name}/{kind}" for kind in kinds or ("kernel", "bias")}


@both_roles
@pytest.mark.parametrize("stages", [(), ("rpg",), ("rdr",)])
def test_table_vi_a_stage_without_segmentation_loses_only_its_layer(shapes, role, stages):
    (complete, _), (left, (_, rpg, rdr)) = shapes(role), shapes(role, ("segmentation.stages", stages))
    lost = set().union(*(layer(f"segmentation_{stage}") for stage in {"rpg", "rdr"} - set(stages)))
    assert left == {path: shape for path, shape in complete.items() if path not in lost}
    assert lost < set(complete)
    for stage, outputs in (("rpg", rpg), ("rdr", rdr)):
        assert (outputs.segmentation_logits is not None) == (stage in stages)


def test_without_cfl_its_parameters_go_and_the_heads_inputs_widen(shapes):
    complete, left = shapes("teacher")[0], shapes("teacher", NO_CFL)[0]
    lost = {path for path in complete if path.startswith("cfl_blocks_")}
    assert set(complete) - set(left) == lost
    assert len(lost) == 5 * 5
    widened = {path: shape for path, shape in left.items() if shape != complete[path]}
    assert widened == {
        **{f"rpns_{m}/conv/kernel": (3, 3, 32, 16) for m in CHANNELS},
        **{f"roi_heads_{m}/fc6/kernel": (3 * 3 * 32, 8) for m in CHANNELS},
    }


def test_table_iii_fusion_strategies_differ_only_in_the_fusions_parameters(shapes):
    own, rest = {}, {}
    for strategy in ("maf", "linear", "average"):
        tree = shapes("teacher", ("fusion.strategy", strategy))[0]
        own[strategy] = {path: shape for path, shape in tree.items() if path.startswith("modality_fusion")}
        rest[strategy] = {path: shape for path, shape in tree.items() if path not in own[strategy]}
    assert set(own["maf"]) == layer("modality_fusion/hidden") | layer("modality_fusion/logits")
    assert own["maf"]["modality_fusion/hidden/kernel"] == (2 * 2 * 3 * 16, 8)
    assert own["linear"] == {"modality_fusion/weights": (2,)}
    assert own["average"] == {}
    assert rest["maf"] == rest["linear"] == rest["average"]


def test_stride_16_of_a_teacher_changes_no_parameter(shapes):
    (at_8, _), (at_16, (features, _, _)) = shapes("teacher"), shapes("teacher", STRIDE_16)
    assert at_8 == at_16
    assert {x.shape for x in features.maps} == {(2, 2, 3, 16)}


@both_roles
def test_refining_at_stride_16_reads_the_map_at_that_stride(tiny_config, random_params, role):
    config = tiny_config(role)
    config.backbone.stride, config.segmentation.stages = 16, ()
    network = build_network(config)
    params = jax.tree.map(np.zeros_like, random_params(network))
    # fc6 reads the first bin's first channel, fc7 and the logits pass it on.
    for name in ("fc6", "fc7", "logits"):
        params[f"roi_head{BRANCHES[role][0]}"][name]["kernel"][0, 0] = 1.0
    features = np.zeros((1, 2, 3, 16), np.float32)
    features[0, :, :, 0] = [[0, 16, 32], [0, 16, 32]]  # x of each cell's centre, less 8
    inputs = TeacherFeatures((features, features), np.float32([[1, 0]])) if role == "teacher" else features
    refine = jax.jit(functools.partial(network.model.apply, method="refine"))
    rdr = refine({"params": params}, inputs, np.float32([[[8, 8, 38, 24]]]))
    # The first of three bins spans 10 px from x = 8 on; its centre is at 13.
    np.testing.assert_allclose(rdr.logits[0, 0], [13 - 8, 0], rtol=1e-5)


def test_table_iv_only_feature_distillation_adds_the_adaption_layer(shapes):
    others = [(f"distillation.{term}", True) for term in ("cls", "bbr", "seg")]
    baseline, without = shapes("baseline")[0], shapes("student", ("distillation.fea", False), *others)[0]
    complete = shapes("student", ("distillation.fea", True))[0]
    assert without == baseline == {k: shape for k, shape in complete.items() if k not in layer("adaption_layer")}
    assert layer("adaption_layer") < set(complete)


def test_baseline_starts_from_the_students_values_bit_for_bit(tiny_config):
    started = {}
    for role in ("student", "baseline"):
        config = tiny_config(role)
        started[role] = dict(jax.device_get(build_network(config).init_params(7)))
    assert started["student"].pop("adaption_layer")["kernel"].std() > 0
    jax.tree.map(np.testing.assert_array_equal, started["student"], started["baseline"])
