"""Teacher, students and baselines on real pairs, against every label set: miss rates, and differences in pairs.

    python -m benchmarks.real_pairs --baselines runs/b0 runs/b1 --students runs/s0 runs/s1 --teacher runs/teacher

The workdirs are those of scored runs with the same test split; the first student belongs to the first baseline (the
same seed), and so on. On MSRS all three label sets are scored, since a detector's results do not depend on the labels;
on other data sets the config's own labels.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from absl import logging
from ml_collections import ConfigDict

from benchmarks.paired_runs import difference_table, label_sets, miss_rates, score_runs, spread_table
from dcrl_jax.checkpoints import config_from_json
from dcrl_jax.command_line import Parser, exit_on_error
from dcrl_jax.devices import quiet_without_gpu


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(__doc__)
    for role in ("baselines", "students"):
        parser.add_argument(f"--{role}", nargs="+", required=True, type=Path, metavar="WORKDIR", help="seed by seed")
    parser.add_argument("--teacher", type=Path, metavar="WORKDIR", help="the teacher of the students")
    options = parser.parse_args(arguments)
    if len(options.students) != len(options.baselines):
        parser.error(f"{len(options.students)} students and {len(options.baselines)} baselines: give as many of each")
    return options


def tables(options: argparse.Namespace, config: ConfigDict, labels: str) -> str:
    """Return the tables of one label set, that of the config and by its name."""
    pairs = []
    for student, baseline in zip(options.students, options.baselines, strict=True):
        teacher = {"teacher": options.teacher} if options.teacher else {}
        pairs.append(score_runs(config, teacher | {"student": student, "baseline": baseline}))
    rates = miss_rates(pairs)
    differences, _ = difference_table(pairs, {"student": "baseline"})
    title = f"miss rate, %, labels {labels}" if labels else "miss rate, %"
    return f"{spread_table(rates, title)}\n\n{differences}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables of every label set."""
    options = parse(arguments)
    logging.set_verbosity(logging.ERROR)
    quiet_without_gpu()
    with exit_on_error():
        config = config_from_json(json.loads((options.baselines[0] / "config.json").read_text(encoding="utf-8")))
        for labels, own in label_sets(config):
            print(f"\n{tables(options, own, labels)}", flush=True)


if __name__ == "__main__":
    main()
