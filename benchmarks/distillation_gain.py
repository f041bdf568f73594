"""Does distillation help? Trains teacher, baseline and student in pairs, and says how they differ, and how surely.

    python -m benchmarks.distillation_gain --output=runs/gain                      noisy training labels, three seeds
    python -m benchmarks.distillation_gain --output=runs/clean --labels=clean      exact training labels
    python -m benchmarks.distillation_gain --output=runs/gain --table4             the eight rows of Table IV as well
    python -m benchmarks.distillation_gain --output=runs/gain --minutes=60         start nothing that would end later

Each seed is a pair of runs with scenes, label noise and teacher of its own. Within it baseline and students have the
same initial weights, the same images in the same order, the same steps and the same optimizer; they differ in their
loss alone. The last parameters are scored, as on KAIST, which has no validation split; below stands what the best
parameters by (exactly labelled) validation scenes give. Finished runs are kept and interrupted ones go on, so the same
command can be given again.

The output folder gets a workdir for each run, ``seedN/NAME``, then ``table.txt``, ``gain.json`` and the curves,
``miss_rate_seedN.png`` and ``validation.png``.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from absl import logging
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from benchmarks.overrides import changes_of
from configs import ablations, baseline, student
from dcrl_jax import checkpoints
from dcrl_jax.devices import quiet_without_gpu
from dcrl_jax.errors import InputError
from dcrl_jax.evaluation import miss_rate, results
from dcrl_jax.evaluation.bootstrap import paired_difference
from dcrl_jax.evaluation.rules import CONDITIONS, Subset
from dcrl_jax.reports import curves, tables

# Table IV's rows by the names of configs/ablations.py; the last is the student of the main comparison.
TABLE_IV = [name.removeprefix("table4/") for name in ablations.ROWS if name.startswith("table4/")]
STUDENT = "student"
# Which parameters are scored, and the folder of checkpoints that has them.
CHOSEN = {"last": checkpoints.RESUME_FOLDER, "best_by_validation": checkpoints.BEST_FOLDER}
# How often a run of synthetic scenes is scored on validation scenes.
VALIDATIONS = 4


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, required=True, help="folder of all runs; what is finished there is kept")
    parser.add_argument("--data", choices=("synthetic", "msrs"), default="synthetic")
    parser.add_argument(
        "--labels", choices=("noisy", "clean"), default="noisy", help="of the synthetic training scenes"
    )
    parser.add_argument("--seeds", default="1,2,3", help="one pair of runs each")
    parser.add_argument("--scenes", type=int, default=200, help="synthetic training scenes")
    parser.add_argument("--steps", type=int, default=800, help="of baseline and student on synthetic scenes")
    parser.add_argument("--teacher_steps", type=int, default=600, help="on synthetic scenes")
    parser.add_argument("--split", choices=("test", "validation"), default="test", help="what is scored")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="time budget of this call")
    parser.add_argument("--table4", action="store_true", help="also every row of Table IV")
    parser.add_argument("--override", action="append", default=[], metavar="KEY=VALUE", help="a config key of all runs")
    parser.add_argument(
        "--variant",
        action="append",
        default=[],
        metavar="NAME:KEY=VALUE;...",
        help="one more student, with keys of its own; to compare settings on --split=validation",
    )
    return parser.parse_args(arguments)


def recipes(options: argparse.Namespace, seed: int) -> dict[str, ConfigDict]:
    """The configs of one pair: the baseline, the student, and what else was asked for, by name."""
    made = {"baseline": baseline.get_config(options.data), STUDENT: student.get_config(options.data)}
    if options.table4:
        # The first and the last row are the two above.
        for name in TABLE_IV[1:-1]:
            made[name] = ablations.get_config(f"table4/{name}:{options.data}")
    own = {}
    for variant in options.variant:
        name, _, changes = variant.partition(":")
        made[name] = student.get_config(options.data)
        own[name] = changes_of(changes.split(";"))
    for name, config in made.items():
        config.seed = seed
        config.data.test_split = options.split
        if options.data == "synthetic":
            config.data.options.update(
                seed=seed, label_noise=options.labels == "noisy", train=options.scenes, validation=400, test=600
            )
            _set_steps(config, options.steps, options.scenes)
            if config.role == "student":
                _set_steps(config.teacher, options.teacher_steps, options.scenes)
        for key, value in {**changes_of(options.override), **own.get(name, {})}.items():
            section = key.split(".")[0]
            if section in config:
                config.update_from_flattened_dict({key: value})
    return made


def _set_steps(config, steps, scenes):
    config.train.steps = steps
    config.train.evaluate_every_epochs = steps * config.train.batch_size / scenes / VALIDATIONS


def run_pair(options: argparse.Namespace, seed: int, deadline: float) -> bool:
    """Train and score what is missing of one pair; says whether the time sufficed."""
    from dcrl_jax.training import distill, loop, scoring

    folder = options.output / f"seed{seed}"
    made = recipes(options, seed)
    for name, config in {"teacher": distill.teacher_config(made[STUDENT]), **made}.items():
        workdir = folder / name
        if (workdir / "seconds.txt").is_file():
            continue
        started = time.monotonic()
        estimate = _last_duration(options.output, name)
        if started + estimate > deadline:
            print(f"no time left for {name} of seed {seed} ({estimate / 60:.0f} minutes)", flush=True)
            return False
        print(f"\n=== seed {seed}: {name}", flush=True)
        guide = distill.load_guide(str(folder / "teacher")) if config.role == "student" else None
        detector = scoring.compiled_detector(config)
        loop.train(config, workdir, detector, guide)
        for where, parameters in CHOSEN.items():
            scoring.score_checkpoint(config, workdir / where, detector, str(workdir / parameters))
        (workdir / "seconds.txt").write_text(f"{time.monotonic() - started:.0f}\n")
    return True


def _last_duration(output, name):
    times = [float(path.read_text()) for path in output.glob(f"seed*/{name}/seconds.txt")]
    return max(times, default=0.0)


def matches_of(options: argparse.Namespace, seed: int, names: Sequence[str], where: str) -> dict[str, dict[str, tuple]]:
    """Score and matches of each run of a pair, by name and condition, with the parameters of one of ``CHOSEN``."""
    from dcrl_jax.data import pipeline, sources
    from dcrl_jax.evaluation import evaluate as evaluation
    from dcrl_jax.evaluation.truths import read_truths

    config = recipes(options, seed)[STUDENT]
    truths = read_truths(pipeline.open_split(sources.prepare(config.data), options.split)).images
    ids = [truth.image_id for truth in truths]
    subsets: tuple[Subset, ...] = evaluation.subsets_of(config)
    found = {}
    for name in names:
        detections = results.read_results(
            options.output / f"seed{seed}" / name / where / "evaluation" / "results.json", ids
        )
        scores = miss_rate.score_subsets(truths, detections, subsets)
        found[name] = {
            subset.condition: (scores[subset.name], miss_rate.match(truths, detections, subset)) for subset in subsets
        }
    return found


def spread(values: np.ndarray) -> str:
    """Mean ± standard deviation over seeds, as text; of one seed the value."""
    return f"{values.mean():.2f} ± {values.std(ddof=1):.2f}" if len(values) > 1 else f"{values.mean():.2f}"


def difference(
    runs: Sequence[tuple[miss_rate.Matches, miss_rate.Matches]], rng: np.random.Generator
) -> tuple[list[float], str]:
    """``paired_difference`` in points: mean and both ends of its interval, and the same as text."""
    interval = [100 * value for value in paired_difference(runs, rng)]
    return interval, "{:+.2f} [{:+.2f}, {:+.2f}]".format(*interval)


def summarise(pairs: Mapping[int, Mapping[str, Mapping[str, tuple]]], names: Sequence[str]) -> tuple[str, dict]:
    """The tables of miss rates, of differences from the baseline, and of the share of the gap that is closed."""
    rng = np.random.default_rng(0)
    rates = {
        name: {c: np.array([100 * pair[name][c][0].miss_rate for pair in pairs.values()]) for c in CONDITIONS}
        for name in names
    }

    rows = [[name, *(spread(rates[name][c]) for c in CONDITIONS)] for name in names]
    title = f"miss rate, %: mean ± standard deviation over {len(pairs)} seeds"
    text = [tables.format_table(rows, [title, *CONDITIONS])]
    figures = {"miss_rate_percent": {n: {c: v.tolist() for c, v in by.items()} for n, by in rates.items()}}

    rows, figures["difference_from_baseline"] = [], {}
    for name in names:
        if name == "baseline":
            continue
        cells, figures["difference_from_baseline"][name] = [], {}
        for condition in CONDITIONS:
            runs = [(pair[name][condition][1], pair["baseline"][condition][1]) for pair in pairs.values()]
            figures["difference_from_baseline"][name][condition], text_of_it = difference(runs, rng)
            cells.append(text_of_it)
        rows.append([f"{name} - baseline", *cells])
    title = "points: mean [95 % interval, bootstrap over seeds and images]"
    text.append(tables.format_table(rows, [title, *CONDITIONS]))

    rows, figures["gap_closed_percent"] = [], {}
    for name in names:
        if name in ("baseline", "teacher"):
            continue
        closed = {
            c: 100 * (rates["baseline"][c] - rates[name][c]) / (rates["baseline"][c] - rates["teacher"][c])
            for c in CONDITIONS
        }
        rows.append([name, *(spread(closed[c]) for c in CONDITIONS)])
        figures["gap_closed_percent"][name] = {c: v.tolist() for c, v in closed.items()}
    text.append(tables.format_table(rows, ["share of the gap from baseline to teacher, %", *CONDITIONS]))
    return "\n\n".join(text), figures


def draw_validation(output: Path, seeds: Sequence[int], names: Sequence[str]) -> None:
    """The miss rate on validation scenes against the steps, a line for each run."""
    figure = Figure(figsize=(7.0, 4.6), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    for place, name in enumerate(names):
        for seed in seeds:
            lines = (output / f"seed{seed}" / name / "validation.jsonl").read_text().splitlines()
            rows = sorted({row["step"]: row for row in map(json.loads, lines)}.items())
            axes.plot(
                [step for step, _ in rows],
                [row["reasonable-all"] for _, row in rows],
                color=curves.COLORS[place % len(curves.COLORS)],
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
    options = parse(arguments)
    deadline = time.monotonic() + 60 * options.minutes
    complete = []
    for seed in map(int, options.seeds.split(",")):
        if not run_pair(options, seed, deadline):
            break
        complete.append(seed)
    if not complete:
        sys.exit("no pair is complete; give the command again with more --minutes")
    names = ["teacher", *recipes(options, complete[0])]
    texts, figures = [], {}
    for where in reversed(CHOSEN):
        pairs = {seed: matches_of(options, seed, names, where) for seed in complete}
        text, figures[where] = summarise(pairs, names)
        texts.insert(0, f"parameters: {where.replace('_', ' ')}\n\n{text}")
    text = "\n\n\n".join(texts)
    (options.output / "table.txt").write_text(text + "\n")
    (options.output / "gain.json").write_text(json.dumps(figures, indent=1) + "\n")
    for seed, pair in pairs.items():
        curves.miss_rate_figure(
            {name: scores["all"][0] for name, scores in pair.items()},
            options.output / f"miss_rate_seed{seed}.png",
            f"seed {seed}, {options.data}, {options.split}",
        )
    draw_validation(options.output, complete, names)
    print(f"\n{text}\n\ntables and curves: {options.output}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
