"""Train, score and use a detector: python main.py --config=configs/student.py:synthetic [--mode=...]."""

import argparse
import sys
from collections.abc import Callable, Sequence

from absl import logging

from dcrl_jax import command_line
from dcrl_jax.devices import quiet_without_gpu


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the mode that the command line names."""
    options = command_line.parse_main(__doc__, arguments)
    # Libraries log an error with its stack trace before they raise it.
    logging.set_verbosity(logging.FATAL)
    quiet_without_gpu()
    with command_line.exit_on_error(options.workdir, options.config):
        with command_line.exit_on_interrupt():
            run = load(options)
        if run() is False:  # detection could not use every file
            sys.exit(1)


def load(options: argparse.Namespace) -> Callable[[], object]:
    """Import the packages of a mode, check its config, and return the mode as a function without arguments."""
    from dcrl_jax import processes

    # The packages imported below ask JAX for its devices, so the processes must meet before.
    processes.start(options.distributed, command_line.shared_values(options))
    config, checkpoint, output = options.config, options.checkpoint, options.output
    if options.mode in ("train", "eval"):
        print(f"workdir: {options.workdir}", flush=True)
    if config is not None:
        from dcrl_jax.registration import keep_numbers
        from dcrl_jax.training.unread_keys import check_unread_keys

        check_unread_keys(config, options.overrides)
        keep_numbers(config.data)
    if options.mode in ("train", "eval"):
        from dcrl_jax.training import distill, score, train
        from dcrl_jax.training.workdir import open_workdir

        assert config is not None  # these modes need --config
        workdir = open_workdir(options.workdir)
        processes.wait_for_all()
        if options.mode == "eval":
            return lambda: score.score_checkpoint(config, workdir, score.parallel_network(config), checkpoint)
        command = distill.train_student if config.role == "student" else train.train_and_evaluate
        return lambda: command(config, workdir)
    if options.mode == "detect":
        from dcrl_jax.inference.detect_files import detect_files

        files = (options.input, output, options.lwir, options.min_score, options.lwir_offset_s)
        return lambda: detect_files(checkpoint, *files, options.lwir_to_visible, bool(options.allow_missing))
    if options.mode == "export":
        from dcrl_jax.inference.export import export

        return lambda: export(checkpoint, output, options.lwir_to_visible)
    if options.mode == "publish":
        from dcrl_jax.inference.publish import publish

        return lambda: publish(checkpoint, output, options.dtype)
    from dcrl_jax.inference.benchmark import benchmark

    return lambda: benchmark(checkpoint, config)


if __name__ == "__main__":
    main()
