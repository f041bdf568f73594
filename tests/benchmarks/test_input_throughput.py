"""The pairs that the benchmark makes, what it says that a GPU takes, and the operations behind that."""

import pytest

from benchmarks import full_size
from benchmarks import input_throughput as throughput
from configs import baseline, student, teacher
from dcrl_jax.data import sources
from dcrl_jax.models.vgg16 import BLOCKS
from dcrl_jax.training.loop import open_train_source

CONFIGS = {"teacher": teacher.get_config(), "student": student.get_config(), "baseline": baseline.get_config()}


def test_its_own_pairs_are_of_kaists_size_and_go_through_the_pipeline(tmp_path):
    configs = throughput.recipes(throughput.make_pairs(tmp_path, 4), ["train.batch_size=8"])
    source = open_train_source(sources.prepare(configs["pairs"].data), configs["pairs"].data)
    assert len(source) == 4
    assert all(40_000 < len(source[place]["visible"]) < 90_000 for place in range(4))
    for config in configs.values():
        rate = throughput.timed_batches(source, config, threads=2, batches=1)
        assert rate.images == 8
        assert rate.per_second > 0
        assert tuple(throughput.stage_times(source, config, images=3)) == throughput.STAGES


def test_a_gpu_takes_its_share_of_the_peak_and_cores_follow():
    assert throughput.images_consumed(2.0, peak_teraflops=1000.0, utilisation=0.4) == 200.0
    rows = throughput.demand({"teacher": 2.0, "baseline": 1.0}, {"pairs": 100.0, "RGB alone": 50.0}, 0.5)
    a100 = throughput.PEAK_TERAFLOPS["A100"]
    assert rows[0] == ["teacher", 2.0, "A100", a100 / 4, a100 / 400]
    assert [row[-1] for row in rows if row[0] == "baseline"] == [row[3] / 50 for row in rows[2:]]


@pytest.mark.parametrize("arguments", ["--threads=0", "--threads=two", "--pairs=0", "--utilisation=0"])
def test_numbers_that_mean_nothing_are_refused(arguments):
    with pytest.raises(SystemExit):
        throughput.parse([arguments])


@pytest.mark.parametrize("role", list(CONFIGS))
def test_the_operations_of_a_step_are_those_of_the_networks_in_the_configs(role):
    counted = full_size.teraflops(CONFIGS[role], images=1)
    assert counted == pytest.approx(throughput.TERAFLOPS_PER_IMAGE[role], rel=0.01)


def test_the_baselines_operations_are_those_of_a_count_by_hand():
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
