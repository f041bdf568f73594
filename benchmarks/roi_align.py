"""Time of RoIAlign, forward and with the gradient of the features, beside torchvision's if it is installed.

    python -m benchmarks.roi_align
    python -m benchmarks.roi_align --repeats=31

300 RoIs of pedestrians' shape on the 512 channels that an input of 640x512 has at stride 8 and 16. Each library has its
own layout (channels last here, channels first in torchvision) and all cores that the process may use. Runs take turns,
so that other processes on the machine slow both; the ratio within one table is what counts.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import torchvision_side
from benchmarks.timing import describe_machine_and_peak, median_seconds
from dcrl_jax.command_line import Parser, exit_on_error
from dcrl_jax.devices import quiet_without_gpu
from dcrl_jax.ops.roi_align import roi_align
from dcrl_jax.tables import format_table

HEIGHT, WIDTH, CHANNELS, BINS, SAMPLES_PER_BIN = 512, 640, 512, 7, 2
ROIS, LARGE_ROIS = 300, 20
STRIDES = (8, 16)


def pedestrians(rng: np.random.Generator) -> np.ndarray:
    """Return RoIs, float32 [ROIS, 4]: 30 to 300 px tall with width / height 0.41, and LARGE_ROIS of any shape."""
    height = np.exp(rng.uniform(np.log(30), np.log(300), ROIS))
    width = 0.41 * height
    height[:LARGE_ROIS] = rng.uniform(200, HEIGHT, LARGE_ROIS)
    width[:LARGE_ROIS] = rng.uniform(200, WIDTH, LARGE_ROIS)
    half = np.stack([width, height], axis=1) / 2
    centre = rng.uniform(0, (WIDTH, HEIGHT), (ROIS, 2))
    corners = np.concatenate([centre - half, centre + half], axis=1)
    return np.clip(corners, 0, [WIDTH, HEIGHT, WIDTH, HEIGHT]).astype(np.float32)


def roi_align_calls(
    features: np.ndarray, rois: np.ndarray, output_gradient: np.ndarray, stride: int
) -> dict[str, Callable[[], Any]]:
    """Return calls of this project's RoIAlign; the arguments are those of ``torchvision_side.roi_align_calls``."""
    align = functools.partial(roi_align, stride=stride, output_size=BINS, samples_per_bin=SAMPLES_PER_BIN)

    @jax.jit
    def with_gradient(features, rois, output_gradient):
        pooled, pull_back = jax.vjp(lambda x: align(x, rois), features)
        return pooled, pull_back(output_gradient)

    arrays = jnp.asarray(features), jnp.asarray(rois), jnp.asarray(output_gradient)
    return {"forward": lambda: align(*arrays[:2]), "with gradient": lambda: with_gradient(*arrays)}


def measure(repeats: int, beside_torchvision: bool) -> str:
    """Return the table of medians; ``beside_torchvision`` adds torchvision's times and the ratio."""
    rng = np.random.default_rng(0)
    rois = pedestrians(rng)
    output_gradient = rng.standard_normal((ROIS, BINS, BINS, CHANNELS), np.float32)
    rows = []
    for stride in STRIDES:
        height, width = HEIGHT // stride, WIDTH // stride
        arrays = rng.standard_normal((height, width, CHANNELS), np.float32), rois, output_gradient, stride
        calls = {("dcrl_jax", name): call for name, call in roi_align_calls(*arrays).items()}
        if beside_torchvision:
            others = torchvision_side.roi_align_calls(*arrays, BINS, SAMPLES_PER_BIN)
            calls |= {("torchvision", name): call for name, call in others.items()}
        seconds = median_seconds(calls, repeats)
        for name in ("forward", "with gradient"):
            ours, theirs = seconds["dcrl_jax", name], seconds.get(("torchvision", name))
            beside = [f"{1000 * theirs:.1f}", ours / theirs] if theirs else [None, None]
            rows.append([stride, f"{height}x{width}x{CHANNELS}", name, f"{1000 * ours:.1f}", *beside])
    return format_table(rows, ["stride", "map", "", "dcrl_jax, ms", "torchvision, ms", "ratio"])


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = Parser(__doc__)
    parser.add_argument("--repeats", type=int, default=15, help="runs behind each median")
    options = parser.parse_args(arguments)
    if options.repeats < 1:
        parser.error(f"--repeats {options.repeats}: expected at least 1")
    quiet_without_gpu()
    with exit_on_error():
        problem = torchvision_side.import_problem()
        print(f"RoIAlign of {ROIS} RoIs, {BINS}x{BINS} bins of {SAMPLES_PER_BIN}x{SAMPLES_PER_BIN} samples.")
        print(f"{describe_machine_and_peak()}; median of {options.repeats} runs.\n")
        print(measure(options.repeats, beside_torchvision=problem is None))
        if problem:
            print(f"\nWithout torchvision ({problem}): pip install torch torchvision, in another environment.")


if __name__ == "__main__":
    main()
