"""Does distillation help? Teacher, baseline and student trained in pairs: their differences, with intervals.

    python -m benchmarks.distillation_gain --output=runs/gain                      noisy training labels, three seeds
    python -m benchmarks.distillation_gain --output=runs/clean --labels=clean      exact training labels
    python -m benchmarks.distillation_gain --output=runs/gain --table4             the eight rows of Table IV as well
    python -m benchmarks.distillation_gain --output=runs/gain --config.optimizer.learning_rate=1e-3

Each seed has scenes, label noise and a teacher of its own. Within a seed, baseline and students have the same initial
weights, the same images in the same order, the same steps and the same optimizer; only their losses differ. The last
parameters are scored, as on KAIST, which has no validation split; a second table has the best parameters by (exactly
labelled) validation scenes. The same command given again keeps finished runs and resumes interrupted ones.

The output folder gets a workdir for each run, ``seedN/NAME``, then ``table.txt``, ``gain.json`` and the curves,
``miss_rate_seedN.png`` and ``validation.png``.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import logging
from matplotlib.figure import Figure
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
from configs import ablations, baseline, student
from dcrl_jax import checkpoints
from dcrl_jax.command_line import Parser, exit_on_error, parse_recipe
from dcrl_jax.config import has_key
from dcrl_jax.devices import quiet_without_gpu
from dcrl_jax.evaluation.rules import CONDITIONS
from dcrl_jax.files import read_json_lines
from dcrl_jax.reports import curves
from dcrl_jax.training.distill import load_teacher, teacher_config
from dcrl_jax.training.run import HISTORY_FILE
from dcrl_jax.training.score import parallel_network, score_checkpoint
from dcrl_jax.training.train import train

ROOT = Path(__file__).resolve().parents[1]
# Table IV's rows by the names of configs/ablations.py; the last is the student of the main comparison.
TABLE_IV = [name.removeprefix("table4/") for name in ablations.ROWS if name.startswith("table4/")]
STUDENT = "student"
# The folders of checkpoints whose parameters are scored, by the name of the choice.
CHOSEN = {"last": checkpoints.RESUME_FOLDER, "best_by_validation": checkpoints.BEST_FOLDER}
# How often a run is scored on validation scenes.
VALIDATIONS = 4


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of the command line; ``overrides`` has the config keys that it sets in all runs.

    Raises:
        InputError: a config key is unknown, or has a value of another type.
    """
    parser = Parser(__doc__)
    parser.add_argument("--output", type=Path, required=True, help="folder of all runs; finished runs in it are kept")
    parser.add_argument("--labels", choices=("noisy", "clean"), default="noisy", help="of the training scenes")
    parser.add_argument("--seeds", default="1,2,3", help="default: 1,2,3")
    parser.add_argument("--scenes", type=int, default=200, help="training scenes; default: 200")
    parser.add_argument("--steps", type=int, default=800, help="of baseline and student; default: 800")
    parser.add_argument("--teacher_steps", type=int, default=600, help="default: 600")
    parser.add_argument("--split", choices=("test", "validation"), default="test", help="the split that is scored")
    parser.add_argument("--table4", action="store_true", help="also every row of Table IV")
    parser.add_argument(
        "--variant",
        action="append",
        default=[],
        metavar="NAME:KEY=VALUE;...",
        help="one more student with config keys of its own; to compare settings on --split=validation",
    )
    options, rest = parser.parse_known_args(arguments)
    options.seeds = [int(seed) for seed in options.seeds.split(",")]
    options.overrides = _overrides(rest)
    variants = [variant.partition(":")[::2] for variant in options.variant]
    options.variant = {name: _overrides([f"--config.{key}" for key in keys.split(";")]) for name, keys in variants}
    return options


def _overrides(arguments):
    recipe = parse_recipe([f"--config={ROOT}/configs/student.py:synthetic", *arguments])
    assert recipe is not None
    return recipe.overrides


def recipes(options: argparse.Namespace, seed: int) -> dict[str, ConfigDict]:
    """Return the configs of one seed by name: the baseline, the student, the rows of Table IV, the variants."""
    configs = {"baseline": baseline.get_config("synthetic"), STUDENT: student.get_config("synthetic")}
    if options.table4:
        # The first and the last row are baseline and student.
        for name in TABLE_IV[1:-1]:
            configs[name] = ablations.get_config(f"table4/{name}:synthetic")
    configs |= {name: student.get_config("synthetic") for name in options.variant}
    for name, config in configs.items():
        config.seed = seed
        config.data.test_split = options.split
        config.data.options.update(
            seed=seed, label_noise=options.labels == "noisy", train=options.scenes, validation=400, test=600
        )
        _set_steps(config, options.steps, options.scenes)
        if config.role == "student":
            _set_steps(config.teacher, options.teacher_steps, options.scenes)
        overrides = options.overrides | options.variant.get(name, {})
        config.update_from_flattened_dict({key: value for key, value in overrides.items() if has_key(config, key)})
    return configs


