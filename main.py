"""Train, score and use a detector: python main.py --config=configs/teacher.py:synthetic --workdir=DIR [--mode=...]."""

import sys
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

from dcrl_jax.devices import quiet_without_gpu

# What each mode cannot do without.
MODES = {
    "train": ("config", "workdir"),
    "eval": ("config", "workdir"),
    "detect": ("checkpoint", "input", "output"),
    "export": ("checkpoint", "output"),
    "publish": ("checkpoint", "output"),
    "benchmark": (),
}
FLAGS = flags.FLAGS
_CONFIG = config_flags.DEFINE_config_file("config", None, "The recipe, e.g. configs/teacher.py:synthetic.")
flags.DEFINE_string("workdir", None, "Folder for checkpoints, logs and results.")
flags.DEFINE_enum(
    "mode", "train", list(MODES), "train: train, resume, then score. eval: score. The others use a model."
)
flags.DEFINE_string("checkpoint", None, "A run's workdir or a checkpoint; by default eval takes what the run scored.")
flags.DEFINE_string("distributed", None, "Of several processes: HOST:PORT,COUNT,INDEX (of the first), or auto.")
flags.DEFINE_string("input", None, "detect: an image, a folder, a pattern or a video.")
flags.DEFINE_string("lwir", None, "detect: the thermal images of --input, where they are not in it.")
flags.DEFINE_string("output", None, "detect, export, publish: a new folder for what is made.")
flags.DEFINE_float("min_score", 0.5, "detect: people below it are not drawn.", lower_bound=0.0, upper_bound=1.0)


def main(argv):
    """Run the mode; a user's mistake ends with one message and status 1."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    # What fails is raised, and said once; libraries log it with their stack traces besides.
    logging.set_verbosity(logging.FATAL)
    quiet_without_gpu()
    from dcrl_jax import parallel

    with parallel.said_with_status(FLAGS.workdir):
        # Before the libraries that ask it for devices, or how much they may print.
        parallel.start_processes(FLAGS.distributed)
        _train_or_score() if FLAGS.mode in ("train", "eval") else _use_model()


def _train_or_score():
    from dcrl_jax.training import distill, loop
    from dcrl_jax.training.workdir import use_compilation_cache

    config, workdir = _CONFIG.value, Path(FLAGS.workdir)
    use_compilation_cache(workdir)
    if FLAGS.mode == "eval":
        loop.score_checkpoint(config, workdir, loop.compiled_detector(config), FLAGS.checkpoint)
    else:
        (distill.train_student if config.role == "student" else loop.train_and_evaluate)(config, workdir)


def _use_model():
    from dcrl_jax.inference.detect_files import detect_files

    if not detect_files(FLAGS.checkpoint, FLAGS.input, FLAGS.lwir, Path(FLAGS.output), FLAGS.min_score):
        sys.exit(1)


def parse_flags(argv):
    """Absl's parser, with one line instead of a stack trace for a mistake in the config."""
    try:
        rest = flags.FLAGS(argv)
        missing = [f"--{name}" for name in MODES[FLAGS.mode] if FLAGS[name].value is None]
        if missing:
            raise ValueError(f"--mode={FLAGS.mode} needs {' and '.join(missing)}")
        # Absl keeps the error of a recipe that cannot be read until its first use.
        if FLAGS.config is not None:
            _CONFIG.value.lock()
        return rest
    except (AttributeError, KeyError) as error:
        while isinstance(error, BaseException):
            error = error.args[0]
        sys.exit(f"error: the config has no key {'. '.join(error.splitlines())}")
    except (flags.Error, OSError, TypeError, ValueError) as error:
        # What went wrong in a recipe stands in the last line of absl's report.
        sys.exit(f"error: {str(error).strip().splitlines()[-1].strip()}")


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
