"""Teacher, student and baseline: their parts in place, and what each ablation removes."""

import dataclasses
import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dcrl_jax.models.cfl import CrossModalFeatureLearning
from dcrl_jax.models.network import build_network
from dcrl_jax.models.roi_head import RoiHead
from dcrl_jax.models.rpn import RegionProposalNetwork
from dcrl_jax.models.vgg16 import Vgg16, normalise
from dcrl_jax.ops.pooling import max_pool
from dcrl_jax.ops.roi_align import roi_align
from dcrl_jax.structures import CHANNELS, MODALITIES

pytestmark = pytest.mark.usefixtures("quick_compile", "shallow_backbone")

ROIS = np.float32([[[0, 0, 20, 30], [10, 5, 25, 32]], [[30, 0, 48, 32], [0, 0, 0, 0]]])
# Endings of the names of each role's branches.
BRANCHES = {"teacher": ("s_visible", "s_lwir"), "student": ("",)}
WIDTH = 1 / 32
STRIDE_16, NO_CFL = {"backbone.stride": 16}, {"cfl.enabled": False}

VARIANTS = pytest.mark.parametrize(
    ("role", "cfl", "stride"),
    [("teacher", True, 8), ("teacher", False, 16), ("student", False, 8), ("student", False, 16)],
)
both_roles = pytest.mark.parametrize("role", BRANCHES)


def images_of(model):
    rng = np.random.default_rng(3)
    return [rng.integers(0, 256, (2, 32, 48, CHANNELS[name]), np.uint8) for name in model.modalities]


def run_both_stages(model, params, *images):
    variables = {"params": params}
    features, rpg = model.apply(variables, *images, method="propose_regions")
    return features, rpg, model.apply(variables, features, ROIS, method="refine")


@pytest.fixture(scope="module")
def build(tiny_config, random_params):
    """Builds and runs the tiny detector of a role, without CFL or at stride 16, once."""

    @functools.cache
    def make(role, cfl, stride):
        config = tiny_config(role)
        config.backbone.stride = stride
        if role == "teacher":
            config.cfl.enabled = cfl
        network = build_network(config)
        model, params = network.model, random_params(network)
        features, rpg, rdr = jax.jit(functools.partial(run_both_stages, model))(params, *images_of(model))
        maps = features.maps if role == "teacher" else (features,)
        return SimpleNamespace(model=model, params=params, maps=maps, features=features, rpg=rpg, rdr=rdr)

    return make


def param_shapes(config, changes=()):
    """Shapes of all parameters by their path."""
    config.update_from_flattened_dict(dict(changes))
    leaves = jax.tree_util.tree_leaves_with_path(build_network(config).param_shapes())
    return {"/".join(key.key for key in path): leaf.shape for path, leaf in leaves}


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def features_by_hand(params, images, branches, pools, with_cfl):
    """The conv5 maps from the blocks in turn: convolutions, CFL, pool."""
    maps = [normalise(image) for image in images]
    for block in range(1, 6):
        backbones = [{"params": params[f"backbone{branch}"]} for branch in branches]
        maps = [Vgg16(WIDTH).apply(v, block, x, method="block") for v, x in zip(backbones, maps, strict=True)]
        if with_cfl:
            maps = CrossModalFeatureLearning().apply({"params": params[f"cfl_blocks_{block - 1}"]}, tuple(maps))
        if block in pools:
            maps = [max_pool(x) for x in maps]
    return maps


def pool_rois(features, stride):
    return jnp.stack([roi_align(x, r, stride, 3, 2) for x, r in zip(features, ROIS, strict=True)])


