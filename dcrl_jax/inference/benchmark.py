"""The speed of a detector on this machine: seconds, operations, memory, and the share of the proposals and of NMS."""

import functools
import platform
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import psutil
from ml_collections import ConfigDict

from dcrl_jax.devices import usable_cores
from dcrl_jax.errors import InputError
from dcrl_jax.inference.detector import Detector
from dcrl_jax.inference.trained import restore_trained
from dcrl_jax.models.detect import decide
from dcrl_jax.models.network import Network, build_network
from dcrl_jax.models.rpn import propose
from dcrl_jax.progress import progress_bar
from dcrl_jax.structures import CHANNELS
from dcrl_jax.tables import format_table

REPEATS = 15
FRAME = (720, 1280)  # height and width of a camera's frame, which must be resized and padded
BATCHES = (1, 4, 8, 16, 32, 64)
BATCH_REPEATS = 3
# Limits of a batch: its seconds, and its share of the free memory.
BATCH_SECONDS, MEMORY_SHARE = 30.0, 0.8
# A matrix product that takes this long reaches the machine's peak.
PRODUCT_SECONDS, LARGEST_PRODUCT = 0.2, 16384
PAPER = "The paper (Table VII, RTX 2080 Ti) reports 0.128 s per frame for the student and 0.175 s for the teacher."
GIB = 2**30


def benchmark(checkpoint: str | None, config: ConfigDict | None) -> None:
    """Measure a detector on the first device and print tables; at 640x512 on a CPU this takes minutes.

    Args:
        checkpoint: a run's workdir, a checkpoint or a published model.
        config: without a checkpoint, the config of a detector with random parameters.

    Raises:
        InputError: both or neither are given, or they do not describe a detector.
    """
    if checkpoint is not None and config is None:
        network, params, config, step = restore_trained(checkpoint)
        origin = f"the parameters of {checkpoint}, step {step}"
    elif config is not None and checkpoint is None:
        network = build_network(config)
        params, origin = network.init_params(config.seed), "random parameters"
    else:
        which = "neither is" if config is None else "both are"
        raise InputError(
            "--mode=benchmark needs one of --checkpoint=PATH, a trained detector, and --config=FILE, whose parameters "
            f"are then random; {which} given."
        )
    detector = Detector(params, config)
    print(f"{_describe_detector(config)}; {origin}\n{describe_machine()}\n", flush=True)

    images = noise_images(detector, config.data.height_px, config.data.width_px)
    on_device = [jax.device_put(image[None]) for image in images]
    print("compiling the network for one image", flush=True)
    program = detector.lower_network(*on_device).compile()
    jax.block_until_ready(detector.run_network(*on_device))
    memory = _memory_table(program, jax.local_devices()[0])

    print("compiling its parts", flush=True)
    parts = proposal_and_nms_calls(network, params, on_device)
    del params
    product, product_flops = matrix_product(jnp.dtype(config.backbone.dtype))
    frame = noise_images(detector, *FRAME)
    calls = {
        "network": lambda: detector.run_network(*on_device),
        "frame": lambda: detector(*frame),
        "product": product,
        **parts,
    }
    times = time_in_turns(calls, REPEATS)

    _print_seconds(times, list(parts))
    _print_operations(times, network, config, product_flops)
    print(f"\nMemory of one image\n\n{memory}\n", flush=True)
    print_batches(detector, images)


Name = TypeVar("Name", bound=Hashable)


def time_in_turns(calls: Mapping[Name, Callable[[], Any]], repeats: int) -> dict[Name, list[float]]:
    """Return the seconds of each run of several calls.

    Each call runs once to warm up. Then the calls take turns, so that other load on the machine affects all alike.
    """
    for call in calls.values():
        jax.block_until_ready(call())
    times = {name: [] for name in calls}
    for _ in progress_bar(range(repeats), "timing", repeats, "rounds", leave=False):
        for name, call in calls.items():
            started = time.perf_counter()
            jax.block_until_ready(call())
            times[name].append(time.perf_counter() - started)
    return times


def count_flops(network: Network) -> float:
    """Return the floating point operations for one image, as XLA counts them before compilation; see ``direct_flops``.

    XLA counts one iteration of a loop: only NMS has one, and its share is small.
    """
    return direct_flops(jax.jit(network.detect), network.param_shapes(), *network.image_shapes(1))


