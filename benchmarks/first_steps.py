"""What became of a network in its first steps: losses, dead channels, modality weights, and the gradient of each term.

    python -m benchmarks.first_steps runs/default runs/literal

Reads the workdirs of finished runs, whose data must still be there, and prints two tables with a column for each run:

1. the mean loss of the first and of the last tenth of the steps, without the losses of each branch; then, on ``IMAGES``
   training images at the trained parameters, the share of conv5 channels that are 0 everywhere (also at the first
   ones), the RMS of conv5, and the mean, least and largest weight of the thermal modality (mu of Eq. 11);
2. every term of the loss: the norm of its weighted gradient by the backbones, at the first and the trained parameters,
   the mean of ``GRADIENT_BATCHES`` batches.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from benchmarks.term_gradients import measure_terms
from dcrl_jax import checkpoints
from dcrl_jax.command_line import Parser, exit_on_error
from dcrl_jax.data import sources
from dcrl_jax.devices import quiet_without_gpu
from dcrl_jax.files import read_json_lines
from dcrl_jax.models.detect import propose_regions
from dcrl_jax.models.network import build_network, crop_config
from dcrl_jax.structures import MODALITIES, Batch
from dcrl_jax.tables import format_table
from dcrl_jax.training import distill
from dcrl_jax.training.data import open_train_source, sample_images, train_batches
from dcrl_jax.training.logs import METRICS_FILE
from dcrl_jax.training.start import first_params, read_start
from dcrl_jax.training.step import FrozenTeacher
from dcrl_jax.training.terms import training_rules

IMAGES = 64  # in fewer images, living channels of ImageNet's conv5 may be 0 too
GRADIENT_BATCHES = 1


def measure(workdir: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the figures of a run, and the gradient norms of each term, first and trained."""
    params, config, step = checkpoints.restore_params(str(workdir / checkpoints.RESUME_FOLDER))
    source = open_train_source(sources.prepare(config.data), config.data)
    network = build_network(crop_config(config))
    start = first_params(
        build_network(config), config, read_start(network, config), lambda: sample_images(source, config)
    )
    batches = _batches(source, config)
    teacher = _teacher_of(config, workdir)
    rules = training_rules(crop_config(config))
    some = batches[:GRADIENT_BATCHES]
    norms = [measure_terms(network, each, rules, some, config.seed, teacher) for each in (start, params)]
    own = [name for name in rules.weights if not name.endswith("_branches")]
    losses = [
        sum(rules.weights[name] * line.get(f"train/{name}", 0.0) for name in own)
        for line in read_json_lines(workdir / METRICS_FILE)
        if "train/loss" in line
    ]
    tenth = max(1, len(losses) // 10)
    figures = {
        "steps": step,
        "loss without the branches' own, first tenth": f"{np.mean(losses[:tenth]):.2f}",
        "same, last tenth": f"{np.mean(losses[-tenth:]):.2f}",
        **{f"{name}, first": value for name, value in _features(network, start, batches).items() if "dead" in name},
        **_features(network, params, batches),
    }
    return figures, {name: f"{first.norm:.3g}, {norms[1][name].norm:.3g}" for name, first in norms[0].items()}


def _batches(source, config) -> list[Batch]:
    count = max(1, IMAGES // config.train.batch_size)
    iterator = train_batches(source, config, None)
    try:
        return [next(iterator) for _ in range(count)]
    finally:
        iterator.close()


def _teacher_of(config, workdir) -> FrozenTeacher | None:
    if not training_rules(config).distillation.any:
        return None
    return distill.load_teacher(config.teacher.checkpoint or str(workdir / distill.TEACHER_FOLDER))


def _features(network, params, batches) -> dict[str, str]:
    """Return the figures of the conv5 maps and of the modality weights on some batches."""

    @jax.jit
    def run(params, images):
        features, outputs = propose_regions(network.model, params, *images)
        maps = jax.tree.leaves(features.maps if hasattr(features, "maps") else features)
        alive = [jnp.any(x > 0, axis=(0, 1, 2)) for x in maps]
        return alive, [jnp.mean(jnp.square(x.astype(jnp.float32))) for x in maps], outputs.modality_weights

    alive, squares, weights = [], [], []
    for batch in batches:
        found = jax.device_get(run(params, [getattr(batch, name) for name in network.modalities]))
        for values, each in zip((alive, squares, weights), found, strict=True):
            values.append(each)
    figures = {}
    for index, name in enumerate(network.modalities):
        dead = 1 - np.mean(np.any([each[index] for each in alive], axis=0))
        figures[f"dead channels of conv5, {name}"] = f"{100 * dead:.1f} %"
        figures[f"RMS of conv5, {name}"] = f"{np.sqrt(np.mean([each[index] for each in squares])):.2f}"
    if weights[0] is not None:
        mu = np.concatenate(weights)[:, MODALITIES.index("lwir")]
        figures["weight of lwir: mean, least, largest"] = f"{mu.mean():.2f}, {mu.min():.2f}, {mu.max():.2f}"
    return figures


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = Parser(__doc__)
    parser.add_argument("workdirs", nargs="+", type=Path, metavar="WORKDIR")
    options = parser.parse_args(arguments)
    logging.set_verbosity(logging.ERROR)
    quiet_without_gpu()
    with exit_on_error():
        runs = {workdir.name: measure(workdir) for workdir in options.workdirs}
        for table, title in enumerate(("", "gradient norm, first and trained")):
            names = dict.fromkeys(name for run in runs.values() for name in run[table])
            rows = [[name, *(str(run[table].get(name, "-")) for run in runs.values())] for name in names]
            print("\n" + format_table(rows, [title, *runs]), flush=True)


if __name__ == "__main__":
    main()
