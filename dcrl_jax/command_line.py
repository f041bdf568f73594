"""The command line of every command: flags, errors and exit codes.

A command exits with 0; with 1 after a user's mistake, which is one message on standard error; with 130 after Ctrl-C;
with 75 after SIGTERM or the loss of another process of the run, which schedulers understand as "try again".
"""

import argparse
import contextlib
import io
import logging
import math
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from absl import flags
from ml_collections import ConfigDict, config_flags

from dcrl_jax import peers
from dcrl_jax.disk_errors import disk_failure
from dcrl_jax.errors import InputError, Preempted
from dcrl_jax.signals import raise_on_sigterm


class Mode(NamedTuple):
    """The flags of a mode of main.py."""

    needed: tuple[str, ...]
    optional: tuple[str, ...] = ()


MODES = {
    "train": Mode(("config",), ("workdir", "distributed")),
    "eval": Mode(("config",), ("workdir", "distributed", "checkpoint")),
    "detect": Mode(
        ("checkpoint", "input", "output"), ("lwir", "lwir_offset_s", "lwir_to_visible", "allow_missing", "min_score")
    ),
    "export": Mode(("checkpoint", "output"), ("lwir_to_visible",)),
    "publish": Mode(("checkpoint", "output"), ("dtype",)),
    "benchmark": Mode((), ("checkpoint", "config")),
}


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, with the exit code of a user's mistake."""

    def __init__(self, description: str | None):
        """Take flags in full only, and show the description as it is written."""
        layout = argparse.RawDescriptionHelpFormatter
        super().__init__(description=description, formatter_class=layout, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Print the message and exit."""
        print(f"error: {message}", file=sys.stderr)
        sys.exit(1)


def parse_main(description: str | None, arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line of main.py.

    Args:
        description: what the command does, for --help.
        arguments: the arguments; by default those of the process.

    Returns:
        The flags by name. ``config`` is the locked config of the recipe, or None; ``overrides`` has the keys that the
        command line sets on it.
    """
    parser = Parser(description)
    parser.add_argument("--mode", choices=MODES, default="train", help="default: train")
    parser.add_argument("--config", help="the recipe, e.g. configs/teacher.py:synthetic; --config.KEY=VALUE sets a key")
    for name, help_text in {
        "workdir": "train, eval: folder for checkpoints, logs and results; default: runs/ and the recipe's name",
        "checkpoint": "a run's workdir, a checkpoint or a published model",
        "input": "detect: an image, a video, a folder, a pattern or a CSV file that lists pairs",
        "lwir": "detect: the thermal images of --input, if they are not in it",
        "output": "detect, export, publish: a new folder for the results",
    }.items():
        parser.add_argument(f"--{name}", type=path, help=help_text)
    parser.add_argument("--min_score", type=share, help="detect: lowest score that is drawn; default: 0.5")
    help_text = "detect: seconds by which the thermal video started later than the visible one; default: 0"
    parser.add_argument("--lwir_offset_s", type=seconds, metavar="SECONDS", help=help_text)
    help_text = "detect, export: where thermal images lie in their visible ones: stretch, numbers, or a file with them"
    parser.add_argument("--lwir_to_visible", metavar="REGISTRATION", help=help_text)
    help_text = "detect: let a teacher look at files without a partner in the other modality"
    parser.add_argument("--allow_missing", action="store_const", const=True, help=help_text)
    text = "publish: of the parameters; bfloat16 halves the file; default: float32"
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help=text)
    text = "train, eval in several processes: HOST:PORT,COUNT,INDEX, with the address of the first one, or auto"
    parser.add_argument("--distributed", help=text)
    options, overrides = parser.parse_known_args(arguments)
    _check_flags(parser, options)
    try:
        recipe = parse_recipe([*([f"--config={options.config}"] if options.config else []), *overrides])
    except InputError as error:
        parser.error(str(error))
    if options.min_score is None:
        options.min_score = 0.5
    if options.lwir_offset_s is None:
        options.lwir_offset_s = 0.0
    options.dtype = options.dtype or "float32"
    options.config, options.overrides = (recipe.config, recipe.overrides) if recipe else (None, {})
    if recipe and "workdir" in MODES[options.mode].optional and options.workdir is None:
        options.workdir = default_workdir(recipe.path)
    return options