def direct_flops(function: Any, *arguments: Any) -> float:
    """Return the floating point operations of a jitted function, as XLA counts them before compilation.

    A multiply-add is two operations; convolutions are direct and skip their padding.
    """
    # A GPU's backend gives no account, and for a CPU, convolutions may be loops of Winograd's products, which XLA does
    # not count. So the program for a GPU is counted by the CPU's backend.
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        costs: Any = function.trace(*arguments).lower(lowering_platforms=("cuda",)).cost_analysis()
    return costs["flops"]


def _print_seconds(times, parts):
    print(f"\nSeconds per frame, one image at a time, {REPEATS} runs after the first\n")
    rows = [
        ["network, input on the device", *_spread(times["network"])],
        [f"{FRAME[1]}x{FRAME[0]} pixels in, people out", *_spread(times["frame"])],
    ]
    print(format_table(rows, ["", "median", "lower quartile", "upper quartile", "fastest"], decimals=4))
    print(f"\nThe second row includes resizing the image and mapping the boxes back, but not reading files.\n{PAPER}")

    print("\nSteps other than layers, timed separately on the values that they get in a frame\n")
    network = np.median(times["network"])
    rows = [[name, 1000 * np.median(times[name]), 100 * np.median(times[name]) / network] for name in parts]
    rows.append(["total", *np.sum([row[1:] for row in rows], axis=0)])
    print(format_table(rows, ["", "median, ms", "% of the network's time"], decimals=2))


def _print_operations(times, network, config, product_flops):
    print(f"\nOperations, compared with the peak of a large matrix product, {config.backbone.dtype}\n")
    flops, peak = count_flops(network), product_flops / min(times["product"])
    rows = []
    for name, count in (("network", flops), ("product", product_flops)):
        for label, statistic in (("median", np.median), ("fastest", min)):
            rate = count / statistic(times[name])
            rows.append([f"{name}, {label}", count / 1e9, rate / 1e9, 100 * rate / peak])
    print(format_table(rows, ["", "GFLOP", "GFLOP/s", "% of the peak"], decimals=1))
    side = round((product_flops / 2) ** (1 / 3))
    print(
        "\nOne image; a multiply-add is two operations, and convolutions count as direct ones.\n"
        f"The product is of {side}x{side} matrices; a median far below its fastest run means other load on the machine."
    )
    if jax.default_backend() == "cpu" and config.backbone.dtype == "float32":
        print(
            "On a CPU, wide 3x3 convolutions use Winograd's algorithm, which needs fewer operations:\n"
            "the share may exceed what direct convolutions could reach, and 100 %."
        )


def _describe_detector(config):
    data, backbone = config.data, config.backbone
    return (
        f"{config.role}, {data.width_px}x{data.height_px} pixels, stride {backbone.stride}, width {backbone.width:g}, "
        f"head {config.roi.hidden}, {config.rpn.kept_testing} proposals, {backbone.dtype}"
    )


def describe_machine() -> str:
    """Return the processor, its cores, the versions of JAX and Python, and the date."""
    device = jax.local_devices()[0]
    name = _processor() if device.platform == "cpu" else device.device_kind
    return (
        f"{name}, {usable_cores()} cores, jax {jax.__version__} on {device.platform}, "
        f"Python {platform.python_version()}, {time.strftime('%Y-%m-%d')}"
    )


def _processor():
    """Return the name of the CPU, which neither JAX nor psutil reports."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else ()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def noise_images(detector: Detector, height: int, width: int) -> list[np.ndarray]:
    """Return a random image of each modality, uint8 [height, width, C]."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (height, width, CHANNELS[name]), np.uint8) for name in detector.modalities]


