"""What --mode=benchmark measures and prints."""

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
from dcrl_jax.models.build import build_model, init_params
from dcrl_jax.models.vgg16 import BLOCKS, block_channels

pytestmark = pytest.mark.usefixtures("quick_compile", "shallow_backbone")


@pytest.fixture(scope="module")
def printed(tiny_config, random_params, tmp_path_factory):
    """What is printed of a student with a config and of a teacher with a checkpoint: few runs, small products."""
    folder = tmp_path_factory.mktemp("teacher")
    config = tiny_config("teacher")
    published.write(folder, random_params(build_model(config), config), config_to_json(config), 7)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmark_module, "REPEATS", 3)
        patch.setattr(benchmark_module, "BATCHES", (1, 2))
        patch.setattr(benchmark_module, "LARGEST_PRODUCT", 1024)

        def run(*arguments):
            with contextlib.redirect_stdout(io.StringIO()) as written:
                benchmark(*arguments)
            return written.getvalue()

        return {"student": run(None, student_config(tiny_config)), "teacher": run(str(folder), None), "folder": folder}


def student_config(tiny_config):
    config = tiny_config("student")
    config.roi.hidden = 1024
    return config


def convolution_flops(height, width, inputs, outputs, kernel):
    """Of a convolution with a bias between zeros, which are not multiplied."""
    taps = sum(min(row + kernel // 2, height - 1) - max(row - kernel // 2, 0) + 1 for row in range(height)) * sum(
        min(place + kernel // 2, width - 1) - max(place - kernel // 2, 0) + 1 for place in range(width)
    )
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


def number_of(printed, label):
    """The numbers of the row that begins with a label."""
    (line,) = [line for line in printed.splitlines() if line.startswith(label)]
    return [float(number) for number in re.findall(r"(?<=\s)[\d.]+(?=\s|$)", line.removeprefix(label))]


def wide(config):
    """The tiny config with layers so wide that they outweigh all that is not a convolution or a product."""
    config.backbone.width = 0.5
    config.roi.hidden = 256
    return config


def test_flops_are_those_of_the_layers_by_hand(tiny_config):
    config = wide(tiny_config("student"))
    assert count_flops(config) == pytest.approx(student_flops(config), rel=0.02)


def test_flops_do_not_depend_on_the_algorithm_of_the_convolutions(tiny_config):
    # At width 1 a CPU's detector multiplies by Winograd's algorithm, in a quarter of the multiplications.
    config = tiny_config("student")
    config.backbone.width = 1.0
    assert count_flops(config) == pytest.approx(student_flops(config), rel=0.02)


def test_teacher_takes_more_than_twice_the_operations_of_its_student(tiny_config):
    assert count_flops(wide(tiny_config("teacher"))) > 2 * count_flops(wide(tiny_config("student")))


def test_model_parameters_and_machine_are_named(printed):
    first, second = printed["student"].splitlines()[:2]
    assert first == (
        "student, 48x32 pixels, stride 8, width 0.03125, head 1024, 10 proposals, float32; random parameters"
    )
    assert f"jax {jax.__version__} on cpu" in second
    assert time.strftime("%Y-%m") in second
    assert printed["teacher"].startswith("teacher, 48x32 pixels")
    assert f"; the parameters of {printed['folder']}, step 7\n" in printed["teacher"]


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_times_are_ordered_and_of_both_kinds(printed, role):
    median, low, high, fastest = number_of(printed[role], "network, input on the device")
    assert 0 < fastest <= low <= median <= high
    assert fastest < number_of(printed[role], "1280x720 pixels in, people out")[0]


def test_rates_and_shares_follow_from_operations_and_times(printed, tiny_config):
    text, flops = printed["student"], count_flops(student_config(tiny_config))
    fastest = number_of(text, "network, input on the device")[3]
    assert number_of(text, "network, fastest")[0] == pytest.approx(flops / 1e9, abs=0.051)
    _, rate, share = number_of(text, "network, fastest")
    # Printed to 0.1, and the time to 0.1 ms.
    assert rate == pytest.approx(flops / fastest / 1e9, abs=0.1, rel=0.1)
    work, peak, full = number_of(text, "product, fastest")
    assert (work, full) == (pytest.approx(2 * 1024**3 / 1e9, abs=0.051), 100)
    assert number_of(text, "product, median")[1] <= peak
    assert "The product is of 1024x1024 matrices" in text
    assert share == pytest.approx(100 * rate / peak, abs=0.06 + 6 / peak)


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_share_of_proposals_and_nms_is_of_the_network_s_time(printed, role):
    median = number_of(printed[role], "network, input on the device")[0]
    parts = [number_of(printed[role], name) for name in ("proposals and their NMS", "final NMS", "together")]
    np.testing.assert_allclose(np.add(*parts[:2]), parts[2], atol=0.02)
    assert parts[2][1] == pytest.approx(parts[2][0] / 10 / median, rel=0.1)
    assert parts[0][0] > 0


def test_memory_holds_the_parameters(printed, tiny_config):
    config = student_config(tiny_config)
    shapes = jax.eval_shape(lambda: init_params(build_model(config), config, 0))
    size = sum(4 * leaf.size for leaf in jax.tree.leaves(shapes)) / 2**30
    arguments, temporary, results, total = (
        number_of(printed["student"], name)[0] for name in ("arguments", "temporary", "results", "in all")
    )
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
    """A network that doubles images, and remembers how many it was given."""

    def __init__(self):
        self._run = jax.jit(lambda image: 2 * image)
        self.sizes = []

    def lower_network(self, image):
        return self._run.lower(image)

    def run_network(self, image):
        self.sizes.append(len(image))
        return self._run(image)


def test_batch_that_would_take_too_long_is_not_tried(capsys, monkeypatch):
    network = Doubling()
    monkeypatch.setattr(benchmark_module, "BATCH_SECONDS", 0.0)
    print_batches(network, [np.zeros((4, 4, 3), np.uint8)])
    assert "4 images would take 0 s, more than 0" in capsys.readouterr().out
    assert set(network.sizes) == {1}


def test_batch_that_needs_more_memory_than_is_free_is_not_tried(capsys, monkeypatch):
    network = Doubling()
    # Doubling takes as much again as the images.
    monkeypatch.setattr(benchmark_module, "free_bytes", lambda _: 20 * 2**20)
    print_batches(network, [np.zeros((1024, 1024, 3), np.uint8)])
    assert "; 8 images need 0.0 GiB more, and 0.0 are free" in capsys.readouterr().out
    assert set(network.sizes) == {1, 4}


def test_free_memory_of_a_cpu_is_what_the_system_says():
    assert 2**20 < free_bytes(jax.local_devices()[0]) < 2**50


def test_calls_take_turns_after_a_first_run_that_is_not_timed(monkeypatch):
    order, now = [], [0.0]

    def call(name, first, later):
        now[0] += later if name in order else first
        order.append(name)

    monkeypatch.setattr(benchmark_module.time, "perf_counter", lambda: now[0])
    times = time_in_turns({"slow": lambda: call("slow", 64.0, 4.0), "quick": lambda: call("quick", 32.0, 0.5)}, 3)
    assert order == ["slow", "quick"] * 4
    assert times == {"slow": [4.0] * 3, "quick": [0.5] * 3}


def test_neither_or_both_of_checkpoint_and_config_are_refused(tiny_config):
    for checkpoint, config, found in ((None, None, "neither"), ("somewhere", tiny_config("student"), "both")):
        with pytest.raises(InputError) as refusal:
            benchmark(checkpoint, config)
        assert str(refusal.value) == (
            "--mode=benchmark needs one of --checkpoint=PATH, a trained detector, and --config=FILE, whose parameters "
            f"are then random; {found} given."
        )


def test_checkpoint_that_is_not_there_or_fits_no_detector_is_refused(tiny_config, random_params, tmp_path):
    with pytest.raises(InputError, match="holds no checkpoint"):
        benchmark(str(tmp_path), None)
    teacher = tiny_config("teacher")
    params = random_params(build_model(teacher), teacher)
    published.write(tmp_path, params, config_to_json(tiny_config("student")), 7)
    with pytest.raises(InputError, match=f"^{tmp_path}: the tree of parameters does not fit"):
        benchmark(str(tmp_path), None)
