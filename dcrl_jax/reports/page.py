"""``report.html``: one evaluation as a self-contained page to read, print or send."""

import base64
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import cv2
import jinja2
import numpy as np

from dcrl_jax.config import data_set_name
from dcrl_jax.evaluation.evaluate import Bench, Evaluation, decode_image
from dcrl_jax.evaluation.mistakes import MIN_SCORE, worst_mistakes
from dcrl_jax.evaluation.rules import Subset, assign_roles, describe_subset
from dcrl_jax.files import write_atomically
from dcrl_jax.reports import crops
from dcrl_jax.reports.summary import describe_one_camera, score_tables
from dcrl_jax.tables import Table, format_value

# Maximum number of crops per kind of mistake and condition.
CROPS = 8
COLORS = {
    "person": crops.PERSON_COLOR,
    "ignore region": crops.IGNORE_COLOR,
    f"detection, score at least {MIN_SCORE:g}": crops.DETECTION_COLOR,
}
JPEG_QUALITY = 85


class Picture(NamedTuple):
    """One picture of the page."""

    kind: str  # "crop", "plot" or "wide"; see the template
    uri: str
    alt: str
    caption: str


class Section(NamedTuple):
    """One section of the page, its parts in this order."""

    title: str
    text: Sequence[str] = ()  # paragraphs
    tables: Sequence[Table] = ()
    colors: Mapping[str, tuple[int, int, int]] = {}  # RGB by name, the legend of the crops
    crops: Mapping[str, Sequence[Picture]] = {}  # by heading
    pictures: Sequence[Picture] = ()

    @property
    def anchor(self) -> str:
        """The id of the section in links."""
        return self.title.lower().replace(" ", "-")


class PictureFile(NamedTuple):
    """How the page shows a file of the evaluation's folder."""

    section: str
    kind: str
    alt: str
    caption: str


# The pictures that the page can show, by file name.
PICTURES = {
    "miss_rate.png": PictureFile(
        "Curves",
        "plot",
        "miss rate over false positives per image",
        "Further down and left is better. The band marks the range over which the miss rate is averaged.",
    ),
    "panel.png": PictureFile(
        "Images",
        "wide",
        "the best, the worst and random images with annotations and detections",
        f"Best and worst by the number of errors (misses and false alarms) at score {MIN_SCORE:g}.",
    ),
    "modality_weights.png": PictureFile(
        "Modality weights",
        "plot",
        "histogram of the thermal image's weight by day and by night",
        "The weights that modality fusion gives to each image (mu of Eq. 11). Dashed lines are means.",
    ),
    "cfl_maps.png": PictureFile(
        "Shared and specific features",
        "wide",
        "heat maps of the CFL modules' shared and specific features, level by level",
        "The features that the CFL modules learn, as in Fig. 7 of the paper, on the day and the night image with the "
        "most people (yellow). A map is the mean over channels of the magnitude of S (Eq. 2) or R (Eq. 3), before the "
        "gate. All maps of a level in a scene have the same range of colours; dark is low.",
    ),
    "loss_curves.png": PictureFile(
        "Training",
        "wide",
        "losses, learning rate and miss rates over the steps of the training",
        "From the logs of the run. Losses are means over the steps since the point before.",
    ),
}
PHOTOS = ("panel.png", "cfl_maps.png")  # stored as JPEG, which is a tenth of the size


def write_page(evaluation: Evaluation, bench: Bench, path: Path, name: str, files: Sequence[Path]) -> None:
    """Write the page: scores, curves, crops of the worst mistakes, and further pictures.

    Args:
        evaluation: the result of ``evaluate.evaluate``.
        bench: the bench of this evaluation.
        path: the page, which contains all of its pictures.
        name: the name of the detector.
        files: the pictures that exist, with the names of PICTURES.
    """
    subsets = [score.subset for score in evaluation.scores.values()]
    pictures = {PICTURES[file.name].section: [_embed(file)] for file in files}
    sections = [
        Section("Scores", [_describe_rules(subsets[0]), *describe_one_camera(evaluation)], score_tables(evaluation)),
        Section("Curves", pictures=pictures.pop("Curves", [])),
        *_mistake_sections(evaluation, bench, subsets),
        *(Section(title, pictures=pictures[title]) for title in pictures),
    ]
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["cell"] = format_value
    page = resources.files("dcrl_jax.reports").joinpath("page.html.jinja")
    template = environment.from_string(page.read_text("utf-8"))
    text = template.render(
        name=name,
        data=f"{data_set_name(bench.config.data)}, {bench.config.data.test_split}",
        warnings=evaluation.warnings,
        sections=sections,
    )
    write_atomically(path, text.encode("ascii", "xmlcharrefreplace").decode())


