"""Facts about the machine that need no JAX."""

import contextlib
import ctypes
import importlib.util
import os
from pathlib import Path


def usable_cores() -> int:
    """Return the number of CPU cores that this process may use; a container may grant fewer than the machine has."""
    # macOS has no affinity.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine_memory_bytes() -> int:
    """Return the memory of the machine, or the limit of its container, in bytes."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # the file is missing, or says "max"
            memory = min(memory, int(Path(path).read_text(encoding="utf-8")))
    return memory


def quiet_without_gpu() -> None:
    """Select the CPU if JAX's CUDA plugin is installed but the machine has no NVIDIA driver.

    JAX would fall back to the CPU too, but print a stack trace. A platform that the user selected is kept. Call this
    function before JAX is first used.
    """
    plugins = ("jax_cuda12_plugin", "jax_cuda13_plugin")
    if "JAX_PLATFORMS" in os.environ or not any(importlib.util.find_spec(name) for name in plugins):
        return
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        os.environ["JAX_PLATFORMS"] = "cpu"
