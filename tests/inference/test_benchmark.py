"""The measurements and tables of --mode=benchmark."""

import contextlib
import io
import re
import time

import jax
import numpy as np
import pytest

from dcrl_jax import published
from dcrl_jax.checkpoints import config_to_json
from dcrl_jax.errors import InputError
from dcrl_jax.inference import benchmark as benchmark_module
from dcrl_jax.inference.benchmark import benchmark, count_flops, free_bytes, print_batches, time_in_turns
from dcrl_jax.models.network import build_network
from dcrl_jax.models.vgg16 import BLOCKS, block_channels


@pytest.fixture(scope="module")
def printed(trained, tiny_config):
    """The output for a student with a config, and for a teacher with a checkpoint and no larger batches."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmark_module, "REPEATS", 3)
        patch.setattr(benchmark_module, "LARGEST_PRODUCT", 1024)

        def run(checkpoint, config, batches):
            patch.setattr(benchmark_module, "BATCHES", batches)
            with contextlib.redirect_stdout(io.StringIO()) as output:
                benchmark(checkpoint, config)
            return output.getvalue()

        return {
            "student": run(None, student_config(tiny_config), (1, 2)),
            "teacher": run(str(trained("teacher").workdir), None, (1,)),
        }


def student_config(tiny_config):
    config = tiny_config("student")
    config.roi.hidden = 1024
    return config


def convolution_flops(height, width, inputs, outputs, kernel):
    """Operations of a convolution with a bias; its zero padding is not multiplied."""

    def taps_along(size):
        return sum(min(i + kernel // 2, size - 1) - max(i - kernel // 2, 0) + 1 for i in range(size))

    taps = taps_along(height) * taps_along(width)
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


def numbers_of(printed, label):
    """The numbers of the row that begins with a label."""
    (line,) = [line for line in printed.splitlines() if line.startswith(label)]
    return [float(number) for number in re.findall(r"(?<=\s)[\d.]+(?=\s|$)", line.removeprefix(label))]


def flops_of(config, **backbone):
    """The operations of a network whose layers are wide enough to outweigh all other steps."""
    config.backbone.update({"width": 0.5} | backbone)
    config.roi.hidden = 256
    return count_flops(build_network(config))


@pytest.mark.parametrize("width", [0.5, 1.0])
def test_flops_are_those_of_the_layers_by_hand(tiny_config, width):
    # At width 1 a CPU's detector multiplies by Winograd's algorithm, in a quarter of the multiplications.
    config = tiny_config("student")
    assert flops_of(config, width=width) == pytest.approx(student_flops(config), rel=0.02)
    if width == 0.5:
        assert flops_of(tiny_config("teacher")) > 2 * student_flops(config)


def test_detector_parameters_and_machine_are_named(printed, trained):
    first, second = printed["student"].splitlines()[:2]
    assert first == (
        "student, 48x32 pixels, stride 8, width 0.03125, head 1024, 10 proposals, float32; random parameters"
    )
    assert f"jax {jax.__version__} on cpu" in second
    assert time.strftime("%Y-%m") in second
    assert printed["teacher"].startswith("teacher, 48x32 pixels")
    assert f"; the parameters of {trained('teacher').workdir}, step 7\n" in printed["teacher"]


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_times_are_ordered(printed, role):
    median, low, high, fastest = numbers_of(printed[role], "network, input on the device")
    assert 0 < fastest <= low <= median <= high
    assert fastest < numbers_of(printed[role], "1280x720 pixels in, people out")[0]


def test_rates_and_shares_follow_from_operations_and_times(printed, tiny_config):
    text, flops = printed["student"], count_flops(build_network(student_config(tiny_config)))
    fastest = numbers_of(text, "network, input on the device")[3]
    assert numbers_of(text, "network, fastest")[0] == pytest.approx(flops / 1e9, abs=0.051)
    _, rate, share = numbers_of(text, "network, fastest")
    # Printed to 0.1, and the time to 0.1 ms.
    assert rate == pytest.approx(flops / fastest / 1e9, abs=0.1, rel=0.1)
    work, peak, full = numbers_of(text, "product, fastest")
    assert (work, full) == (pytest.approx(2 * 1024**3 / 1e9, abs=0.051), 100)
    assert numbers_of(text, "product, median")[1] <= peak
    assert "The product is of 1024x1024 matrices" in text
    assert share == pytest.approx(100 * rate / peak, abs=0.06 + 6 / peak)


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_shares_of_proposals_and_nms_are_of_the_network_s_time(printed, role):
    median = numbers_of(printed[role], "network, input on the device")[0]
    table = printed[role].partition("Steps beside the network")[2].partition("Operations")[0]
    parts = [numbers_of(table, name) for name in ("proposals and their NMS", "final NMS", "total")]
    np.testing.assert_allclose(np.add(*parts[:2]), parts[2], atol=0.02)
    assert parts[2][1] == pytest.approx(parts[2][0] / 10 / median, rel=0.1)
    assert parts[0][0] > 0


def test_memory_holds_the_parameters(printed, tiny_config):
    shapes = build_network(student_config(tiny_config)).param_shapes()
    size = sum(4 * leaf.size for leaf in jax.tree.leaves(shapes)) / 2**30
    memory = printed["student"].partition("Memory of one image")[2]
    names = ("arguments", "temporary", "results", "total")
    arguments, temporary, results, total = (numbers_of(memory, name)[0] for name in names)
    assert size > 0.004
    assert size - 0.001 < arguments < 1.1 * size + 0.001
    assert total == pytest.approx(arguments + temporary + results, abs=0.002)


def test_rates_of_both_batches_are_the_images_over_the_seconds(printed):
    rows = [[float(cell) for cell in line.split()] for line in printed["student"].splitlines()[-2:]]
    assert [row[0] for row in rows] == [1, 2]
    for images, rate, seconds, _ in rows:
        # Seconds are printed to 1 ms.
        assert images / (seconds + 0.00051) - 0.001 < rate < images / max(seconds - 0.00051, 1e-9)


class Doubling:
    """A network that doubles images and records the sizes of its batches."""

    def __init__(self):
        self._run = jax.jit(lambda image: 2 * image)
        self.sizes = []

    def lower_network(self, image):
        return self._run.lower(image)

    def run_network(self, image):
        self.sizes.append(len(image))
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
    assert set(network.sizes) == sizes


class FakeDevice:
    def __init__(self, platform, stats):
        self.platform, self._stats = platform, stats

    def memory_stats(self):
        return self._stats


def test_free_memory_is_of_the_device_or_of_the_machine():
    assert 2**20 < free_bytes(jax.local_devices()[0]) < 2**50
    assert free_bytes(FakeDevice("gpu", {"bytes_limit": 100, "bytes_in_use": 30})) == 70
    assert free_bytes(FakeDevice("gpu", None)) is None


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
        with pytest.raises(InputError) as refusal:
            benchmark(checkpoint, config)
        assert str(refusal.value) == (
            "--mode=benchmark needs one of --checkpoint=PATH, a trained detector, and --config=FILE, whose parameters "
            f"are then random; {number} given."
        )


def test_missing_checkpoint_and_one_of_another_network_are_refused(trained, tmp_path):
    with pytest.raises(InputError, match="holds no checkpoint"):
        benchmark(str(tmp_path), None)
    published.write(tmp_path, trained("teacher").params, config_to_json(trained("student").config), 7)
    with pytest.raises(InputError, match=f"^{tmp_path}: the tree of parameters does not fit"):
        benchmark(str(tmp_path), None)
