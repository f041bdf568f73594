"""main.py in processes that are forked from one which has imported it, and that kill themselves at a given moment.

A start then takes the time of its work, without that of the imports; VGG's blocks have one convolution each, which are
traced in less. With NUMBER scores on record in the workdir, a process ends by SIGKILL before

    prepare     the prepared data get their final name
    config      the config of a new workdir gets its final name
    compile     a program is compiled
    step        the result of a step is recorded
    checkpoint  the folder of a checkpoint to resume from, which is written, gets its final name
    best        the same, of the best parameters
    scores      the next scores are computed
    report      report.html, which follows other files of the report, gets its final name
    publish     a published file gets its final name
"""

import atexit
import multiprocessing
import os
import pathlib
import runpy
import signal
import sys
import time
import unittest.mock

from training_cases import TINY_FLAGS

ROOT = pathlib.Path(__file__).parents[2]
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    ["dcrl_jax.training.distill", "dcrl_jax.inference.publish", "datasets.synthetic_rgbt", "orbax.checkpoint", "optax"]
)
# Read when the process that all are forked from imports JAX. The cache of the tests keeps small programs too, here.
_QUICK = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}


def training(workdir, recipe, flags):
    """Return the arguments of main.py that train a tiny network with more flags; its data are beside the workdir."""
    flags = TINY_FLAGS | flags | {"data.data_dir": workdir.with_name(f"{workdir.name}-data")}
    command = [f"--config=configs/{recipe}.py:synthetic", f"--workdir={workdir}"]
    return [*command, *(f"--config.{key}={value}" for key, value in flags.items())]


class Killed:
    """A process of main.py that may kill itself."""

    def __init__(self, arguments, log, moment=None):
        """Start the process.

        Args:
            arguments: of main.py.
            log: the file of its output.
            moment: (KIND, NUMBER) at which it kills itself; None if it does not.
        """
        self._log = log
        log.write_bytes(b"")  # without the lines of an earlier process
        self._process = _FORKS.Process(target=_run, args=(list(map(str, arguments)), log, moment))
        with unittest.mock.patch.dict(os.environ, _QUICK):
            self._process.start()

    def kill_after(self, seconds):
        """Kill the process after some time, unless it has ended."""
        self._process.join(seconds)
        self._process.kill()

    def wait_for_lines(self, count):
        """Wait until the process has written some lines, or ended."""
        while self._process.is_alive() and self._log.read_bytes().count(b"\n") < count:
            time.sleep(0.02)

    def finish(self):
        """Return the status of the process once it has ended, and all output."""
        self._process.join(600)
        return self._process.exitcode, self._log.read_text(errors="replace")


def _run(arguments, log, moment):
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    with open(log, "wb") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    if moment:
        names = ("--workdir=", "--checkpoint=")
        (workdir,) = (pathlib.Path(a.partition("=")[2]) for a in arguments if a.startswith(names))
        _kill_at(*moment, workdir)
    from dcrl_jax.models import vgg16

    vgg16.BLOCKS = tuple((channels, 1) for channels, _ in vgg16.BLOCKS)
    sys.argv = ["main.py", *arguments]
    try:
        runpy.run_path(str(ROOT / "main.py"), run_name="__main__")
    finally:
        sys.stdout.flush()
        atexit._run_exitfuncs()  # which a fork leaves out


def _kill_at(kind, number, workdir):
    import jax

    from dcrl_jax.evaluation import evaluate
    from dcrl_jax.training import run

    def is_time():
        return sum(path.read_text().count("\n") for path in workdir.rglob("validation.jsonl")) == number

    def killed(function, is_moment):
        def wrapper(*args, **kwargs):
            if is_moment(*args, **kwargs) and is_time():
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return wrapper

    if kind == "step":
        run.Run.record = killed(run.Run.record, lambda *_: True)
    elif kind == "scores":
        # Those of a report are computed with a modality blanked.
        evaluate.evaluate = killed(evaluate.evaluate, lambda *_, blanked=False: not blanked)
    elif kind == "compile":
        jax.stages.Lowered.compile = killed(jax.stages.Lowered.compile, lambda *_, **__: True)
    elif kind in ("report", "config"):
        name = {"report": "report.html", "config": "config.json"}[kind]
        pathlib.Path.replace = killed(pathlib.Path.replace, lambda _, target: target.name == name)
    elif kind == "publish":
        pathlib.Path.rename = killed(pathlib.Path.rename, lambda *_: True)
    else:
        folder = {"checkpoint": "checkpoints", "best": "best", "prepare": None}[kind]

        def is_finished(source, *_, **__):
            path = pathlib.Path(source)
            if kind == "prepare":
                return "incomplete" in path.name
            return path.parent.name == folder and path.suffix == ".orbax-checkpoint-tmp"

        os.rename = killed(os.rename, is_finished)
