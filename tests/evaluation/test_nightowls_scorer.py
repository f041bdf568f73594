"""The NightOwls command: each rule by hand, ignore areas off and on, and what it prints and refuses."""

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from nightowls_files import annotation, image, png, write_annotations

from datasets import records
from dcrl_jax.annotations.types import IMAGE_CONDITIONS
from dcrl_jax.errors import InputError
from dcrl_jax.evaluation import nightowls, scorer
from dcrl_jax.evaluation.miss_rate import ImageDetections, match
from dcrl_jax.evaluation.results import read_results, write_coco_json
from dcrl_jax.evaluation.rules import NIGHTOWLS_SUBSETS, assign_roles

ROOT = Path(__file__).resolve().parents[2]
REASONABLE, SMALL, OCCLUDED, ALL = NIGHTOWLS_SUBSETS


def test_names():
    assert [subset.name for subset in NIGHTOWLS_SUBSETS] == [
        "nightowls-reasonable",
        "nightowls-small",
        "nightowls-occluded",
        "nightowls-all",
    ]
    assert list(nightowls.NIGHTOWLS.panels) == ["reasonable", "small", "occluded", "all"]


# ---- Rules, one at a time


def truth(tmp_path, *annotations, ignore_areas=False):
    path = write_annotations(tmp_path / "nightowls_validation.json", [image(5)], list(annotations))
    return nightowls.read_annotations(path, ignore_areas)


def roles(subset, tmp_path, *annotations):
    """One letter an annotation: p person, i ignore region, - dropped."""
    (one,) = truth(tmp_path, *annotations).images
    found = assign_roles(subset, one.boxes, one.labels, one.occlusion, one.ignore)
    return "".join("p" if p else "i" if i else "-" for p, i in zip(*found, strict=True))


@pytest.mark.parametrize(
    ("subset", "expected"),
    [(REASONABLE, "iiipppp"), (SMALL, "iiippii"), (OCCLUDED, "iiiiiii"), (ALL, "ipppppp")],
    ids=lambda value: getattr(value, "name", value),
)
def test_heights(tmp_path, subset, expected):
    people = [annotation(5, (100, 100, 20, height)) for height in (19, 20, 49, 50, 75, 76, 600)]
    assert roles(subset, tmp_path, *people) == expected


@pytest.mark.parametrize(
    ("subset", "expected"),
    [(REASONABLE, "ippi"), (SMALL, "ippi"), (OCCLUDED, "piip"), (ALL, "pppp")],
    ids=lambda value: getattr(value, "name", value),
)
def test_occluded_people_are_half_visible_and_null_is_visible(tmp_path, subset, expected):
    people = [annotation(5, (100, 100, 20, 60), occluded=occluded) for occluded in (True, False, None, 1)]
    assert roles(subset, tmp_path, *people) == expected


def test_occluded_people_below_50_pixels_are_ignored_in_occluded(tmp_path):
    people = [annotation(5, (100, 100, 20, height), occluded=True) for height in (49, 50)]
    assert roles(OCCLUDED, tmp_path, *people) == "ip"
    assert roles(ALL, tmp_path, *people) == "pp"


def test_people_marked_as_ignored_are_ignored_and_riders_and_areas_are_dropped(tmp_path):
    objects = [annotation(5, (100, 100, 20, 60), category) for category in (1, 2, 3, 4)]
    objects += [annotation(5, (100, 100, 20, 60), ignore=1)]
    for subset in (REASONABLE, SMALL, ALL):
        assert roles(subset, tmp_path, *objects) == "p---i"


def test_people_who_leave_the_image_count(tmp_path):
    assert roles(REASONABLE, tmp_path, annotation(5, (-10, -5, 40, 60)), annotation(5, (1000, 600, 40, 90))) == "pp"


def outcome(found, subset, *rows):
    """What becomes of detections in the order of their scores: t true, i ignored, f false positive."""
    table = np.array(rows, float).reshape(-1, 4)
    detections = {"5": ImageDetections(table, np.linspace(0.9, 0.1, len(table)))}
    matches = match(found.images, detections, subset)
    return "".join(
        "t" if true else "i" if ignored else "f"
        for true, ignored in zip(matches.is_true_positive, matches.is_ignored, strict=True)
    )