def assert_close(found, expected):
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@VARIANTS
def test_features_are_blocks_then_cfl_then_pool(build, role, cfl, stride):
    built = build(role, cfl, stride)
    pools, cells = {8: ((1, 2, 3), (4, 6)), 16: ((1, 2, 3, 4), (2, 3))}[stride]
    expected = features_by_hand(built.params, images_of(built.model), BRANCHES[role], pools, cfl)
    for found, by_hand in zip(built.maps, expected, strict=True):
        assert found.shape == (2, *cells, 16)
        assert jnp.std(by_hand) > 0.01
        assert_close(found, by_hand)


@VARIANTS
def test_heads_of_a_branch_read_its_features_or_both_without_cfl(build, role, cfl, stride):
    built = build(role, cfl, stride)
    for m, branch in enumerate(BRANCHES[role]):
        maps = built.maps[m : m + 1] if cfl else built.maps
        pooled = jnp.concatenate([pool_rois(x, stride) for x in maps], axis=-1)
        rpn = built.rpg, RegionProposalNetwork(16, 3), jnp.concatenate(maps, axis=-1)
        for name, (outputs, head, inputs) in {"rpn": rpn, "roi_head": (built.rdr, RoiHead(8), pooled)}.items():
            expected = jax.jit(head.apply)({"params": built.params[f"{name}{branch}"]}, inputs)
            found = outputs.logits, outputs.offsets
            if role == "teacher":
                found = outputs.branch_logits[m], outputs.branch_offsets[m]
            assert (outputs.modality_weights is None) == (role == "student")
            jax.tree.map(assert_close, found, expected)


@both_roles
def test_eq_8_and_9_segmentation_is_a_linear_1x1_convolution(build, role):
    built = build(role, role == "teacher", 8)
    pooled = [pool_rois(x, 8) for x in built.maps]
    for maps, stage, found in ((built.maps, "rpg", built.rpg), (pooled, "rdr", built.rdr)):
        layer = built.params[f"segmentation_{stage}"]
        expected = np.concatenate(maps, axis=-1) @ layer["kernel"][0, 0] + layer["bias"]
        assert (expected < 0).any()
        assert_close(found.segmentation_logits, expected)


def test_eq_12_and_13_both_stages_are_fused_by_the_same_weights(build):
    built = build("teacher", True, 8)
    mu = np.asarray(built.features.weights)
    assert np.abs(mu - 0.5).min() > 1e-3
    for stage in (built.rpg, built.rdr):
        np.testing.assert_array_equal(stage.modality_weights, mu)
        for fused, branches in ((stage.logits, stage.branch_logits), (stage.offsets, stage.branch_offsets)):
            expected = mu[:, 0, None, None] * branches[0] + mu[:, 1, None, None] * branches[1]
            np.testing.assert_allclose(fused, expected, rtol=1e-4, atol=1e-6)


def test_eq_15_adaption_maps_to_the_teachers_concatenated_features(build):
    teacher, student = build("teacher", True, 8), build("student", False, 8)
    joined = np.asarray(teacher.features.concatenated())
    np.testing.assert_array_equal(joined[..., :16], teacher.maps[0])
    np.testing.assert_array_equal(joined[..., 16:], teacher.maps[1])
    layer = student.params["adaption_layer"]
    expected = student.features @ layer["kernel"][0, 0] + layer["bias"]
    found = student.model.apply({"params": student.params}, student.features, method="adapt")
    assert found.shape == joined.shape == (2, 4, 6, 32)
    assert (expected < 0).any()  # there is no ReLU
    assert_close(found, expected)


@pytest.fixture(scope="module")
def complete_shapes(tiny_config):
    return functools.cache(lambda role: param_shapes(tiny_config(role)))


CONCATENATED = {f"rpns_{m}/conv/kernel": (3, 3, 32, 16) for m in CHANNELS}
CONCATENATED |= {f"roi_heads_{m}/fc6/kernel": (3 * 3 * 32, 8) for m in CHANNELS}


