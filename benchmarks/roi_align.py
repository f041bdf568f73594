"""Time of RoIAlign, forward and with the gradient of the features, beside torchvision's where that is installed.

    python -m benchmarks.roi_align
    python -m benchmarks.roi_align --repeats 31 --chunk_size 64

300 RoIs of pedestrians' shape on the 512 channels that a 512 x 640 px input has at stride 8 and 16. Each library has
its own layout (channels last here, channels first there) and all the cores that the process may use. Runs take turns,
so that another process on the machine slows both; the ratio within one table is what counts.
"""

import argparse
import functools
import importlib
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

from dcrl_jax.devices import quiet_without_gpu, usable_cores
from dcrl_jax.ops.roi_align import roi_align

HEIGHT, WIDTH, CHANNELS, BINS, SAMPLES_PER_BIN = 512, 640, 512, 7, 2
STRIDES = (8, 16)


def pedestrians(rng: np.random.Generator, count: int, large: int) -> np.ndarray:
    """RoIs float32 [count, 4]: heights from 30 to 300 px at a ratio of 0.41, and some large ones of any shape."""
    height = np.exp(rng.uniform(np.log(30), np.log(300), count))
    width = 0.41 * height
    height[:large], width[:large] = rng.uniform(200, HEIGHT, large), rng.uniform(200, WIDTH, large)
    half = np.stack([width, height], axis=1) / 2
    centre = rng.uniform(0, (WIDTH, HEIGHT), (count, 2))
    corners = np.concatenate([centre - half, centre + half], axis=1)
    return np.clip(corners, 0, [WIDTH, HEIGHT, WIDTH, HEIGHT]).astype(np.float32)


def ours(features, rois, output_gradient, stride, chunk_size):
    """Calls that run RoIAlign forward, and forward and backward."""
    align = functools.partial(
        roi_align, stride=stride, output_size=BINS, samples_per_bin=SAMPLES_PER_BIN, chunk_size=chunk_size
    )

    @jax.jit
    def with_gradient(features, rois, output_gradient):
        pooled, pull_back = jax.vjp(lambda x: align(x, rois), features)
        return pooled, pull_back(output_gradient)

    arrays = jnp.asarray(features), jnp.asarray(rois), jnp.asarray(output_gradient)
    return {
        "forward": lambda: jax.block_until_ready(align(*arrays[:2])),
        "with gradient": lambda: jax.block_until_ready(with_gradient(*arrays)),
    }


def torchvisions(torch, ops, features, rois, output_gradient, stride):
    """The same calls of torchvision, on the kind of device that JAX runs on."""
    device = "cpu" if jax.default_backend() == "cpu" else "cuda"
    synchronize = torch.cuda.synchronize if device == "cuda" else lambda: None
    tensor = torch.tensor(features.transpose(2, 0, 1)[None].copy(), device=device, requires_grad=True)
    rois = torch.tensor(np.pad(rois, ((0, 0), (1, 0))), device=device)
    output_gradient = torch.tensor(output_gradient.transpose(0, 3, 1, 2).copy(), device=device)

    def align():
        return ops.roi_align(tensor, rois, BINS, 1 / stride, SAMPLES_PER_BIN, aligned=True)

    def forward():
        with torch.no_grad():
            align()
        synchronize()

    def with_gradient():
        tensor.grad = None
        align().backward(output_gradient)
        synchronize()

    return {"forward": forward, "with gradient": with_gradient}


def medians_ms(calls: dict, repeats: int) -> dict:
    """Median time of each call; they take turns, after two rounds that are not counted."""
    times = {name: [] for name in calls}
    for _ in range(repeats + 2):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    return {name: 1000 * statistics.median(values[2:]) for name, values in times.items()}


def import_torch():
    """torch, torchvision.ops and None; or two None and the reason."""
    try:
        return importlib.import_module("torch"), importlib.import_module("torchvision.ops"), None
    except (ImportError, OSError, RuntimeError) as error:  # the latter two come from builds that do not fit each other
        return None, None, error


def main() -> None:
    quiet_without_gpu()
    parser = argparse.ArgumentParser(description="Times RoIAlign, beside torchvision's if that is installed.")
    parser.add_argument("--repeats", type=int, default=15, help="runs behind each median")
    parser.add_argument("--rois", type=int, default=300)
    parser.add_argument("--chunk_size", type=int, default=16, help="RoIs whose gradient is computed together")
    options = parser.parse_args()
    for name, value in vars(options).items():
        if value < 1:
            parser.error(f"--{name} {value}: expected at least 1")
    torch, ops, problem = import_torch()

    rng = np.random.default_rng(0)
    rois = pedestrians(rng, options.rois, large=options.rois // 15)
    output_gradient = rng.standard_normal((options.rois, BINS, BINS, CHANNELS), np.float32)
    versions = f"jax {jax.__version__}" + (f", torch {torch.__version__}" if torch else "")
    print(f"RoIAlign of {options.rois} RoIs, {BINS}x{BINS} bins of {SAMPLES_PER_BIN}x{SAMPLES_PER_BIN} samples.")
    print(f"{jax.devices()[0].device_kind}, {usable_cores()} cores, {versions}, median of {options.repeats} runs.\n")
    print(f"{'stride':>6}  {'map':<10}  {'':<13}  {'dcrl_jax':>9}  {'torchvision':>11}  {'ratio':>5}")
    for stride in STRIDES:
        height, width = HEIGHT // stride, WIDTH // stride
        features = rng.standard_normal((height, width, CHANNELS), np.float32)
        calls = {("ours", k): f for k, f in ours(features, rois, output_gradient, stride, options.chunk_size).items()}
        if torch:
            theirs = torchvisions(torch, ops, features, rois, output_gradient, stride)
            calls |= {("theirs", kind): call for kind, call in theirs.items()}
        times = medians_ms(calls, options.repeats)
        for kind in ("forward", "with gradient"):
            own, other = times["ours", kind], times.get(("theirs", kind))
            beside = f"{other:>8.1f} ms  {own / other:>5.2f}" if other else f"{'-':>11}  {'-':>5}"
            print(f"{stride:>6}  {f'{height}x{width}x{CHANNELS}':<10}  {kind:<13}  {own:>6.1f} ms  {beside}")
    if problem:
        print(f"\nNo torchvision column ({problem}): pip install torch torchvision, in an environment of its own.")


if __name__ == "__main__":
    main()