@pytest.mark.parametrize(
    ("subset", "kept"),
    [
        # From the least height over 1.25 on, and below the greatest times 1.25.
        (REASONABLE, [40, 93.7, 93.75, 600]),
        (SMALL, [40, 93.7]),
        (OCCLUDED, [40, 93.7, 93.75, 600]),
        (ALL, [16, 39.9, 40, 93.7, 93.75, 600]),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_heights_of_detections(tmp_path, subset, kept):
    heights = (15.9, 16, 39.9, 40, 93.7, 93.75, 600)
    rows = [(100 + 100 * place, 10, 20, height) for place, height in enumerate(heights)]
    assert outcome(truth(tmp_path), subset, *rows) == "f" * len(kept)
    table = np.array(rows, float)
    one = match(truth(tmp_path).images, {"5": ImageDetections(table, table[:, 3])}, subset)
    assert sorted(one.scores.tolist()) == kept


def test_a_surer_detection_that_is_dropped_stands_in_nobodys_way(tmp_path):
    found = truth(tmp_path, annotation(5, (100, 100, 20, 60)))
    # The surest is 39 pixels tall; the second lies on the person.
    assert outcome(found, REASONABLE, (600, 100, 20, 39), (100, 100, 20, 60)) == "t"


def test_boxes_keep_their_width(tmp_path):
    # At a ratio of 0.41 both would be 24.6 wide and lie on each other.
    found = truth(tmp_path, annotation(5, (100, 100, 60, 60)))
    assert outcome(found, REASONABLE, (120, 100, 20, 60)) == "f"


def test_overlap_of_one_half_is_enough(tmp_path):
    found = truth(tmp_path, annotation(5, (100, 100, 20, 100)))
    assert outcome(found, REASONABLE, (100, 100, 20, 50)) == "t"
    assert outcome(found, REASONABLE, (100, 100, 20, 49)) == "f"


def test_small_people_absorb_what_is_found_on_them(tmp_path):
    found = truth(tmp_path, annotation(5, (100, 100, 20, 45)))
    assert outcome(found, REASONABLE, (100, 100, 20, 45), (100, 100, 20, 45)) == "ii"
    assert outcome(found, ALL, (100, 100, 20, 45), (100, 100, 20, 45)) == "tf"


def test_ignored_areas_absorb_only_where_that_is_asked_for(tmp_path):
    area, inside, half_out = annotation(5, (100, 100, 400, 300), 4), (150, 150, 20, 60), (491, 150, 20, 60)
    found = truth(tmp_path, area)
    assert [subset.ignore_labels for subset in found.benchmark.subsets] == [frozenset()] * 4
    assert outcome(found, found.benchmark.subsets[0], inside, half_out) == "ff"
    found = truth(tmp_path, area, ignore_areas=True)
    for subset in found.benchmark.subsets:
        assert outcome(found, subset, inside, half_out) == "if"
    # Riders still absorb nothing.
    found = truth(tmp_path, annotation(5, (100, 100, 400, 300), 2), ignore_areas=True)
    assert outcome(found, found.benchmark.subsets[0], inside) == "f"


# ---- Results and the command


IMAGES = (image(31, "night"), image(7, "dawn"), image(12, "day"))
PERSON = (100, 100, 20, 60)


@pytest.fixture
def annotations(tmp_path):
    """A person in each image, the last one occluded."""
    people = [annotation(31, PERSON), annotation(7, PERSON), annotation(12, PERSON, occluded=True)]
    return write_annotations(tmp_path / "nightowls_validation.json", list(IMAGES), people)


def entry(number, box=PERSON, score=0.9, **changes):
    return {"image_id": number, "category_id": 1, "bbox": list(box), "score": score} | changes


@pytest.fixture
def mine(tmp_path):
    """Finds the people of the images 31 and 12."""
    (tmp_path / "mine.json").write_text(json.dumps([entry(31), entry(12, score=0.5)]))
    return tmp_path / "mine.json"


def test_results_name_images_by_their_own_numbers_both_ways(tmp_path):
    ids, numbers = ["31", "7", "12"], [31, 7, 12]
    found = {"7": ImageDetections(np.array([[1.5, 2, 3, 4]]), np.array([0.25]))}
    write_coco_json(tmp_path / "out.json", found, ids, numbers)
    assert json.loads((tmp_path / "out.json").read_text()) == [entry(7, (1.5, 2, 3, 4), 0.25)]
    read = nightowls.read_numbered(tmp_path / "out.json", ids)
    assert list(read) == ["7"]
    np.testing.assert_array_equal(read["7"].boxes, found["7"].boxes)
    # Without numbers of their own it is the places, as before.
    with pytest.raises(InputError, match=r"entry 1: image 7; expected 0\.\.2"):
        read_results(tmp_path / "out.json", ids)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([entry(8)], "entry 1: image 8; expected the id of one of the 3 annotated images"),
        ([entry(31, category_id=2)], "entry 1: category_id 2; expected 1, pedestrians only"),
        ([entry(31, (1, 2, -3, 4))], "entry 1: box .* has a negative size"),
        ([{"image_id": 31}], "entry 1 is "),
    ],
)
def test_malformed_results_are_named(tmp_path, content, message):
    (tmp_path / "mine.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        nightowls.read_numbered(tmp_path / "mine.json", ["31", "7", "12"])


def lines(printed):
    return [line for line in printed.splitlines() if line]


def test_tables_of_a_case_worked_by_hand(annotations, mine, tmp_path, capsys):
    nightowls.main([f"--annotations={annotations}", f"--results={mine}", f"--output={tmp_path}/out"])
    assert lines(capsys.readouterr().out) == [
        str(annotations),
        "images: 1 night, 1 dawn, 1 day",
        "miss rate, %  reasonable  small  occluded    all",
        "------------  ----------  -----  --------  -----",
        "mine.json          50.00  50.00      0.00  33.33",
        "recall, %  reasonable  small  occluded    all",
        "---------  ----------  -----  --------  -----",
        "mine.json       50.00  50.00    100.00  66.67",
        "people              2      2         1      3",
        "images              3      3         3      3",
        f"scores and curves: {tmp_path}/out",
    ]
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())["mine.json"]
    assert list(scores) == [subset.name for subset in NIGHTOWLS_SUBSETS]


