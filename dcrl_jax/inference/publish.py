"""A run's parameters as a folder for the Hugging Face hub: what of the run is published, and what stays at home."""

import json
import shlex
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import jax
from etils import epath

from dcrl_jax import checkpoints, published
from dcrl_jax.errors import InputError
from dcrl_jax.files import read_json_lines
from dcrl_jax.inference.model_card import model_card
from dcrl_jax.inference.output_folder import new_folder
from dcrl_jax.inference.trained import restore_trained
from dcrl_jax.signals import raise_on_sigterm

CARD_FILE = "README.md"
FILES = (CARD_FILE, published.CONFIG_FILE, published.PARAMS_FILE)
# What names a place on the publisher's machine, whatever it is called there.
_PLACES = ("data_dir", "manual_dir", "checkpoint", "vgg16")


class Run(NamedTuple):
    """What a workdir tells of the parameters that are published; None for what it does not tell."""

    scores: dict | None  # its evaluation/scores.json
    why_not: str  # why there are none
    start: dict | None  # the line of its environment.jsonl that they come from


@raise_on_sigterm()
def publish(checkpoint: str, output: str | Path) -> None:
    """Write a model's parameters, config and card into a folder, and print what publishes it.

    Args:
        checkpoint: a run's workdir; or a folder of checkpoints or one of them, whose card has no scores.
        output: a new or empty folder, which gets ``model.safetensors``, ``config.json`` and ``README.md``, or stays as
            it is.

    Raises:
        InputError: there is no checkpoint or none of a detector, or the folder holds something or cannot be written to.
        KeyboardInterrupt, Preempted: Ctrl-C or SIGTERM ended it.
    """
    output = new_folder(output)
    if published.is_published(checkpoint):
        raise InputError(f"{checkpoint} is published already; --checkpoint must name a run's workdir or a checkpoint.")
    _, params, config, step = restore_trained(checkpoint)
    run = _read_run(checkpoint, checkpoints.fingerprint(params), step)
    values = without_places(checkpoints.config_to_json(config))
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    card = model_card(values, step, count, _started_from(config), run.scores, run.why_not, run.start)
    try:
        _write(output, params, values, step, card)
    except OSError as error:
        raise InputError(f"{output} cannot be written to: {error.strerror or error}.") from error
    measured = "its scores" if run.scores else f"no scores: {run.why_not}"
    print(
        f"{config.role}, step {step} of {checkpoint}, with {measured}\n"
        f"  {published.PARAMS_FILE}  parameters\n  {published.CONFIG_FILE}  config\n"
        f"  {CARD_FILE}  model card: read it, and choose the licence of the weights in it\n"
        f"publish it with:  hf upload OWNER/NAME {shlex.quote(str(output))} .\n"
        f'use it with:      Detector.from_pretrained("{published.HUB}OWNER/NAME"), or of "{output}"'
    )


def without_places(config: Any, name: str = "") -> Any:
    """A config, as plain JSON values, with None for whatever names a place on the machine that it was trained on.

    Those are the values of keys that are places, and every text that looks like a path; one on the hub may stay.
    """
    if isinstance(config, dict):
        return {key: without_places(value, key) for key, value in config.items()}
    if isinstance(config, list):
        return [without_places(value, name) for value in config]
    if isinstance(config, str) and not config.startswith(published.HUB):
        return None if name in _PLACES or any(sign in config for sign in "/\\~") else config
    return config


def _started_from(config):
    if config.init.checkpoint:
        return "the parameters of another run"
    if config.init.vgg16:
        public = config.init.vgg16.startswith(published.HUB)
        return f"VGG-16's convolutions from {config.init.vgg16 if public else 'a file'}, the rest random"
    return "random parameters"


def _read_run(checkpoint, fingerprint, step):
    if not checkpoints.is_workdir(checkpoint):
        return Run(None, "published from a checkpoint alone, without the run that it came from", None)
    workdir = epath.Path(checkpoint)
    scores, why_not = _read_scores(workdir / "evaluation" / "scores.json", fingerprint)
    return Run(scores, why_not, _read_start(workdir / "environment.jsonl", step))


def _read_scores(file, fingerprint):
    """The scores, if they are of these very parameters, and why there are none."""
    if not file.is_file():
        return None, "the run has no scores yet"
    try:
        scores = json.loads(file.read_text())
    except ValueError as error:
        raise InputError(f"{file}: not valid JSON ({error}). Score the run again with --mode=eval.") from error
    of = scores.get("parameters")
    if of != fingerprint:
        whose = "are of other parameters" if of else "do not say of which parameters they are"
        return None, f"the scores in the run's folder {whose}; --mode=eval scores these"
    return scores, ""


def _read_start(file, step):
    """The start of the run in which it came to this step: what is started later adds nothing to these parameters."""
    start = None
    for found in read_json_lines(file):
        if start is None or found["step"] < step:
            start = found
    return start


def _write(output, params, config, step, card):
    was_there = output.exists()
    output.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=".partial", dir=output) as partial:
            published.write(Path(partial), params, config, step)
            (Path(partial) / CARD_FILE).write_text(card, encoding="utf-8")
            for name in FILES:
                (Path(partial) / name).rename(output / name)
    except BaseException:
        for name in FILES:
            (output / name).unlink(missing_ok=True)
        if not was_there:
            output.rmdir()
        raise
