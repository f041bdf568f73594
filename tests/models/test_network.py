"""From a config to a network; values that mean nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import baseline, student, teacher
from dcrl_jax.models.detect import DetectionRules, ProposalRules
from dcrl_jax.models.network import build_anchors, build_model, build_network, crop_config, detection_rules
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
    branch = {"backbones": VGG, "rpns": RPN, "roi_heads": HEAD}
    assert full_size(teacher.get_config("kaist/literal")) == {
        **{f"{kind}_{m}": n for kind, n in branch.items() for m in MODALITIES},
        **{f"cfl_blocks_{block}": number for block, number in enumerate(cfl)},
        **{f"segmentation_{stage}": 2 * 512 * 2 + 2 for stage in ("rpg", "rdr")},
        "modality_fusion": (2 * 4 * 5 * 512 * 256 + 256) + (256 * 2 + 2),
    }


def test_full_size_student_has_one_branch_and_the_adaption_layer():
    segmentation = dict.fromkeys(("segmentation_rpg", "segmentation_rdr"), 512 * 2 + 2)
    expected = {"backbone": VGG, "rpn": RPN, "roi_head": HEAD, **segmentation}
    assert full_size(baseline.get_config("kaist/literal")) == expected
    assert full_size(student.get_config("kaist/literal")) == expected | {"adaption_layer": 512 * 1024 + 1024}


@pytest.mark.parametrize("role", ["teacher", "student"])
def test_every_key_of_a_model_reaches_it(tiny_config, role):
    config = tiny_config(role)
    expected = {"width": 0.25, "norm": "group", "stride": 16, "remat": True}
    config.backbone.update(expected, dtype="bfloat16")
    expected |= {"dtype": jnp.bfloat16, "segmentation_stages": ("rdr",), "anchors_per_cell": 6}
    config.segmentation.stages, config.anchors.per_cell = ("rdr",), 6
    expected |= {"roi_hidden": 11, "roi_size": 5, "roi_samples_per_bin": 3}
    config.roi.update(hidden=11, size=5, samples_per_bin=3)
    if role == "teacher":
        config.cfl.update(enabled=False, shared_fraction=0.25, groups=4, aggregation="average")
        config.cfl.update(init="identity", specific_gain=0.5)
        config.fusion.update(strategy="linear", grid=(3, 2), hidden=5)
        expected |= {"cfl": False, "cfl_shared_fraction": 0.25, "cfl_groups": 4, "cfl_aggregation": "average"}
        expected |= {"cfl_init": "identity", "cfl_specific_gain": 0.5}
        expected |= {"fusion": "linear", "fusion_grid": (3, 2), "fusion_hidden": 5}
    model = build_model(config)
    assert {name: getattr(model, name) for name in expected} == expected


def test_anchors_are_9_heights_from_30_to_500_pixels_of_512_in_each_cell():
    anchors = build_anchors(teacher.get_config("kaist/literal"))
    assert anchors.shape == (64 * 80 * 9, 4)
    width, height = (anchors[:9, 2:] - anchors[:9, :2]).T
    np.testing.assert_allclose(height[[0, 4, 8]], [30, np.sqrt(30 * 500), 500], rtol=1e-5)
    np.testing.assert_allclose(width / height, 0.41, rtol=1e-4)
    np.testing.assert_allclose((anchors[:9, :2] + anchors[:9, 2:]) / 2, 4, atol=1e-3)
    # They shrink with the input, and there are fewer at stride 16.
    config = teacher.get_config("synthetic")
    config.data.height_px, config.data.width_px, config.backbone.stride = 128, 160, 16
    small = build_anchors(config)
    assert small.shape == (8 * 10 * 9, 4)
    np.testing.assert_allclose(small[:9, 3] - small[:9, 1], height / 4, rtol=1e-5)


def test_network_of_crops_has_the_anchors_of_the_whole_input():
    config = teacher.get_config("kaist/literal")
    assert crop_config(config) is config
    config.data.crop = (256, 320)
    anchors = build_anchors(crop_config(config))
    assert anchors.shape == (32 * 40 * 9, 4)
    np.testing.assert_allclose(anchors[:9], build_anchors(config)[:9], rtol=1e-6)
    assert detection_rules(crop_config(config)).proposals.image_size == (256, 320)
    assert detection_rules(config).proposals.image_size == (512, 640)


def test_rules_of_detection_come_from_the_config(tiny_config):
    config = tiny_config()
    config.rpn.update(offset_std=(1.0, 2.0, 3.0, 4.0), min_size_px=3.5, before_nms=77, nms_iou=0.65, kept_testing=11)
    config.final.update(min_score=0.25, nms_iou=0.35, max_detections=12)
    proposals = ProposalRules((32, 48), (1.0, 2.0, 3.0, 4.0), 3.5, 77, 11, 0.65)
    assert detection_rules(config) == DetectionRules(proposals, min_score=0.25, nms_iou=0.35, max_detections=12)