def proposal_and_nms_calls(network: Network, params: Any, images: Sequence[Any]) -> dict[str, Callable[[], Any]]:
    """Return the proposals and the final NMS as calls of compiled programs.

    Args:
        network: the detector.
        params: its parameters.
        images: one batch of each modality. The programs get what the network's stages compute from them.
    """
    apply: Any = network.model.apply
    rules = network.rules
    propose_only = jax.jit(functools.partial(propose, **rules.proposals._asdict()))
    decide_only = jax.jit(functools.partial(decide, rules=rules))

    @jax.jit
    def first_stage(params, *images):
        features, outputs = apply({"params": params}, *images, method="propose_regions")
        return features, outputs.logits, outputs.offsets

    @jax.jit
    def second_stage(params, features, rois):
        outputs = apply({"params": params}, features, rois, method="refine")
        return outputs.logits, outputs.offsets

    features, *rpg = first_stage(params, *images)
    rpg.append(jax.device_put(network.anchors))
    proposals = propose_only(*rpg)
    rois = jnp.where(proposals.mask[..., None], proposals.boxes, 0.0)
    rdr = second_stage(params, features, rois)
    return {
        "proposals and their NMS": lambda: propose_only(*rpg),
        "final NMS": lambda: decide_only(*rdr, rois, proposals.mask),
    }


def matrix_product(dtype: jnp.dtype) -> tuple[Callable[[], jax.Array], int]:
    """Return a call that computes a matrix product at the machine's peak, and its floating point operations."""
    multiply = jax.jit(jnp.matmul)
    side, seconds = 512, 0.0
    while seconds < PRODUCT_SECONDS and side < LARGEST_PRODUCT:
        side *= 2
        matrix = jax.random.normal(jax.random.key(0), (side, side), dtype)
        call = functools.partial(multiply, matrix, matrix)
        (seconds,) = time_in_turns({"product": call}, 1)["product"]
    return call, 2 * side**3


def _spread(seconds: Sequence[float]) -> list[float]:
    """Return the median, the lower and upper quartile, and the minimum."""
    return [float(np.percentile(seconds, percent)) for percent in (50, 25, 75, 0)]


def _memory_table(program, device):
    """Return the memory of a compiled program, and the device's peak if the device records it."""
    analysis = program.memory_analysis()
    rows = [
        ["arguments: parameters, image", analysis.argument_size_in_bytes / GIB],
        ["temporary", analysis.temp_size_in_bytes / GIB],
        ["results", analysis.output_size_in_bytes / GIB],
    ]
    rows.append(["total", sum(size for _, size in rows)])
    stats = device.memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        rows.append(["peak of the device after the first image", stats["peak_bytes_in_use"] / GIB])
    return format_table(rows, ["", "GiB"], decimals=3)


def free_bytes(device: Any) -> int | None:
    """Return the memory in bytes that another program may take; None if the device does not report it."""
    stats = device.memory_stats() or {}
    if "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    return psutil.virtual_memory().available if device.platform == "cpu" else None


class _Rate(NamedTuple):
    """The speed and memory of one size of batch."""

    images: int
    seconds: float  # median of the batch
    gib: float  # arguments, temporary and results


def print_batches(detector: Detector, images: Sequence[np.ndarray]) -> None:
    """Time batches of growing size and print their rates.

    Args:
        detector: the detector.
        images: one of each modality, repeated to fill a batch.
    """
    rates, end = [], f"{BATCHES[-1]} is the largest size tried"
    device = jax.local_devices()[0]
    for size in BATCHES:
        expected = rates[-1].seconds * size / rates[-1].images if rates else 0.0
        if expected > BATCH_SECONDS:
            end = f"{size} images would take {expected:.0f} s, more than {BATCH_SECONDS:.0f}"
            break
        batch = [jax.device_put(np.repeat(image[None], size, axis=0)) for image in images]
        print(f"compiling and timing a batch of {size}", flush=True)
        analysis: Any = detector.lower_network(*batch).compile().memory_analysis()
        free = free_bytes(device)
        # Parameters and images are already allocated.
        needed = analysis.temp_size_in_bytes + analysis.output_size_in_bytes
        if free is not None and needed > MEMORY_SHARE * free:
            end = f"{size} images need {needed / GIB:.1f} GiB more, and {free / GIB:.1f} GiB are free"
            break
        times = time_in_turns({"batch": lambda batch=batch: detector.run_network(*batch)}, BATCH_REPEATS)["batch"]
        rates.append(_Rate(size, float(np.median(times)), (needed + analysis.argument_size_in_bytes) / GIB))
    rows = [[rate.images, rate.images / rate.seconds, rate.seconds, rate.gib] for rate in rates]
    print(f"\nBatches, network only, median of {BATCH_REPEATS} runs after the first; {end}\n")
    print(format_table(rows, ["batch", "images/s", "s per batch", "GiB"], decimals=3), flush=True)