def _set_steps(config, steps, scenes):
    config.train.steps = steps
    config.train.evaluate_every_epochs = steps * config.train.batch_size / scenes / VALIDATIONS


def run_pair(options: argparse.Namespace, seed: int) -> None:
    """Train and score the runs of a seed that are not finished."""
    folder, configs = options.output / f"seed{seed}", recipes(options, seed)
    for name, config in {"teacher": teacher_config(configs[STUDENT]), **configs}.items():
        workdir = folder / name
        if all((workdir / choice / "evaluation" / "scores.json").is_file() for choice in CHOSEN):
            continue
        print(f"\n=== seed {seed}: {name}", flush=True)
        teacher = load_teacher(str(folder / "teacher")) if config.role == "student" else None
        detector = parallel_network(config)
        train(config, workdir, detector, teacher)
        for choice, checkpoint_folder in CHOSEN.items():
            score_checkpoint(config, workdir / choice, detector, str(workdir / checkpoint_folder))


def summarise(pairs: Sequence[Pair]) -> tuple[str, dict[str, Any]]:
    """Return the tables, and the same figures for JSON: miss rates, differences from the baseline, closed gaps."""
    rates = miss_rates(pairs)
    others = [name for name in rates if name != "baseline"]
    differences, difference_figures = difference_table(pairs, dict.fromkeys(others, "baseline"))
    base, best = rates["baseline"], rates["teacher"]
    closed = {
        name: {c: 100 * (base[c] - rates[name][c]) / (base[c] - best[c]) for c in CONDITIONS}
        for name in others
        if name != "teacher"
    }
    text = [
        spread_table(rates, f"miss rate, %: mean ± standard deviation over {len(pairs)} seeds"),
        differences,
        spread_table(closed, "share of the gap from baseline to teacher, %"),
    ]
    figures = {
        "miss_rate_percent": as_lists(rates),
        "difference_from_baseline": difference_figures,
        "gap_closed_percent": as_lists(closed),
    }
    return "\n\n".join(text), figures


def draw_validation(output: Path, seeds: Sequence[int], names: Sequence[str]) -> None:
    """Draw the miss rate on validation scenes against the steps, a line for each run."""
    figure = Figure(figsize=(7.0, 4.6), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    for index, name in enumerate(names):
        for seed in seeds:
            lines = read_json_lines(output / f"seed{seed}" / name / HISTORY_FILE)
            rates = {line["step"]: line["reasonable-all"] for line in lines}
            axes.plot(
                sorted(rates),
                [rates[step] for step in sorted(rates)],
                color=curves.COLORS[index % len(curves.COLORS)],
                marker=".",
                label=name if seed == seeds[0] else None,
            )
    axes.set(xlabel="step", ylabel="miss rate on validation scenes, %")
    axes.grid(color="#d0d0d0", linewidth=0.6)
    axes.legend()
    figure.savefig(output / "validation.png")


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, then print and write the tables."""
    logging.set_verbosity(logging.ERROR)
    quiet_without_gpu()
    with exit_on_error():
        options = parse(arguments)
        for seed in options.seeds:
            run_pair(options, seed)
        configs = {seed: recipes(options, seed) for seed in options.seeds}
        names = ["teacher", *configs[options.seeds[0]]]
        texts, figures = [], {}
        for choice in CHOSEN:
            pairs = []
            for seed in options.seeds:
                workdirs = {name: options.output / f"seed{seed}" / name / choice for name in names}
                pairs.append(score_runs(configs[seed][STUDENT], workdirs))
                if choice == "last":
                    scores = {name: run["all"][0] for name, run in pairs[-1].items()}
                    path = options.output / f"miss_rate_seed{seed}.png"
                    curves.miss_rate_figure(scores, path, f"seed {seed}, synthetic, {options.split}")
            text, figures[choice] = summarise(pairs)
            texts.append(f"parameters: {choice.replace('_', ' ')}\n\n{text}")
        draw_validation(options.output, options.seeds, names)
        write_tables(options.output, "\n\n\n".join(texts), figures)


if __name__ == "__main__":
    main()
