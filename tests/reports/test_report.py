"""The folder of an evaluation and its page, of a hand-made split with errors that are known."""

import base64
import json
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from dcrl_jax.evaluation.average_precision import average_precision
from dcrl_jax.evaluation.evaluate import Bench, CompiledDetector, Evaluation, subsets_of
from dcrl_jax.evaluation.miss_rate import ImageDetections, score_subsets
from dcrl_jax.evaluation.rules import KAIST_SCALE
from dcrl_jax.evaluation.truths import read_truths
from dcrl_jax.models.cfl_features import LevelFeatures
from dcrl_jax.reports import page, report
from dcrl_jax.structures import MODALITIES

HEIGHT, WIDTH = 100, 120
# Nothing of it may reach the page as it stands.
EVIL = "night/<b>&\"'$\\frac{$.png"


def encode(image):
    return cv2.imencode(".png", image)[1].tobytes()


def make_record(image_id, is_night, people, grey):
    """A record whose visible image is of one grey and whose thermal one is 100 levels brighter."""
    boxes = np.array(people, np.float32).reshape(-1, 4)
    return {
        "image_id": image_id,
        "condition": int(is_night),
        "visible": encode(np.full((HEIGHT, WIDTH, 3), grey, np.uint8)),
        "lwir": encode(np.full((HEIGHT, WIDTH), grey + 100, np.uint8)),
        "objects": {
            "box": boxes,
            "label": ["person"] * len(boxes),
            "occlusion": np.zeros(len(boxes), int),
            "ignore": np.zeros(len(boxes), bool),
        },
    }


RECORDS = [
    # A found person and a missed one; nobody; a missed one, taller.
    make_record("day/found", False, [[10, 30, 16, 40], [60, 30, 16, 30]], 10),
    make_record("day/empty", False, [], 20),
    make_record("day/missed", False, [[40, 20, 16, 50], [2, 2, 16, 26], [100, 2, 16, 24]], 30),
    make_record(EVIL, True, [[40, 20, 16, 60]], 40),
]
DETECTIONS = {
    "day/found": ImageDetections(np.array([[10.0, 30, 16, 40]]), np.array([0.9])),
    "day/empty": ImageDetections(np.array([[50.0, 40, 16, 40], [80, 40, 16, 40]]), np.array([0.25, 0.75])),
    "day/missed": ImageDetections(np.zeros((0, 4)), np.zeros(0)),
    EVIL: ImageDetections(np.array([[90.0, 20, 16, 50]]), np.array([0.8125])),
}
# Of the thermal image.
MU = (0.25, 0.5, 0.375, 0.75)
WEIGHTS = {one["image_id"]: np.array([1 - mu, mu], np.float32) for one, mu in zip(RECORDS, MU, strict=True)}


@pytest.fixture
def make_case(tiny_config):
    """Makes the bench and the evaluation of a teacher, or of a detector of the visible images alone."""

    def make(modalities=MODALITIES, warnings=()):
        config = tiny_config()
        config.eval.min_height_px = 20.0
        bench = Bench(config, None, RECORDS, read_truths(RECORDS), CompiledDetector(None, modalities), warnings)
        subsets, truths = subsets_of(config), bench.truths.images
        scores = score_subsets(truths, DETECTIONS, subsets)
        sees_both = len(modalities) > 1
        evaluation = Evaluation(
            scores=scores,
            average_precision={s.name: average_precision(truths, DETECTIONS, s) for s in subsets},
            blanked_scores=dict.fromkeys(modalities, scores) if sees_both else {},
            detections=DETECTIONS,
            image_weights=WEIGHTS if sees_both else {},
            modality_weights={"all": [0.53125, 0.46875], "day": [0.625, 0.375]} if sees_both else {},
            further_scores=score_subsets(truths, DETECTIONS, KAIST_SCALE) if sees_both else {},
            warnings=warnings,
        )
        return evaluation, bench

    return make


class Page(HTMLParser):
    """What a reader finds: the elements with their attributes, text by the section it is in, and tables."""

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


def fake_magnitudes(visible, lwir):
    levels = [np.stack([visible[..., 0], lwir[..., 0]]) * scale for scale in (0.5, 0.25)]
    return [LevelFeatures((one[0], one[1]), (one[1], one[0])) for one in levels]


@pytest.fixture
def quick_pictures(monkeypatch):
    """Pictures are drawn small and plain; what they were drawn of, by the file's name."""
    drawn = {}

    def draw(path, *what):
        drawn[path.name] = what
        cv2.imwrite(str(path), np.full((8, 8, 3), 99, np.uint8))

    monkeypatch.setattr(report.curves, "miss_rate_figure", lambda scores, path, title: draw(path, scores))
    monkeypatch.setattr(report.panels, "detection_panel", lambda items, path, *_: draw(path, items))
    monkeypatch.setattr(report.weights, "modality_weights_figure", lambda found, path, _: draw(path, found))
    monkeypatch.setattr(report.cfl_maps, "cfl_figure", lambda scenes, path, _: draw(path, scenes))
    monkeypatch.setattr(report.losses, "loss_figure", lambda found, path, _: draw(path, found))
    return drawn


