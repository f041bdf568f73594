"""How fast a detector is on the machine at hand, and why: time, operations, memory, the share of what is no network."""

import functools
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from dcrl_jax.devices import usable_cores
from dcrl_jax.errors import InputError
from dcrl_jax.inference.detector import Detector
from dcrl_jax.inference.trained import restore_trained
from dcrl_jax.models.detect import decide
from dcrl_jax.models.network import Network, build_network
from dcrl_jax.models.rpn import propose
from dcrl_jax.progress import progress_bar
from dcrl_jax.reports.tables import format_table
from dcrl_jax.structures import CHANNELS

REPEATS = 15
# Of a camera, height and width: no network's input, so that it has to be resized and put between bars.
FRAME = (720, 1280)
BATCHES = (1, 4, 8, 16, 32, 64)
BATCH_REPEATS = 3
# A larger batch is not tried if it would take longer, or more of the memory that is free.
BATCH_SECONDS, MEMORY_SHARE = 30.0, 0.8
# A matrix product shows the machine's peak once it takes this long.
PRODUCT_SECONDS, LARGEST_PRODUCT = 0.2, 16384
PAPER = "The paper (Table VII, an RTX 2080 Ti) has 0.128 s a frame for the student and 0.175 s for the teacher."
GIB = 2**30


def benchmark(checkpoint: str | None, config: ConfigDict | None) -> None:
    """Measure a detector on the first device and print tables; at 640x512 on a CPU that takes minutes.

    Args:
        checkpoint: a run's workdir, a checkpoint or a published model; or None.
        config: of a detector with random parameters, where there is no checkpoint.

    Raises:
        InputError: both or neither are given, or they are no detector's.
    """
    if (checkpoint is None) == (config is None):
        found = "neither" if config is None else "both"
        raise InputError(
            "--mode=benchmark needs one of --checkpoint=PATH, a trained detector, and --config=FILE, whose parameters "
            f"are then random; {found} given."
        )
    if config is None:
        network, params, config, step = restore_trained(checkpoint)
        origin = f"the parameters of {checkpoint}, step {step}"
    else:
        network = build_network(config)
        params, origin = network.init_params(config.seed), "random parameters"
    detector = Detector(params, config)
    print(f"{_describe(config)}; {origin}\n{_machine()}\n", flush=True)

    images = noise_images(detector, config.data.height_px, config.data.width_px)
    on_device = [jax.device_put(image[None]) for image in images]
    print("compiling the network for one image", flush=True)
    program = detector.lower_network(*on_device).compile()
    jax.block_until_ready(detector.run_network(*on_device))
    memory = _memory_table(program, jax.local_devices()[0])

    print("compiling its parts", flush=True)
    parts = parts_beside_the_network(network, params, on_device)
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


