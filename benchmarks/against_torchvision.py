"""Seconds a frame, or a training step, of this project beside torchvision's Faster R-CNN with VGG-16, in one run.

    pip install torch torchvision        (nothing else here needs them)
    python -m benchmarks.against_torchvision
    python -m benchmarks.against_torchvision --train

Both detectors see the same 640x512 image with random parameters, in float32 and with all cores that the process may
use: VGG-16 without pool5 and at stride 8 without pool4, a 3x3 convolution of 512 channels, 9 anchors per cell of aspect
ratio 0.41, the best 6,000 proposals into NMS at 0.7 and 300 out of it, RoIAlign 7x7 with two samples, two layers of
4,096 units, two classes, NMS at 0.3, at most 100 people. The proposals of both are counted. With ``--train``, both take
a step of SGD with momentum on all layers at stride 8, on noise with two people in each image; the baseline trains here,
without its segmentation heads, which torchvision lacks. Runs take turns, and a large matrix product among them, so that
other processes on the machine slow all; the ratio is what counts.
"""

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from benchmarks import torchvision_side
from benchmarks.steps import TrainingStep, repeated
from configs import baseline, student
from dcrl_jax.command_line import Parser, exit_on_error
from dcrl_jax.devices import quiet_without_gpu
from dcrl_jax.errors import InputError
from dcrl_jax.inference.benchmark import describe_machine, matrix_product, noise_images, time_in_turns
from dcrl_jax.inference.detector import Detector
from dcrl_jax.models.detect import propose_regions
from dcrl_jax.models.network import build_network
from dcrl_jax.models.rpn import propose
from dcrl_jax.tables import format_table

STRIDES, TRAINING_IMAGES = (8, 16), (1, 2)
# A library's idle threads spin for a while before they sleep. After this pause they leave the cores to the other one.
PAUSE_SECONDS = 0.3


def measure(stride: int, repeats: int) -> list[object]:
    """Return the row of a frame at a stride: the proposals of both detectors, and the result of ``compare``."""
    config = student.get_config("kaist/literal")
    config.backbone.stride = stride
    network = build_network(config)
    params = network.init_params(0)
    detector = Detector(params, config)
    (image,) = noise_images(detector, config.data.height_px, config.data.width_px)
    _, outputs = propose_regions(network.model, params, image[None])
    proposals = propose(outputs.logits, outputs.offsets, network.anchors, **network.rules.proposals._asdict())

    torch_detector = torchvision_side.build_detector(config)
    torch_call = torchvision_side.frame_call(torch_detector, image, "float32")
    torch_proposals = []

    def count_proposals(_rpn, _inputs, outputs):
        (boxes,), _losses = outputs
        torch_proposals.append(len(boxes))

    hook = torch_detector.rpn.register_forward_hook(count_proposals)
    torch_call()
    hook.remove()

    return [
        f"stride {config.backbone.stride}",
        int(proposals.mask.sum()),
        *torch_proposals,
        *compare(lambda: detector.run_network(image[None]), torch_call, repeats),
    ]


def measure_step(images: int, repeats: int) -> list[object]:
    """Return the row of a training step of a batch: the result of ``compare``."""
    config = baseline.get_config("kaist/literal")
    config.segmentation.stages = ()
    training = TrainingStep(config)
    step = repeated(training.on(), training.place(training.initial(), images))
    torch_step = torchvision_side.step_call(config, images, "float32")
    return [f"batch of {images}", *compare(step, torch_step, repeats)]


def compare(call: Callable[[], Any], torch_call: Callable[[], Any], repeats: int) -> list[float]:
    """Return the median seconds of both calls, the quartiles of their ratio, and the peak in GFLOP/s."""
    product, flops = matrix_product(jnp.dtype(jnp.float32))
    pause = functools.partial(time.sleep, PAUSE_SECONDS)
    calls = {"dcrl_jax": call, "product": product, "pause": pause, "torchvision": torch_call, "second pause": pause}
    times = time_in_turns(calls, repeats)
    ratios = np.divide(times["dcrl_jax"], times["torchvision"])
    medians = [float(np.median(times[name])) for name in ("dcrl_jax", "torchvision")]
    return [*medians, *np.percentile(ratios, [50, 25, 75]), flops / min(times["product"]) / 1e9]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = Parser(__doc__)
    parser.add_argument("--train", action="store_true", help="compare a training step instead of a frame")
    parser.add_argument("--repeats", type=int, default=11, help="runs of each detector")
    options = parser.parse_args(arguments)
    quiet_without_gpu()
    with exit_on_error():
        if options.repeats < 1:
            raise InputError(f"--repeats is {options.repeats}; it must be at least 1.")
        if problem := torchvision_side.import_problem():
            raise InputError(f"this comparison needs torch and torchvision ({problem}): pip install torch torchvision")
        ratio = ["dcrl_jax, s", "torchvision, s", "ratio", "lower quartile", "upper quartile", "product, GFLOP/s"]
        if options.train:
            columns = ["", *ratio]
            rows = [measure_step(images, options.repeats) for images in TRAINING_IMAGES]
        else:
            columns = ["", "proposals", "of torchvision", *ratio]
            rows = [measure(stride, options.repeats) for stride in STRIDES]
        print(f"\n{describe_machine()}, {options.repeats} runs each\n")
        print(format_table(rows, columns))


if __name__ == "__main__":
    main()
