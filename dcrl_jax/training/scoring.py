"""Scoring a trained detector on its test split, with a report."""

import functools
from pathlib import Path

import jax
from ml_collections import ConfigDict

from dcrl_jax import checkpoints, parallel
from dcrl_jax.data import sources
from dcrl_jax.errors import InputError
from dcrl_jax.evaluation import evaluate as evaluation
from dcrl_jax.models.build import build_anchors, build_model, init_params
from dcrl_jax.models.cfl_features import cfl_magnitudes
from dcrl_jax.models.student import ADAPTION_LAYER
from dcrl_jax.reports.report import write_report
from dcrl_jax.training.agreement import INPUT_SIZE, NETWORK, OUTPUTS, disagreements
from dcrl_jax.training.logs import METRICS_FILE
from dcrl_jax.training.start import roles_of

NAMES = {"teacher": "DCRL-PDN (teacher)", "student": "DCRD-PDN (student)", "baseline": "RGB-only baseline"}


def compiled_detector(config: ConfigDict) -> evaluation.CompiledDetector:
    """The config's model as a detector on all devices of this process; it is compiled at its first use."""
    return evaluation.make_detector(build_model(config), build_anchors(config), config, parallel.device_mesh())


def score_checkpoint(
    config: ConfigDict, workdir: Path, detector: evaluation.CompiledDetector, checkpoint: str | None = None
) -> evaluation.Evaluation:
    """Score a checkpoint on the config's test split, print the tables and write them to ``workdir/evaluation``.

    Args:
        config: of the model.
        workdir: of the run.
        detector: of ``compiled_detector``.
        checkpoint: what is scored instead of the workdir's best parameters by validation, or of its last ones where the
            test split is the validation split too: a split that chose the parameters is no test of them.

    Raises:
        InputError: the checkpoint is missing, of another model or trained with another config; or the workdir is that
            of another run, whose own scores would be lost.
    """
    if checkpoint and checkpoints.is_workdir(str(workdir)) and not _is_of(checkpoint, workdir):
        raise InputError(
            f"{workdir} is the workdir of a run, whose scores would be written over with those of {checkpoint}. Give "
            "them a --workdir of their own."
        )
    # A checkpoint that is no workdir has no logs, and those of another run say nothing about it.
    source = Path(checkpoint) if checkpoint else workdir
    checkpoint = checkpoint or str(workdir)
    model = build_model(config)
    params, trained_by, step = checkpoints.restore_params(checkpoint)
    # Another data set may have images of another size.
    wanted = OUTPUTS | NETWORK | (INPUT_SIZE if trained_by.data.name == config.data.name else {})
    problems = disagreements(config, trained_by, wanted, "in its training it was")
    if problems:
        raise InputError(
            f"{checkpoint} was trained with another config, and would be scored as another detector:\n  "
            + "\n  ".join(problems)
            + "\nGive the recipe and the flags of its training."
        )
    expected = jax.eval_shape(lambda: init_params(model, config, 0))
    if ADAPTION_LAYER not in expected:
        params.pop(ADAPTION_LAYER, None)  # nothing but distillation uses it
    checkpoints.check_params(params, expected, checkpoint)
    name = f"{_name_of(trained_by)}, step {step}"
    bench = open_test_bench(config, detector)
    result = evaluation.evaluate(bench, parallel.replicate(params, bench.mesh), blanked=True)
    folder = workdir / "evaluation"
    if parallel.is_first_process():
        magnitudes = None
        if config.role == "teacher" and config.cfl.enabled:
            magnitudes = functools.partial(jax.jit(functools.partial(cfl_magnitudes, model)), params)
        write_report(
            result,
            bench,
            folder,
            name,
            parameters=checkpoints.fingerprint(params),
            cfl_magnitudes=magnitudes,
            metrics=source / METRICS_FILE,
        )
    data = config.data
    print(f"\n{name}, {data.name} {data.test_split}\n\n{evaluation.summary(result)}")
    print(f"\nresults, curves and pictures: {folder}", flush=True)
    return result


def _is_of(checkpoint: str, workdir: Path) -> bool:
    """Whether a path is a run's workdir, or of a checkpoint in it; that of its teacher is another run's."""
    given, own = Path(checkpoint).resolve(), workdir.resolve()
    return given == own or any((own / name) in (given, given.parent) for name in checkpoints.FOLDERS)


def _name_of(config: ConfigDict) -> str:
    """What a trained detector is called in titles, by the config of its training."""
    roles = roles_of(config)
    name = NAMES[roles[0]] if len(roles) == 1 else "RGB-only detector"
    return f"{name}, fine-tuned" if config.init.get("roles") else name


def open_test_bench(config: ConfigDict, detector: evaluation.CompiledDetector) -> evaluation.Bench:
    """The config's test split for a detector of ``compiled_detector``, of this config or of a student's teacher."""
    builder = sources.prepare(config.data)
    return evaluation.open_bench(detector, builder, config.data.test_split, config, parallel.device_mesh())
