"""Train, score and use a detector: python main.py --config=configs/student.py:synthetic [--mode=...]."""

import importlib
import os
import signal
import sys

from absl import app, flags, logging
from ml_collections import config_flags

from dcrl_jax.devices import quiet_without_gpu

# Of each mode: its function in dcrl_jax, the flags that this takes, and how many of them it cannot do without.
MODES = {
    "train": ("training.modes.train", ("config", "workdir"), 1),
    "eval": ("training.modes.score", ("config", "workdir", "checkpoint"), 1),
    "detect": ("inference.detect_files.detect_files", ("checkpoint", "input", "output", "lwir", "min_score"), 3),
    "export": ("inference.export.export", ("checkpoint", "output"), 2),
    "publish": ("inference.publish.publish", ("checkpoint", "output"), 2),
    "benchmark": ("inference.benchmark.benchmark", ("checkpoint", "config"), 0),
}
PATHS = ("workdir", "checkpoint", "input", "lwir", "output")
FLAGS = flags.FLAGS
config_flags.DEFINE_config_file("config", None, "The recipe, e.g. configs/teacher.py:synthetic.")
flags.DEFINE_string(
    "workdir", None, "Folder for checkpoints, logs and results; runs/ and the recipe's name if not given."
)
flags.DEFINE_enum("mode", "train", list(MODES), "train: train, resume, then score. The others use what was trained.")
flags.DEFINE_string("checkpoint", None, "A run's workdir, a checkpoint or a published model.")
flags.DEFINE_string("distributed", None, "Of several processes: HOST:PORT,COUNT,INDEX (of the first), or auto.")
flags.DEFINE_string("input", None, "detect: an image, a folder, a pattern or a video.")
flags.DEFINE_string("lwir", None, "detect: the thermal images of --input, where they are not in it.")
flags.DEFINE_string("output", None, "detect, export, publish: a new folder for what is made.")
flags.DEFINE_float("min_score", 0.5, "detect: people below it are not drawn.", lower_bound=0.0, upper_bound=1.0)


def main(argv):
    """Run the mode; a user's mistake ends with one message and status 1."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    # Until there is something to save: an import that is interrupted fails in odd ways.
    former = signal.getsignal(signal.SIGINT)
    if former is not signal.SIG_IGN:  # as in what a script starts in the background
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    # What fails is raised, and said once; libraries log it with their stack traces besides.
    logging.set_verbosity(logging.FATAL)
    quiet_without_gpu()
    from dcrl_jax import parallel

    with parallel.said_with_status(FLAGS.workdir, FLAGS.config):
        # Before the libraries that ask it for devices, or how much they may print.
        parallel.start_processes(FLAGS.distributed)
        if "workdir" in MODES[FLAGS.mode][1]:
            print(f"workdir: {FLAGS.workdir}", flush=True)
        if FLAGS.config is not None:
            from dcrl_jax.training.given_keys import check_given_keys

            check_given_keys(FLAGS.config, config_flags.get_override_values(FLAGS["config"]))
        # Imported when asked for: each needs what the others do without.
        name, given, _ = MODES[FLAGS.mode]
        module, _, function = name.rpartition(".")
        run = getattr(importlib.import_module(f"dcrl_jax.{module}"), function)
        signal.signal(signal.SIGINT, former)
        if run(*(FLAGS[flag].value for flag in given)) is False:
            sys.exit(1)


def parse_flags(argv):
    """Absl's parser, with one line instead of a stack trace for a mistake in the config."""
    try:
        rest = flags.FLAGS(argv)
        _, given, needed = MODES[FLAGS.mode]
        missing = [f"--{name}" for name in given[:needed] if FLAGS[name].value in (None, "")]
        if missing:
            raise ValueError(f"--mode={FLAGS.mode} needs {' and '.join(missing)}")
        others = {name for _, names, _ in MODES.values() for name in names} - set(given)
        if foreign := [f"--{name}" for name in sorted(others) if FLAGS[name].present]:
            hint = "; to start from one: --config.init.checkpoint=PATH" if foreign == ["--checkpoint"] else ""
            raise ValueError(f"--mode={FLAGS.mode} does not take {' and '.join(foreign)}{hint}")
        if "workdir" in given and FLAGS.workdir is None:
            if FLAGS.distributed:
                raise ValueError("--distributed needs --workdir, a folder that all processes see")
            FLAGS.workdir = default_workdir(config_flags.get_config_filename(FLAGS["config"]))
        for name in PATHS:
            if FLAGS[name].value == "":
                raise ValueError(f"--{name} is empty; it must name a file or a folder")
            if FLAGS[name].value:
                # The shell leaves a tilde alone behind an equals sign.
                FLAGS[name].value = os.path.expanduser(FLAGS[name].value)
        # Absl keeps the error of a recipe that cannot be read until its first use.
        if FLAGS.config is not None:
            FLAGS.config.lock()
        return rest
    except (AttributeError, KeyError) as error:
        while isinstance(error, BaseException):
            error = error.args[0]
        sys.exit(f"error: the config has no key {'. '.join(error.splitlines())}")
    except (flags.Error, OSError, TypeError, ValueError) as error:
        # What went wrong in a recipe stands in the last line of absl's report.
        sys.exit(f"error: {str(error).strip().splitlines()[-1].strip()}")


def default_workdir(recipe):
    """Return runs/RECIPE of a --config: its file and argument, or an ablation's row, which says enough."""
    path, _, argument = recipe.partition(":")
    stem = os.path.splitext(os.path.basename(path))[0]
    names = [stem, *argument.replace(":", "/").split("/")]
    return os.path.join("runs", "-".join(name for name in names if name not in ("", "ablations")))


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
