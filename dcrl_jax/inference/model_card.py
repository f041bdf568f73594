"""The README of a published model, as the Hugging Face hub shows it, from the template ``model_card.md.jinja``."""

import importlib.resources
from typing import NamedTuple

import jinja2
from ml_collections import ConfigDict

from dcrl_jax.config import data_set_name, keys_affecting
from dcrl_jax.decoding import image_rules_of
from dcrl_jax.published import HUB
from dcrl_jax.registration import registration_of
from dcrl_jax.structures import MODALITIES, WITHOUT
from dcrl_jax.tables import format_table

PAPER = "Deep Cross-modal Representation Learning and Distillation for Illumination-invariant Pedestrian Detection"
_TITLES = {
    "teacher": "DCRL-PDN, the teacher: it takes registered pairs of an RGB and a thermal image",
    "student": "DCRD-PDN, the student: it sees RGB images only, and has learnt from a teacher that also sees thermal "
    "images",
    "baseline": "the RGB-only baseline: the student's network, trained without a teacher",
}


class _Data(NamedTuple):
    """A data set as a model card describes it."""

    name: str
    terms: str
    views: str


_RENDERED = "rendered scenes, which are not photographs: expect little of it on real images"
_DATA = {
    "kaist": _Data(
        "the KAIST Multispectral Pedestrian Benchmark",
        "Its licence is CC BY-NC-SA 4.0.",
        "street scenes by day and by night, seen from a driving car",
    ),
    "msrs": _Data(
        "MSRS (images of github.com/Linfeng-Tang/MSRS, boxes of github.com/Lele-3/MSRS-detection-label)",
        "See both repositories for their terms.",
        "street scenes by day and by night",
    ),
    "llvip": _Data(
        "LLVIP", "Its terms are for non-commercial use.", "street scenes mostly by night, seen from fixed cameras"
    ),
    "flir_aligned": _Data(
        "FLIR-aligned, the aligned pairs of FLIR ADAS",
        "See FLIR's terms for ADAS.",
        "street scenes by day and by night, seen from a driving car",
    ),
    "cvc14": _Data(
        "CVC-14", "Ask its authors for its terms.", "street scenes by day and by night, grey, seen from a driving car"
    ),
    "m3fd": _Data(
        "M3FD (github.com/JinyuanLiu-CV/TarDAL)", "See that repository for its terms.", "scenes by day and by night"
    ),
    "synthetic_rgbt": _Data(
        "synthetic_rgbt, the scenes that this project renders", "They come with the project.", _RENDERED
    ),
    "synthetic_visible": _Data(
        "synthetic_visible, RGB scenes that this project renders", "They come with the project.", _RENDERED
    ),
    "caltech_pedestrian": _Data(
        "the Caltech Pedestrian Detection Benchmark", "See its terms.", "street scenes by day, seen from a driving car"
    ),
    "nightowls": _Data(
        "NightOwls",
        "Its terms are for non-commercial use, and forbid passing its images on.",
        "street scenes by night, at dawn and by day, seen from a driving car",
    ),
}


def model_card(
    config: dict,
    step: int,
    parameters: int,
    dtype: str,
    initialisation: str,
    scores: dict | None,
    why_no_scores: str,
    start: dict | None,
) -> str:
    """Return a model card, Markdown with the hub's YAML front matter.

    Args:
        config: the config as plain JSON values, without private paths.
        step: the training step of the parameters.
        parameters: the number of parameters.
        dtype: of the parameters in the file, float32 or bfloat16; the scores are those of float32.
        initialisation: the origin of the initial parameters of the training.
        scores: the run's scores.json, if it has the scores of these parameters.
        why_no_scores: the reason to show if there are no scores.
        start: the line of the run's environment.jsonl, if there is one.
    """
    template = (
        importlib.resources.files("dcrl_jax.inference").joinpath("model_card.md.jinja").read_text(encoding="utf-8")
    )
    environment = jinja2.Environment(
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, undefined=jinja2.StrictUndefined
    )
    data = ConfigDict(config["data"])
    name = data_set_name(data)
    return environment.from_string(template).render(
        config=config,
        step=step,
        parameters=parameters,
        dtype=dtype,
        initialisation=initialisation,
        scores=scores,
        why_no_scores=why_no_scores,
        start=start,
        paper=PAPER,
        hub=HUB,
        is_teacher=config["role"] == "teacher",
        title=_title(config),
        tags=_tags(config),
        data_set=name,
        data=_DATA.get(name, _Data(name, "See its terms.", "the scenes of that data set")),
        settings_table=_settings_table(config),
        score_table=scores and _score_table(scores),
        coco_table=scores and _coco_table(scores),
        rules=image_rules_of(data),
        registration=registration_of(data),
        further_table=scores and _further_table(scores),
        format_value=_format_value,
    )


