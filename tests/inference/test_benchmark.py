"""The measurements and tables of --mode=benchmark."""

import re
import time
import types

import jax
import numpy as np
import pytest

from dcrl_jax.errors import InputError
from dcrl_jax.inference import benchmark as benchmark_module
from dcrl_jax.inference.benchmark import benchmark, count_flops, free_bytes, print_batches, time_in_turns
from dcrl_jax.models.network import build_network
from dcrl_jax.models.vgg16 import BLOCKS, block_channels


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs a benchmark with little work and returns what it prints."""
    monkeypatch.setattr(benchmark_module, "REPEATS", 3)
    monkeypatch.setattr(benchmark_module, "LARGEST_PRODUCT", 1024)

    def benchmark_of(checkpoint, config, batches):
        monkeypatch.setattr(benchmark_module, "BATCHES", batches)
        benchmark(checkpoint, config)
        return capsys.readouterr().out

    return benchmark_of


def convolution_flops(height, width, inputs, outputs, kernel):
    """Operations of a convolution with a bias and a 1x1 or 3x3 kernel; its zero padding is not multiplied."""
    taps = (kernel * height - kernel + 1) * (kernel * width - kernel + 1)
    return 2 * taps * inputs * outputs + height * width * outputs


def student_flops(config):
    """Convolutions and fully connected layers of a student with one convolution in each block."""
    height, width, inputs, total = config.data.height_px, config.data.width_px, 3, 0
    for block in range(1, len(BLOCKS) + 1):
        outputs = block_channels(block, config.backbone.width)
        total += convolution_flops(height, width, inputs, outputs, 3)
        if block <= 3:
            height, width = height // 2, width // 2
        inputs = outputs
    total += convolution_flops(height, width, inputs, inputs, 3)
    total += convolution_flops(height, width, inputs, 6 * config.anchors.per_cell + 2, 1)
    rois, cells, hidden = config.rpn.kept_testing, config.roi.size**2, config.roi.hidden
    total += rois * convolution_flops(config.roi.size, config.roi.size, inputs, 2, 1)
    return total + 2 * rois * (cells * inputs * hidden + hidden * hidden + 6 * hidden)


@pytest.mark.parametrize("width", [0.5, 1.0])
def test_flops_are_those_of_the_layers_by_hand(tiny_config, width):
    # At width 1, maps of this size are convolved by Winograd's algorithm on a CPU, in a quarter of the multiplications.
    config = tiny_config("student")
    config.data.height_px, config.data.width_px = 256, 320
    config.backbone.width, config.roi.hidden = width, 256  # layers wide enough to outweigh all other steps
    assert count_flops(build_network(config)) == pytest.approx(student_flops(config), rel=0.02)


def numbers_of(text, label):
    """The numbers of the row that begins with a label."""
    (line,) = [line for line in text.splitlines() if line.startswith(label)]
    return [float(number) for number in re.findall(r"(?<=\s)[\d.]+(?=\s|$)", line.removeprefix(label))]


def assert_consistent(text):
    """Checks the tables of seconds and of the steps other than layers."""
    median, low, high, fastest = numbers_of(text, "network, input on the device")
    assert 0 < fastest <= low <= median <= high
    assert fastest < numbers_of(text, "1280x720 pixels in, people out")[0]
    table = text.partition("Steps other than layers")[2].partition("Operations")[0]
    propose, decide, total = (numbers_of(table, name) for name in ("proposals and their NMS", "final NMS", "total"))
    assert propose[0] > 0
    np.testing.assert_allclose(np.add(propose, decide), total, atol=0.02)
    assert total[1] == pytest.approx(total[0] / 10 / median, rel=0.1)  # ms as a share of s, in %


@pytest.mark.slow
def test_benchmark_of_a_checkpoint_names_it(run, trained):
    text = run(str(trained("teacher").workdir), None, (1,))
    assert text.startswith("teacher, 48x32 pixels")
    assert f"; the parameters of {trained('teacher').workdir}, step 7\n" in text
    assert_consistent(text)


def test_benchmark_of_a_config_is_consistent(run, tiny_config):
    config = tiny_config("student")
    config.roi.hidden = 1024
    text = run(None, config, (1, 2))
    detector, machine, *_ = text.splitlines()
    assert detector == (
        "student, 48x32 pixels, stride 8, width 0.03125, head 1024, 10 proposals, float32; random parameters"
    )
    assert f"jax {jax.__version__} on cpu" in machine
    assert time.strftime("%Y-%m") in machine
    assert_consistent(text)

    # Printed to 0.1, and the time to 0.1 ms.
    flops, fastest = count_flops(build_network(config)), numbers_of(text, "network, input on the device")[3]
    work, rate, share = numbers_of(text, "network, fastest")
    assert work == pytest.approx(flops / 1e9, abs=0.051)
    assert rate == pytest.approx(flops / fastest / 1e9, abs=0.1, rel=0.1)
    work, peak, full = numbers_of(text, "product, fastest")
    assert (work, full) == (pytest.approx(2 * 1024**3 / 1e9, abs=0.051), 100)
    assert numbers_of(text, "product, median")[1] <= peak
    assert "The product is of 1024x1024 matrices" in text
    assert share == pytest.approx(100 * rate / peak, abs=0.06 + 6 / peak)

    size = sum(4 * leaf.size for leaf in jax.tree.leaves(build_network(config).param_shapes())) / 2**30
    memory = text.partition("Memory of one image")[2]
    rows = ("arguments", "temporary", "results", "total")
    arguments, temporary, results, total = (numbers_of(memory, name)[0] for name in rows)
    assert size > 0.004
    assert size - 0.001 < arguments < 1.1 * size + 0.001
    assert total == pytest.approx(arguments + temporary + results, abs=0.002)

    for count, line in zip((1, 2), text.splitlines()[-2:], strict=True):
        images, rate, seconds, _ = map(float, line.split())
        assert images == count
        # Seconds are printed to 1 ms.
        assert images / (seconds + 0.00051) - 0.001 < rate < images / max(seconds - 0.00051, 1e-9)


class Doubling:
    """A network that doubles images and records the sizes of its batches."""

    def __init__(self):
        self._run = jax.jit(lambda image: 2 * image)
        self.lower_network = self._run.lower
        self.sizes = set()

    def run_network(self, image):
        self.sizes.add(len(image))
        return self._run(image)


@pytest.mark.parametrize(
    ("limit", "value", "reason", "sizes"),
    [
        ("BATCH_SECONDS", 0.0, "4 images would take 0 s, more than 0", {1}),
        # Doubling takes as much memory again as the images.
        ("free_bytes", lambda _: 20 * 2**20, "; 8 images need 0.0 GiB more, and 0.0 GiB are free", {1, 4}),
    ],
)
def test_batch_beyond_a_limit_is_not_tried(capsys, monkeypatch, limit, value, reason, sizes):
    network = Doubling()
    monkeypatch.setattr(benchmark_module, limit, value)
    print_batches(network, [np.zeros((1024, 1024, 3), np.uint8)])
    assert reason in capsys.readouterr().out
    assert network.sizes == sizes


def test_free_memory_is_of_the_device_or_of_the_machine():
    assert 2**20 < free_bytes(jax.local_devices()[0]) < 2**50
    for stats, expected in (({"bytes_limit": 100, "bytes_in_use": 30}, 70), (None, None)):
        gpu = types.SimpleNamespace(platform="gpu", memory_stats=lambda stats=stats: stats)
        assert free_bytes(gpu) == expected


def test_calls_take_turns_after_a_run_to_warm_up(monkeypatch):
    order, now = [], [0.0]

    def call(name, first, later):
        now[0] += later if name in order else first
        order.append(name)

    monkeypatch.setattr(benchmark_module.time, "perf_counter", lambda: now[0])
    times = time_in_turns({"slow": lambda: call("slow", 64.0, 4.0), "quick": lambda: call("quick", 32.0, 0.5)}, 3)
    assert order == ["slow", "quick"] * 4
    assert times == {"slow": [4.0] * 3, "quick": [0.5] * 3}


def test_neither_or_both_of_checkpoint_and_config_are_refused(tiny_config):
    for checkpoint, config, number in ((None, None, "neither is"), ("path", tiny_config("student"), "both are")):
        with pytest.raises(InputError, match=f"needs one of --checkpoint=PATH.* and --config=FILE.*; {number} given"):
            benchmark(checkpoint, config)
