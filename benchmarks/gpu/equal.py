"""Does the GPU compute what the CPU does? Torchvision's values, one training step, and the same step twice."""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict
from safetensors.numpy import save_file

from benchmarks.data_parallel import deviation, step_runner
from benchmarks.gpu.record import Record, full_config, small_config
from dcrl_jax.models import pretrained, vgg16
from dcrl_jax.models.vgg16 import Vgg16
from dcrl_jax.ops import boxes as box_ops
from dcrl_jax.ops.nms import nms
from dcrl_jax.ops.roi_align import roi_align

FIXTURES = Path(__file__).resolve().parents[2] / "tests" / "fixtures"
VGG16_WIDTH = 0.125
OFFSET_STD = (0.1, 0.1, 0.2, 0.2)  # torchvision's weights (10, 10, 5, 5), in boxes.npz


def run(record: Record, options: argparse.Namespace) -> None:
    """Record the largest differences from torchvision's values, then from the CPU's step, the small one first."""
    _roi_align(record)
    _nms(record)
    _boxes(record)
    _vgg16(record)
    steps = [
        (f"step, {size}", config_of, role, images, precision)
        for size, config_of, images in (("small", small_config, 8), ("one image of full size", full_config, 1))
        for role in ("teacher", "student")
        for precision in ("default", "float32")
    ]
    # On a CPU all of them are the same.
    for name, config_of, role, images, precision in steps[::4] if options.rehearse else steps:
        if record.seconds_left() < 0:
            return
        _step(record, name, config_of(role, options), images, precision)


def _roi_align(record):
    for name in ("roi_align_stride8", "roi_align_stride16", "roi_align_other_bins"):
        theirs = dict(np.load(FIXTURES / "ops" / f"{name}.npz"))
        sizes = {
            "stride": int(theirs["stride"]),
            "output_size": int(theirs["bins"]),
            "samples_per_bin": int(theirs["samples_per_bin"]),
        }
        for way, cells in (("products", {}), ("gathered", {"product_cells": 0})):
            pooled, pull_back = jax.vjp(
                lambda x, theirs=theirs, sizes=sizes, cells=cells: roi_align(x, theirs["rois"], **sizes, **cells),
                theirs["features"],
            )
            record.add(
                name,
                way=way,
                forward=_difference(pooled, theirs["pooled"]),
                gradient=_difference(pull_back(theirs["output_gradient"])[0], theirs["features_gradient"]),
            )


def _nms(record):
    with np.load(FIXTURES / "ops" / "nms.npz") as theirs:
        cases = [name for name in theirs if not name.endswith(("boxes", "scores"))]
        differing = []
        for case in cases:
            group, _, threshold = case.rpartition("/")
            boxes, scores = theirs[f"{group}/boxes"], theirs[f"{group}/scores"]
            index, kept = nms(boxes, scores, np.ones(len(boxes), bool), float(threshold), len(boxes))
            if np.asarray(index)[np.asarray(kept)].tolist() != theirs[case].tolist():
                differing.append(case)
        record.add("nms", cases=len(cases), differing=differing)


def _boxes(record):
    theirs = np.load(FIXTURES / "ops" / "boxes.npz")
    encoded = box_ops.encode_offsets(theirs["boxes"], theirs["anchors"], OFFSET_STD)
    decoded = box_ops.decode_offsets(theirs["offsets"], theirs["anchors"], OFFSET_STD)
    record.add(
        "box coding",
        encoded=_difference(encoded, theirs["encoded"]),
        decoded=_difference(decoded, theirs["decoded"]),
    )


def _vgg16(record):
    theirs = dict(np.load(FIXTURES / "vgg16_features.npz"))
    # The weights, by the way that a user's file of torchvision's takes; each is stored over its scale.
    names = [name for name in theirs if name.startswith("features.") and not name.endswith("scale")]
    tensors = {name: theirs[name] * theirs[f"{name.rpartition('.')[0]}.scale"] for name in names}
    image, model = theirs["image"][None], Vgg16(VGG16_WIDTH)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), image, method=_blocks)["params"])
    params = {"backbones_visible": jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)}
    with tempfile.TemporaryDirectory() as folder:
        save_file(tensors, f"{folder}/vgg16.safetensors")
        params = pretrained.load_vgg16(f"{folder}/vgg16.safetensors", params)["backbones_visible"]
    for precision in ("default", "float32"):
        with jax.default_matmul_precision(precision):
            features = jax.jit(lambda params, image: model.apply({"params": params}, image, method=_blocks))(
                params, image
            )
        expected = [theirs[name] for name in ("conv1", "conv2", "conv3", "conv4", "conv5_stride8")]
        apart = {f"conv{n}": _difference(a[0], b) for n, (a, b) in enumerate(zip(features, expected, strict=True), 1)}
        record.add("vgg16", precision=precision, **apart)


def _blocks(module, image):
    features, outputs = vgg16.normalise(image), []
    for block in range(1, len(vgg16.BLOCKS) + 1):
        features = module.block(block, features)
        outputs.append(features)
        if block in vgg16.pools_after(8):
            features = vgg16.pool(features)
    return outputs


def _step(record: Record, name: str, config: ConfigDict, images: int, precision: str) -> None:
    """A step's gradient and losses on the first device, twice, and on a CPU of the same machine."""
    with jax.default_matmul_precision(precision):
        run_step = step_runner(config, images)
        first, again = run_step(jax.local_devices()[:1], 1), run_step(jax.local_devices()[:1], 1)
        apart = deviation(run_step(jax.local_devices(backend="cpu")[:1], 1), first)
    record.add(
        name,
        role=config.role,
        precision=precision,
        **apart._asdict(),
        same_bits_twice=_same_bits(first[:2], again[:2]),
    )


def _difference(ours: Any, theirs: Any) -> float:
    """The largest absolute difference over the largest absolute value."""
    return float(np.max(np.abs(np.asarray(ours) - theirs)) / np.max(np.abs(theirs)))


def _same_bits(one: Any, other: Any) -> bool:
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in pairs)
