"""The CPU is selected where JAX would fall back to it after a stack trace; memory respects a container."""

import ctypes
import importlib.util
import os
from pathlib import Path

import pytest

from dcrl_jax.devices import machine_memory_bytes, quiet_without_gpu


@pytest.mark.parametrize(
    ("plugin", "has_driver", "platforms", "selected", "is_driver_tried"),
    [
        ("jax_cuda12_plugin", False, None, "cpu", True),
        ("jax_cuda13_plugin", False, None, "cpu", True),
        ("jax_cuda12_plugin", True, None, None, True),
        (None, False, None, None, False),
        ("jax_cuda12_plugin", False, "cuda,cpu", "cuda,cpu", False),
    ],
)
def test_cpu_is_selected_for_a_plugin_without_driver(
    monkeypatch, plugin, has_driver, platforms, selected, is_driver_tried
):
    libraries = []

    def load(name):
        libraries.append(name)
        if not has_driver:
            raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if name == plugin else None)
    monkeypatch.setattr(ctypes, "CDLL", load)
    # Set before it is deleted, so that the tests' own value is restored in any case.
    monkeypatch.setenv("JAX_PLATFORMS", platforms or "")
    if platforms is None:
        monkeypatch.delenv("JAX_PLATFORMS")
    quiet_without_gpu()
    assert os.environ.get("JAX_PLATFORMS") == selected
    assert libraries == ["libcuda.so.1"] * is_driver_tried


@pytest.mark.parametrize(("limit", "expected"), [("1000000\n", 1_000_000), ("max\n", None)])
def test_memory_is_that_of_the_machine_or_its_container(monkeypatch, limit, expected):
    monkeypatch.setattr(Path, "read_text", lambda self, encoding: limit)
    assert machine_memory_bytes() == (expected or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
