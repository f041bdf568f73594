"""torchvision's Faster R-CNN with VGG-16 and its RoIAlign at this project's sizes, for benchmarks side by side.

torch and torchvision are imported at first use; nothing else needs them.
"""

# torch and torchvision are optional.
# pyright: reportMissingImports=false

import contextlib
import importlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from dcrl_jax.devices import usable_cores
from dcrl_jax.models.network import anchor_range_px
from dcrl_jax.ops.anchors import anchor_heights_px

# Whether TF32 is allowed, and the dtype of autocast, by this project's name of a precision.
_TORCH_SETTINGS = {"float32": (False, None), "TF32": (True, None), "bfloat16": (True, "bfloat16")}


def import_problem() -> str | None:
    """Return why torch and torchvision cannot be imported, or None if they can."""
    try:
        importlib.import_module("torch")
        importlib.import_module("torchvision.ops")
    except (ImportError, OSError, RuntimeError) as error:  # builds that do not match raise the last two
        return str(error)
    return None


def working_call(make_call: Callable[[], Callable[[], Any]]) -> tuple[Callable[[], Any] | None, str | None]:
    """Return a call that has succeeded once and None, or None and the reason why it failed.

    A failure of torch must not end the benchmark.

    Args:
        make_call: returns the call, as ``frame_call`` and ``step_call`` do.
    """
    try:
        call = make_call()
        call()
    except Exception as error:  # the errors of torch, its compiler and CUDA share no narrower base
        return None, (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    return call, None


def build_detector(config: ConfigDict) -> Any:
    """Return torchvision's detector with a config's sizes and random weights, in evaluation mode on the CPU."""
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
    heights = anchor_heights_px(config.anchors.per_cell, *anchor_range_px(config))
    # torchvision's ratio is height / width, and its size the side of a square of the same area.
    ratio = 1 / config.anchors.aspect_ratio
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


def frame_call(detector: Any, image: np.ndarray, precision: str, compiled: bool = False) -> Callable[[], Any]:
    """Return a call that detects people in one image on the device, and waits for the result.

    Args:
        detector: the result of ``build_detector``; it moves to the device.
        image: uint8 [H, W, 3].
        precision: "float32", "TF32" or "bfloat16".
        compiled: whether backbone and heads go through torch.compile.
    """
    import torch

    device, synchronize = _device(torch)
    detector.to(device)
    if compiled:
        detector.backbone = torch.compile(detector.backbone)
        detector.roi_heads.box_head = torch.compile(detector.roi_heads.box_head)
    pixels = torch.from_numpy(image).to(device)

    def run():
        with torch.inference_mode(), _precision(torch, device, precision):
            detector([pixels.permute(2, 0, 1).float() / 255])
        synchronize()

    return run


def step_call(config: ConfigDict, images: int, precision: str) -> Callable[[], Any]:
    """Return a call that takes a training step on noise with two people in each image, and waits for it.

    SGD with momentum, all layers trained; as many anchors and RoIs are sampled as the config says.
    """
    import torch

    device, synchronize = _device(torch)
    detector = build_detector(config).train().to(device)
    optimizer = torch.optim.SGD(detector.parameters(), 1e-3, momentum=config.optimizer.momentum)
    height, width = config.data.height_px, config.data.width_px
    pixels = torch.rand(images, 3, height, width, device=device)
    boxes = torch.tensor([[0.15, 0.4, 0.21, 0.6], [0.6, 0.35, 0.75, 0.75]], device=device)
    boxes = boxes * torch.tensor([width, height, width, height], device=device)
    targets = [{"boxes": boxes, "labels": torch.ones(2, dtype=torch.int64, device=device)} for _ in range(images)]

    def run():
        with _precision(torch, device, precision):
            losses = torch.stack(list(detector(list(pixels), targets).values())).sum()
        optimizer.zero_grad(set_to_none=True)
        losses.backward()
        optimizer.step()
        synchronize()

    return run


def roi_align_calls(
    features: np.ndarray, rois: np.ndarray, output_gradient: np.ndarray, stride: int, bins: int, samples_per_bin: int
) -> dict[str, Callable[[], Any]]:
    """Return calls of RoIAlign, ``forward`` and ``with gradient`` of the features.

    Args:
        features: float32 [H, W, C].
        rois: float32 [R, 4], x1, y1, x2, y2.
        output_gradient: float32 [R, bins, bins, C].
        stride: pixels per cell of the features.
        bins: bins along each side of a RoI.
        samples_per_bin: samples along each side of a bin.
    """
    import torch
    from torchvision import ops

    device, synchronize = _device(torch)
    tensor = torch.tensor(features.transpose(2, 0, 1)[None].copy(), device=device, requires_grad=True)
    rois = torch.tensor(np.pad(rois, ((0, 0), (1, 0))), device=device)
    output_gradient = torch.tensor(output_gradient.transpose(0, 3, 1, 2).copy(), device=device)

    def align():
        return ops.roi_align(tensor, rois, bins, 1 / stride, samples_per_bin, aligned=True)

    def forward():
        with torch.no_grad():
            align()
        synchronize()

    def with_gradient():
        tensor.grad = None
        align().backward(output_gradient)
        synchronize()

    return {"forward": forward, "with gradient": with_gradient}


def peak_bytes() -> int | None:
    """Return the most bytes that torch has held on the GPU since the last call, and reset the count; None on a CPU."""
    import torch

    if not torch.cuda.is_available():
        return None
    peak = torch.cuda.max_memory_allocated()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return peak


def _device(torch):
    """Return the kind of device that JAX runs on, and a function that waits for it."""
    if jax.default_backend() == "cpu":
        torch.set_num_threads(usable_cores())
        return "cpu", lambda: None
    return "cuda", torch.cuda.synchronize


@contextlib.contextmanager
def _precision(torch, device, precision):
    allow_tf32, dtype = _TORCH_SETTINGS[precision]
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allow_tf32
    with torch.autocast(device, getattr(torch, dtype)) if dtype else contextlib.nullcontext():
        yield
