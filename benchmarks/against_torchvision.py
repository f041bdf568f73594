"""Seconds a frame of this project's student beside torchvision's Faster R-CNN with VGG-16, in one run.

    pip install torch torchvision        no other benchmark requires them
    python -m benchmarks.against_torchvision

Both detectors see the same 640x512 image with random parameters, in float32 and with all cores that the process may
use: VGG-16 without pool5 and at stride 8 without pool4, a 3x3 convolution of 512 channels, 9 anchors per cell of aspect
ratio 0.41, the best 6,000 proposals into NMS at 0.7 and 300 out of it, RoIAlign 7x7 with two samples, two layers of
4,096 units, two classes, NMS at 0.3, at most 100 people. The proposals of both are counted. Runs take turns, so that
other processes on the machine slow both; the ratio is what counts.
"""

import functools
import time
from collections.abc import Sequence

import jax
import numpy as np
from ml_collections import ConfigDict

from benchmarks import torchvision_side
from configs import student
from dcrl_jax.command_line import Parser, exit_on_error
from dcrl_jax.devices import quiet_without_gpu
from dcrl_jax.errors import InputError
from dcrl_jax.inference.benchmark import noise_images, time_in_turns
from dcrl_jax.inference.detector import Detector
from dcrl_jax.models.detect import propose_regions
from dcrl_jax.models.network import build_network
from dcrl_jax.models.rpn import propose
from dcrl_jax.tables import format_table

STRIDES = (8, 16)
# A library's idle threads spin for a while before they sleep. After this pause they leave the cores to the other one.
PAUSE_SECONDS = 0.3


def measure(config: ConfigDict, repeats: int) -> list[object]:
    """Return the row of a config: median seconds and proposals of both detectors, and the ratio with its quartiles."""
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

    pause = functools.partial(time.sleep, PAUSE_SECONDS)
    calls = {
        "dcrl_jax": lambda: detector.run_network(image[None]),
        "pause": pause,
        "torchvision": torch_call,
        "second pause": pause,
    }
    times = time_in_turns(calls, repeats)
    ratios = np.divide(times["dcrl_jax"], times["torchvision"])
    return [
        f"stride {config.backbone.stride}",
        np.median(times["dcrl_jax"]),
        int(proposals.mask.sum()),
        np.median(times["torchvision"]),
        *torch_proposals,
        *np.percentile(ratios, [50, 25, 75]),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = Parser(__doc__)
    parser.add_argument("--repeats", type=int, default=11, help="runs of each detector")
    options = parser.parse_args(arguments)
    quiet_without_gpu()
    with exit_on_error():
        if problem := torchvision_side.import_problem():
            raise InputError(f"this comparison needs torch and torchvision ({problem}): pip install torch torchvision")
        rows = []
        for stride in STRIDES:
            print(f"stride {stride}...", flush=True)
            config = student.get_config()
            config.backbone.stride = stride
            rows.append(measure(config, options.repeats))
        columns = [
            "dcrl_jax, s",
            "proposals",
            "torchvision, s",
            "proposals",
            "ratio",
            "lower quartile",
            "upper quartile",
        ]
        print(f"\n{jax.devices()[0].device_kind}, {options.repeats} runs each\n")
        print(format_table(rows, ["", *columns]))


if __name__ == "__main__":
    main()
