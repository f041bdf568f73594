"""The two steps of Sec. IV-A: a teacher, trained here or found, then the student that learns from it."""

from pathlib import Path

import jax
from ml_collections import ConfigDict

from dcrl_jax import checkpoints, parallel
from dcrl_jax.config_checks import check_config
from dcrl_jax.data import sources
from dcrl_jax.errors import InputError
from dcrl_jax.evaluation import evaluate as evaluation
from dcrl_jax.models.build import build_anchors, build_model
from dcrl_jax.reports import comparison
from dcrl_jax.training import loop, scoring
from dcrl_jax.training import workdir as workdirs
from dcrl_jax.training.agreement import INPUT_SIZE, OUTPUTS, disagreements, shown
from dcrl_jax.training.loop import Guide
from dcrl_jax.training.optimizer import total_steps
from dcrl_jax.training.rules import training_rules

TEACHER_FOLDER = "teacher"

# What ``config.teacher`` has of its own; all other sections are those of its student.
TEACHER_SECTIONS = ("cfl", "fusion", "optimizer", "train")


def trains_teacher(config: ConfigDict) -> bool:
    """Return whether a student's command trains its teacher first."""
    return training_rules(config).distillation.any and not config.teacher.checkpoint


def teacher_config(config: ConfigDict) -> ConfigDict:
    """The recipe of a student's teacher: the student's own, with the sections of ``config.teacher`` in their places."""
    own = config.copy_and_resolve_references()
    with own.unlocked():
        changes = own.teacher
        del own.teacher, own.distillation, changes.checkpoint
        own.role = "teacher"
        init = changes.init
        del changes.init
        for section, values in changes.items():
            own[section] = values
        own.init.checkpoint = init.checkpoint
    return own


def check_fits(config: ConfigDict, guide: Guide) -> None:
    """Refuse a teacher whose outputs mean something else than its student's; raises InputError with both values."""
    problems = disagreements(config, guide.config, OUTPUTS | INPUT_SIZE, "the teacher's")
    missing = set(config.segmentation.stages) - set(guide.config.segmentation.stages)
    if config.distillation.seg and missing:
        problems.append(
            f"segmentation: config.segmentation.stages is {shown(config.segmentation.stages)}, the teacher's "
            f"{shown(guide.config.segmentation.stages)}"
        )
    if problems:
        raise InputError(
            f"the teacher of {guide.source} does not fit its student:\n  " + "\n  ".join(problems) + "\n"
            "Give the student the teacher's values, or another config.teacher.checkpoint."
        )


def load_guide(path: str) -> Guide:
    """A trained teacher with the config that it was trained with.

    Args:
        path: what ``restore_params`` takes.

    Raises:
        InputError: nothing is there, or it is not a teacher.
    """
    params, config, step = checkpoints.restore_params(path)
    if config.role != "teacher":
        raise InputError(f"{path} holds a {config.role}; config.teacher.checkpoint must name a teacher.")
    print(f"teacher: step {step} of {path}", flush=True)
    return Guide(build_model(config), params, config, path)


def ready_teacher(config: ConfigDict, workdir: Path) -> Guide:
    """The teacher that a student's config names, or the workdir's own, trained first if it is not finished.

    Raises:
        InputError: as ``load_guide`` and ``loop.train``; the workdir's own is one of another recipe.
    """
    if config.teacher.checkpoint:
        return load_guide(config.teacher.checkpoint)
    own, folder = teacher_config(config), workdir / TEACHER_FOLDER
    workdirs.check_config_of(folder, own)
    if not _is_finished(own, folder):
        print(f"step 1 of 2: the teacher, in {folder}", flush=True)
        loop.train_and_evaluate(own, folder)
    return load_guide(str(folder))


def _is_finished(config, folder):
    # The scores are the last thing that a run writes; the steps tell whether it was asked to go on since.
    if not (folder / "evaluation" / "scores.json").is_file():
        return False
    source = loop.open_train_source(sources.prepare(config.data), config.data)
    newest = checkpoints.newest_step(folder / checkpoints.RESUME_FOLDER)
    return newest is not None and newest >= total_steps(config, len(source))


def train_student(config: ConfigDict, workdir: Path) -> evaluation.Evaluation:
    """Train the teacher, unless there is one, then the student; score the student and show both side by side.

    Args:
        config: of ``configs/student.py``.
        workdir: as for ``loop.train``, with the teacher's in ``teacher/`` and both detectors' scores in
            ``comparison/``.

    Returns:
        The student's evaluation on the test split.

    Raises:
        InputError: as ``loop.train``, and for a teacher that does not fit.
    """
    # Everything that can be wrong with the student is found before hours go into its teacher.
    workdirs.check_config_of(workdir, config)
    build_model(config)
    build_anchors(config)
    parallel.check_batch(config.train.batch_size, jax.device_count(), config.train.accumulation_steps or 1)
    if not training_rules(config).distillation.any:
        return loop.train_and_evaluate(config, workdir)
    if trains_teacher(config):
        _check_recipe_of_teacher(config)
    guide = ready_teacher(config, workdir)
    check_fits(config, guide)
    print(f"step 2 of 2: the student, in {workdir}", flush=True)
    result = loop.train_and_evaluate(config, workdir, guide)
    bench = scoring.open_test_bench(config, scoring.compiled_detector(guide.config))
    teacher = evaluation.evaluate(bench, parallel.replicate(guide.params, bench.mesh))
    if parallel.is_first_process():
        comparison.write_comparison({"teacher": teacher, "student": result}, bench, workdir / "comparison")
    return result


def _check_recipe_of_teacher(config):
    own = teacher_config(config)
    try:
        check_config(own)
        parallel.check_batch(own.train.batch_size, jax.device_count(), own.train.accumulation_steps or 1)
    except InputError as error:
        raise InputError(f"the teacher's recipe, the student's with the sections of config.teacher: {error}") from error
