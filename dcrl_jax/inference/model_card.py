"""The README of a published model, as the Hugging Face hub shows it: what it is, how it is used, what was measured."""

from typing import NamedTuple

from dcrl_jax.published import HUB
from dcrl_jax.reports.tables import format_table
from dcrl_jax.structures import MODALITIES

PAPER = "Deep Cross-modal Representation Learning and Distillation for Illumination-invariant Pedestrian Detection"
_ROLES = {
    "teacher": "DCRL-PDN, the teacher: it looks at registered pairs of an RGB and a thermal image",
    "student": "DCRD-PDN, the student: it looks at RGB images alone, and has learnt from a teacher that sees thermal "
    "images too",
    "baseline": "the RGB-only baseline: the student's network, trained without a teacher",
}


class _Data(NamedTuple):
    """A data set of this project, as a reader of the card has to know it."""

    name: str
    terms: str
    views: str


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
    "synthetic_rgbt": _Data(
        "synthetic_rgbt, the scenes that this project renders",
        "They come with the project.",
        "rendered scenes, which are no photographs: expect little of it on real images",
    ),
    "synthetic_visible": _Data(
        "synthetic_visible, RGB scenes that this project renders",
        "They come with the project.",
        "rendered scenes, which are no photographs: expect little of it on real images",
    ),
    "caltech_pedestrian": _Data(
        "the Caltech Pedestrian Detection Benchmark",
        "See its terms.",
        "street scenes by day, seen from a driving car",
    ),
    "nightowls": _Data(
        "NightOwls",
        "Its terms are for non-commercial use, and forbid passing its images on.",
        "street scenes by night, at dawn and by day, seen from a driving car",
    ),
}
_SETTINGS = {
    "backbone": ("width", "stride", "norm", "dtype"),
    "segmentation": ("stages",),
    "roi": ("hidden",),
    "cfl": ("enabled", "shared_fraction", "aggregation"),
    "fusion": ("strategy",),
    "distillation": ("fea", "cls", "bbr", "seg", "rho", "zeta", "temperature", "epsilon", "delta", "xi"),
    "data": ("name", "options", "train_split", "train_labels"),
    "optimizer": ("name", "learning_rate", "schedule"),
    "train": ("batch_size", "epochs", "steps"),
    "final": ("min_score", "nms_iou"),
}


def model_card(
    config: dict,
    step: int,
    parameters: int,
    started_from: str,
    scores: dict | None,
    why_no_scores: str,
    start: dict | None,
) -> str:
    """Write a model card.

    Args:
        config: as plain JSON values, without places of the publisher's machine.
        step: of the training that the parameters are of.
        parameters: how many.
        started_from: where the training took its first parameters.
        scores: the run's scores.json, if it is of these parameters.
        why_no_scores: said in their place.
        start: the line of the run's environment.jsonl, if there is one.

    Returns:
        Markdown with the hub's YAML front matter.
    """
    sections = (
        _front_matter(config),
        _what_it_is(config, step, parameters),
        _use(config),
        "## Measured\n\n" + (_scores(scores) if scores else f"Not measured: {why_no_scores}."),
        _training(config, started_from, start),
        _limits(config),
        _licence(config),
        _CITATION,
    )
    return "\n\n".join(sections) + "\n"


def _front_matter(config):
    role, data = config["role"], config["data"]["name"]
    tags = ["jax", "flax", "pedestrian-detection", "faster-rcnn", "illumination-invariant", role, data]
    tags += ["multispectral", "rgb-thermal"] if role == "teacher" else []
    tags += ["knowledge-distillation"] if role == "student" and _is_distilled(config) else []
    lines = "".join(f"- {tag}\n" for tag in tags)
    # The hub takes this licence for that of the weights, which is for the publisher to choose.
    return (
        f"---\nlibrary_name: dcrl_jax\npipeline_tag: object-detection\nlicense: other\n"
        f"license_name: code-apache-2.0-weights-not-yet-chosen\ntags:\n{lines}---"
    )


def _what_it_is(config, step, parameters):
    data, fine_tuned = config["data"], config["init"].get("roles")
    roles = fine_tuned or [config["role"] if _is_distilled(config) else "baseline"]
    what = _ROLES[roles[0]] if len(roles) == 1 else "a detector that looks at RGB images alone"
    what += f"; fine-tuned on {data['name']}, without a teacher" if fine_tuned else ""
    modalities = " and ".join({"visible": "RGB", "lwir": "thermal (lwir)"}[name] for name in _modalities(config))
    return (
        f"# Pedestrian detector: {config['role']}, {data['name']}\n\n"
        f"{what}. An implementation in JAX and Flax of *{PAPER}* (Liu, Lam, Zhao, Qiu).\n\n"
        f"| | |\n|---|---|\n| sees | {modalities} |\n| input | {data['width_px']}x{data['height_px']} pixels; images "
        "of other sizes are brought to it, and boxes go back |\n"
        "| gives | boxes x1, y1, x2, y2 in pixels of the image, and scores"
        f"{', and the weight of each modality' if config['role'] == 'teacher' else ''} |\n"
        f"| parameters | {parameters:,}, float32, of step {step} |"
    )


