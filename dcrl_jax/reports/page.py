"""``report.html``: one evaluation as a page that a person opens, prints or sends."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dcrl_jax.data import transforms
from dcrl_jax.evaluation.evaluate import Bench, Evaluation, score_tables
from dcrl_jax.evaluation.rules import Subset, assign_roles, describe_subset
from dcrl_jax.files import write_atomically
from dcrl_jax.reports import crops, markup
from dcrl_jax.reports.errors import worst_errors
from dcrl_jax.reports.panels import MIN_SCORE

# Of each kind of error and each condition.
CROPS = 8


class Picture(NamedTuple):
    """How a picture of an evaluation's folder stands in the page."""

    section: str
    alt: str
    caption: str
    kind: str  # see markup.figure
    is_photo: bool


# By the name of the file.
PICTURES = {
    "miss_rate.png": Picture(
        "Curves",
        "miss rate over false positives per image",
        "Further down and left is better. The band marks the range over which the miss rate is averaged.",
        "plot",
        False,
    ),
    "panel.png": Picture(
        "Images",
        "the best, the worst and random images with annotations and detections",
        f"Best and worst by the number of errors (misses and false alarms) at score {MIN_SCORE:g}.",
        "wide",
        True,
    ),
    "modality_weights.png": Picture(
        "Modality weights",
        "histogram of the thermal image's weight by day and by night",
        "What modality fusion makes of each image (mu of Eq. 11). Dashed lines are means.",
        "plot",
        False,
    ),
    "cfl_maps.png": Picture(
        "Shared and specific features",
        "heat maps of the CFL modules' shared and specific features, level by level",
        "What the CFL modules learn, as in Fig. 7 of the paper, on the day and the night image with the most people "
        "(yellow). A map is the mean over channels of the magnitude of S (Eq. 2) or R (Eq. 3), before the gate. All "
        "maps of a level in a scene have one range of colours; dark is low.",
        "wide",
        True,
    ),
    "loss_curves.png": Picture(
        "Training",
        "losses, learning rate and miss rates over the steps of the training",
        "From the logs of the run. Losses are means over the steps since the point before.",
        "wide",
        False,
    ),
}


def write_page(evaluation: Evaluation, bench: Bench, path: Path, name: str, pictures: Sequence[Path]) -> None:
    """Write the page: scores, curves, the worst errors as crops, and further pictures.

    Args:
        evaluation: of ``evaluate.evaluate``.
        bench: that it was made with.
        path: of the page, which holds all of its pictures.
        name: of the detector.
        pictures: files of PICTURES, PNG, those that there are.
    """
    data = bench.config.data
    shown = {PICTURES[picture.name].section: _picture(picture) for picture in pictures}
    subsets = [score.subset for score in evaluation.scores.values()]
    sections = {
        "Scores": [_rules(subsets[0]), *map(markup.table, score_tables(evaluation))],
        "Curves": shown.pop("Curves", []),
        **_error_sections(evaluation, bench, subsets),
        **shown,
    }
    anchors = {title: title.lower().replace(" ", "-") for title in sections}
    body = [
        markup.element("h1", name),
        markup.element("p", f"scored on {data.name}, {data.test_split}", class_="soft"),
        *(markup.element("p", f"warning: {warning}", class_="warning") for warning in evaluation.warnings),
        "<nav>"
        + "".join(markup.element("a", title, href=f"#{anchor}") for title, anchor in anchors.items())
        + "</nav>",
    ]
    for title, parts in sections.items():
        body += [markup.element("h2", title, id=anchors[title]), *parts]
    write_atomically(path, markup.document(f"{name}, {data.name} {data.test_split}", body))


def _picture(path: Path) -> list[str]:
    shown = PICTURES[path.name]
    return [markup.figure(markup.file_uri(path, shown.is_photo), shown.alt, shown.caption, shown.kind)]


def _rules(subset: Subset) -> str:
    sentences = [f"People who count: {describe_subset(subset)}."]
    if subset.min_detection_height_px:
        sentences.append(f"Detections less than {subset.min_detection_height_px:g} pixels tall are left out.")
    if subset.aspect_ratio:
        sentences.append(f"People and detections are given a width of {subset.aspect_ratio:g} of their height.")
    sentences.append(
        "The miss rate is the log-average over 0.01 to 1 false positives per image, lower is better; the average "
        "precision is at an overlap of 0.5, higher is better."
    )
    return markup.element("p", " ".join(sentences))


def _error_sections(evaluation: Evaluation, bench: Bench, subsets: Sequence[Subset]) -> dict[str, list[str]]:
    # By day and by night, or of everybody where the benchmark makes no difference.
    subsets = [subset for subset in subsets if subset.condition != "all"] or subsets[:1]
    errors = {s: worst_errors(bench.truths.images, evaluation.detections, s, CROPS) for s in subsets}
    misses = {s: [(one.place, one.box, f"{one.box[3]:.0f} px tall") for one in errors[s].misses] for s in subsets}
    alarms = {s: [(one.place, one.box, f"score {one.score:.3f}") for one in errors[s].false_alarms] for s in subsets}
    missed = f"The tallest people whom no detection with a score of at least {MIN_SCORE:g} found."
    wrong = "The detections with the highest scores that found nobody and lie on no ignore region."
    return {
        "Worst misses": _crops(evaluation, bench, missed, "missed person", misses),
        "Worst false alarms": _crops(evaluation, bench, wrong, "false alarm", alarms),
    }


def _crops(
    evaluation: Evaluation,
    bench: Bench,
    rule: str,
    subject: str,
    found: Mapping[Subset, Sequence[tuple[int, np.ndarray, str]]],
) -> list[str]:
    names = {"visible": "visible", "lwir": "thermal"}
    views = " and the ".join(names[modality] for modality in bench.detector.modalities)
    keys = (
        (crops.SUBJECT_COLOR, subject),
        (crops.PERSON_COLOR, "person"),
        (crops.IGNORE_COLOR, "ignore region"),
        (crops.DETECTION_COLOR, f"detection, score at least {MIN_SCORE:g}"),
    )
    legend = "".join(markup.color_key(*key) for key in keys)
    parts = [markup.element("p", f"{rule} Each crop shows the {views} image."), f'<p class="soft">{legend}</p>']
    for subset, errors in found.items():
        parts.append(markup.element("h3", f"By {subset.condition}" if subset.condition != "all" else "All"))
        if not errors:
            parts.append(markup.element("p", "None."))
            continue
        figures = []
        for place, box, measure in errors:
            image_id = bench.truths.images[place].image_id
            uri = markup.image_uri(_crop(evaluation, bench, subset, place, box))
            figures.append(markup.figure(uri, f"{subject} in {image_id}, {measure}", f"{image_id}: {measure}", "crop"))
        parts.append('<div class="crops">' + "\n".join(figures) + "</div>")
    return parts


def _crop(evaluation: Evaluation, bench: Bench, subset: Subset, place: int, box: np.ndarray) -> np.ndarray:
    pair = transforms.decode(bench.source[place], bench.detector.modalities)
    truth = bench.truths.images[place]
    roles = assign_roles(subset, *truth[2:])
    found = evaluation.detections[truth.image_id]
    others = (
        (truth.boxes[roles.is_ignore], crops.IGNORE_COLOR),
        (truth.boxes[roles.is_person], crops.PERSON_COLOR),
        (found.boxes[found.scores >= MIN_SCORE], crops.DETECTION_COLOR),
    )
    return crops.draw_crop([pair[modality] for modality in bench.detector.modalities], box, others)
