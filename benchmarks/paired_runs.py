"""Tables of paired runs: miss rates over seeds, and differences with their bootstrap intervals."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from datasets.msrs.msrs import LABEL_SETS
from dcrl_jax.data import pipeline, sources
from dcrl_jax.evaluation.bootstrap import paired_difference
from dcrl_jax.evaluation.evaluate import subsets_of
from dcrl_jax.evaluation.miss_rate import Matches, Score, match, score_subsets
from dcrl_jax.evaluation.results import read_results
from dcrl_jax.evaluation.rules import CONDITIONS
from dcrl_jax.evaluation.truths import read_truths
from dcrl_jax.tables import format_table

# The runs of one seed by name, each with its score and matches by condition.
Pair = Mapping[str, Mapping[str, tuple[Score, Matches]]]


def score_runs(config: ConfigDict, workdirs: Mapping[str, Path]) -> Pair:
    """Return the scores of the results files of the runs of a seed, on the test split of their config.

    Args:
        config: the config of any of the runs; all have the same test split.
        workdirs: the runs' workdirs by name; each holds ``evaluation/results.json``.
    """
    truths = read_truths(pipeline.open_split(sources.prepare(config.data), config.data.test_split)).images
    image_ids = [truth.image_id for truth in truths]
    subsets = subsets_of(config)
    pair = {}
    for name, workdir in workdirs.items():
        detections = read_results(workdir / "evaluation" / "results.json", image_ids)
        scores = score_subsets(truths, detections, subsets)
        pair[name] = {subset.condition: (scores[subset.name], match(truths, detections, subset)) for subset in subsets}
    return pair


def label_sets(config: ConfigDict) -> Iterator[tuple[str, ConfigDict]]:
    """Yield the name of each label set that detections can be scored against, and a config that selects it.

    On MSRS these are all three, since a detector's results do not depend on the labels; elsewhere the config's own, ''.
    """
    for labels in LABEL_SETS if config.data.name == "msrs" else ("",):
        own = config.copy_and_resolve_references()
        if labels:
            own.data.options.labels = labels
        yield labels, own


def miss_rates(pairs: Sequence[Pair]) -> dict[str, dict[str, np.ndarray]]:
    """Return the miss rates in percent of each run over the seeds, float64 [seeds], by name and condition."""
    return {
        name: {
            condition: np.array([100 * pair[name][condition][0].miss_rate for pair in pairs])
            for condition in CONDITIONS
        }
        for name in pairs[0]
    }


def spread_table(values: Mapping[str, Mapping[str, np.ndarray]], title: str) -> str:
    """Return a table of mean ± standard deviation over seeds; with a single seed, a table of its values."""

    def spread(over_seeds):
        mean = f"{over_seeds.mean():.2f}"
        return f"{mean} ± {over_seeds.std(ddof=1):.2f}" if len(over_seeds) > 1 else mean

    rows = [[name, *map(spread, by_condition.values())] for name, by_condition in values.items()]
    return format_table(rows, [title, *CONDITIONS])


def difference_table(pairs: Sequence[Pair], names: Mapping[str, str]) -> tuple[str, dict[str, dict[str, list[float]]]]:
    """Return a table of differences of miss rates, in points with 95 % intervals, and its figures.

    Args:
        pairs: the runs of each seed.
        names: the names of the runs that are compared, each with the name of its reference.

    Returns:
        The table, and [mean, lower end, upper end] of the interval by name and condition.
    """
    rng = np.random.default_rng(0)
    rows, figures = [], {}
    for name, reference in names.items():
        figures[name] = {}
        for condition in CONDITIONS:
            runs = [(pair[name][condition][1], pair[reference][condition][1]) for pair in pairs]
            figures[name][condition] = [100 * value for value in paired_difference(runs, rng)]
        cells = ["{:+.2f} [{:+.2f}, {:+.2f}]".format(*interval) for interval in figures[name].values()]
        rows.append([f"{name} - {reference}", *cells])
    return format_table(rows, ["points: mean [95 % interval, bootstrap over seeds and images]", *CONDITIONS]), figures


def as_lists(values: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, dict[str, list[float]]]:
    """Return the same values as lists, for JSON."""
    return {name: {key: array.tolist() for key, array in row.items()} for name, row in values.items()}


def write_tables(output: Path, text: str, figures: Any) -> None:
    """Write ``table.txt`` and ``gain.json``, and print the tables."""
    (output / "table.txt").write_text(text + "\n", encoding="utf-8")
    (output / "gain.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(f"\n{text}\n\ntables: {output}", flush=True)
