"""Does distillation still help after fine-tuning on RGB images only, as in Table V? Students beside baselines.

    python -m benchmarks.finetune_gain --output=runs/finetune --students DIR DIR DIR --baselines DIR DIR DIR

The workdirs are those of students and baselines on the synthetic RGB-thermal scenes, seed by seed, such as
``benchmarks.distillation_gain`` writes (runs/gain/seed1/student, runs/gain/seed1/baseline...). Both of a seed are
fine-tuned on ``:synthetic_visible`` with the same scenes in the same order, steps and optimizer; only their starts
differ. The test split is scored before fine-tuning and after it (the last parameters). The same command given again
keeps finished runs and resumes interrupted ones.

The output folder gets a workdir for each run, ``seedN/ROW``, then ``table.txt`` and ``gain.json``.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import logging
from ml_collections import ConfigDict

from benchmarks.paired_runs import (
    Pair,
    as_lists,
    difference_table,
    miss_rates,
    score_runs,
    spread_table,
    write_tables,
)
from configs import finetune
from dcrl_jax import checkpoints
from dcrl_jax.command_line import Parser, exit_on_error
from dcrl_jax.devices import quiet_without_gpu
from dcrl_jax.tables import format_table
from dcrl_jax.training.score import parallel_network, score_checkpoint
from dcrl_jax.training.train import train
from dcrl_jax.training.workdir import use_compilation_cache

STATES = ("before", "after")
TEST_SCENES = 400


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(__doc__)
    parser.add_argument("--output", type=Path, required=True, help="folder of all runs; finished runs in it are kept")
    parser.add_argument("--students", nargs="+", required=True, metavar="DIR", help="workdirs of distilled students")
    parser.add_argument("--baselines", nargs="+", required=True, metavar="DIR", help="of baselines, in the same order")
    parser.add_argument("--steps", type=int, default=200, help="of fine-tuning; default: 200")
    parser.add_argument("--scenes", type=int, default=200, help="training scenes; default: 200")
    options = parser.parse_args(arguments)
    if len(options.students) != len(options.baselines):
        parser.error(f"{len(options.students)} students and {len(options.baselines)} baselines: give as many of each")
    return options


def recipes(options: argparse.Namespace, seed: int) -> dict[str, ConfigDict]:
    """Return the configs of one pair by the name of the row; seeds count from 1."""
    starts = {"baseline": options.baselines[seed - 1], "dcrd": options.students[seed - 1]}
    configs = {}
    for row, start in starts.items():
        config = configs[row] = finetune.get_config(f"synthetic_visible/{row}")
        config.seed = config.data.options.seed = seed
        config.data.options.train, config.data.options.test = options.scenes, TEST_SCENES
        config.train.steps = options.steps
        # Only at the end, since the last parameters are compared.
        config.train.evaluate_every_epochs = options.steps * config.train.batch_size / options.scenes
        config.init.checkpoint = start
    return configs


def run_pair(options: argparse.Namespace, seed: int) -> Pair:
    """Fine-tune and score the runs of a seed that are not finished; return the scores by row and state."""
    configs, folder = recipes(options, seed), options.output / f"seed{seed}"
    for row, config in configs.items():
        workdir = folder / row
        if (workdir / "after" / "evaluation" / "scores.json").is_file():
            continue
        print(f"\n=== seed {seed}: {row}", flush=True)
        detector = parallel_network(config)
        train(config, workdir, detector)
        score_checkpoint(config, workdir / "before", detector, config.init.checkpoint)
        score_checkpoint(config, workdir / "after", detector, str(workdir / checkpoints.RESUME_FOLDER))
    workdirs = {f"{row}, {state}": folder / row / state for state in STATES for row in configs}
    return score_runs(configs["dcrd"], workdirs)


def summarise(pairs: Sequence[Pair]) -> tuple[str, dict[str, Any]]:
    """Return the tables, and the same figures for JSON: miss rates before and after, and their differences."""
    rates = miss_rates(pairs)
    references = {f"dcrd, {state}": f"baseline, {state}" for state in STATES}
    differences, figures = difference_table(pairs, references)
    seeds = map(str, range(1, len(pairs) + 1))
    text = [
        spread_table(rates, f"miss rate, %: mean ± standard deviation of {len(pairs)} seeds"),
        format_table(
            [[name, *map(float, by_condition["all"])] for name, by_condition in rates.items()],
            ["all, each seed", *seeds],
        ),
        differences,
    ]
    difference = {state: figures[f"dcrd, {state}"] for state in STATES}
    return "\n\n".join(text), {"miss_rate_percent": as_lists(rates), "difference": difference}


def main(arguments: Sequence[str] | None = None) -> None:
    """Fine-tune, then print and write the tables."""
    options = parse(arguments)
    logging.set_verbosity(logging.ERROR)
    quiet_without_gpu()
    with exit_on_error():
        use_compilation_cache(options.output)
        pairs = [run_pair(options, seed) for seed in range(1, len(options.students) + 1)]
        write_tables(options.output, *summarise(pairs))


if __name__ == "__main__":
    main()
