"""What the stages share: their options, their time, and the file that holds what they have measured so far."""

import argparse
import json
import platform
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from configs import baseline, student, teacher
from dcrl_jax.files import write_atomically

RECIPES = {"teacher": teacher, "student": student, "baseline": baseline}

# A recipe in a rehearsal: 64x48 pixels, and no more channels than there have to be.
TINY = {
    "data.height_px": 48,
    "data.width_px": 64,
    "data.max_boxes": 4,
    "backbone.width": 1 / 32,
    "backbone.norm": "none",
    "anchors.per_cell": 3,
    "rpn.sampled": 32,
    "rpn.max_positive": 16,
    "rpn.before_nms": 60,
    "rpn.kept_training": 40,
    "rpn.kept_testing": 20,
    "roi.size": 3,
    "roi.sampled": 16,
    "roi.max_positive": 4,
    "roi.hidden": 16,
}
TINY_FUSION = {"fusion.grid": (2, 3), "fusion.hidden": 8}  # of a teacher


class Precision(NamedTuple):
    """How a network computes in float32 or less."""

    dtype: str  # config.backbone.dtype
    matmul: str  # jax.default_matmul_precision


PRECISIONS = {
    "float32": Precision("float32", "float32"),
    "TF32": Precision("float32", "tensorfloat32"),
    "bfloat16": Precision("bfloat16", "default"),
}


class Record:
    """The results of a stage; the file is whole after each of them, so that a stage that is cut off loses nothing."""

    def __init__(self, name: str, options: argparse.Namespace):
        """Begin a stage: its clock runs from now on.

        Args:
            name: of the stage.
            options: of the command line.
        """
        self._path = Path(options.output) / f"{name}.json"
        self._end = time.monotonic() + options.seconds
        device = jax.local_devices()[0]
        self._content: dict[str, Any] = {
            "stage": name,
            "rehearsal": options.rehearse,
            "date": time.strftime("%Y-%m-%d"),
            "device": device.device_kind,
            "platform": device.platform,
            "jax": jax.__version__,
            "python": platform.python_version(),
            "finished": False,
            "results": [],
        }
        self._write()

    def add(self, name: str, **values: Any) -> None:
        """Add a result, write it and print it."""
        self._content["results"].append({"name": name} | values)
        self._write()
        print(f"{self._content['stage']}: {name}: {values}", flush=True)

    def finish(self) -> None:
        """Say that nothing is missing."""
        self._content["finished"] = True
        self._write()

    def seconds_left(self) -> float:
        """Return what is left of the stage's time; negative when it is over."""
        return self._end - time.monotonic()

    def _write(self) -> None:
        write_atomically(self._path, json.dumps(self._content, indent=1) + "\n")


def full_config(role: str, options: argparse.Namespace) -> ConfigDict:
    """Return KAIST's recipe of a role; in a rehearsal, one of its shape that takes seconds on a CPU."""
    config = RECIPES[role].get_config()
    return shrink(config) if options.rehearse else config


def small_config(role: str, options: argparse.Namespace) -> ConfigDict:
    """Return the recipe of a role on synthetic scenes; in a rehearsal as ``full_config``."""
    config = RECIPES[role].get_config("synthetic")
    return shrink(config) if options.rehearse else config


def shrink(config: ConfigDict) -> ConfigDict:
    """Change a recipe to the sizes of a rehearsal."""
    config.update_from_flattened_dict(TINY)
    prefix = {"teacher": "", "student": "teacher."}.get(config.role)
    if prefix is not None:
        config.update_from_flattened_dict({f"{prefix}{key}": value for key, value in TINY_FUSION.items()})
    return config
