"""The folder of an evaluation and its page, for a small split with known mistakes."""

import base64
import json
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest
from report_cases import DETECTIONS, EVIL, HEIGHT, WIDTH, evaluate
from scoring_cases import make_detections

from dcrl_jax.models.cfl_features import LevelFeatures
from dcrl_jax.reports import page, report
from dcrl_jax.structures import MODALITIES


class Page(HTMLParser):
    """The elements of a page with their attributes, its text by section, and its tables."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.sections, self.rows = [], {"": ""}, []
        self._open, self._section = [], ""
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] == "h2":
            self._section = data
            self.sections[data] = ""
        elif self._open and self._open[-1] not in ("style", "title"):
            self.sections[self._section] += data
        if self._open and self._open[-1] in ("th", "td"):
            self.rows[-1][-1] += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def images(self):
        """Return the pictures of the page by their alternative text, with their media type."""
        pictures = {}
        for attributes in self.all("img"):
            media_type, _, data = attributes["src"].partition(";base64,")
            image = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
            pictures[attributes["alt"]] = media_type, image
        return pictures


def fake_magnitudes(visible, lwir):
    levels = [np.stack([visible[..., 0], lwir[..., 0]]) * scale for scale in (0.5, 0.25)]
    return [LevelFeatures((level[0], level[1]), (level[1], level[0])) for level in levels]


@pytest.fixture
def metrics(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 20, "train/loss": 0.5}\n')
    return path


def written(case, folder, *arguments):
    report.write_report(*case, folder, "a <teacher> é, step 7", "0123", *arguments)
    return Page((folder / "report.html").read_text(encoding="ascii"))


def in_order(text, *parts):
    indices = [text.index(part) for part in parts]
    return indices == sorted(indices)


def test_page_of_a_teacher_has_all_sections_with_pictures_inside(config, tmp_path, quick_pictures, metrics):
    folder = tmp_path / "evaluation"
    found = written(evaluate(config), folder, fake_magnitudes, metrics)
    assert list(found.sections) == [
        *("", "Scores", "Curves", "Worst misses", "Worst false alarms", "Images", "Modality weights"),
        *("Shared and specific features", "Training"),
    ]
    # The links lead to the sections.
    anchors = [link["href"] for link in found.all("a")]
    assert anchors == ["#" + heading["id"] for heading in found.all("h2")]
    assert len(set(anchors)) == 8
    # Five pictures and a crop of each mistake: five misses, two false alarms by day and one by night.
    assert len(found.images()) == 5 + 5 + 3
    types = [media_type for media_type, _ in found.images().values()]
    assert types.count("data:image/png") == 3  # curves, weights and losses
    assert types.count("data:image/jpeg") == 10
    assert set(quick_pictures) == set(page.PICTURES)
    assert {path.name for path in folder.iterdir()} == {
        *("results.txt", "results.json", "images.txt", "scores.json", "report.html"),
        *quick_pictures,
    }


def test_page_needs_nothing_else(config, tmp_path, quick_pictures):
    found = written(evaluate(config), tmp_path)
    assert not {"script", "link", "iframe", "object"} & {name for name, _ in found.elements}
    policy = next(meta["content"] for meta in found.all("meta") if "http-equiv" in meta)
    assert policy.startswith("default-src 'none'; img-src data:;")
    text = (tmp_path / "report.html").read_text()
    assert "http://" not in text
    assert "https://" not in text


def test_names_and_image_ids_are_escaped(config, tmp_path, quick_pictures):
    warning = "<script>alert(1)</script> images are left out"
    found = written(evaluate(config, warnings=(warning,)), tmp_path)
    assert [line for line in found.sections[""].split("\n") if line][:3] == [
        "a <teacher> é, step 7",
        "scored on synthetic_rgbt, test",
        f"warning: {warning}",
    ]
    assert f"{EVIL}: 60 px tall" in found.sections["Worst misses"]
    assert f"missed person in {EVIL}, 60 px tall" in found.images()
    assert not {"b", "script", "teacher"} & {name for name, _ in found.elements}


def test_scores_of_the_page_are_those_of_the_evaluation(config, tmp_path, quick_pictures):
    evaluation, bench = evaluate(config)
    found = written((evaluation, bench), tmp_path)
    rates = [f"{100 * score.miss_rate:.2f}" for score in evaluation.scores.values()]
    assert rates[2] == "100.00"
    assert len(set(rates)) == 3
    assert found.rows[:7] == [
        ["", "all", "day", "night"],
        ["miss rate, %", *rates],
        ["visible blanked", *rates],
        ["lwir blanked", *rates],
        ["average precision, %", "16.67", "20.00", "0.00"],
        ["people", "6", "5", "1"],
        ["images", "4", "3", "1"],
    ]
    # A part of the row above.
    assert [cell.get("class") for cell in found.all("th") if cell["scope"] == "row"][:3] == [None, "part", "part"]
    assert found.rows[7] == ["", "near", "medium", "far"]
    # People of 60 and 50 pixels; two of the shorter ones are cut by KAIST's border.
    assert found.rows[9] == ["people", "0", "2", "2"]
    assert found.rows[10:] == [
        ["", "all", "day", "night"],
        ["mean weight of visible", "0.531", "0.625", "-"],
        ["mean weight of lwir", "0.469", "0.375", "-"],
    ]
    scores = json.loads((tmp_path / "scores.json").read_text())["scores"]
    assert [f"{score['miss_rate_percent']:.2f}" for score in scores.values()] == rates
    assert "at least 20 pixels tall" in found.sections["Scores"]


def test_rules_and_results_of_caltech(config, tmp_path, quick_pictures):
    config.eval.rules = "caltech"
    evaluation, bench = evaluate(config, MODALITIES[:1])
    ids = [f"set06/V000/I{number:05}" for number in (29, 59, 89, 119)]
    truths = [truth._replace(image_id=image_id) for truth, image_id in zip(bench.truths.images, ids, strict=True)]
    bench = bench._replace(truths=bench.truths._replace(images=truths))
    evaluation = evaluation._replace(detections=dict(zip(ids, DETECTIONS.values(), strict=True)))
    found = written((evaluation, bench), tmp_path)
    text = found.sections["Scores"]
    assert "Detections less than 40 pixels tall are left out." in text
    assert "People and detections are given a width of 0.41 of their height." in text
    assert in_order(found.sections["Worst misses"], "All", "60 px tall", "50 px tall")
    assert (tmp_path / "results" / "set06" / "V000.txt").is_file()


def test_worst_mistakes_by_day_and_by_night(config, tmp_path, quick_pictures):
    found = written(evaluate(config), tmp_path)
    misses, alarms = (found.sections[name] for name in ("Worst misses", "Worst false alarms"))
    assert in_order(
        misses,
        "no detection with a score of at least 0.5",
        "By day",
        "day/missed: 50 px tall",
        "day/found: 30 px tall",
        "day/missed: 26 px tall",
        "day/missed: 24 px tall",
        "By night",
        f"{EVIL}: 60 px tall",
    )
    assert misses.count("px tall") == 5
    assert in_order(
        alarms, "By day", "day/empty: score 0.750", "day/empty: score 0.250", "By night", f"{EVIL}: score 0.812"
    )
    assert alarms.count(": score ") == 3
    legend = [span["style"] for span in found.all("span") if "style" in span]
    assert legend[0] == legend[4] == "border-color:rgb(255,225,26)"
    assert len(legend) == 8


def test_number_of_crops_is_limited(config, tmp_path, quick_pictures, monkeypatch):
    monkeypatch.setattr(page, "CROPS", 1)
    found = written(evaluate(config, detections={**DETECTIONS, EVIL: make_detections()}), tmp_path)
    assert found.sections["Worst misses"].count("px tall") == 2
    assert found.sections["Worst false alarms"].count(": score ") == 1
    assert "\n".join(found.sections["Worst false alarms"].split()).endswith("By\nnight\nNone.")


def test_crops_show_both_images_of_a_teacher_with_the_box(config, tmp_path, quick_pictures):
    media_type, crop = written(evaluate(config), tmp_path).images()["missed person in day/missed, 50 px tall"]
    assert (media_type, crop.shape) == ("data:image/jpeg", (184, 371, 3))
    # Far from all boxes each image has its own grey.
    assert np.abs(crop[170, 10].astype(int) - 30).max() <= 4
    assert np.abs(crop[170, 360].astype(int) - 130).max() <= 4
    # The window is the image's first 100 columns at 1.84 times their size: the box is at 40..56 across, 20..70 down.
    yellow = (crop[..., 0] < 120) & (crop[..., 1] > 150) & (crop[..., 2] > 170)
    for start in (0, 187):
        rows, columns = np.nonzero(yellow[:, start : start + 184])
        np.testing.assert_allclose([rows.min(), rows.max()], [36.8, 128.8], atol=3)
        np.testing.assert_allclose([columns.min(), columns.max()], [73.6, 103.0], atol=3)


def test_page_of_an_rgb_detector_shows_nothing_thermal(config, tmp_path, quick_pictures):
    found = written(evaluate(config, MODALITIES[:1]), tmp_path)
    assert list(found.sections) == ["", "Scores", "Curves", "Worst misses", "Worst false alarms", "Images"]
    assert not any(word in text for text in found.sections.values() for word in ("thermal", "lwir", "weight"))
    crops = [image.shape for alt, (_, image) in found.images().items() if " in " in alt and "," in alt]
    assert crops == [(184, 184, 3)] * 8
    assert set(quick_pictures) == {"miss_rate.png", "panel.png"}


def test_pictures_show_this_split_and_this_run(config, tmp_path, quick_pictures, metrics):
    inputs = []

    def magnitudes(visible, lwir):
        inputs.append((visible, lwir))
        return fake_magnitudes(visible, lwir)

    evaluation, bench = evaluate(config)
    report.write_report(evaluation, bench, tmp_path / "evaluation", "a teacher", "0123", magnitudes, metrics)
    scores = json.loads((tmp_path / "evaluation" / "scores.json").read_text())
    assert scores["parameters"] == "0123"
    assert scores["data"] == {"name": config.data.name, "split": "test", "options": config.data.options.to_dict()}
    assert scores["people_who_count"].startswith("at least ")
    assert quick_pictures["modality_weights.png"] == {"day": [0.25, 0.5, 0.375], "night": [0.75]}
    losses = quick_pictures["loss_curves.png"]
    assert {name: values.tolist() for name, (_, values) in losses.items()} == {"train/loss": [0.5]}
    # The day and the night image with the most people, at the network's size.
    scenes = quick_pictures["cfl_maps.png"]
    assert [scene.caption for scene in scenes] == ["day: day/missed", f"night: {EVIL}"]
    assert [len(scene.person_boxes) for scene in scenes] == [3, 1]
    for scene, (visible, lwir), grey in zip(scenes, inputs, (30, 40), strict=True):
        assert (visible.shape, lwir.shape) == ((1, 32, 48, 3), (1, 32, 48, 1))
        assert visible.dtype == lwir.dtype == np.uint8
        assert (visible == grey).all()
        assert (lwir == grey + 100).all()
        assert scene.images[0].shape == (HEIGHT, WIDTH, 3)
        np.testing.assert_array_equal(scene.levels[1].shared[0], np.full((32, 48), grey / 4))
        np.testing.assert_array_equal(scene.levels[1].specific[0], np.full((32, 48), (grey + 100) / 4))


def test_optional_pictures_are_left_out(config, tmp_path, quick_pictures):
    evaluation, bench = evaluate(config)
    dawn = [truth._replace(condition="dawn") for truth in bench.truths.images]
    case = evaluation, bench._replace(truths=bench.truths._replace(images=dawn))
    found = written(case, tmp_path / "evaluation", fake_magnitudes, tmp_path / "nothing")
    assert not {"Training", "Shared and specific features", "Modality weights"} & set(found.sections)
    assert set(quick_pictures) == {"miss_rate.png", "panel.png"}


def test_scores_are_written_after_the_page(config, tmp_path, quick_pictures, monkeypatch):
    def killed(*_):
        assert (tmp_path / "panel.png").is_file()
        raise KeyboardInterrupt

    monkeypatch.setattr(report, "write_page", killed)
    with pytest.raises(KeyboardInterrupt):
        written(evaluate(config), tmp_path)
    assert not (tmp_path / "scores.json").exists()
    assert not (tmp_path / "report.html").exists()
