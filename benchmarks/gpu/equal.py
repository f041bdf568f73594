"""Does the GPU compute what the CPU does? torchvision's values, one training step, and the same step twice."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict
from safetensors.numpy import save_file

from benchmarks.data_parallel import Comparison, deviation
from benchmarks.gpu.record import Record, config_of
from dcrl_jax.models import pretrained, vgg16
from dcrl_jax.ops import boxes as box_ops
from dcrl_jax.ops.nms import nms
from dcrl_jax.ops.pooling import max_pool
from dcrl_jax.ops.roi_align import roi_align

FIXTURES = Path(__file__).resolve().parents[2] / "tests" / "fixtures"
VGG16_WIDTH = 0.125
PRECISIONS = ("float32", "default")  # of JAX; the default of a GPU is TF32
OFFSET_STD = (0.1, 0.1, 0.2, 0.2)  # torchvision's weights (10, 10, 5, 5), in boxes.npz


def run(record: Record) -> None:
    """Record the largest differences from torchvision's values, then from the CPU's step, small steps first."""
    compare_values(record)
    for name, data, images in (("step, small", "synthetic", 8), ("step, one image of full size", "kaist/literal", 1)):
        # On a CPU all precisions are the same.
        for role in ("teacher",) if record.rehearse else ("teacher", "student"):
            if record.seconds_left() < 0:
                return
            config = config_of(role, data, record.rehearse)
            for precision, result in _compare_steps(config, images, PRECISIONS[: 1 if record.rehearse else 2]):
                record.add(name, role=role, precision=precision, **result)


def compare_values(record: Record) -> None:
    """Record the largest differences of RoIAlign, NMS, box coding and VGG-16 from torchvision's values."""
    _roi_align(record)
    _nms(record)
    _boxes(record)
    _vgg16(record)


def _roi_align(record):
    for name in ("roi_align_stride8", "roi_align_stride16", "roi_align_other_bins"):
        expected = dict(np.load(FIXTURES / "ops" / f"{name}.npz"))
        sizes = {
            "stride": int(expected["stride"]),
            "output_size": int(expected["bins"]),
            "samples_per_bin": int(expected["samples_per_bin"]),
        }
        for way, cells in (("products", {}), ("gathered", {"product_cells": 0})):
            pooled, pull_back = jax.vjp(
                lambda x, rois=expected["rois"], keys=sizes | cells: roi_align(x, rois, **keys), expected["features"]
            )
            record.add(
                name,
                way=way,
                forward=_difference(pooled, expected["pooled"]),
                gradient=_difference(pull_back(expected["output_gradient"])[0], expected["features_gradient"]),
            )


def _nms(record):
    with np.load(FIXTURES / "ops" / "nms.npz") as expected:
        cases = [name for name in expected if not name.endswith(("boxes", "scores"))]
        differing = []
        for case in cases:
            group, _, threshold = case.rpartition("/")
            boxes, scores = expected[f"{group}/boxes"], expected[f"{group}/scores"]
            index, kept = nms(boxes, scores, np.ones(len(boxes), bool), float(threshold), len(boxes))
            if np.asarray(index)[np.asarray(kept)].tolist() != expected[case].tolist():
                differing.append(case)
        record.add("nms", cases=len(cases), differing=differing)


def _boxes(record):
    expected = np.load(FIXTURES / "ops" / "boxes.npz")
    encoded = box_ops.encode_offsets(expected["boxes"], expected["anchors"], OFFSET_STD)
    decoded = box_ops.decode_offsets(expected["offsets"], expected["anchors"], OFFSET_STD)
    record.add(
        "box coding",
        encoded=_difference(encoded, expected["encoded"]),
        decoded=_difference(decoded, expected["decoded"]),
    )


def _vgg16(record):
    fixture = dict(np.load(FIXTURES / "vgg16_features.npz"))
    # Each weight is stored divided by its scale. The weights are read as from one of torchvision's files.
    names = [name for name in fixture if name.startswith("features.") and not name.endswith("scale")]
    tensors = {name: fixture[name] * fixture[f"{name.rpartition('.')[0]}.scale"] for name in names}
    image, model = fixture["image"][None], vgg16.Vgg16(VGG16_WIDTH)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), image, method=_blocks)["params"])
    params = {"backbones_visible": jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)}
    with tempfile.TemporaryDirectory() as folder:
        save_file(tensors, f"{folder}/vgg16.safetensors")
        params = pretrained.load_vgg16(f"{folder}/vgg16.safetensors", params)["backbones_visible"]
    expected = [fixture[name] for name in ("conv1", "conv2", "conv3", "conv4", "conv5_stride8")]
    for precision in PRECISIONS:
        with jax.default_matmul_precision(precision):
            features = jax.jit(lambda params, image: model.apply({"params": params}, image, method=_blocks))(
                params, image
            )
        pairs = enumerate(zip(features, expected, strict=True), 1)
        differences = {f"conv{block}": _difference(ours[0], theirs) for block, (ours, theirs) in pairs}
        record.add("vgg16", precision=precision, **differences)


def _blocks(module, image):
    features, outputs = vgg16.normalise(image), []
    for block in range(1, len(vgg16.BLOCKS) + 1):
        features = module.block(block, features)
        outputs.append(features)
        if block in vgg16.pools_after(8):
            features = max_pool(features)
    return outputs


def _compare_steps(config: ConfigDict, images: int, precisions: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each precision, the deviation of its step from the CPU's, and whether the step repeats bit for bit."""
    comparison = Comparison(config, images)
    on_cpu = comparison.first_step(jax.local_devices(backend="cpu")[:1])
    for precision in precisions:
        with jax.default_matmul_precision(precision):
            first, again = (comparison.first_step(jax.local_devices()[:1]) for _ in range(2))
        yield precision, deviation(first, on_cpu)._asdict() | {"same_bits_twice": _same_bits(first[:2], again[:2])}


def _difference(values: Any, expected: Any) -> float:
    """Return the largest absolute difference over the largest absolute expected value."""
    return float(np.max(np.abs(np.asarray(values) - expected)) / np.max(np.abs(expected)))


def _same_bits(first: Any, second: Any) -> bool:
    pairs = zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    return all(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in pairs)