def _check_flags(parser, options):
    mode = MODES[options.mode]
    flags_given = {name for name, value in vars(options).items() if value is not None} - {"mode"}
    needed = set(mode.needed)
    if {"lwir", "allow_missing"} <= flags_given:
        needed.discard("input")
    if missing := [f"--{name}" for name in mode.needed if name in needed - flags_given]:
        parser.error(f"--mode={options.mode} needs {' and '.join(missing)}")
    if foreign := [f"--{name}" for name in sorted(flags_given.difference(mode.needed, mode.optional))]:
        hint = "; to start from one: --config.init.checkpoint=PATH" if foreign == ["--checkpoint"] else ""
        parser.error(f"--mode={options.mode} does not take {' and '.join(foreign)}{hint}")
    if options.distributed and not options.workdir:
        parser.error("--distributed needs --workdir, a folder that all processes see")


def default_workdir(recipe: str) -> str:
    """Return runs/NAME; NAME joins a recipe's file and argument with hyphens, and leaves out 'ablations'."""
    file, _, argument = recipe.partition(":")
    names = [Path(file).stem, *argument.replace(":", "/").split("/")]
    return os.path.join("runs", "-".join(name for name in names if name not in ("", "ablations")))


class Recipe(NamedTuple):
    """The config of a command."""

    path: str  # with its argument, e.g. configs/student.py:synthetic
    config: ConfigDict  # locked, with the values of the command line
    overrides: dict[str, Any]  # the values that the command line sets, by key


def parse_recipe(arguments: Sequence[str]) -> Recipe | None:
    """Parse ``--config=FILE[:ARGUMENT]`` and its overrides, ``--config.KEY=VALUE``.

    Args:
        arguments: these flags and no others.

    Returns:
        The recipe, or None if no argument names one.

    Raises:
        InputError: an argument is unknown, the recipe cannot be read, or it has no such key or refuses the value.
    """
    values = flags.FlagValues()
    # As in sys.argv, the program's name comes first.
    argv = ["main.py", *arguments]
    config_flags.DEFINE_config_file("config", None, "", flag_values=values, sys_argv=argv)
    try:
        extra = values(argv)[1:]
        config = values.config
        if config is not None:
            # Absl raises the error of an unreadable recipe only when the config is first used.
            config.lock()
    except (AttributeError, KeyError) as error:
        # ml_collections may wrap the error in another one.
        while isinstance(error, BaseException):
            error = error.args[0]
        raise InputError(f"the config has no key {'. '.join(error.splitlines())}") from None
    except (flags.Error, OSError, TypeError, ValueError) as error:
        # Absl's report ends with the recipe's own error.
        raise InputError(str(error).strip().splitlines()[-1].strip()) from None
    if extra:
        raise InputError(f"unexpected arguments: {' '.join(extra)}")
    if config is None:
        return None
    flag = values["config"]
    return Recipe(config_flags.get_config_filename(flag), config, config_flags.get_override_values(flag))


def shared_values(options: argparse.Namespace) -> dict[str, str]:
    """Return what all processes of a run must be given alike, by flag; folders of data may be the machine's own."""
    from flax.traverse_util import flatten_dict

    values = {"--mode": options.mode, "--workdir": options.workdir, "--checkpoint": options.checkpoint}
    for key, value in flatten_dict(options.config.to_dict() if options.config else {}, sep=".").items():
        if not key.endswith(("data_dir", "manual_dir")):
            values[f"--config.{key}"] = value
    return {flag: repr(value) for flag, value in values.items()}


def path(text: str) -> str:
    """Return the path that a flag gives, for ``type=``; expand a tilde, since shells do not after an equals sign."""
    if not text:
        raise argparse.ArgumentTypeError("is empty; it must name a file or a folder")
    return os.path.expanduser(text)


