"""The figures of a run as Markdown tables for README, with card and date, from its JSON files.

python -m benchmarks.gpu.tables benchmarks/gpu/results
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu.worker import STAGES


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables of the stages that are there."""
    parser = argparse.ArgumentParser(prog="benchmarks.gpu.tables", description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="with the JSON files of a run")
    folder = parser.parse_args(arguments).folder
    stages = {name: json.loads(path.read_text()) for name in STAGES if (path := folder / f"{name}.json").is_file()}
    if not stages:
        parser.error(f"{folder} holds no file of a stage")
    for name, content in stages.items():
        rehearsal = ", a rehearsal" if content["rehearsal"] else ""
        unfinished = "" if content["finished"] else ", cut off"
        print(f"{name}: {content['device']}, {content['date']}, jax {content['jax']}{rehearsal}{unfinished}\n")
        if table := table_of(name, content["results"]):
            print(f"{markdown(*table)}\n")


def table_of(stage: str, results: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]] | None:
    """Return the heads and rows of a stage's table; None for a stage that has none."""
    if stage == "facts":
        rows = [[r["precision"], f"{r['tflops_per_second']:.1f}"] for r in results if r["name"] == "peak"]
        return ["matrix product", "TFLOP/s"], rows
    if stage == "frame":
        heads = ["one image", "network, ms", "pixels in, people out, ms", "proposals and NMS", "of torchvision's time"]
        return heads, [_frame(result) for result in results if result["name"] == "one image"]
    if stage == "step":
        heads = [
            "step",
            "images",
            "images/s",
            "of the peak",
            "of torchvision's time",
            "GiB: predicted",
            "compiled",
            "peak",
        ]
        return heads, [_step(result) for result in results if result["name"] == "step"]
    if stage == "train":
        rows = [_training(result) for result in results if "scores" in result]
        return ["miss rate, %", "all", "day", "night", "steps"], rows
    return None


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _frame(result):
    seconds = result["seconds"]
    ratios = ", ".join(f"{name.removeprefix('torchvision, ')} {ratio:.2f}" for name, ratio in result["ratio"].items())
    return [
        f"{result['role']}, {result['precision']}",
        f"{1000 * seconds['network']:.2f}",
        f"{1000 * seconds['frame']:.2f}",
        f"{100 * result['share_of_proposals_and_nms']:.1f} %",
        ratios,
    ]


def _step(result):
    name = f"{result['role']}, {result['precision']}{', remat' if result['remat'] else ''}"
    if result.get("out_of_memory"):
        return [name, str(result["images"]), "out of memory", "", "", "", "", ""]
    gib = result["gib"]
    return [
        name,
        str(result["images"]),
        f"{result['images_per_second']:.1f}",
        f"{100 * result['share_of_peak']:.0f} %",
        f"{result['ratio']:.2f}" if result["ratio"] else "",
        *(f"{gib[which]:.1f}" if gib[which] else "" for which in ("predicted", "compiled", "allocator_peak")),
    ]


def _training(result):
    rates = [result["scores"][f"reasonable-{hours}"]["miss_rate_percent"] for hours in ("all", "day", "night")]
    shown = ["no people" if rate is None else f"{rate:.2f}" for rate in rates]
    return [result["name"], *shown, str(result["steps"])]


if __name__ == "__main__":
    main()
