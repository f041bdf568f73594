"""From a config to a network; values that mean nothing."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import baseline, student, teacher
from dcrl_jax.errors import InputError
from dcrl_jax.models.detect import DetectionRules, ProposalRules
from dcrl_jax.models.network import build_anchors, build_model, build_network, detection_rules
from dcrl_jax.structures import MODALITIES

pytestmark = pytest.mark.usefixtures("quick_compile")


# Parameters of full-size parts, weights and biases.
VGG = 14_714_688
RPN = (9 * 512 * 512 + 512) + (512 * 2 * 9 + 2 * 9) + (512 * 4 * 9 + 4 * 9)
HEAD = (7 * 7 * 512 * 4096 + 4096) + (4096 * 4096 + 4096) + (4096 * 2 + 2) + (4096 * 4 + 4)


def full_size(config):
    """How many parameters each module of a config's model has; all of them float32."""
    shapes = build_network(config).param_shapes()
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {np.dtype(np.float32)}
    return {name: sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree)) for name, tree in shapes.items()}


def test_full_size_teacher_has_the_parameters_of_its_layers():
    inputs, vgg, cfl = 3, 0, []
    for channels, convolutions in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(convolutions):
            vgg += 9 * inputs * channels + channels
            inputs = channels
        # W once; P, in two groups, and V for each modality. No biases.
        half = channels // 2
        cfl.append(half * channels + 2 * (9 * half // 2 * channels + half * channels))
    assert vgg == VGG
    assert full_size(teacher.get_config()) == {
        **{
            f"{kind}_{m}": n for kind, n in (("backbones", VGG), ("rpns", RPN), ("roi_heads", HEAD)) for m in MODALITIES
        },
        **{f"cfl_blocks_{block}": number for block, number in enumerate(cfl)},
        **{f"segmentation_{stage}": 2 * 512 * 2 + 2 for stage in ("rpg", "rdr")},
        "modality_fusion": (2 * 4 * 5 * 512 * 256 + 256) + (256 * 2 + 2),
    }


def test_full_size_student_has_one_branch_and_the_adaption_layer():
    segmentation = dict.fromkeys(("segmentation_rpg", "segmentation_rdr"), 512 * 2 + 2)
    expected = {"backbone": VGG, "rpn": RPN, "roi_head": HEAD, **segmentation}
    assert full_size(baseline.get_config()) == expected
    assert full_size(student.get_config()) == expected | {"adaption_layer": 512 * 1024 + 1024}


@pytest.mark.parametrize("role", ["teacher", "student"])
def test_every_key_of_a_model_reaches_it(tiny_config, role):
    config = tiny_config(role)
    config.backbone.update(width=0.25, norm="group", stride=16, dtype="bfloat16", remat=True)
    config.segmentation.stages = ("rdr",)
    config.anchors.per_cell = 6
    config.roi.update(hidden=11, size=5, samples_per_bin=3)
    if role == "teacher":
        config.cfl.update(enabled=False, shared_fraction=0.25, groups=4, aggregation="average", specific_gain=0.5)
        config.fusion.update(strategy="linear", grid=(3, 2), hidden=5)
    model = build_model(config)
    assert (model.width, model.norm, model.stride) == (0.25, "group", 16)
    assert (model.dtype, model.remat) == (jnp.dtype("bfloat16"), True)
    assert model.segmentation_stages == ("rdr",)
    assert (model.anchors_per_cell, model.roi_hidden, model.roi_size, model.roi_samples_per_bin) == (6, 11, 5, 3)
    if role == "teacher":
        assert (model.cfl, model.cfl_shared_fraction, model.cfl_groups) == (False, 0.25, 4)
        assert (model.cfl_aggregation, model.cfl_specific_gain) == ("average", 0.5)
        assert (model.fusion, model.fusion_grid, model.fusion_hidden) == ("linear", (3, 2), 5)


def test_empty_grid_flattens_the_whole_map(tiny_config):
    config = tiny_config()
    config.fusion.grid = ()
    shapes = build_network(config).param_shapes()
    assert shapes["modality_fusion"]["hidden"]["kernel"].shape == (2 * 4 * 6 * 16, 8)


@pytest.mark.parametrize(("key", "value"), [("backbone.norm", "batch"), ("cfl.groups", 3)])
def test_value_that_means_nothing_is_refused(tiny_config, key, value):
    config = tiny_config()
    config.update_from_flattened_dict({key: value})
    with pytest.raises(InputError) as refusal:
        build_network(config)
    assert str(refusal.value).startswith(f"config.{key} is {value!r}; it must ")
    assert "\n" not in str(refusal.value)


def test_config_of_another_version_is_refused_with_the_key_that_it_lacks(tiny_config):
    config = tiny_config()
    with config.unlocked():
        del config.backbone.dtype
    with pytest.raises(InputError, match=r"^config\.backbone\.dtype is missing: .*another version of dcrl_jax\.$"):
        build_network(config)


def test_paper_s_anchors_are_9_heights_from_30_to_500_pixels_in_64x80_cells():
    anchors = build_anchors(teacher.get_config())
    assert anchors.shape == (64 * 80 * 9, 4)
    first = anchors[:9]
    heights = first[:, 3] - first[:, 1]
    np.testing.assert_allclose(heights[[0, 4, 8]], [30, np.sqrt(30 * 500), 500], rtol=1e-5)
    np.testing.assert_allclose((first[:, 2] - first[:, 0]) / heights, 0.41, rtol=1e-4)
    np.testing.assert_allclose((first[:, :2] + first[:, 2:]) / 2, 4, atol=1e-3)


def test_anchors_shrink_with_the_input_and_fewer_stand_at_stride_16():
    config = teacher.get_config("synthetic")
    config.data.height_px, config.data.width_px = 128, 160
    anchors = build_anchors(config)
    heights = anchors[:9, 3] - anchors[:9, 1]
    np.testing.assert_allclose(heights[[0, 8]], [30 / 4, 500 / 4], rtol=1e-5)
    config.backbone.stride = 16
    assert len(build_anchors(config)) * 4 == len(anchors) == 16 * 20 * 9


def test_rules_of_detection_come_from_the_config(tiny_config):
    config = tiny_config()
    config.rpn.update(offset_std=(1.0, 2.0, 3.0, 4.0), min_size_px=3.5, before_nms=77, nms_iou=0.65, kept_testing=11)
    config.final.update(min_score=0.25, nms_iou=0.35, max_detections=12)
    proposals = ProposalRules((32, 48), (1.0, 2.0, 3.0, 4.0), 3.5, 77, 11, 0.65)
    assert detection_rules(config) == DetectionRules(proposals, min_score=0.25, nms_iou=0.35, max_detections=12)


@pytest.fixture(scope="module")
def drawn(tiny_config):
    """Parameters of two seeds, the first one drawn twice."""
    config = tiny_config()
    config.roi.hidden = 64
    network = build_network(config)
    return [jax.device_get(network.init_params(seed)) for seed in (0, 0, 1)]


def test_seed_decides_the_random_parameters(drawn):
    first, again, other = drawn
    jax.tree.map(np.testing.assert_array_equal, first, again)
    kernels = [params["backbones_visible"]["conv1_1"]["kernel"] for params in (first, other)]
    assert not np.allclose(*kernels)


def test_no_two_kernels_start_from_the_same_draw(drawn):
    kernels = [leaf.ravel()[:4] for leaf in jax.tree.leaves(drawn[0]) if leaf.ndim > 1 and leaf.any()]
    assert len(np.unique(np.array(kernels), axis=0)) == len(kernels)


def test_layers_start_as_gaussians_of_their_fan_in_and_heads_at_0_01(drawn):
    params = drawn[0]
    expected = {("segmentation_rpg",): (0.01, 0.3)}
    for m in MODALITIES:
        expected |= {
            (f"backbones_{m}", "conv5_2"): (np.sqrt(2 / (9 * 16)), 0.1),
            (f"rpns_{m}", "conv"): (np.sqrt(2 / (9 * 16)), 0.1),
            (f"roi_heads_{m}", "fc6"): (np.sqrt(2 / (9 * 16)), 0.1),
            ("cfl_blocks_4", f"grouped_{m}"): (np.sqrt(2 / (9 * 4)), 0.1),
            ("cfl_blocks_4", f"pointwise_{m}"): (np.sqrt(2 / 8), 0.25),
        }
        heads = itertools.product((f"rpns_{m}", f"roi_heads_{m}"), ("logits", "offsets"))
        expected |= dict.fromkeys(heads, (0.01, 0.3))
    for path, (spread, tolerance) in expected.items():
        layer = functools.reduce(dict.__getitem__, path, params)
        assert np.std(layer["kernel"]) == pytest.approx(spread, rel=tolerance), path
    assert not params["modality_fusion"]["logits"]["kernel"].any()
    assert not any(leaf.any() for leaf in jax.tree.leaves(params) if leaf.ndim == 1)
