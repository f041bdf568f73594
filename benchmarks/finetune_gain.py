"""Does distillation still help after fine-tuning on RGB images alone, as Table V says? Students beside baselines.

    python -m benchmarks.finetune_gain --output=runs/finetune --students DIR DIR DIR --baselines DIR DIR DIR

The workdirs are those of students and baselines of the synthetic RGB-thermal scenes, seed by seed, such as
``benchmarks.distillation_gain`` leaves them (runs/gain/seed1/student, runs/gain/seed1/baseline...). Both of a seed are
fine-tuned on ``:synthetic_visible`` with the same scenes in the same order, steps and optimizer; they differ in what
they start from alone. The test split is scored before (the start as it is) and after (the last parameters). Finished
runs are kept and interrupted ones go on, so the same command can be given again.

The output folder gets a workdir for each run, ``seedN/ROW``, then ``table.txt`` and ``gain.json``.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from absl import logging
from ml_collections import ConfigDict

from benchmarks.distillation_gain import difference, spread
from configs import finetune
from dcrl_jax import checkpoints
from dcrl_jax.devices import quiet_without_gpu
from dcrl_jax.errors import InputError
from dcrl_jax.evaluation import miss_rate, results
from dcrl_jax.evaluation.rules import CONDITIONS
from dcrl_jax.reports import tables

ROWS = ("baseline", "dcrd")
STATES = ("before", "after")

# Score and matches by condition.
Found = Mapping[str, tuple[miss_rate.Score, miss_rate.Matches]]


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, required=True, help="folder of all runs; what is finished there is kept")
    parser.add_argument("--students", nargs="+", required=True, metavar="DIR", help="workdirs of distilled students")
    parser.add_argument("--baselines", nargs="+", required=True, metavar="DIR", help="of baselines, in the same order")
    parser.add_argument("--steps", type=int, default=200, help="of fine-tuning")
    parser.add_argument("--scenes", type=int, default=200, help="to train on")
    parser.add_argument("--test_scenes", type=int, default=400, help="to be scored on")
    options = parser.parse_args(arguments)
    if len(options.students) != len(options.baselines):
        parser.error(f"{len(options.students)} students and {len(options.baselines)} baselines: give as many of each")
    return options


def recipes(options: argparse.Namespace, seed: int) -> dict[str, ConfigDict]:
    """The configs of one pair by the name of the row; seeds count from 1."""
    starts = {"baseline": options.baselines[seed - 1], "dcrd": options.students[seed - 1]}
    made = {}
    for row, start in starts.items():
        config = made[row] = finetune.get_config(f"synthetic_visible/{row}")
        config.seed = config.data.options.seed = seed
        config.data.options.train, config.data.options.test = options.scenes, options.test_scenes
        config.train.steps = options.steps
        # Once, in the end: the last parameters are what is compared.
        config.train.evaluate_every_epochs = options.steps * config.train.batch_size / options.scenes
        config.init.checkpoint = start
    return made


def run_pair(options: argparse.Namespace, seed: int) -> None:
    """Fine-tune and score what is missing of one pair."""
    from dcrl_jax.training import loop, scoring

    for row, config in recipes(options, seed).items():
        workdir = options.output / f"seed{seed}" / row
        if (workdir / "after" / "evaluation" / "scores.json").is_file():
            continue
        print(f"\n=== seed {seed}: {row}", flush=True)
        detector = scoring.compiled_detector(config)
        loop.train(config, workdir, detector)
        scoring.score_checkpoint(config, workdir / "before", detector, config.init.checkpoint)
        scoring.score_checkpoint(config, workdir / "after", detector, str(workdir / checkpoints.RESUME_FOLDER))


def matches_of(options: argparse.Namespace, seed: int) -> dict[tuple[str, str], Found]:
    """What was found in a pair, by row and state."""
    from dcrl_jax.data import pipeline, sources
    from dcrl_jax.evaluation import evaluate as evaluation
    from dcrl_jax.evaluation.truths import read_truths

    config = recipes(options, seed)["dcrd"]
    truths = read_truths(pipeline.open_split(sources.prepare(config.data), config.data.test_split)).images
    subsets = evaluation.subsets_of(config)
    found = {}
    for row in ROWS:
        for state in STATES:
            path = options.output / f"seed{seed}" / row / state / "evaluation" / "results.json"
            detections = results.read_results(path, [truth.image_id for truth in truths])
            scores = miss_rate.score_subsets(truths, detections, subsets)
            found[row, state] = {s.condition: (scores[s.name], miss_rate.match(truths, detections, s)) for s in subsets}
    return found


def summarise(pairs: Sequence[Mapping[tuple[str, str], Found]]) -> tuple[str, dict]:
    """The tables of miss rates before and after, of every seed, and of the differences; and the figures in them."""
    names = {"baseline": "baseline", "dcrd": "DCRD (student)"}
    states = {"before": "before fine-tuning", "after": "fine-tuned"}
    rates = {
        (row, state): {c: np.array([100 * pair[row, state][c][0].miss_rate for pair in pairs]) for c in CONDITIONS}
        for state in STATES
        for row in ROWS
    }
    rows = [
        [f"{names[row]}, {states[state]}", *(spread(by[c]) for c in CONDITIONS)] for (row, state), by in rates.items()
    ]
    text = [
        tables.format_table(rows, [f"miss rate, %: mean ± standard deviation of {len(pairs)} seeds", *CONDITIONS]),
        tables.format_table(
            [[f"{names[r]}, {states[s]}", *map(float, by["all"])] for (r, s), by in rates.items()],
            ["all, each seed", *map(str, range(1, len(pairs) + 1))],
        ),
    ]
    rng, rows, differences = np.random.default_rng(0), [], {}
    for state in STATES:
        cells, differences[state] = [], {}
        for condition in CONDITIONS:
            runs = [(pair["dcrd", state][condition][1], pair["baseline", state][condition][1]) for pair in pairs]
            differences[state][condition], cell = difference(runs, rng)
            cells.append(cell)
        rows.append([f"DCRD - baseline, {states[state]}", *cells])
    title = "points: mean [95 % interval, bootstrap over seeds and images]"
    text.append(tables.format_table(rows, [title, *CONDITIONS]))
    figures = {
        "miss_rate_percent": {
            f"{row}, {state}": {c: v.tolist() for c, v in by.items()} for (row, state), by in rates.items()
        },
        "difference": differences,
    }
    return "\n\n".join(text), figures


def main(arguments: Sequence[str] | None = None) -> None:
    """Fine-tune, then print and write the tables."""
    logging.set_verbosity(logging.ERROR)
    quiet_without_gpu()
    from dcrl_jax.training.workdir import use_compilation_cache

    options = parse(arguments)
    use_compilation_cache(options.output)
    seeds = range(1, len(options.students) + 1)
    for seed in seeds:
        run_pair(options, seed)
    text, figures = summarise([matches_of(options, seed) for seed in seeds])
    (options.output / "table.txt").write_text(text + "\n")
    (options.output / "gain.json").write_text(json.dumps(figures, indent=1) + "\n")
    print(f"\n{text}\n\ntables: {options.output}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