def _describe_rules(subset: Subset) -> str:
    sentences = [f"People who count: {describe_subset(subset)}."]
    if subset.min_detection_height_px:
        sentences.append(f"Detections less than {subset.min_detection_height_px:g} pixels tall are left out.")
    if subset.aspect_ratio:
        sentences.append(f"People and detections are given a width of {subset.aspect_ratio:g} of their height.")
    sentences.append(
        "The miss rate is the log-average over 0.01 to 1 false positives per image, lower is better. COCO's average "
        "precision (AP) and average recall (AR) are means over the overlaps 0.5 to 0.95, higher is better; people of "
        "any height, occlusion and place count."
    )
    return " ".join(sentences)


def _mistake_sections(evaluation: Evaluation, bench: Bench, subsets: Sequence[Subset]) -> list[Section]:
    # One group per condition, or a single one if every subset covers all conditions.
    subsets = [subset for subset in subsets if subset.condition != "all"] or subsets[:1]
    names = {"visible": "visible", "lwir": "thermal"}
    images = " and the ".join(names[modality] for modality in bench.detector.modalities)
    shown = f"Each crop shows the {images} image."
    missed = f"The tallest people that no detection with a score of at least {MIN_SCORE:g} matches. {shown}"
    wrong = f"The detections with the highest scores that match no person and no ignore region. {shown}"
    misses, alarms = {}, {}
    for subset in subsets:
        heading = f"By {subset.condition}" if subset.condition != "all" else "All"
        worst = worst_mistakes(bench.truths.images, evaluation.detections, subset, CROPS)
        misses[heading] = [
            _crop(evaluation, bench, subset, miss.image_index, miss.box, "missed person", f"{miss.box[3]:.0f} px tall")
            for miss in worst.misses
        ]
        alarms[heading] = [
            _crop(evaluation, bench, subset, alarm.image_index, alarm.box, "false alarm", f"score {alarm.score:.3f}")
            for alarm in worst.false_alarms
        ]
    return [
        Section("Worst misses", [missed], colors={"missed person": crops.SUBJECT_COLOR, **COLORS}, crops=misses),
        Section("Worst false alarms", [wrong], colors={"false alarm": crops.SUBJECT_COLOR, **COLORS}, crops=alarms),
    ]


def _crop(
    evaluation: Evaluation, bench: Bench, subset: Subset, index: int, box: np.ndarray, subject: str, measure: str
) -> Picture:
    pair = decode_image(bench, index, bench.detector.modalities)
    truth = bench.truths.images[index]
    roles = assign_roles(subset, *truth[2:])
    detections = evaluation.detections[truth.image_id]
    others = (
        (truth.boxes[roles.is_ignore], crops.IGNORE_COLOR),
        (truth.boxes[roles.is_person], crops.PERSON_COLOR),
        (detections.boxes[detections.scores >= MIN_SCORE], crops.DETECTION_COLOR),
    )
    image = crops.draw_crop([pair[modality] for modality in bench.detector.modalities], box, others)
    alt = f"{subject} in {truth.image_id}, {measure}"
    return Picture("crop", _jpeg_uri(image), alt, f"{truth.image_id}: {measure}")


def _embed(file: Path) -> Picture:
    _, kind, alt, caption = PICTURES[file.name]
    if file.name in PHOTOS:
        image = cv2.imread(str(file))
        assert image is not None
        uri = _jpeg_uri(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
    else:
        uri = f"data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}"
    return Picture(kind, uri, alt, caption)


def _jpeg_uri(image: np.ndarray) -> str:
    """Return an image, uint8 [H, W, 3] RGB, as a data URI."""
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return f"data:image/jpeg;base64,{base64.b64encode(encoded.tobytes()).decode()}"