@pytest.mark.parametrize(
    ("role", "changes", "lost", "new"),
    [
        # Table III and Sec. IV
        ("teacher", NO_CFL, ["cfl_blocks_"], CONCATENATED),
        ("teacher", STRIDE_16, [], {}),
        ("teacher", {"fusion.strategy": "linear"}, ["modality_fusion/"], {"modality_fusion/weights": (2,)}),
        ("teacher", {"fusion.grid": ()}, [], {"modality_fusion/hidden/kernel": (2 * 4 * 6 * 16, 8)}),
        ("teacher", {"fusion.strategy": "average"}, ["modality_fusion/"], {}),
        # Table IV
        ("student", {"distillation.fea": False, "distillation.cls": True}, ["adaption_layer/"], {}),
        (
            "student",
            {"teacher.width": 1 / 16},
            [],
            {"adaption_layer/kernel": (1, 1, 16, 64), "adaption_layer/bias": (64,)},
        ),
        # Table VI
        *((role, {"segmentation.stages": ("rpg",)}, ["segmentation_rdr/"], {}) for role in BRANCHES),
        *((role, {"segmentation.stages": ("rdr",)}, ["segmentation_rpg/"], {}) for role in BRANCHES),
        *((role, {"segmentation.stages": ()}, ["segmentation_rpg/", "segmentation_rdr/"], {}) for role in BRANCHES),
    ],
)
def test_ablation_changes_only_its_own_parameters(tiny_config, complete_shapes, role, changes, lost, new):
    complete, found = complete_shapes(role), param_shapes(tiny_config(role), changes)
    assert found == {path: shape for path, shape in complete.items() if not path.startswith(tuple(lost))} | new
    assert all(any(path.startswith(start) for path in complete) for start in lost)


def test_seed_decides_the_random_key(tiny_config):
    key_of = SimpleNamespace(init=lambda key, *_: {"params": jax.random.key_data(key)}, modalities=())
    network = dataclasses.replace(build_network(tiny_config()), model=key_of)
    assert (network.init_params(0) != network.init_params(1)).any()


def test_baseline_starts_from_the_students_values_bit_for_bit(tiny_config):
    started = {}
    for role in ("student", "baseline"):
        config = tiny_config(role)
        started[role] = dict(jax.device_get(build_network(config).init_params(7)))
    assert started["student"].pop("adaption_layer")["kernel"].std() > 0
    jax.tree.map(np.testing.assert_array_equal, started["student"], started["baseline"])


def test_layers_start_as_gaussians_of_their_fan_in_and_heads_at_0_01(tiny_config):
    config = tiny_config()
    config.roi.hidden = 64
    params = jax.device_get(build_network(config).init_params(0))
    kernels = [leaf.ravel()[:4] for leaf in jax.tree.leaves(params) if leaf.ndim > 1 and leaf.any()]
    assert len(np.unique(np.array(kernels), axis=0)) == len(kernels)
    he = np.sqrt(2 / (9 * 16))
    expected = {"segmentation_rpg": (0.01, 0.3)}
    for m in MODALITIES:
        expected |= dict.fromkeys((f"backbones_{m}/conv5_1", f"rpns_{m}/conv", f"roi_heads_{m}/fc6"), (he, 0.1))
        expected[f"cfl_blocks_4/grouped_{m}"] = np.sqrt(2 / (9 * 4)), 0.1
        expected[f"cfl_blocks_4/pointwise_{m}"] = np.sqrt(2 / 8), 0.25
        heads = (f"{stage}_{m}/{head}" for stage in ("rpns", "roi_heads") for head in ("logits", "offsets"))
        expected |= dict.fromkeys(heads, (0.01, 0.3))
    for path, (spread, tolerance) in expected.items():
        layer = functools.reduce(dict.__getitem__, path.split("/"), params)
        assert np.std(layer["kernel"]) == pytest.approx(spread, rel=tolerance), path
    assert not params["modality_fusion"]["logits"]["kernel"].any()
    assert not any(leaf.any() for leaf in jax.tree.leaves(params) if leaf.ndim == 1)
