"""Median times of calls that take turns."""

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import numpy as np

from dcrl_jax.inference.benchmark import time_in_turns


def median_seconds(calls: Mapping[Hashable, Callable[[], Any]], repeats: int) -> dict[Hashable, float]:
    """Return the median seconds of each call; see ``time_in_turns``."""
    return {name: float(np.median(seconds)) for name, seconds in time_in_turns(calls, repeats).items()}