@pytest.fixture
def metrics(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 20, "train/loss": 0.5}\n')
    return path


def written(case, folder, *arguments):
    report.write_report(*case, folder, "a <teacher>, step 7", "0123", *arguments)
    return Page((folder / "report.html").read_text())


def test_page_of_a_teacher_has_every_section_and_its_pictures_inside(make_case, tmp_path, quick_pictures, metrics):
    found = written(make_case(), tmp_path / "evaluation", fake_magnitudes, metrics)
    assert list(found.sections) == [
        "",
        "Scores",
        "Curves",
        "Worst misses",
        "Worst false alarms",
        "Images",
        "Modality weights",
        "Shared and specific features",
        "Training",
    ]
    # The links lead to the sections.
    anchors = [one["href"] for one in found.all("a")]
    assert anchors == ["#" + one["id"] for one in found.all("h2")]
    assert len(set(anchors)) == 8
    # Five pictures and a crop of each error: five misses, two false alarms of the day and one of the night.
    sources = [one["src"] for one in found.all("img")]
    assert len(sources) == 5 + 5 + 3
    assert all(source.startswith("data:image/") for source in sources)
    assert all(one["alt"] for one in found.all("img"))
    assert not {"script", "link", "iframe", "object"} & {name for name, _ in found.elements}
    text = (tmp_path / "evaluation" / "report.html").read_text()
    assert "http://" not in text
    assert "https://" not in text
    assert {path.name for path in (tmp_path / "evaluation").iterdir()} == {
        *("results.txt", "results.json", "images.txt", "scores.json", "report.html"),
        *quick_pictures,
    }
    assert set(quick_pictures) == set(page.PICTURES)


def test_scores_of_the_page_are_those_of_the_evaluation(make_case, tmp_path, quick_pictures):
    case = make_case()
    found = written(case, tmp_path)
    everybody, by_day, by_night = (score.miss_rate for score in case[0].scores.values())
    rates = [f"{100 * rate:.2f}" for rate in (everybody, by_day, by_night)]
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
    assert found.rows[7] == ["", "near", "medium", "far"]
    # Those of 60 and 50 pixels; of the lower ones two are cut by KAIST's border.
    assert found.rows[9] == ["people", "0", "2", "2"]
    assert found.rows[10:] == [
        ["", "all", "day", "night"],
        ["mean weight of visible", "0.531", "0.625", "-"],
        ["mean weight of lwir", "0.469", "0.375", "-"],
    ]
    scores = json.loads((tmp_path / "scores.json").read_text())["scores"]
    assert [f"{one['miss_rate_percent']:.2f}" for one in scores.values()] == rates
    assert "at least 20 pixels tall" in found.sections["Scores"]


def test_names_and_image_ids_are_text_and_nothing_else(make_case, tmp_path, quick_pictures):
    found = written(make_case(warnings=("<i>some</i> are left out",)), tmp_path)
    assert [line for line in found.sections[""].split("\n") if line][:3] == [
        "a <teacher>, step 7",
        "scored on synthetic_rgbt, test",
        "warning: <i>some</i> are left out",
    ]
    assert f"{EVIL}: 60 px tall" in found.sections["Worst misses"]
    assert f"missed person in {EVIL}, 60 px tall" in [one["alt"] for one in found.all("img")]
    names = {name for name, _ in found.elements}
    assert not {"b", "i", "teacher"} & names