def _is_distilled(config):
    """False of a student all of whose terms are switched off: it is the baseline."""
    return config["role"] != "student" or any(config["distillation"][term] for term in ("fea", "cls", "bbr", "seg"))


def _modalities(config):
    return MODALITIES if config["role"] == "teacher" else MODALITIES[:1]


def _use(config):
    images = ", ".join(f'"{name}.png"' for name in _modalities(config))
    return (
        "## Use\n\nWith the package `dcrl_jax` installed; replace OWNER/NAME by the name of this repository:\n\n"
        "```python\nfrom dcrl_jax.inference.detector import Detector\n\n"
        f'detector = Detector.from_pretrained("{HUB}OWNER/NAME")  # or a folder with these files\n'
        f"people = detector({images})  # or uint8 arrays, RGB{' and grey' if config['role'] == 'teacher' else ''}\n"
        "people.boxes, people.scores  # [n, 4] and [n], by falling score\n```"
    )


def _scores(scores):
    kept = {subset.rpartition("-")[2]: row for subset, row in scores["scores"].items()}

    def row(title, values):
        return [title, *(values.get(subset) for subset in kept)]

    def column(key):
        return {subset: values[key] for subset, values in kept.items()}

    rows = [row("**log-average miss rate, %** (lower is better)", column("miss_rate_percent"))]
    rows += [
        row(f"the same, {modality} switched off", {name.rpartition("-")[2]: rate for name, rate in rates.items()})
        for modality, rates in scores["blanked"].items()
    ]
    rows += [
        row("average precision, %", column("average_precision_percent")),
        row("recall, %", column("recall_percent")),
    ]
    rows += [
        row(f"mean weight of {modality}", {c: weights[place] for c, weights in scores["modality_weights"].items()})
        for place, modality in enumerate(MODALITIES)
        if scores["modality_weights"]
    ]
    rows += [row("people", column("people")), row("images", column("images"))]
    data, first = scores["data"], next(iter(scores["scores"]))
    parts = [
        f"These very parameters on the split `{data['split']}` of {data['name']} ({_shown(data['options'])}). "
        f"People who count (`{first}`): {scores['people_who_count']}.",
        format_table(rows, ["", *kept], markdown=True),
    ]
    if scores["further"]:
        further = [[subset, rate] for subset, rate in scores["further"].items()]
        parts.append(format_table(further, ["further subsets", "miss rate, %"], markdown=True))
    return "\n\n".join(parts + [f"Warning of the scoring: {warning}" for warning in scores["warnings"]])


def _training(config, started_from, start):
    rows = [
        [f"`{section}.{key}`", _shown(config[section][key])]
        for section, keys in _SETTINGS.items()
        for key in keys
        if config.get(section, {}).get(key) is not None
    ]
    text = (
        f"## Training\n\nStarted from {started_from}. The settings that matter most; `config.json` has all of them:\n\n"
    )
    text += format_table(rows, ["setting", "value"], markdown=True)
    if start is None:
        return f"{text}\n\nSeed {config['seed']}; versions not recorded."
    versions = ", ".join(f"{name} {version}" for name, version in start["versions"].items())
    devices = f"{start['processes']} x {len(start['devices'])} x {start['devices'][0]}"
    return (
        f"{text}\n\nSeed {start['seed']}; commit {start['commit'] or 'unknown'}; Python {start['python']}, {versions}; "
        f"devices (processes x devices): {devices}."
    )


def _shown(value):
    if isinstance(value, dict):
        return ", ".join(f"{key}={_shown(one)}" for key, one in value.items() if one is not None) or "none"
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)


def _data(config):
    name = config["data"]["name"]
    return _DATA.get(name, _Data(name, "See its terms.", "what that data set shows"))


def _limits(config):
    blind = (
        "It needs both images, registered and of one size; the thermal one grey, of 8 bits, scaled as in its training."
        if config["role"] == "teacher"
        else "It sees RGB alone: whoever leaves no trace in visible light, as in full darkness, cannot be found."
    )
    return (
        f"## Limits\n\n- It was trained on {_data(config).views}. Other cameras, heights, places and weather are "
        f"untested.\n- {blind}\n- It gives boxes of one class, pedestrian: no tracks, distances or identities.\n- It "
        "misses people, and finds some where nobody is: no decision on which somebody's safety depends may rest on it."
    )


def _licence(config):
    data = _data(config)
    return (
        f"## Licence\n\nThe code is under Apache-2.0. The weights were trained on {data.name}. {data.terms}\n\n"
        "**The licence of the weights is for the publisher to choose, within the terms of that data: replace this "
        "line, and `license` and `license_name` at the top of this file.**"
    )


_CITATION = f"""## Citation

The method is that of:

```
@misc{{liu_dcrl_pdn,
  title = {{{PAPER}}},
  author = {{Liu, Tianshan and Lam, Kin-Man and Zhao, Rui and Qiu, Guoping}},
}}
```

This is an independent implementation, not the authors' own."""
