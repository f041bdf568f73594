"""Distillation in the two steps of Sec. IV-A: a teacher, trained now or before, then its student."""

from pathlib import Path

import jax
from ml_collections import ConfigDict

from dcrl_jax import checkpoints, parallel
from dcrl_jax.config import TEACHER_SECTIONS, config_mismatches, format_value
from dcrl_jax.data import sources
from dcrl_jax.errors import InputError
from dcrl_jax.evaluation import evaluate as evaluation
from dcrl_jax.models.network import build_network
from dcrl_jax.reports import comparison
from dcrl_jax.training import workdir as workdirs
from dcrl_jax.training.data import open_train_source
from dcrl_jax.training.optimizer import total_steps
from dcrl_jax.training.same_data import registration_mismatch
from dcrl_jax.training.score import open_test_bench, parallel_network
from dcrl_jax.training.step import FrozenTeacher
from dcrl_jax.training.terms import training_rules
from dcrl_jax.training.train import train_and_evaluate

TEACHER_FOLDER = "teacher"


def train_student(config: ConfigDict, workdir: Path) -> evaluation.Evaluation:
    """Train the teacher unless it is trained already, then the student; score the student and compare both.

    Args:
        config: a recipe of a student.
        workdir: the student's workdir, as for ``train``. Also gets the teacher's workdir, ``teacher/``, and the scores
            of both, ``comparison/``.

    Returns:
        The student's evaluation on the test split.

    Raises:
        InputError: the teacher does not fit the student, or ``train`` refuses one of them.
    """
    # Find what is wrong with the student before hours go into its teacher.
    workdirs.check_config_of(workdir, config)
    build_network(config)
    parallel.check_batch(config.train.batch_size, jax.device_count(), config.train.accumulation_steps or 1)
    if not training_rules(config).distillation.any:
        return train_and_evaluate(config, workdir)
    if trains_teacher(config):
        _check_teacher_config(teacher_config(config))
    teacher = ready_teacher(config, workdir)
    check_fits(config, teacher)
    print(f"step 2 of 2: the student, in {workdir}", flush=True)
    result = train_and_evaluate(config, workdir, teacher)
    bench = open_test_bench(config, parallel_network(teacher.config))
    teacher_result = evaluation.evaluate(bench, parallel.replicate(teacher.params, bench.mesh))
    if parallel.is_first_process():
        comparison.write_comparison({"teacher": teacher_result, "student": result}, bench, workdir / "comparison")
    return result


def trains_teacher(config: ConfigDict) -> bool:
    """Return whether a student's command trains its teacher first."""
    return training_rules(config).distillation.any and not config.teacher.checkpoint


def teacher_config(config: ConfigDict) -> ConfigDict:
    """Return the config of a student's teacher: the student's own, with the sections of ``config.teacher``."""
    own = config.copy_and_resolve_references()
    with own.unlocked():
        teacher = own.teacher
        del own.teacher, own.distillation
        own.role = "teacher"
        own.data.unlabelled = ""
        for section in TEACHER_SECTIONS:
            own[section] = teacher[section]
        own.backbone.width = teacher.width or own.backbone.width
        own.init.checkpoint = teacher.init.checkpoint
    return own


def ready_teacher(config: ConfigDict, workdir: Path) -> FrozenTeacher:
    """Return the teacher that a student's config names, or the workdir's own; finish the training of the latter.

    Raises:
        InputError: ``load_teacher`` or ``train`` refuses the teacher, or the workdir's own has another config.
    """
    if config.teacher.checkpoint:
        return load_teacher(config.teacher.checkpoint)
    own, folder = teacher_config(config), workdir / TEACHER_FOLDER
    workdirs.check_config_of(folder, own)
    if not _is_finished(own, folder):
        print(f"step 1 of 2: the teacher, in {folder}", flush=True)
        train_and_evaluate(own, folder)
    return load_teacher(str(folder))


def load_teacher(path: str) -> FrozenTeacher:
    """Restore a trained teacher with the config of its training.

    Args:
        path: see ``checkpoints.restore_params``.

    Raises:
        InputError: the path holds no checkpoint of a teacher.
    """
    params, config, step = checkpoints.restore_params(path)
    if config.role != "teacher":
        raise InputError(f"{path} holds a {config.role}; config.teacher.checkpoint must name a teacher.")
    print(f"teacher: step {step} of {path}", flush=True)
    return FrozenTeacher(build_network(config), params, config, path)


def check_fits(config: ConfigDict, teacher: FrozenTeacher) -> None:
    """Check that the inputs and outputs of a student and its teacher mean the same.

    Raises:
        InputError: keys differ that must agree; lists them with both values.
    """
    problems = config_mismatches(config, teacher.config, ("outputs", "input"), "the teacher's")
    problems += registration_mismatch(config.data, teacher.config.data, "the teacher's")
    width, teacher_width = config.teacher.width or config.backbone.width, teacher.config.backbone.width
    if config.distillation.fea and width != teacher_width:
        problems.append(
            f"config.teacher.width (0: that of config.backbone) means {width:g}, the teacher has {teacher_width:g}"
        )
    stages, teacher_stages = config.segmentation.stages, teacher.config.segmentation.stages
    if config.distillation.seg and not set(stages) <= set(teacher_stages):
        problems.append(
            f"config.segmentation.stages is {format_value(stages)}, the teacher's {format_value(teacher_stages)}"
        )
    if problems:
        raise InputError(
            f"the teacher of {teacher.source} does not fit its student:\n  " + "\n  ".join(problems) + "\n"
            "Give the student the teacher's values, or another config.teacher.checkpoint."
        )


def _is_finished(config, folder):
    # A run writes its scores last; one whose config now asks for more steps is not finished.
    if not (folder / "evaluation" / "scores.json").is_file():
        return False
    source = open_train_source(sources.prepare(config.data), config.data)
    newest = checkpoints.newest_step(folder / checkpoints.RESUME_FOLDER)
    return newest is not None and newest >= total_steps(config, len(source))


def _check_teacher_config(config):
    try:
        build_network(config)
        parallel.check_batch(config.train.batch_size, jax.device_count(), config.train.accumulation_steps or 1)
    except InputError as error:
        raise InputError(f"the teacher's recipe, the student's with the sections of config.teacher: {error}") from error
