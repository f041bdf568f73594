"""Train or evaluate a detector: python main.py --config=configs/teacher.py:synthetic --workdir=DIR [--mode=...]."""

import os
import sys
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

from dcrl_jax.devices import quiet_without_gpu
from dcrl_jax.errors import InputError, Preempted

_CONFIG = config_flags.DEFINE_config_file("config", None, "The recipe, e.g. configs/teacher.py:synthetic.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder for checkpoints, logs and results.")
_MODE = flags.DEFINE_enum("mode", "train", ["train", "eval"], "train: train, resume, then score. eval: score.")
_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", None, "What to score with --mode=eval; by default what the workdir's own run scored in the end."
)
_DISTRIBUTED = flags.DEFINE_string(
    "distributed", None, "Of several processes: HOST:PORT,COUNT,INDEX (the first one's address), or auto on a cluster."
)


def main(argv):
    """Run the mode; a user's mistake ends with one message and status 1."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    # What fails is raised, and said once; libraries log it with their stack traces besides.
    logging.set_verbosity(logging.FATAL)
    quiet_without_gpu()
    from dcrl_jax import parallel

    config = _CONFIG.value
    workdir = Path(_WORKDIR.value)
    try:
        # Before the libraries that ask it for devices, or how much they may print.
        parallel.start_processes(_DISTRIBUTED.value)
        from dcrl_jax.training import distill, loop
        from dcrl_jax.training.workdir import use_compilation_cache

        use_compilation_cache(workdir)
        if _MODE.value == "train" and config.role == "student":
            distill.train_student(config, workdir)
        elif _MODE.value == "train":
            loop.train_and_evaluate(config, workdir)
        else:
            loop.score_checkpoint(config, workdir, loop.compiled_detector(config), _CHECKPOINT.value)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        parallel.stop_process(1)
    except OSError as error:
        print(f"error: {error.filename or workdir}: {error.strerror or error}", file=sys.stderr)
        parallel.stop_process(1)
    except KeyboardInterrupt:
        parallel.stop_process(130)
    except Preempted:
        parallel.stop_process(os.EX_TEMPFAIL)  # 75: try again, as schedulers that requeue understand it


def parse_flags(argv):
    """Absl's parser, with one line instead of a stack trace for a mistake in the config."""
    try:
        rest = flags.FLAGS(argv)
        # Absl keeps the error of a recipe that cannot be read until its first use.
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
    flags.mark_flags_as_required(["config", "workdir"])
    app.run(main, flags_parser=parse_flags)