def test_ignored_areas_are_said_to_absorb(annotations, mine, capsys):
    nightowls.main([f"--annotations={annotations}", f"--results={mine}", "--ignore_areas"])
    note = "ignored areas absorb detections, which is not the official evaluation"
    assert lines(capsys.readouterr().out)[2] == note


class ScorerOwls(tfds.core.GeneratorBasedBuilder):
    """The three images of the JSON file."""

    VERSION = tfds.core.Version("1.0.0")
    ids = (31, 7, 12)

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=records.features(lwir=False, conditions=IMAGE_CONDITIONS),
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(warnings=["in haste"]),
        )

    def _split_generators(self, dl_manager):
        return {"validation": self._generate_examples()}

    def _generate_examples(self):
        for place, one in enumerate(IMAGES):
            person = {"box": np.float32(PERSON), "label": "person", "occlusion": 2 * (place == 2), "ignore": False}
            yield (
                place,
                {
                    "image_id": str(self.ids[place]),
                    "visible": io.BytesIO(png(8, 6)),
                    "condition": one["daytime"],
                    "objects": [person],
                },
            )


class ScorerStreets(ScorerOwls):
    """Images without numbers."""

    ids = ("31", "street", "12")


def test_prepared_data_score_as_their_annotations_with_the_warnings_beside(annotations, mine, tmp_path, capsys):
    builder = ScorerOwls(data_dir=tmp_path / "data", file_format="array_record")
    builder.download_and_prepare()
    folder = Path(builder.data_path)
    found = nightowls.read_annotations(folder)
    assert [one.condition for one in found.images] == ["night", "dawn", "day"]
    other = nightowls.read_annotations(annotations)
    first, second = (scorer.score_results(one, [mine])["mine.json"] for one in (found, other))
    assert [one.miss_rate for one in first.values()] == [one.miss_rate for one in second.values()]
    capsys.readouterr()
    nightowls.main([f"--annotations={folder}", f"--results={mine}"])
    assert capsys.readouterr().out.count("warning: in haste\n") == 2


def test_data_of_something_else_and_plain_folders_are_refused(tmp_path):
    builder = ScorerStreets(data_dir=tmp_path / "data", file_format="array_record")
    builder.download_and_prepare()
    with pytest.raises(InputError, match="the image 'street' has no number; name a data set prepared from NightOwls"):
        nightowls.read_annotations(Path(builder.data_path))
    with pytest.raises(InputError, match=r"a folder, and not that of a prepared data set; name nightowls_validation"):
        nightowls.read_annotations(tmp_path)


def test_mistake_ends_with_one_message_and_status_1():
    command = [sys.executable, "-m", "dcrl_jax.evaluation.nightowls", "--annotations=absent.json", "--results=absent"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: absent.json: cannot be read (No such file or directory)\n"
