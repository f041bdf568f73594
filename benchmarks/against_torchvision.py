"""Seconds a frame of this project's student beside torchvision's Faster R-CNN with VGG-16, in one run.

    pip install torch torchvision        (which nothing else here needs)
    python -m benchmarks.against_torchvision
    python -m benchmarks.against_torchvision --strides 8 --repeats 21

Both look at the same 640x512 image with random parameters, in float32 and with all cores that the process may use:
VGG-16 without pool5 and at stride 8 without pool4, a 3x3 convolution of 512 channels, 9 anchors a cell of ratio 0.41,
the 6,000 best into NMS at 0.7 and 300 out of it, RoIAlign 7x7 with two samples, two layers of 4,096 units, two classes,
NMS at 0.3, at most 100 people. Proposals are counted on both sides. Runs take turns, so that another process on the
machine slows both; the ratio is what counts.
"""

import argparse
import importlib.util
import statistics
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from configs import student
from dcrl_jax.devices import quiet_without_gpu, usable_cores
from dcrl_jax.inference.detector import Detector
from dcrl_jax.models.build import build_anchors, build_model, init_params
from dcrl_jax.models.detect import detection_rules
from dcrl_jax.models.rpn import propose
from dcrl_jax.ops.anchors import anchor_heights_px

# Threads that wait for work by spinning go to sleep within it, and leave the cores to the other side.
PAUSE_SECONDS = 0.3


class Side(NamedTuple):
    """One of the two: a call that looks at the image, and how many proposals that takes through its head."""

    run: Callable[[], object]
    proposals: int


def ours(config, image: np.ndarray) -> Side:
    """The student as ``Detector`` runs it."""
    model = build_model(config)
    params = init_params(model, config, 0)
    detector = Detector(params, config)
    batch = image[None]

    def count_proposals():
        _, outputs = model.apply({"params": params}, batch, method="propose_regions")
        rules = detection_rules(config).proposals._asdict()
        return int(propose(outputs.logits, outputs.offsets, build_anchors(config), **rules).mask.sum())

    return Side(lambda: jax.block_until_ready(detector.run_network(batch)), count_proposals())


def torchvision_detector(config):
    """torchvision's Faster R-CNN with VGG-16 of a config's sizes, random weights, in evaluation mode on the CPU."""
    import torch
    from torchvision.models import vgg16
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
    from torchvision.models.detection.rpn import AnchorGenerator
    from torchvision.ops import MultiScaleRoIAlign

    torch.manual_seed(0)
    layers = list(vgg16().features)[:-1]
    if config.backbone.stride == 8:
        del layers[23]  # pool4
    backbone = torch.nn.Sequential(*layers)
    backbone.out_channels = 512
    heights = anchor_heights_px(config.anchors.per_cell, config.anchors.smallest_px, config.anchors.largest_px)
    ratio = 1 / config.anchors.aspect_ratio  # theirs is height over width, at the area of a square of the given size
    return FasterRCNN(
        backbone,
        min_size=config.data.height_px,
        max_size=config.data.width_px,
        rpn_anchor_generator=AnchorGenerator((tuple(float(h / ratio**0.5) for h in heights),), ((ratio,),)),
        rpn_pre_nms_top_n_train=config.rpn.before_nms,
        rpn_post_nms_top_n_train=config.rpn.kept_training,
        rpn_pre_nms_top_n_test=config.rpn.before_nms,
        rpn_post_nms_top_n_test=config.rpn.kept_testing,
        rpn_nms_thresh=config.rpn.nms_iou,
        rpn_batch_size_per_image=config.rpn.sampled,
        box_roi_pool=MultiScaleRoIAlign(["0"], config.roi.size, config.roi.samples_per_bin),
        box_head=TwoMLPHead(512 * config.roi.size**2, config.roi.hidden),
        box_predictor=FastRCNNPredictor(config.roi.hidden, 2),
        box_batch_size_per_image=config.roi.sampled,
        box_score_thresh=config.final.min_score,
        box_nms_thresh=config.final.nms_iou,
        box_detections_per_img=config.final.max_detections,
    ).eval()


def theirs(config, image: np.ndarray) -> Side:
    """torchvision's detector of the same sizes."""
    import torch

    torch.set_num_threads(usable_cores())
    detector = torchvision_detector(config)
    pixels = torch.from_numpy(image)
    counted = []
    hook = detector.rpn.register_forward_hook(lambda _module, _inputs, outputs: counted.append(len(outputs[0][0])))

    def run():
        with torch.inference_mode():
            return detector([pixels.permute(2, 0, 1).float() / 255])

    run()
    hook.remove()
    return Side(run, counted[0])


def measure(stride: int, repeats: int) -> None:
    """Print one line: median seconds of both sides, and the ratio with its spread over the pairs of runs."""
    config = student.get_config()
    config.backbone.stride = stride
    image = np.random.default_rng(0).integers(0, 256, (config.data.height_px, config.data.width_px, 3), np.uint8)
    sides = [ours(config, image), theirs(config, image)]
    times = [[], []]
    for turn in range(repeats + 1):
        for side, taken in zip(sides, times, strict=True):
            time.sleep(PAUSE_SECONDS)
            started = time.perf_counter()
            side.run()
            if turn:  # the first run compiles, or fills caches
                taken.append(time.perf_counter() - started)
    ratios = np.divide(*times)
    low, high = np.percentile(ratios, [25, 75])
    print(
        f"stride {stride}: dcrl_jax {statistics.median(times[0]):.2f} s ({sides[0].proposals} proposals), torchvision "
        f"{statistics.median(times[1]):.2f} s ({sides[1].proposals}); ratio {np.median(ratios):.2f} "
        f"(quartiles {low:.2f}, {high:.2f}), {repeats} runs each",
        flush=True,
    )


def main() -> None:
    """Print a line for each stride."""
    quiet_without_gpu()
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--strides", type=int, nargs="+", choices=(8, 16), default=(8, 16))
    parser.add_argument("--repeats", type=int, default=11)
    options = parser.parse_args()
    if any(importlib.util.find_spec(name) is None for name in ("torch", "torchvision")):
        sys.exit("error: this comparison needs torch and torchvision: pip install torch torchvision")
    for stride in options.strides:
        measure(stride, options.repeats)


if __name__ == "__main__":
    main()