def _title(config):
    fine_tuned = config["init"].get("roles")
    roles = fine_tuned or [config["role"] if _is_distilled(config) else "baseline"]
    title = _TITLES[roles[0]] if len(roles) == 1 else "a detector that sees RGB images only"
    return title + (f"; fine-tuned on {config['data']['name']}, without a teacher" if fine_tuned else "")


def _is_distilled(config):
    """Return whether the detector is more than a baseline, which a student without distillation terms equals."""
    return config["role"] != "student" or any(config["distillation"][term] for term in ("fea", "cls", "bbr", "seg"))


def _tags(config):
    role = config["role"]
    tags = [
        "jax",
        "flax",
        "pedestrian-detection",
        "faster-rcnn",
        "illumination-invariant",
        role,
        data_set_name(ConfigDict(config["data"])),
    ]
    if role == "teacher":
        tags += ["multispectral", "rgb-thermal"]
    if role == "student" and _is_distilled(config):
        tags += ["knowledge-distillation"]
    return tags


def _settings_table(config):
    rows = []
    for key in keys_affecting("card"):
        section, name = key.name.split(".")
        value = config.get(section, {}).get(name)
        if value is not None:
            rows.append([f"`{key.name}`", _format_value(value)])
    return format_table(rows, ["setting", "value"], markdown=True)


def _score_table(scores):
    # Label each subset with the last word of its name: all, day, night.
    by_subset = {name.rpartition("-")[2]: values for name, values in scores["scores"].items()}

    def row(title, values):
        return [title, *(values.get(subset) for subset in by_subset)]

    def scored(title, key):
        return row(title, {subset: values[key] for subset, values in by_subset.items()})

    rows = [scored("**log-average miss rate, %** (lower is better)", "miss_rate_percent")]
    for modality, rates in scores["blanked"].items():
        rates = {name.rpartition("-")[2]: rate for name, rate in rates.items()}
        rows.append(row(f"the same, {WITHOUT[modality]}", rates))
    rows.append(scored("recall, %", "recall_percent"))
    if scores["modality_weights"]:
        for index, modality in enumerate(MODALITIES):
            weights = {subset: values[index] for subset, values in scores["modality_weights"].items()}
            rows.append(row(f"mean weight of {modality}", weights))
    rows += [scored("people", "people"), scored("images", "images")]
    return format_table(rows, ["", *by_subset], markdown=True)


def _coco_table(scores):
    coco = scores.get("coco", {})  # runs of earlier versions have none
    titles = {"ap": "COCO AP", "ap50": "at an overlap of 0.5", "ap75": "at an overlap of 0.75", "ar": "COCO AR"}
    rows = [[f"{title}, %", *(values[f"{key}_percent"] for values in coco.values())] for key, title in titles.items()]
    return format_table(rows, ["people of any height", *coco], markdown=True) if coco else ""


def _further_table(scores):
    rows = [[subset, rate] for subset, rate in scores["further"].items()]
    return format_table(rows, ["further subsets", "miss rate, %"], markdown=True) if rows else ""


def _format_value(value):
    if isinstance(value, dict):
        return ", ".join(f"{key}={_format_value(item)}" for key, item in value.items() if item is not None) or "none"
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)
