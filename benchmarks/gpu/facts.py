"""The machine: device, driver, versions, memory, and the peak of a matrix product, by which all else is judged."""

import argparse
import importlib.metadata
import shutil
import subprocess

import jax
import jax.numpy as jnp

from benchmarks.gpu.record import PRECISIONS, Record
from dcrl_jax.devices import usable_cores
from dcrl_jax.inference.benchmark import matrix_product, time_in_turns

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "torch", "torchvision")
REPEATS = 5


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
    for name in PRECISIONS:
        record.add("peak", precision=name, tflops_per_second=matrix_peak(name))


def matrix_peak(precision: str) -> float:
    """Return the fastest TFLOP/s of a large product of random square matrices; a multiply-add is two."""
    dtype, matmul = PRECISIONS[precision]
    with jax.default_matmul_precision(matmul):
        product, flops = matrix_product(jnp.dtype(dtype))
        return flops / min(time_in_turns({"product": product}, REPEATS)["product"]) / 1e12


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
