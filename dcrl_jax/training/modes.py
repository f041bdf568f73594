"""What ``main.py`` calls to train and to score: any recipe, in a workdir that keeps its compiled programs."""

from pathlib import Path

from ml_collections import ConfigDict

from dcrl_jax.errors import InputError
from dcrl_jax.signals import raise_on_sigterm
from dcrl_jax.training import distill, loop, scoring
from dcrl_jax.training.workdir import use_compilation_cache


def train(config: ConfigDict, workdir: str) -> None:
    """Train a recipe, or go on where the workdir stands, and score it; a student's teacher comes first.

    Raises:
        InputError: as ``distill.train_student`` and ``loop.train``.
        Preempted: SIGTERM ended it, whatever it was at.
    """
    _use_workdir(workdir)
    with raise_on_sigterm():
        (distill.train_student if config.role == "student" else loop.train_and_evaluate)(config, Path(workdir))


def score(config: ConfigDict, workdir: str, checkpoint: str | None) -> None:
    """Score a checkpoint, by default the workdir's own, into ``workdir/evaluation``.

    Raises:
        InputError: as ``scoring.score_checkpoint``.
        Preempted: SIGTERM ended it.
    """
    _use_workdir(workdir)
    with raise_on_sigterm():
        scoring.score_checkpoint(config, Path(workdir), scoring.compiled_detector(config), checkpoint)


def _use_workdir(workdir):
    if Path(workdir).exists() and not Path(workdir).is_dir():
        raise InputError(f"--workdir={workdir} is a file; a run needs a folder.")
    use_compilation_cache(Path(workdir))
