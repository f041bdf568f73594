"""Median times of calls that take turns."""

from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

import numpy as np

from dcrl_jax.inference.benchmark import time_in_turns

Name = TypeVar("Name", bound=Hashable)


def median_seconds(calls: Mapping[Name, Callable[[], Any]], repeats: int) -> dict[Name, float]:
    """Return the median seconds of each call; see ``time_in_turns``."""
    return {name: float(np.median(seconds)) for name, seconds in time_in_turns(calls, repeats).items()}
