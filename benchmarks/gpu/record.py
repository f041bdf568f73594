"""What the stages share: configs, precisions, and the file of a stage's results."""

import json
import platform
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from configs import baseline, student, teacher
from dcrl_jax.files import write_atomically

RECIPES = {"teacher": teacher, "student": student, "baseline": baseline}

# Changes of a recipe for a rehearsal: 64x48 pixels, and the fewest channels that work.
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
    """The settings that make a network compute in a precision."""

    dtype: str  # config.backbone.dtype
    matmul: str  # jax.default_matmul_precision


PRECISIONS = {
    "float32": Precision("float32", "float32"),
    "TF32": Precision("float32", "tensorfloat32"),
    "bfloat16": Precision("bfloat16", "default"),
}


class Record:
    """The results of a stage, written after each one, so that a stage that is cut off loses nothing.

    Attributes:
        folder: folder of the files of all stages.
        rehearse: whether the stage runs at toy size.
    """

    def __init__(self, stage: str, folder: Path, seconds: float, rehearse: bool):
        """Start a stage and its clock.

        Args:
            stage: name of the stage.
            folder: folder of the file, ``STAGE.json``.
            seconds: the time of the stage.
            rehearse: whether the stage runs at toy size.
        """
        self.folder, self.rehearse = folder, rehearse
        self._end, self._lock = time.monotonic() + seconds, threading.Lock()
        device = jax.local_devices()[0]
        self._content: dict[str, Any] = {
            "stage": stage,
            "rehearsal": rehearse,
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
        """Add a result, write it and print it; threads may do so at the same time."""
        with self._lock:
            self._content["results"].append({"name": name} | values)
            self._write()
        print(f"{self._content['stage']}: {name}: {values}", flush=True)

    def finish(self) -> None:
        """Mark the results as complete."""
        self._content["finished"] = True
        self._write()

    def seconds_left(self) -> float:
        """Return what is left of the stage's time; negative when it is over."""
        return self._end - time.monotonic()

    def _write(self) -> None:
        write_atomically(self.folder / f"{self._content['stage']}.json", json.dumps(self._content, indent=1) + "\n")


def config_of(role: str, data: str, rehearse: bool) -> ConfigDict:
    """Return the recipe of a role on a data set; in a rehearsal at toy size."""
    config = RECIPES[role].get_config(data)
    if rehearse:
        config.update_from_flattened_dict(TINY)
        prefix = {"teacher": "", "student": "teacher."}.get(role)
        if prefix is not None:
            config.update_from_flattened_dict({f"{prefix}{key}": value for key, value in TINY_FUSION.items()})
    return config


def precise_config(role: str, precision: str, rehearse: bool) -> tuple[ConfigDict, str]:
    """Return the paper's recipe of a role in one of ``PRECISIONS``, and the value for ``default_matmul_precision``."""
    config = config_of(role, "kaist/literal", rehearse)
    config.backbone.dtype, matmul = PRECISIONS[precision]
    return config, matmul
