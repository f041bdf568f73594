"""Median times of calls that take turns, and the machine that they were measured on."""

from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

import jax.numpy as jnp
import numpy as np

from dcrl_jax.inference.benchmark import describe_machine, matrix_product, time_in_turns

Name = TypeVar("Name", bound=Hashable)
PRODUCTS = 5


def median_seconds(calls: Mapping[Name, Callable[[], Any]], repeats: int) -> dict[Name, float]:
    """Return the median seconds of each call; see ``time_in_turns``."""
    return {name: float(np.median(seconds)) for name, seconds in time_in_turns(calls, repeats).items()}


def describe_machine_and_peak() -> str:
    """Return the machine and the GFLOP/s of a float32 matrix product, the peak that other load leaves."""
    product, flops = matrix_product(jnp.dtype(jnp.float32))
    (seconds,) = time_in_turns({"product": product}, PRODUCTS).values()
    return f"{describe_machine()}; a matrix product reaches {flops / min(seconds) / 1e9:.0f} GFLOP/s"
