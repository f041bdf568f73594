"""The machine: device, driver, versions, memory, and the peak of a matrix product, with which steps are compared."""

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


def run(record: Record) -> None:
    """Record the facts and the peaks."""
    record.add(
        "machine",
        devices=[device.device_kind for device in jax.local_devices()],
        memory=jax.local_devices()[0].memory_stats() or None,
        cores=usable_cores(),
        nvidia_smi=_nvidia_smi(),
        versions={name: _version(name) for name in PACKAGES},
    )
    record_peaks(record)


def record_peaks(record: Record) -> dict[str, float]:
    """Record and return the peak of each precision in TFLOP/s: the fastest of large products of square matrices.

    A multiply-add is two operations.
    """
    peaks = {}
    for name, (dtype, matmul) in PRECISIONS.items():
        with jax.default_matmul_precision(matmul):
            product, flops = matrix_product(jnp.dtype(dtype))
            peaks[name] = flops / min(time_in_turns({"product": product}, REPEATS)["product"]) / 1e12
        record.add("peak", precision=name, tflops_per_second=peaks[name])
    return peaks


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _nvidia_smi() -> str | None:
    if not shutil.which("nvidia-smi"):
        return None
    query = "--query-gpu=name,driver_version,memory.total,power.limit,clocks.max.sm"
    done = subprocess.run(["nvidia-smi", query, "--format=csv"], capture_output=True, encoding="utf-8", check=False)
    return done.stdout.strip()
