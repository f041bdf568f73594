"""Publishing: a run's parameters as a folder for the Hugging Face hub, without private paths of the run."""

import json
import shlex
from pathlib import Path
from typing import Any, NamedTuple

import jax
from etils import epath

from dcrl_jax import checkpoints, param_trees, published
from dcrl_jax.errors import InputError
from dcrl_jax.files import read_json_lines
from dcrl_jax.inference.model_card import model_card
from dcrl_jax.inference.output_folder import fill_folder, new_folder
from dcrl_jax.inference.trained import restore_trained
from dcrl_jax.registration import keep_numbers

CARD_FILE = "README.md"
# Keys whose values are paths on the publisher's machine, whatever they look like.
_PATH_KEYS = ("data_dir", "manual_dir", "checkpoint", "vgg16")


class RunRecord(NamedTuple):
    """The records of a workdir about the published parameters."""

    scores: dict | None  # evaluation/scores.json; None if these parameters have no scores
    why_no_scores: str  # the reason if there are no scores
    start: dict | None  # the line of environment.jsonl for the training of these parameters


def publish(checkpoint: str, output: str | Path, dtype: str = "float32") -> None:
    """Write a detector's parameters, config and model card into a folder, and print how to publish it.

    Args:
        checkpoint: a run's workdir; or a folder of checkpoints or one checkpoint, whose card has no scores.
        output: a new or empty folder. It gets ``model.safetensors``, ``config.json`` and ``README.md``. An error leaves
            the folder as it was.
        dtype: of ``published.DTYPES``, of the parameters in the file.

    Raises:
        InputError: the path holds no checkpoint of a detector, or is published already; or the folder is not empty or
            cannot be written to.
    """
    output = new_folder(output)
    if published.is_published(checkpoint):
        raise InputError(f"{checkpoint} is already published; --checkpoint must name a run's workdir or a checkpoint.")
    _, params, config, step = restore_trained(checkpoint)
    if config.role == "teacher":
        keep_numbers(config.data)
    record = _read_record(checkpoint, param_trees.fingerprint(params), step)
    values = without_private_paths(checkpoints.config_to_json(config))
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    card = model_card(
        values, step, count, dtype, _initialisation(config), record.scores, record.why_no_scores, record.start
    )
    with fill_folder(output) as folder:
        published.write(folder, params, values, step, dtype)
        (folder / CARD_FILE).write_text(card, encoding="utf-8")
    measured = "its scores" if record.scores else f"no scores: {record.why_no_scores}"
    print(
        f"{config.role}, step {step} of {checkpoint}, with {measured}\n"
        f"  {published.PARAMS_FILE}  parameters, {dtype}\n  {published.CONFIG_FILE}  config\n"
        f"  {CARD_FILE}  model card: read it, and choose the licence of the weights in it\n"
        f"publish it with:  hf upload OWNER/NAME {shlex.quote(str(output))} .\n"
        f'use it with:      Detector.from_pretrained("{published.HUB}OWNER/NAME"), or of "{output}"'
    )


def without_private_paths(value: Any, key: str = "") -> Any:
    """Return a config with None for every path on the machine of its training.

    A path is the value of a key in ``_PATH_KEYS``, or a text that looks like one. Names on the hub stay.

    Args:
        value: the config as plain JSON values, or a part of it.
        key: the last key of the part; empty for the config.
    """
    if isinstance(value, dict):
        return {name: without_private_paths(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [without_private_paths(item, key) for item in value]
    if isinstance(value, str) and not value.startswith(published.HUB):
        return None if key in _PATH_KEYS or any(sign in value for sign in "/\\~") else value
    return value


def _initialisation(config):
    if config.init.checkpoint:
        return "the parameters of another run"
    if config.init.vgg16:
        is_public = config.init.vgg16.startswith(published.HUB)
        return f"VGG-16's convolutions from {config.init.vgg16 if is_public else 'a file'}, the rest random"
    return "random parameters"


def _read_record(checkpoint, fingerprint, step):
    if not checkpoints.is_workdir(checkpoint):
        return RunRecord(None, "published from a checkpoint, without the run that it comes from", None)
    workdir = epath.Path(checkpoint)
    scores, why_no_scores = _read_scores(workdir / "evaluation" / "scores.json", fingerprint)
    return RunRecord(scores, why_no_scores, _read_start(workdir / "environment.jsonl", step))


def _read_scores(file, fingerprint):
    """Return the scores and an empty text; or None and a reason if they are not of exactly these parameters."""
    if not file.is_file():
        return None, "the run has no scores yet"
    try:
        scores = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{file}: not valid JSON ({error}). Score the run again with --mode=eval.") from error
    scored = scores.get("parameters")
    if scored != fingerprint:
        whose = "are of other parameters" if scored else "do not say of which parameters they are"
        return None, f"the scores in the workdir {whose}; --mode=eval scores these"
    return scores, ""


def _read_start(file, step):
    """Return the last start of the run before this step; later starts add nothing to these parameters."""
    start = None
    for line in read_json_lines(file):
        if start is None or line["step"] < step:
            start = line
    return start
