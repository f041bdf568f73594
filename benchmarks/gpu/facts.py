"""The machine: device, driver, versions, memory, and the peak of a matrix product, by which all else is judged."""

import argparse
import importlib.metadata
import shutil
import subprocess

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.gpu.record import PRECISIONS, Record
from dcrl_jax.devices import usable_cores
from dcrl_jax.inference.benchmark import time_in_turns

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "torch", "torchvision")
SIDE, SIDE_IN_REHEARSAL = 8192, 256
REPEATS, PRODUCTS = 10, 10  # timings, and products in each of them


def run(record: Record, options: argparse.Namespace) -> None:
    """Record facts and peaks."""
    device = jax.local_devices()[0]
    record.add(
        "machine",
        devices=[one.device_kind for one in jax.local_devices()],
        memory=device.memory_stats() or None,
        cores=usable_cores(),
        nvidia_smi=_nvidia_smi(),
        versions={name: _version(name) for name in PACKAGES},
    )
    side = SIDE_IN_REHEARSAL if options.rehearse else SIDE
    for name in PRECISIONS:
        record.add("peak", precision=name, side=side, tflops_per_second=matrix_peak(name, side))


def matrix_peak(precision: str, side: int) -> float:
    """Return the fastest TFLOP/s of a product of two random square matrices; a multiply-add is two."""
    dtype, matmul = PRECISIONS[precision]
    with jax.default_matmul_precision(matmul):
        matrix = jax.random.normal(jax.random.key(0), (side, side), jnp.dtype(dtype)) / side**0.5

        @jax.jit
        def multiply(matrix):
            # Each needs the one before it, so that none can be left out.
            return jax.lax.fori_loop(0, PRODUCTS, lambda _, product: product @ matrix, matrix)

        times = time_in_turns({"product": lambda: multiply(matrix)}, REPEATS)["product"]
    return float(PRODUCTS * 2 * side**3 / np.min(times) / 1e12)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _nvidia_smi() -> str | None:
    if not shutil.which("nvidia-smi"):
        return None
    query = "--query-gpu=name,driver_version,memory.total,power.limit,clocks.max.sm"
    done = subprocess.run(["nvidia-smi", query, "--format=csv"], capture_output=True, text=True, check=False)
    return done.stdout.strip()