def test_worst_errors_stand_by_day_and_by_night_the_worst_first(make_case, tmp_path, quick_pictures):
    found = written(make_case(), tmp_path)
    misses, alarms = (found.sections[name] for name in ("Worst misses", "Worst false alarms"))

    def order(text, *parts):
        places = [text.index(part) for part in parts]
        assert places == sorted(places)

    order(
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
    order(alarms, "By day", "day/empty: score 0.750", "day/empty: score 0.250", "By night", f"{EVIL}: score 0.812")
    assert alarms.count(": score ") == 3


def test_few_errors_of_each_kind_are_shown_and_no_error_is_said(make_case, tmp_path, quick_pictures, monkeypatch):
    monkeypatch.setattr(page, "CROPS", 1)
    evaluation, bench = make_case()
    one = evaluation._replace(detections={**DETECTIONS, EVIL: ImageDetections(np.zeros((0, 4)), np.zeros(0))})
    found = written((one, bench), tmp_path)
    assert found.sections["Worst misses"].count("px tall") == 2
    assert found.sections["Worst false alarms"].count(": score ") == 1
    assert found.sections["Worst false alarms"].rstrip().endswith("By night\nNone.")


def crops_of(found):
    """The crops of a page as images, by their alternative text."""
    shown = {}
    for one in found.all("img"):
        if " in " in one["alt"] and "," in one["alt"]:
            data = base64.b64decode(one["src"].partition(",")[2])
            shown[one["alt"]] = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    return shown


def test_crops_show_both_images_of_a_teacher_with_the_box(make_case, tmp_path, quick_pictures):
    crop = crops_of(written(make_case(), tmp_path))["missed person in day/missed, 50 px tall"]
    assert crop.shape == (184, 371, 3)
    # Far from all boxes the two images have their own grey, as it is in the record.
    assert np.abs(crop[170, 10].astype(int) - 30).max() <= 4
    assert np.abs(crop[170, 360].astype(int) - 130).max() <= 4
    # The window is the image's first 100 columns at 1.84 times their size: the box is at 40..56 across, 20..70 down.
    yellow = (crop[..., 0] < 120) & (crop[..., 1] > 150) & (crop[..., 2] > 170)
    for start in (0, 187):
        rows, columns = np.nonzero(yellow[:, start : start + 184])
        np.testing.assert_allclose([rows.min(), rows.max()], [36.8, 128.8], atol=3)
        np.testing.assert_allclose([columns.min(), columns.max()], [73.6, 103.0], atol=3)


def test_page_of_rgb_alone_shows_nothing_thermal(make_case, tmp_path, quick_pictures):
    evaluation, bench = make_case(MODALITIES[:1])
    bench = bench._replace(source=[{k: v for k, v in one.items() if k != "lwir"} for one in RECORDS])
    found = written((evaluation, bench), tmp_path)
    assert list(found.sections) == ["", "Scores", "Curves", "Worst misses", "Worst false alarms", "Images"]
    assert not any(word in text for text in found.sections.values() for word in ("thermal", "lwir", "weight"))
    assert {crop.shape for crop in crops_of(found).values()} == {(184, 184, 3)}
    assert set(quick_pictures) == {"miss_rate.png", "panel.png"}


def test_pictures_are_drawn_of_this_split_and_this_run(make_case, tmp_path, quick_pictures, metrics):
    seen = []

    def magnitudes(visible, lwir):
        seen.append((visible, lwir))
        return fake_magnitudes(visible, lwir)

    evaluation, bench = make_case()
    report.write_report(evaluation, bench, tmp_path / "evaluation", "a teacher", "0123", magnitudes, metrics)
    scores = json.loads((tmp_path / "evaluation" / "scores.json").read_text())
    assert scores["parameters"] == "0123"
    assert scores["data"] == {
        "name": bench.config.data.name,
        "split": "test",
        "options": bench.config.data.options.to_dict(),
    }
    assert scores["people_who_count"].startswith("at least ")
    ((weights,), (scenes,), (curves,)) = (
        quick_pictures[name] for name in ("modality_weights.png", "cfl_maps.png", "loss_curves.png")
    )
    assert weights == {"day": [0.25, 0.5, 0.375], "night": [0.75]}
    assert {name: values.tolist() for name, (_, values) in curves.items()} == {"train/loss": [0.5]}
    # The day and the night image with the most people, at the network's size.
    assert [scene.caption for scene in scenes] == ["day: day/missed", f"night: {EVIL}"]
    assert [len(scene.person_boxes) for scene in scenes] == [3, 1]
    for scene, (visible, lwir), grey in zip(scenes, seen, (30, 40), strict=True):
        assert (visible.shape, lwir.shape) == ((1, 32, 48, 3), (1, 32, 48, 1))
        assert visible.dtype == lwir.dtype == np.uint8
        assert (visible == grey).all()
        assert (lwir == grey + 100).all()
        assert scene.images[0].shape == (HEIGHT, WIDTH, 3)
        np.testing.assert_array_equal(scene.levels[1].shared[0], np.full((32, 48), grey / 4))
        np.testing.assert_array_equal(scene.levels[1].specific[0], np.full((32, 48), (grey + 100) / 4))


def test_run_without_logs_has_no_curves(make_case, tmp_path, quick_pictures):
    found = written(make_case(), tmp_path / "evaluation", None, tmp_path / "nothing")
    assert "Training" not in found.sections
    assert "Shared and specific features" not in found.sections
    assert "loss_curves.png" not in quick_pictures


def test_scores_are_written_after_the_page(make_case, tmp_path, quick_pictures, monkeypatch):
    def killed(*_):
        assert (tmp_path / "panel.png").is_file()
        raise KeyboardInterrupt

    monkeypatch.setattr(report, "write_page", killed)
    with pytest.raises(KeyboardInterrupt):
        written(make_case(), tmp_path)
    assert not (tmp_path / "scores.json").exists()
    assert not (tmp_path / "report.html").exists()
