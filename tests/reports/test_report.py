"""The folders of an evaluation and of a comparison, for a small split with known mistakes."""

import base64
import json
import re
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from report_cases import DETECTIONS, EVIL, GREYS, HEIGHT, RECORDS, WIDTH, evaluate
from scoring_cases import make_detections

from dcrl_jax.models.cfl_features import LevelFeatures
from dcrl_jax.reports import comparison, page, report
from dcrl_jax.reports.summary import summary
from dcrl_jax.structures import MODALITIES

WARNING = "<script>alert(1)</script> images are left out"


class Page:
    """The elements of a page, its text by section, and its tables."""

    def __init__(self, text):
        # Elements without an end are closed, which makes the page XML.
        root = ElementTree.fromstring(re.sub(r"<((?:meta|img)\b[^>]*)>", r"<\1/>", text))
        self.elements, self.sections, section = list(root.iter()), {"": ""}, ""
        for element in root.find("body"):
            if element.tag == "h2":
                section = element.text
                self.sections[section] = ""
            else:
                self.sections[section] += "".join(element.itertext()) + element.tail
        self.rows = [["".join(cell.itertext()) for cell in row] for row in root.iter("tr")]

    def all(self, tag):
        return [element.attrib for element in self.elements if element.tag == tag]

    def images(self):
        """Return the pictures of the page by their alternative text, with their media type."""
        pictures = {}
        for attributes in self.all("img"):
            media_type, _, data = attributes["src"].partition(";base64,")
            image = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
            pictures[attributes["alt"]] = media_type, image
        return pictures


class Report(NamedTuple):
    folder: Path
    page: Page
    scores: dict[str, Any]  # of scores.json
    figures: dict[str, Any]  # what was to be drawn, by file name


@pytest.fixture(scope="module")
def write(tmp_path_factory):
    """Writes a report with plain pictures in place of figures."""

    def write(evaluation, bench, *arguments):
        figures = {}

        def draw(content, path, *_):
            figures[path.name] = content
            cv2.imwrite(str(path), np.full((8, 8, 3), 99, np.uint8))

        folder = tmp_path_factory.mktemp("report") / "evaluation"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(report.curves, "miss_rate_figure", draw)
            patch.setattr(report.panels, "detection_panel", draw)
            patch.setattr(report.weights, "modality_weights_figure", draw)
            patch.setattr(report.cfl_maps, "cfl_figure", draw)
            patch.setattr(report.losses, "loss_figure", draw)
            report.write_report(evaluation, bench, folder, "a <teacher> é, step 7", "0123", *arguments)
        text = (folder / "report.html").read_text(encoding="ascii")
        return Report(folder, Page(text), json.loads((folder / "scores.json").read_text()), figures)

    return write


def fake_magnitudes(visible, lwir):
    assert (visible.shape, visible.dtype) == ((1, 32, 48, 3), np.uint8)
    assert (lwir.shape, lwir.dtype) == ((1, 32, 48, 1), np.uint8)
    levels = [(visible[..., 0] * scale, lwir[..., 0] * scale) for scale in (0.5, 0.25)]
    return [LevelFeatures(level, level[::-1]) for level in levels]


@pytest.fixture(scope="module")
def teacher(config, write, tmp_path_factory):
    """The report of a teacher with all pictures."""
    metrics = tmp_path_factory.mktemp("run") / "metrics.jsonl"
    metrics.write_text('{"step": 20, "train/loss": 0.5}\n')
    return write(*evaluate(config, warnings=(WARNING,)), fake_magnitudes, metrics)


def in_order(text, *parts):
    indices = [text.index(part) for part in parts]
    return indices == sorted(indices)


def test_page_has_all_sections_and_pictures_and_needs_no_other_file(teacher):
    folder, found, _, figures = teacher
    assert list(found.sections) == [
        *("", "Scores", "Curves", "Worst misses", "Worst false alarms", "Images", "Modality weights"),
        *("Shared and specific features", "Training"),
    ]
    # The links lead to the sections.
    anchors = [link["href"] for link in found.all("a")]
    assert anchors == ["#" + heading["id"] for heading in found.all("h2")]
    # Five pictures and a crop of each mistake: five misses, two false alarms by day and one by night.
    types = [media_type for media_type, _ in found.images().values()]
    assert types.count("data:image/png") == 3  # curves, weights and losses
    assert types.count("data:image/jpeg") == 2 + 5 + 3
    assert set(figures) == set(page.PICTURES)
    others = {"results.txt", "results.json", "images.txt", "scores.json", "report.html"}
    assert {path.name for path in folder.iterdir()} == others | set(figures)
    assert not {"script", "link", "iframe", "object"} & {element.tag for element in found.elements}
    policy = next(meta["content"] for meta in found.all("meta") if "http-equiv" in meta)
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "://" not in (folder / "report.html").read_text()