def time_in_turns(calls: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Seconds of several calls, each run once for warming up and then in turns, so that other load meets all alike."""
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
    """Return the floating point operations of one image, as XLA counts them before it compiles the program.

    A multiply-add is two operations; convolutions are direct, without their padding. XLA counts one round of a loop:
    only NMS has one, and its share is small.
    """
    return jax.jit(network.detect).lower(network.param_shapes(), *network.image_shapes(1)).cost_analysis()["flops"]


def _print_seconds(times, parts):
    print(f"\nSeconds a frame, one image at a time, {REPEATS} runs after the first\n")
    rows = [
        ["network, input on the device", *_spread(times["network"])],
        [f"{FRAME[1]}x{FRAME[0]} pixels in, people out", *_spread(times["frame"])],
    ]
    print(format_table(rows, ["", "median", "lower quartile", "upper quartile", "fastest"], decimals=4))
    print(f"\nThe second also resizes the image and brings the boxes back; reading files is not in it.\n{PAPER}")

    print("\nWhat is no network, timed alone on the values that it gets in the frame\n")
    network = np.median(times["network"])
    rows = [[name, 1000 * np.median(times[name]), 100 * np.median(times[name]) / network] for name in parts]
    rows.append(["together", *np.sum([row[1:] for row in rows], axis=0)])
    print(format_table(rows, ["", "median, ms", "% of the network's time"], decimals=2))


def _print_operations(times, network, config, product_flops):
    print(f"\nOperations, and the peak of a large matrix product, {config.backbone.dtype}\n")
    flops, peak = count_flops(network), product_flops / min(times["product"])
    rows = []
    for name, work in (("network", flops), ("product", product_flops)):
        for which, take in (("median", np.median), ("fastest", min)):
            rate = work / take(times[name])
            rows.append([f"{name}, {which}", work / 1e9, rate / 1e9, 100 * rate / peak])
    print(format_table(rows, ["", "GFLOP", "GFLOP/s", "% of the peak"], decimals=1))
    side = round((product_flops / 2) ** (1 / 3))
    print(
        "\nOf one image; a multiply-add is two. Counted are the model's operations with direct convolutions.\n"
        f"The product is of {side}x{side} matrices; its median beside its fastest tells of other load on the machine."
    )
    if jax.default_backend() == "cpu" and config.backbone.dtype == "float32":
        print(
            "On a CPU the wide 3x3 convolutions are done by Winograd's algorithm, which takes fewer:\n"
            "the share may be more than direct convolutions could reach, and above 100 %."
        )


def _describe(config):
    data, backbone = config.data, config.backbone
    return (
        f"{config.role}, {data.width_px}x{data.height_px} pixels, stride {backbone.stride}, width {backbone.width:g}, "
        f"head {config.roi.hidden}, {config.rpn.kept_testing} proposals, {backbone.dtype}"
    )


def _machine():
    device = jax.local_devices()[0]
    name = _processor() if device.platform == "cpu" else device.device_kind
    return (
        f"{name}, {usable_cores()} cores, jax {jax.__version__} on {device.platform}, "
        f"Python {platform.python_version()}, {time.strftime('%Y-%m-%d')}"
    )


def _processor():
    """The processor's name, which JAX does not tell."""
    account = Path("/proc/cpuinfo")
    lines = account.read_text().splitlines() if account.is_file() else ()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def noise_images(detector: Detector, height: int, width: int) -> list[np.ndarray]:
    """One image of each modality, uint8 [height, width, C]."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (height, width, CHANNELS[name]), np.uint8) for name in detector.modalities]


def parts_beside_the_network(network: Network, params: Any, images: Sequence[Any]) -> dict[str, Callable[[], Any]]:
    """Proposals and final NMS as calls of compiled programs on what the model's stages give for the images."""
    model, rules = network.model, network.rules
    anchors = jax.device_put(network.anchors)

    @jax.jit
    def propose_alone(logits, offsets, anchors):
        return propose(logits, offsets, anchors, **rules.proposals._asdict())

    @jax.jit
    def decide_alone(logits, offsets, rois, mask):
        return decide(logits, offsets, rois, mask, rules)

    def first_stage(params, *images):
        features, outputs = model.apply({"params": params}, *images, method="propose_regions")
        return features, outputs.logits, outputs.offsets, anchors

    def second_stage(params, features, rois):
        outputs = model.apply({"params": params}, features, rois, method="refine")
        return outputs.logits, outputs.offsets

    features, *of_anchors = jax.jit(first_stage)(params, *images)
    proposals = propose_alone(*of_anchors)
    rois = jnp.where(proposals.mask[..., None], proposals.boxes, 0.0)
    of_rois = jax.jit(second_stage)(params, features, rois)
    return {
        "proposals and their NMS": lambda: propose_alone(*of_anchors),
        "final NMS": lambda: decide_alone(*of_rois, rois, proposals.mask),
    }


def matrix_product(dtype: jnp.dtype) -> tuple[Callable[[], jax.Array], int]:
    """A product large enough to show the machine's peak, as a call, and its floating point operations."""
    multiply = jax.jit(jnp.matmul)
    side, seconds = 512, 0.0
    while seconds < PRODUCT_SECONDS and side < LARGEST_PRODUCT:
        side *= 2
        matrix = jax.random.normal(jax.random.key(0), (side, side), dtype)
        call = functools.partial(multiply, matrix, matrix)
        (seconds,) = time_in_turns({"product": call}, 1)["product"]
    return call, 2 * side**3


def _spread(seconds: Sequence[float]) -> list[float]:
    """Median, lower and upper quartile, minimum."""
    return [float(np.percentile(seconds, percent)) for percent in (50, 25, 75, 0)]


def _memory_table(program, device):
    """By the compiled program's own account, and by the device's where it keeps one."""
    account = program.memory_analysis()
    rows = [
        ["arguments: parameters, image", account.argument_size_in_bytes / GIB],
        ["temporary", account.temp_size_in_bytes / GIB],
        ["results", account.output_size_in_bytes / GIB],
    ]
    rows.append(["in all", sum(size for _, size in rows)])
    stats = device.memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        rows.append(["the device's peak until after the first image", stats["peak_bytes_in_use"] / GIB])
    return format_table(rows, ["", "GiB"], decimals=3)


def free_bytes(device) -> int | None:
    """What a further program may take; None where nobody says."""
    stats = device.memory_stats() or {}
    if "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    account = Path("/proc/meminfo")
    if device.platform == "cpu" and account.is_file():
        values = dict(line.split(":") for line in account.read_text().splitlines())
        return 1024 * int(values["MemAvailable"].split()[0])
    return None


class _Rate(NamedTuple):
    images: int
    seconds: float  # of the batch, median
    gib: float  # arguments, temporary and results


def print_batches(detector: Detector, images: Sequence[np.ndarray]) -> None:
    """Time batches of growing size, each of copies of one image of each modality, and print what they reach."""
    rates, why = [], f"{BATCHES[-1]} is the largest that is tried"
    device = jax.local_devices()[0]
    for size in BATCHES:
        expected = rates[-1].seconds * size / rates[-1].images if rates else 0.0
        if expected > BATCH_SECONDS:
            why = f"{size} images would take {expected:.0f} s, more than {BATCH_SECONDS:.0f}"
            break
        batch = [jax.device_put(np.repeat(image[None], size, axis=0)) for image in images]
        print(f"compiling and timing a batch of {size}", flush=True)
        account, free = detector.lower_network(*batch).compile().memory_analysis(), free_bytes(device)
        # Parameters and images are there already.
        further = account.temp_size_in_bytes + account.output_size_in_bytes
        if free is not None and further > MEMORY_SHARE * free:
            why = f"{size} images need {further / GIB:.1f} GiB more, and {free / GIB:.1f} are free"
            break
        times = time_in_turns({"batch": lambda batch=batch: detector.run_network(*batch)}, BATCH_REPEATS)["batch"]
        rates.append(_Rate(size, float(np.median(times)), (further + account.argument_size_in_bytes) / GIB))
    rows = [[rate.images, rate.images / rate.seconds, rate.seconds, rate.gib] for rate in rates]
    print(f"\nImages together, network alone, median of {BATCH_REPEATS} runs after the first; {why}\n")
    print(format_table(rows, ["batch", "images/s", "s a batch", "GiB"], decimals=3), flush=True)
