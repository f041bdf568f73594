"""The folder of one evaluation: scores, results files, pictures, and the page with all of them."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np

from dcrl_jax.data import transforms
from dcrl_jax.evaluation import results
from dcrl_jax.evaluation.caltech_results import write_caltech
from dcrl_jax.evaluation.coco_ap import CocoScore
from dcrl_jax.evaluation.evaluate import Bench, Evaluation, decode_image, subsets_of
from dcrl_jax.evaluation.miss_rate import Score, percent_or_none
from dcrl_jax.evaluation.mistakes import ImageMistakes
from dcrl_jax.evaluation.overlaps import ImageDetections
from dcrl_jax.evaluation.rules import Subset, assign_roles, describe_subset
from dcrl_jax.files import write_atomically
from dcrl_jax.reports import cfl_maps, curves, losses, panels, weights
from dcrl_jax.reports.page import write_page

# The conditions that figures distinguish.
DAY_AND_NIGHT = ("day", "night")


def write_report(
    evaluation: Evaluation,
    bench: Bench,
    folder: Path,
    name: str,
    parameters: str | None = None,
    cfl_magnitudes: Callable | None = None,
    metrics: Path | None = None,
) -> None:
    """Write scores.json, the results files, the pictures and report.html with all of them into a folder.

    Args:
        evaluation: the result of ``evaluate.evaluate``.
        bench: the bench of this evaluation.
        folder: created if needed.
        name: the name of the detector, for titles.
        parameters: the ``param_trees.fingerprint`` of the parameters; publishing checks that the scores belong to them.
        cfl_magnitudes: for a teacher with CFL, ``cfl_features.cfl_magnitudes`` as a function of (visible, lwir), each
            uint8 [B, H, W, C] at the network's input size.
        metrics: metrics.jsonl of the training run, if there is one.
    """
    truths = bench.truths
    folder.mkdir(parents=True, exist_ok=True)
    image_ids = [truth.image_id for truth in truths.images]
    _write_results(evaluation.detections, image_ids, bench.config.eval.rules, folder)
    (folder / "images.txt").write_text("\n".join(image_ids) + "\n", encoding="utf-8")
    data = bench.config.data
    scores = {
        "parameters": parameters,
        "data": {"name": data.name, "split": data.test_split, "options": data.options.to_dict()},
        "people_who_count": describe_subset(subsets_of(bench.config)[0]),
        "scores": {key: _score_entry(score) for key, score in evaluation.scores.items()},
        "coco": {condition: _coco_entry(score) for condition, score in evaluation.coco.items()},
        "further": {key: percent_or_none(score.miss_rate) for key, score in evaluation.further_scores.items()},
        "blanked": {
            modality: {key: percent_or_none(score.miss_rate) for key, score in by_subset.items()}
            for modality, by_subset in evaluation.blanked_scores.items()
        },
        "modality_weights": evaluation.modality_weights,
        "warnings": evaluation.warnings,
    }
    curves.miss_rate_figure(
        {f"{name}, {score.subset.short_name}": score for score in evaluation.scores.values()},
        folder / "miss_rate.png",
        name,
    )
    draw_panel(
        bench, [(modality, evaluation.detections) for modality in bench.detector.modalities], folder / "panel.png", name
    )
    pictures = [folder / "miss_rate.png", folder / "panel.png"]
    pictures += _draw_weights(evaluation, bench, folder / "modality_weights.png", name)
    pictures += _draw_cfl(bench, cfl_magnitudes, folder / "cfl_maps.png", name) if cfl_magnitudes else []
    pictures += _draw_losses(metrics, folder / "loss_curves.png", name) if metrics else []
    write_page(evaluation, bench, folder / "report.html", name, pictures)
    # Written last: a folder with scores.json is complete.
    write_atomically(folder / "scores.json", json.dumps(scores, indent=1) + "\n")


def draw_panel(
    bench: Bench, views: Sequence[tuple[str, Mapping[str, ImageDetections]]], path: Path, title: str, columns: str = ""
) -> None:
    """Draw the best, the worst and random images, judged by the mistakes of the first view.

    Args:
        bench: the bench with the images.
        views: modality and detections, from left to right.
        path: the figure file.
        title: the figure's title.
        columns: a line that describes the views; by default the modalities in their order.
    """
    truths = bench.truths.images
    subset = subsets_of(bench.config)[0]
    chosen = panels.pick_images(truths, views[0][1], subset, np.random.default_rng(bench.config.seed))
    index_of = {truth.image_id: index for index, truth in enumerate(truths)}
    items = {
        row: [_panel_item(image, index_of[image.image_id], bench, views, subset) for image in images]
        for row, images in chosen.items()
    }
    names = {"visible": "visible", "lwir": "thermal (lwir)"}
    columns = columns or ", then ".join(names[modality] for modality, _ in views)
    panels.detection_panel(items, path, title, columns)


def _write_results(
    detections: Mapping[str, ImageDetections], image_ids: Sequence[str], rules: str, folder: Path
) -> None:
    results.write_kaist_text(folder / "results.txt", detections, image_ids)
    # NightOwls' results name an image by the data set's own number, which is the image id.
    numbers = [int(image_id) for image_id in image_ids] if rules == "nightowls" else None
    results.write_coco_json(folder / "results.json", detections, image_ids, numbers)
    if rules == "caltech":
        write_caltech(folder / "results", detections, image_ids)


def _score_entry(score: Score) -> Mapping[str, float | None]:
    return {
        "miss_rate_percent": percent_or_none(score.miss_rate),
        "recall_percent": percent_or_none(score.recall),
        "people": score.people,
        "images": score.images,
    }


def _coco_entry(score: CocoScore) -> Mapping[str, float | None]:
    return {
        "ap_percent": percent_or_none(score.ap),
        "ap50_percent": percent_or_none(score.ap50),
        "ap75_percent": percent_or_none(score.ap75),
        "ar_percent": percent_or_none(score.ar),
        "people": score.objects,
        "images": score.images,
    }


def _panel_item(
    mistakes: ImageMistakes,
    index: int,
    bench: Bench,
    views: Sequence[tuple[str, Mapping[str, ImageDetections]]],
    subset: Subset,
) -> panels.PanelItem:
    pair = decode_image(bench, index, [modality for modality, _ in views])
    truth = bench.truths.images[index]
    roles = assign_roles(subset, *truth[2:])
    shown = roles.is_person | roles.is_ignore
    return panels.PanelItem(
        images=tuple(pair[modality] for modality, _ in views),
        detections=tuple(detections[truth.image_id] for _, detections in views),
        truth_boxes=truth.boxes[shown],
        truth_is_ignored=roles.is_ignore[shown],
        caption=f"{truth.image_id}, {truth.condition}: {mistakes.people} people, {mistakes.misses} missed, "
        f"{mistakes.false_alarms} false alarms",
    )


def _draw_weights(evaluation: Evaluation, bench: Bench, path: Path, name: str) -> list[Path]:
    thermal = {condition: [] for condition in DAY_AND_NIGHT}
    for truth in bench.truths.images:
        if truth.condition in thermal and evaluation.image_weights:
            thermal[truth.condition].append(float(evaluation.image_weights[truth.image_id][1]))
    thermal = {condition: values for condition, values in thermal.items() if values}
    if not thermal:
        return []
    weights.modality_weights_figure(thermal, path, name)
    return [path]


def _draw_cfl(bench: Bench, cfl_magnitudes: Callable, path: Path, name: str) -> list[Path]:
    """Draw the maps of the day image and of the night image with the most people to find."""
    subset, data = subsets_of(bench.config)[0], bench.config.data
    people = [truth.boxes[assign_roles(subset, *truth[2:]).is_person] for truth in bench.truths.images]
    scenes = []
    for condition in DAY_AND_NIGHT:
        indices = [index for index, truth in enumerate(bench.truths.images) if truth.condition == condition]
        if not indices:
            continue
        index = max(indices, key=lambda index: len(people[index]))
        pair = decode_image(bench, index)
        images = (pair["visible"], pair["lwir"])
        inputs = [transforms.resize(image, data.height_px, data.width_px)[None] for image in images]
        levels = jax.tree.map(lambda x: np.asarray(x[0]), cfl_magnitudes(*inputs))
        caption = f"{condition}: {bench.truths.images[index].image_id}"
        scenes.append(cfl_maps.CflScene(images, people[index], levels, caption))
    if not scenes:
        return []
    cfl_maps.cfl_figure(scenes, path, f"Shared and modality-specific features: {name}")
    return [path]


def _draw_losses(metrics: Path, path: Path, name: str) -> list[Path]:
    run_curves = losses.read_curves(metrics)
    if not run_curves:
        return []
    losses.loss_figure(run_curves, path, f"Training: {name}")
    return [path]