def test_names_and_image_ids_are_escaped(teacher):
    found = teacher.page
    first = [line for line in found.sections[""].split("\n") if line][:3]
    assert first == ["a <teacher> é, step 7", "scored on synthetic_rgbt, test", f"warning: {WARNING}"]
    assert f"{EVIL}: 60 px tall" in found.sections["Worst misses"]
    assert f"missed person in {EVIL}, 60 px tall" in found.images()
    assert not {"b", "script", "teacher"} & {element.tag for element in found.elements}


def test_page_files_and_summary_have_the_scores_of_the_evaluation(config, teacher):
    evaluation, _ = evaluate(config, warnings=(WARNING,))
    folder, found, scores, _ = teacher
    # One of six people, and one of the five by day, is found before the first false alarm.
    rates = ["83.33", "80.00", "100.00"]
    assert found.rows == [
        ["", "all", "day", "night"],
        ["miss rate, %", *rates],
        ["thermal only", *rates],
        ["visible only", *rates],
        ["average precision, %", "16.67", "20.00", "0.00"],
        ["people", "6", "5", "1"],
        ["images", "4", "3", "1"],
        ["", "near", "medium", "far"],
        # People of 60 and 50 pixels, then of 40, who is found, and 30; two others are cut by KAIST's border.
        ["miss rate, %", "-", "100.00", "50.00"],
        ["people", "0", "2", "2"],
        ["", "all", "day", "night"],
        ["mean weight of visible", "0.531", "0.625", "-"],
        ["mean weight of lwir", "0.469", "0.375", "-"],
    ]
    # A part of the row above.
    assert [cell.get("class") for cell in found.all("th") if cell["scope"] == "row"][:3] == [None, "part", "part"]
    assert "at least 20 pixels tall" in found.sections["Scores"]
    note = "thermal only and visible only: one camera is missing, and its image blank; this teacher was not trained"
    assert note in found.sections["Scores"]
    *lines, told, warning = [line for line in summary(evaluation).split("\n") if line]
    assert [line.split() for line in lines if "--" not in line] == [" ".join(row).split() for row in found.rows]
    assert told.startswith(note)
    assert warning == f"warning: {WARNING}"
    assert "was trained for that (data.blank_probability=0.2)" in summary(evaluation._replace(blank_probability=0.2))

    by_subset = scores["scores"].values()
    assert [f"{score['miss_rate_percent']:.2f}" for score in by_subset] == rates
    assert [score["average_precision_percent"] for score in by_subset] == pytest.approx([100 / 6, 20, 0])
    assert scores["blanked"]["lwir"]["reasonable-night"] == 100
    assert list(scores["further"]) == ["scale-near", "scale-medium", "scale-far"]
    assert scores["further"]["scale-near"] is None
    assert (scores["parameters"], scores["warnings"]) == ("0123", [WARNING])
    assert scores["data"] == {"name": config.data.name, "split": "test", "options": config.data.options.to_dict()}
    assert scores["people_who_count"].startswith("at least ")
    assert (folder / "images.txt").read_text().split("\n") == [*DETECTIONS, ""]
    assert len((folder / "results.txt").read_text().splitlines()) == 4


def test_rules_and_results_of_caltech(config, write):
    config = config.copy_and_resolve_references()
    config.eval.rules = "caltech"
    ids = [f"set06/V000/I{number:05}" for number in (29, 59, 89, 119)]
    records = [record | {"image_id": image_id} for record, image_id in zip(RECORDS, ids, strict=True)]
    detections = dict(zip(ids, DETECTIONS.values(), strict=True))
    folder, found, *_ = write(*evaluate(config, MODALITIES[:1], detections=detections, records=records))
    text = found.sections["Scores"]
    assert "Detections less than 40 pixels tall are left out." in text
    assert "People and detections are given a width of 0.41 of their height." in text
    assert in_order(found.sections["Worst misses"], "All", "60 px tall", "50 px tall")
    assert (folder / "results" / "set06" / "V000.txt").is_file()


