"""The figures of a run as Markdown tables for benchmarks/README.md, with device and date, from its JSON files.

python -m benchmarks.gpu.tables benchmarks/gpu/results
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu.worker import STAGES
from dcrl_jax.command_line import Parser
from dcrl_jax.tables import format_table


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables of the stages whose files exist."""
    parser = Parser(__doc__)
    parser.add_argument("folder", type=Path, help="with the JSON files of a run")
    folder = parser.parse_args(arguments).folder
    stages = {name: json.loads(path.read_text()) for name in STAGES if (path := folder / f"{name}.json").is_file()}
    if not stages:
        parser.error(f"{folder} holds no file of a stage")
    for name, content in stages.items():
        rehearsal = ", a rehearsal" if content["rehearsal"] else ""
        unfinished = "" if content["finished"] else ", cut off"
        print(f"{name}: {content['device']}, {content['date']}, jax {content['jax']}{rehearsal}{unfinished}\n")
        if name in _TABLES:
            print(f"{table_of(name, content['results'])}\n")


def table_of(stage: str, results: Sequence[dict[str, Any]]) -> str:
    """Return the table of a stage in Markdown."""
    is_shown, row, columns = _TABLES[stage]
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
    name = ", ".join([result["name"], f"seed {result['seed']}", *(f"{k}={v}" for k, v in result["changes"].items())])
    rates = [result["scores"][f"reasonable-{hours}"]["miss_rate_percent"] for hours in ("all", "day", "night")]
    rates = ["no people" if rate is None else f"{rate:.2f}" for rate in rates]
    speed = result["images_per_second"]
    return [name, *rates, result["steps"], f"{speed:.0f}" if speed else None]


# For each stage with a table: whether a result has a row, the row of a result, and the columns.
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
        ["miss rate, %", "all", "day", "night", "steps", "images/s"],
    ),
}


if __name__ == "__main__":
    main()
