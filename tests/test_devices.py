"""Choosing the CPU where JAX would fall back to it after a stack trace."""

import ctypes
import importlib.util
import os

import pytest

from dcrl_jax.devices import quiet_without_gpu


@pytest.fixture
def machine(monkeypatch):
    """Sets up a machine with or without JAX's CUDA plugin and NVIDIA's driver; returns the libraries asked for."""

    def set_up(plugin, has_driver, platforms=None):
        asked = []

        def load(name):
            asked.append(name)
            if not has_driver:
                raise OSError(f"{name}: cannot open shared object file")

        monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if name == plugin else None)
        monkeypatch.setattr(ctypes, "CDLL", load)
        # Set before it is deleted, so that the tests' own value comes back in any case.
        monkeypatch.setenv("JAX_PLATFORMS", platforms or "")
        if platforms is None:
            monkeypatch.delenv("JAX_PLATFORMS")
        return asked

    return set_up


@pytest.mark.parametrize("plugin", ["jax_cuda12_plugin", "jax_cuda13_plugin"])
def test_plugin_without_a_driver_chooses_the_cpu(machine, plugin):
    asked = machine(plugin, has_driver=False)
    quiet_without_gpu()
    assert os.environ["JAX_PLATFORMS"] == "cpu"
    assert asked == ["libcuda.so.1"]


def test_plugin_with_a_driver_leaves_the_choice_to_jax(machine):
    machine("jax_cuda12_plugin", has_driver=True)
    quiet_without_gpu()
    assert "JAX_PLATFORMS" not in os.environ


def test_machine_without_the_plugin_is_left_alone_and_no_library_is_loaded(machine):
    asked = machine(None, has_driver=False)
    quiet_without_gpu()
    assert "JAX_PLATFORMS" not in os.environ
    assert asked == []


@pytest.mark.parametrize("platforms", ["cuda", "cpu", "cuda,cpu"])
def test_platform_that_the_user_chose_stays(machine, platforms):
    asked = machine("jax_cuda12_plugin", has_driver=False, platforms=platforms)
    quiet_without_gpu()
    assert os.environ["JAX_PLATFORMS"] == platforms
    assert asked == []