def test_worst_mistakes_by_day_and_by_night(teacher):
    found = teacher.page
    misses, alarms = (found.sections[name] for name in ("Worst misses", "Worst false alarms"))
    by_day = ("missed: 50 px tall", "found: 30 px tall", "missed: 26 px tall", "missed: 24 px tall")
    order = ("no detection with a score of at least 0.5", "By day", *by_day, "By night", f"{EVIL}: 60 px tall")
    assert in_order(misses, *order)
    assert misses.count("px tall") == 5
    by_day = ("day/empty: score 0.750", "day/empty: score 0.250")
    assert in_order(alarms, "By day", *by_day, "By night", f"{EVIL}: score 0.812")
    assert alarms.count(": score ") == 3
    legend = [span["style"] for span in found.all("span") if "style" in span]
    assert legend[0] == legend[4] == "border-color:rgb(255,225,26)"
    assert len(legend) == 8


def test_number_of_crops_is_limited(config, write, monkeypatch):
    monkeypatch.setattr(page, "CROPS", 1)
    sections = write(*evaluate(config, detections={**DETECTIONS, EVIL: make_detections()})).page.sections
    assert sections["Worst misses"].count("px tall") == 2
    assert sections["Worst false alarms"].count(": score ") == 1
    assert " ".join(sections["Worst false alarms"].split()).endswith("By night None.")


def test_crops_show_both_images_of_a_teacher_with_the_box(teacher):
    media_type, crop = teacher.page.images()["missed person in day/missed, 50 px tall"]
    assert (media_type, crop.shape) == ("data:image/jpeg", (184, 371, 3))
    # Far from all boxes each image has its own grey.
    assert np.abs(crop[170, [10, 360]].astype(int) - [[30], [130]]).max() <= 4
    # The window is the image's first 100 columns at 1.84 times their size: the box is at 40..56 across, 20..70 down.
    yellow = (crop[..., 0] < 120) & (crop[..., 1] > 150) & (crop[..., 2] > 170)
    for start in (0, 187):
        rows, columns = np.nonzero(yellow[:, start : start + 184])
        np.testing.assert_allclose([rows.min(), rows.max()], [36.8, 128.8], atol=3)
        np.testing.assert_allclose([columns.min(), columns.max()], [73.6, 103.0], atol=3)


def test_report_of_an_rgb_detector_shows_nothing_thermal(config, write):
    case = evaluate(config, MODALITIES[:1])
    folder, found, scores, figures = write(*case)
    assert list(found.sections) == ["", "Scores", "Curves", "Worst misses", "Worst false alarms", "Images"]
    texts = [*found.sections.values(), summary(case[0])]
    assert not any(word in text for text in texts for word in ("thermal", "lwir", "weight", "blanked"))
    crops = [image.shape for alt, (_, image) in found.images().items() if " in " in alt and "," in alt]
    assert crops == [(184, 184, 3)] * 8
    assert set(figures) == {"miss_rate.png", "panel.png"}
    assert not (folder / "results").exists()
    assert scores["blanked"] == scores["modality_weights"] == scores["further"] == {}


def test_pictures_show_this_split_and_this_run(teacher):
    figures = teacher.figures
    assert figures["modality_weights.png"] == {"day": [0.25, 0.5, 0.375], "night": [0.75]}
    losses = figures["loss_curves.png"]
    assert {name: values.tolist() for name, (_, values) in losses.items()} == {"train/loss": [0.5]}
    # The day and the night image with the most people.
    scenes = figures["cfl_maps.png"]
    assert [scene.caption for scene in scenes] == ["day: day/missed", f"night: {EVIL}"]
    assert [len(scene.person_boxes) for scene in scenes] == [3, 1]
    for scene, grey in zip(scenes, (30, 40), strict=True):
        assert scene.images[0].shape == (HEIGHT, WIDTH, 3)
        for maps, values in zip(scene.levels[1], ((grey, grey + 100), (grey + 100, grey)), strict=True):
            np.testing.assert_array_equal(maps, [np.full((32, 48), value / 4) for value in values])


def test_optional_pictures_are_left_out_and_missing_rates_are_null(config, write):
    case = evaluate(config, records=[record | {"condition": 2} for record in RECORDS])
    folder, found, scores, figures = write(*case, fake_magnitudes, Path("nothing"))
    assert not {"Training", "Shared and specific features", "Modality weights"} & set(found.sections)
    assert set(figures) == {"miss_rate.png", "panel.png"}
    # No image is taken by day or by night.
    assert "NaN" not in (folder / "scores.json").read_text()
    rates = ("miss_rate_percent", "recall_percent", "average_precision_percent")
    assert [scores["scores"]["reasonable-night"][rate] for rate in rates] == [None] * 3
    assert None not in scores["scores"]["reasonable-all"].values()


