"""torchvision's Faster R-CNN with VGG-16 of this project's sizes, for a frame and for a training step."""

import contextlib
import importlib.util
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from benchmarks.against_torchvision import torchvision_detector

# By the name of this project's precision: whether TF32 is allowed, and what torch computes in.
_TORCH = {"float32": (False, None), "TF32": (True, None), "bfloat16": (True, "bfloat16")}


def is_installed() -> bool:
    """Return whether torch and torchvision are there."""
    return all(importlib.util.find_spec(name) is not None for name in ("torch", "torchvision"))


def working_call(make: Callable[[], Callable[[], Any]]) -> tuple[Callable[[], Any] | None, str | None]:
    """Return a call that has worked once, or None and why not: what torch cannot do is no reason to lose the rest.

    Args:
        make: makes the call, as ``frame_call`` and ``step_call`` do.
    """
    try:
        call = make()
        call()
    except Exception as error:  # of torch, its compiler, CUDA: they share no base
        return None, (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    return call, None


def frame_call(config: ConfigDict, image: np.ndarray, precision: str, compiled: bool) -> Callable[[], Any]:
    """Return a call that detects on one image that lies on the device, and waits for it.

    Args:
        config: of a student; its sizes are torchvision's.
        image: uint8 [H, W, 3].
        precision: of ``record.PRECISIONS``.
        compiled: whether backbone and heads go through torch.compile.
    """
    import torch

    device, synchronize = _device(torch)
    detector = torchvision_detector(config).eval().to(device)
    if compiled:
        detector.backbone = torch.compile(detector.backbone)
        detector.roi_heads.box_head = torch.compile(detector.roi_heads.box_head)
    pixels = (torch.from_numpy(image).permute(2, 0, 1).float() / 255).to(device)

    def run():
        with torch.inference_mode(), _precision(torch, device, precision):
            detector([pixels])
        synchronize()

    return run


def step_call(config: ConfigDict, images: int, precision: str) -> Callable[[], Any]:
    """Return a call that takes a training step on noise with two people in each image, and waits for it.

    SGD with momentum, all layers trained; anchors and RoIs are sampled as many as in the config.
    """
    import torch

    device, synchronize = _device(torch)
    detector = torchvision_detector(config).train().to(device)
    optimizer = torch.optim.SGD(detector.parameters(), 1e-3, momentum=config.optimizer.momentum)
    height, width = config.data.height_px, config.data.width_px
    pixels = torch.rand(images, 3, height, width, device=device)
    boxes = torch.tensor([[0.15, 0.4, 0.21, 0.6], [0.6, 0.35, 0.75, 0.75]], device=device)
    boxes = boxes * torch.tensor([width, height, width, height], device=device)
    targets = [{"boxes": boxes, "labels": torch.ones(2, dtype=torch.int64, device=device)} for _ in range(images)]

    def run():
        with _precision(torch, device, precision):
            losses = sum(detector(list(pixels), targets).values())
        optimizer.zero_grad(set_to_none=True)
        losses.backward()
        optimizer.step()
        synchronize()

    return run


def peak_bytes() -> int | None:
    """Return the most that torch has held on the GPU since it was last asked, and forget it; None on a CPU."""
    import torch

    if not torch.cuda.is_available():
        return None
    peak = torch.cuda.max_memory_allocated()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return peak


def _device(torch):
    if jax.default_backend() == "cpu":
        return "cpu", lambda: None
    return "cuda", torch.cuda.synchronize


@contextlib.contextmanager
def _precision(torch, device, precision):
    allow_tf32, dtype = _TORCH[precision]
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allow_tf32
    with torch.autocast(device, getattr(torch, dtype)) if dtype else contextlib.nullcontext():
        yield