def share(text: str) -> float:
    """Return the number from 0 to 1 that a flag gives, for ``type=``."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not in 0..1")
    return value


def seconds(text: str) -> float:
    """Return the finite number that a flag gives, for ``type=``; it may be negative."""
    value = float(text)
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text} is not a finite number of seconds")
    return value


@contextlib.contextmanager
def exit_on_error(
    workdir: str | None = None, config: ConfigDict | None = None, interrupted: str = ""
) -> Iterator[None]:
    """Turn the errors that a user or a scheduler must see into one message and an exit code.

    Args:
        workdir: the path to name if the error of a disk names no file.
        config: the config whose batch sizes to name if memory runs out.
        interrupted: the message to print on a signal. Only for a command that computes nothing on devices: Python then
            shuts down in order instead of at once.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A name that the locale cannot show must not end a command.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with raise_on_sigterm(), _without_late_errors(), peers.lost_peer_first():
            yield
            sys.stdout.flush()  # at exit, Python would print a stack trace if the disk of the output is full
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        stop_process(1)
    except Exception as error:
        from dcrl_jax.jax_errors import explain_out_of_memory, is_out_of_memory

        failure = disk_failure(error)  # first: storage libraries call a full disk RESOURCE_EXHAUSTED, too
        if failure is None and isinstance(error, OSError | RuntimeError | MemoryError) and is_out_of_memory(error):
            print(f"error: {explain_out_of_memory(error, config)}", file=sys.stderr)
            stop_process(1, at_once=True)
        if failure is None and not isinstance(error, OSError):
            if peers.are_connected():
                # At exit, JAX would wait for the others, which may be waiting for this process.
                traceback.print_exc()
                stop_process(1)
            raise
        # An open file that cannot be written to has no name, and one of them is standard output.
        place = f"{workdir} or standard output" if workdir else "standard output"
        if failure:
            reason = f"{failure.reason}; {failure.remedy}, then give the same command again."
        else:
            reason = getattr(error, "strerror", None) or error
        file = failure.file if failure else getattr(error, "filename", None)
        print(f"error: {file or place}: {reason}", file=sys.stderr)
        stop_process(1)
    except (KeyboardInterrupt, Preempted) as error:
        if interrupted:
            print(interrupted, file=sys.stderr)
        stop_process(os.EX_TEMPFAIL if isinstance(error, Preempted) else 130, at_once=not interrupted)


@contextlib.contextmanager
def _without_late_errors() -> Iterator[None]:
    """Drop stack traces of errors that Python discards and that are known by other ways.

    They are those of writes that a failed write took down: TensorStore's threads report to an event loop that is closed
    by then, and asyncio logs tasks that nobody awaits. And those of signals during a callback of the garbage collector.
    """
    # For good, since Python and asyncio do so when they delete tasks and coroutines, as late as at exit.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", r"coroutine .* was never awaited", RuntimeWarning)
    former = sys.unraisablehook

    def show(unraisable):
        error = unraisable.exc_value
        if not isinstance(error, KeyboardInterrupt | Preempted) and str(error) != "Event loop is closed":
            former(unraisable)

    sys.unraisablehook = show
    try:
        yield
    finally:
        sys.unraisablehook = former


def stop_process(status: int, at_once: bool = False) -> NoReturn:
    """Exit; if there are several processes, exit at once, since the others may be waiting for this one.

    Args:
        status: the exit code.
        at_once: exit at once in any case. An interpreter that shuts down while devices compute may crash.
    """
    jax = sys.modules.get("jax")
    # jax.process_count() would look for devices, which may be what failed.
    if peers.are_connected() or (jax is not None and (at_once or jax.distributed.is_initialized())):
        peers.leave()
        _flush_output()
        os._exit(status)
    _flush_output()
    sys.exit(status)


def _flush_output() -> None:
    try:
        sys.stdout.flush()
    except OSError:  # a full disk, to which Python would write once more at exit, and exit with 120
        with open(os.devnull, "wb") as null:
            os.dup2(null.fileno(), sys.stdout.fileno())
    with contextlib.suppress(OSError):
        sys.stderr.flush()


@contextlib.contextmanager
def exit_on_interrupt() -> Iterator[None]:
    """Exit at once on Ctrl-C within the block, which imports; an interrupted import could raise any error."""

    def stop(number, frame):
        peers.leave()
        os._exit(130)

    former = signal.getsignal(signal.SIGINT)
    if former is not signal.SIG_IGN:  # as in a background command of a shell script
        signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)
