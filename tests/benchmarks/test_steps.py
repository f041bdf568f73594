"""Operations, memory and deviations of a training step, as the benchmarks count them."""

import numpy as np
import pytest

from benchmarks import full_size, roi_align, step_memory
from benchmarks import input_throughput as throughput
from benchmarks.data_parallel import FirstStep, deviation
from benchmarks.gpu.record import RECIPES, config_of
from benchmarks.steps import TrainingStep
from dcrl_jax.models.network import build_network
from dcrl_jax.models.vgg16 import BLOCKS
from dcrl_jax.training.fit import tree_bytes


@pytest.mark.parametrize("role", list(RECIPES))
def test_the_operations_of_a_step_are_those_of_the_table(role):
    counted = TrainingStep(RECIPES[role].get_config("kaist/literal")).flops(images=1)
    assert counted / 1e12 == pytest.approx(throughput.TERAFLOPS_PER_IMAGE[role], rel=0.01)


def test_the_baselines_operations_equal_a_count_by_hand():
    height, width, channels, multiply_adds = 512, 640, 3, []
    for block, (out, convolutions) in enumerate(BLOCKS, 1):
        for _ in range(convolutions):
            multiply_adds.append(height * width * 9 * channels * out)
            channels = out
        if block <= 3:  # stride 8
            height, width = height // 2, width // 2
    rpn = height * width * 9 * 512 * 512
    head = 128 * (7 * 7 * 512 * 4096 + 4096 * 4096)
    # Forward, and the gradients of inputs and of weights; the image needs none.
    by_hand = 2 * (3 * (sum(multiply_adds) + rpn + head) - multiply_adds[0])
    assert throughput.TERAFLOPS_PER_IMAGE["baseline"] == pytest.approx(by_hand / 1e12, rel=0.02)


def test_fixed_memory_is_parameters_gradient_optimizer_and_teacher():
    configs = {role: config_of(role, "kaist/literal", rehearse=True) for role in ("teacher", "student")}
    sizes = {role: tree_bytes(build_network(config).param_shapes()) for role, config in configs.items()}
    # Adam keeps two moments, SGD one; counters take a few bytes.
    assert step_memory.fixed_bytes(configs["teacher"]) == pytest.approx(4 * sizes["teacher"], abs=100)
    expected = 3 * sizes["student"] + sizes["teacher"]
    assert step_memory.fixed_bytes(configs["student"]) == pytest.approx(expected, abs=100)


@pytest.mark.usefixtures("shallow_backbone")
@pytest.mark.parametrize(
    ("role", "changes"),
    [("teacher", {"remat": True}), ("student", {"dtype": "bfloat16"}), ("baseline", {"frozen_blocks": 2})],
)
def test_an_image_needs_less_with_remat_bfloat16_or_frozen_blocks(role, changes):
    config, changed = (config_of(role, "kaist/literal", rehearse=True) for _ in range(2))
    changed.backbone.update(changes)
    assert 0 < step_memory.image_bytes(changed) < step_memory.image_bytes(config)


def test_a_deviation_is_relative_and_names_the_worst_tensor():
    reference = FirstStep({"a": np.array([3.0, 4.0]), "b": np.array([12.0])}, {"loss": 2.0, "zero": 0.0}, {})
    step = FirstStep({"a": np.array([3.0, 4.5]), "b": np.array([12.0])}, {"loss": 2.1, "zero": 1.0}, {})
    found = deviation(step, reference)
    assert (found.gradient, found.worst_tensor, found.losses) == pytest.approx((0.5 / 13, 0.5 / 5, 0.05))
    assert found.worst_tensor_name == "['a']"


@pytest.mark.usefixtures("quick_compile", "shallow_backbone")
def test_a_step_is_measured(monkeypatch, capsys):
    monkeypatch.setattr(full_size, "STEPS", 1)
    assert full_size.measure(config_of("baseline", "kaist/literal", rehearse=True)) > 0
    printed = capsys.readouterr().out
    assert "memory of a further image: 0.00 GiB" in printed
    assert "step 1: " in printed


def test_roi_align_is_timed_without_torchvision(monkeypatch):
    for name, value in {"CHANNELS": 8, "ROIS": 4, "LARGE_ROIS": 1}.items():
        monkeypatch.setattr(roi_align, name, value)
    _, _, *rows = roi_align.measure(1, beside_torchvision=False).splitlines()
    assert [row.split()[:3] for row in rows[::2]] == [["8", "64x80x8", "forward"], ["16", "32x40x8", "forward"]]
    assert all(row.split()[-2:] == ["-", "-"] for row in rows)
