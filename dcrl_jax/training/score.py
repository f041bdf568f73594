"""Scoring of a trained detector on its test split, with a report."""

import functools
from pathlib import Path

import jax
from ml_collections import ConfigDict

from dcrl_jax import checkpoints, parallel, param_trees
from dcrl_jax.config import config_mismatches, data_set_name
from dcrl_jax.data import sources
from dcrl_jax.data.records import open_split
from dcrl_jax.errors import InputError
from dcrl_jax.evaluation import evaluate as evaluation
from dcrl_jax.models.cfl_features import cfl_magnitudes
from dcrl_jax.models.network import build_network
from dcrl_jax.models.student import ADAPTION_LAYER
from dcrl_jax.models.teacher import Teacher
from dcrl_jax.reports.report import write_report
from dcrl_jax.reports.summary import summary
from dcrl_jax.training.logs import METRICS_FILE
from dcrl_jax.training.same_data import is_same_data_set, registration_mismatch
from dcrl_jax.training.start import roles_of

NAMES = {"teacher": "DCRL-PDN (teacher)", "student": "DCRD-PDN (student)", "baseline": "RGB-only baseline"}


def parallel_network(config: ConfigDict) -> evaluation.ParallelNetwork:
    """Return the config's network on all devices of this process; it is compiled at its first use."""
    return evaluation.parallelize(build_network(config), parallel.device_mesh())


def score_checkpoint(
    config: ConfigDict, workdir: Path, detector: evaluation.ParallelNetwork, checkpoint: str | None = None
) -> evaluation.Evaluation:
    """Score a checkpoint on the config's test split, print the tables and write them to ``workdir/evaluation``.

    Args:
        config: the detector's config.
        workdir: the folder that gets ``evaluation/``; with ``checkpoint`` None, the run's workdir.
        detector: the result of ``parallel_network(config)``.
        checkpoint: see ``checkpoints.restore_params``; None for the parameters of ``workdir``.

    Raises:
        InputError: the checkpoint is missing, belongs to another network or was trained with another config; or
            ``workdir`` belongs to another run, whose scores would be overwritten.
    """
    if checkpoint and checkpoints.is_workdir(str(workdir)) and not _is_of(checkpoint, workdir):
        raise InputError(
            f"{workdir} is the workdir of a run, whose scores would be written over with those of {checkpoint}. Give "
            "them a --workdir of their own."
        )
    # The metrics of the checkpoint's own run, if the checkpoint is a workdir.
    metrics = (Path(checkpoint) if checkpoint else workdir) / METRICS_FILE
    checkpoint = checkpoint or str(workdir)
    params, trained_config, step = checkpoints.restore_params(checkpoint)
    _check_config(config, trained_config, checkpoint)
    network = detector.network
    expected = network.param_shapes()
    if ADAPTION_LAYER not in expected:
        params.pop(ADAPTION_LAYER, None)  # only distillation uses this layer
    param_trees.check_params(params, expected, checkpoint)
    name = f"{_name_of(trained_config)}, step {step}"
    bench = open_test_bench(config, detector)
    result = evaluation.evaluate(bench, parallel.replicate(params, bench.mesh), blanked=True)
    result = result._replace(blank_probability=trained_config.data.blank_probability)
    folder = workdir / "evaluation"
    if parallel.is_first_process():
        magnitudes = None
        if isinstance(network.model, Teacher) and config.cfl.enabled:
            magnitudes = functools.partial(jax.jit(functools.partial(cfl_magnitudes, network.model)), params)
        write_report(
            result,
            bench,
            folder,
            name,
            parameters=param_trees.fingerprint(params),
            cfl_magnitudes=magnitudes,
            metrics=metrics,
        )
    data = config.data
    print(f"\n{name}, {data_set_name(data)} {data.test_split}\n\n{summary(result)}")
    print(f"\nresults, curves and pictures: {folder}", flush=True)
    return result


def open_test_bench(config: ConfigDict, detector: evaluation.ParallelNetwork) -> evaluation.Bench:
    """Open the config's test split for the detector of this config, or for a student's teacher."""
    builder = sources.prepare(config.data)
    source = open_split(builder, config.data.test_split)
    return evaluation.open_bench(detector, builder, source, config, parallel.device_mesh())


def _check_config(config: ConfigDict, trained: ConfigDict, checkpoint: str) -> None:
    effects, owner = ("outputs", "network"), "in its training it was"
    # On another data set, another input size may be meant.
    if is_same_data_set(config.data, trained.data):
        effects += ("input",)
    problems = config_mismatches(config, trained, effects, owner)
    if config.role == "teacher":  # the other roles see no thermal images
        problems += registration_mismatch(config.data, trained.data, owner)
    if problems:
        raise InputError(
            f"{checkpoint} was trained with another config, and would be scored as another detector:\n  "
            + "\n  ".join(problems)
            + "\nGive the recipe and the flags of its training."
        )


def _is_of(checkpoint: str, workdir: Path) -> bool:
    """Return whether a path is ``workdir``, a folder of checkpoints in it, or one of these checkpoints."""
    path, own = Path(checkpoint).resolve(), workdir.resolve()
    return path == own or any((own / name) in (path, path.parent) for name in checkpoints.FOLDERS)


def _name_of(config: ConfigDict) -> str:
    """Return the name of a trained detector in titles, from the config of its training."""
    roles = roles_of(config)
    name = NAMES[roles[0]] if len(roles) == 1 else "RGB-only detector"
    return f"{name}, fine-tuned" if config.init.roles else name