def test_scores_are_written_after_the_page(config, write, monkeypatch):
    folders = []

    def killed(evaluation, bench, path, *_):
        folders.append(path.parent)
        raise KeyboardInterrupt

    monkeypatch.setattr(report, "write_page", killed)
    with pytest.raises(KeyboardInterrupt):
        write(*evaluate(config))
    names = {path.name for path in folders[0].iterdir()}
    assert "panel.png" in names
    assert not names & {"scores.json", "report.html"}


def test_each_view_of_a_panel_has_its_own_image_and_detections(config, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(report.panels, "detection_panel", lambda *arguments: calls.append(arguments))
    missed = dict.fromkeys(DETECTIONS, make_detections())
    views = [("lwir", DETECTIONS), ("visible", DETECTIONS), ("visible", missed)]
    report.draw_panel(evaluate(config)[1], views, tmp_path / "p", "title")
    ((rows, *texts),) = calls
    assert texts == [tmp_path / "p", "title", "thermal (lwir), then visible, then visible"]
    # The errors are those of the first view.
    captions = {name: [item.caption for item in items] for name, items in rows.items()}
    best = ["day/found, day: 2 people, 1 missed, 0 false alarms", "day/empty, day: 0 people, 0 missed, 1 false alarms"]
    worst = [
        "day/missed, day: 3 people, 3 missed, 0 false alarms",
        f"{EVIL}, night: 1 people, 1 missed, 1 false alarms",
    ]
    assert captions == {"best": best, "worst": worst, "random": []}
    for item in rows["best"] + rows["worst"]:
        image_id = item.caption.split(",")[0]
        thermal, *visible = [np.unique(image).tolist() for image in item.images]
        assert (thermal, visible) == ([GREYS[image_id] + 100], [[GREYS[image_id]]] * 2)
        assert item.detections == tuple(detections[image_id] for _, detections in views)
    report.draw_panel(evaluate(config)[1], views, tmp_path / "p", "title", "the student")
    assert calls[1][-1] == "the student"


def test_comparison_has_table_scores_curves_and_picture(config, tmp_path, monkeypatch, capsys):
    teacher, bench = evaluate(config)
    student, _ = evaluate(config, MODALITIES[:1], detections=dict.fromkeys(DETECTIONS, make_detections()))
    evaluations = {"teacher": teacher, "student": student}
    draw_curves, draw_panel, calls = comparison.curves.miss_rate_figure, comparison.draw_panel, []
    monkeypatch.setattr(comparison.curves, "miss_rate_figure", lambda *a: calls.append(a[0]) or draw_curves(*a))
    monkeypatch.setattr(comparison, "draw_panel", lambda *a: calls.append(a[1]) or draw_panel(*a))
    folder = tmp_path / "runs" / "comparison"
    folder.mkdir(parents=True)
    (folder / "table.txt").write_text("of another run")
    comparison.write_comparison(evaluations, bench._replace(warnings=("some images are left out",)), folder)
    assert {path.name for path in folder.iterdir()} == {"table.txt", "scores.json", "miss_rate.png", "panel.png"}
    for name in ("miss_rate.png", "panel.png"):
        picture = cv2.imread(str(folder / name))
        assert min(picture.shape[:2]) > 300
        assert picture.std() > 10
    table = (
        "miss rate, %     all     day   night\n"
        "------------  ------  ------  ------\n"
        "teacher        83.33   80.00  100.00\n"
        "student       100.00  100.00  100.00\n"
        "warning: some images are left out\n"
    )
    assert (folder / "table.txt").read_text() == table
    printed = f"\nsynthetic_rgbt, test\n\n{table}\ntable, curves and picture of both: {folder}\n"
    assert capsys.readouterr().out == printed
    assert json.loads((folder / "scores.json").read_text()) == {
        name: {subset: 100 * score.miss_rate for subset, score in evaluation.scores.items()}
        for name, evaluation in evaluations.items()
    }
    # The image of the student with its own detections, then both images of the teacher with the teacher's.
    assert calls == [
        {name: evaluation.scores["reasonable-all"] for name, evaluation in evaluations.items()},
        [("visible", student.detections), ("visible", teacher.detections), ("lwir", teacher.detections)],
    ]
