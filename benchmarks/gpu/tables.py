"""The figures of a run as Markdown tables for benchmarks/README.md, with device and date, from its JSON files.

python -m benchmarks.gpu.tables benchmarks/gpu/results
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu.worker import STAGES
from dcrl_jax.command_line import Parser
from dcrl_jax.evaluation.rules import CONDITIONS
from dcrl_jax.tables import format_table


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables of the stages whose files exist."""
    parser = Parser(__doc__)
    parser.add_argument("folder", type=Path, help="with the JSON files of a run")
    folder = parser.parse_args(arguments).folder
    stages = {
        name: json.loads(path.read_text(encoding="utf-8"))
        for name in STAGES
        if (path := folder / f"{name}.json").is_file()
    }
    if not stages:
        parser.error(f"{folder} holds no file of a stage")
    for name, content in stages.items():
        rehearsal = ", a rehearsal" if content["rehearsal"] else ""
        unfinished = "" if content["finished"] else ", cut off"
        print(f"{name}: {content['device']}, {content['date']}, jax {content['jax']}{rehearsal}{unfinished}\n")
        for table in (name, f"{name}, in pairs"):
            if table in _TABLES and any(map(_TABLES[table][0], content["results"])):
                print(f"{table_of(table, content['results'])}\n")


def table_of(name: str, results: Sequence[dict[str, Any]]) -> str:
    """Return a table of a stage's results in Markdown."""
    is_shown, row, columns = _TABLES[name]
    return format_table([row(result) for result in results if is_shown(result)], columns, markdown=True)


def _peak(result):
    return [result["precision"], f"{result['tflops_per_second']:.1f}"]


def _frame(result):
    seconds = result["seconds"]
    ratios = ", ".join(f"{name.removeprefix('torchvision, ')} {ratio:.2f}" for name, ratio in result["ratio"].items())
    return [
        f"{result['role']}, {result['precision']}",
        1000 * seconds["network"],
        1000 * seconds["frame"],
        f"{100 * result['share_of_proposals_and_nms']:.1f} %",
        ratios,
    ]


def _step(result):
    name = f"{result['role']}, {result['precision']}{', remat' if result['remat'] else ''}"
    if result.get("out_of_memory"):
        return [name, result["images"], "out of memory", None, None, None, None, None]
    gib = (result["gib"][account] for account in ("predicted", "compiled", "allocator_peak"))
    return [
        name,
        result["images"],
        f"{result['images_per_second']:.1f}",
        f"{100 * result['share_of_peak']:.0f} %",
        result["ratio"],
        *gib,
    ]


def _training(result):
    scores = result["scores"]
    rates = [scores[f"reasonable-{condition}"]["miss_rate_percent"] for condition in CONDITIONS]
    changes = ", ".join(f"{key}={value}" for key, value in result["changes"].items())
    return [result["run"], *map(_percent, rates), result["last"]["step"], result["seconds"], changes]


def _difference(result):
    cells = []
    for condition in CONDITIONS:
        mean, low, high = result["difference"][condition]
        cells.append(f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]")
    found = ", ".join(_percent(np.mean(values["all"])) for values in result["found_percent_at_1_fppi"].values())
    name = f"{result['runs']} - {result['reference']}, {len(result['seeds'])} seeds"
    return [name, result["labels"], *cells, found]


def _percent(value):
    return "no people" if value is None else f"{value:.2f}"


# By stage: whether a result has a row, the row of a result, and the columns.
_TABLES = {
    "facts": (lambda result: result["name"] == "peak", _peak, ["matrix product", "TFLOP/s"]),
    "frame": (
        lambda result: result["name"] == "one image",
        _frame,
        ["one image", "network, ms", "pixels in, people out, ms", "proposals and NMS", "of torchvision's time"],
    ),
    "step": (
        lambda result: result["name"] == "step",
        _step,
        ["step", "images", "images/s", "of the peak", "of torchvision's time", "GiB: predicted", "compiled", "peak"],
    ),
    "train": (
        lambda result: "scores" in result,
        _training,
        ["miss rate, %", *CONDITIONS, "steps", "seconds", "changes"],
    ),
    "train, in pairs": (
        lambda result: result["name"] == "difference",
        _difference,
        ["points [95 % interval]", "labels", *CONDITIONS, "found at 1 false alarm an image, %"],
    ),
}


if __name__ == "__main__":
    main()
