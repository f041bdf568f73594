"""The NightOwls command: annotations, ignored areas, and the printed tables."""

import json

import pytest
from nightowls_files import annotation, image, write_annotations
from scorer_cases import lines
from scoring_cases import make_detections, make_truth, outcomes, roles

from dcrl_jax.errors import InputError
from dcrl_jax.evaluation.rules import NIGHTOWLS_SUBSETS
from dcrl_jax.scorers import nightowls

PERSON = (100, 100, 20, 60)
AREAS_ABSORB = "ignored areas absorb detections, which is not the official evaluation"


def read(tmp_path, *annotations, ignore_areas=False):
    path = write_annotations(tmp_path / "nightowls_validation.json", [image(5)], list(annotations))
    return nightowls.read_annotations(path, ignore_areas)


def test_occluded_people_are_half_visible_and_riders_are_dropped(tmp_path):
    changes = [{"occluded": True}, {"occluded": False}, {"occluded": None}, {"occluded": 1}, {"category": 2}]
    changes += [{"category": 3}, {"category": 4}, {"ignore": 1}]
    objects = [annotation(5, (x, *PERSON[1:]), **change) for x, change in enumerate(changes, start=100)]
    (truth,) = read(tmp_path, *objects).images
    found = {subset.short_name: roles(subset, *truth[2:]) for subset in NIGHTOWLS_SUBSETS}
    assert found == {"reasonable": "ippi---i", "small": "ippi---i", "occluded": "piip---i", "all": "pppp---i"}


def test_ignored_areas_absorb_detections_only_if_asked(tmp_path):
    rows = {"5": make_detections([150, 150, 20, 60, 0.9], [491, 150, 20, 60, 0.8])}  # inside, and half outside
    for category, ignore_areas, expected in ((4, False, "ff"), (4, True, "if"), (2, True, "ff")):
        annotations = read(tmp_path, annotation(5, (100, 100, 400, 300), category), ignore_areas=ignore_areas)
        for subset in annotations.subsets:
            assert outcomes(annotations.images, rows, subset) == expected
        assert annotations.notes == ["images: 1 night", *[AREAS_ABSORB] * ignore_areas]


@pytest.fixture
def annotations(tmp_path):
    """A person in each image, the last one occluded."""
    images = [image(31, "night"), image(7, "dawn"), image(12, "day")]
    people = [annotation(31, PERSON), annotation(7, PERSON), annotation(12, PERSON, occluded=True)]
    return write_annotations(tmp_path / "nightowls_validation.json", images, people)


@pytest.fixture
def mine(tmp_path):
    """Results that find the people of the images 31 and 12, and a false alarm in the image 7."""
    found = [(31, PERSON, 0.5), (12, PERSON, 0.5), (7, (600, *PERSON[1:]), 0.1)]
    entries = [{"image_id": number, "category_id": 1, "bbox": box, "score": score} for number, box, score in found]
    (tmp_path / "mine.json").write_text(json.dumps(entries))
    return tmp_path / "mine.json"


def run(capsys, annotations, results, *options):
    nightowls.main([f"--annotations={annotations}", f"--results={results}", *options])
    return lines(capsys.readouterr().out)


def test_tables_of_a_case_worked_by_hand(annotations, mine, tmp_path, capsys, no_curves):
    assert run(capsys, annotations, mine, f"--output={tmp_path}/out") == [
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
    assert list(no_curves[0][0]) == ["reasonable", "small", "occluded", "all"]
    assert run(capsys, annotations, mine, "--ignore_areas")[2] == AREAS_ABSORB


def test_prepared_data_score_like_their_annotation_file_with_warnings(annotations, mine, prepare, capsys):
    columns = zip(("31", "7", "12"), ("night", "dawn", "day"), (0, 0, 2), strict=True)
    truths = [make_truth(number, PERSON, condition=daytime, occlusion=[level]) for number, daytime, level in columns]
    printed = run(capsys, prepare(nightowls, "validation", None, ["in haste"], objects=truths), mine)
    assert printed.count("warning: in haste") == 2
    expected = run(capsys, annotations, mine)
    assert [line for line in printed if line != "warning: in haste"][1:] == expected[1:]


def test_crowds_are_ignored_and_equal_annotations_count_once(tmp_path):
    objects = [annotation(5, PERSON, iscrowd=1), annotation(5, PERSON), annotation(5, PERSON)]
    scored = read(tmp_path, *objects)
    assert scored.images[0].ignore.tolist() == [True, False]
    assert scored.notes == ["images: 1 night", "annotation twice, counted once: 1"]


@pytest.mark.parametrize(
    ("listed", "names"),
    [
        (None, ["58c31.png", "val/58c12.png", "58c7"]),
        (None, ["31", 12, 7]),
        # A list of names gives numbers a meaning; a list of the data set's numbers only tells the images.
        (["58c12.png", "58c7", "58c31"], [2, 0, 1]),
        (["31", "7", "12"], [31, 12, 7]),
    ],
)
def test_results_name_images_by_number_or_file(annotations, mine, tmp_path, capsys, listed, names):
    expected = run(capsys, annotations, mine)
    entries = json.loads(mine.read_text())
    mine.write_text(json.dumps([entry | {"image_id": name} for entry, name in zip(entries, names, strict=True)]))
    if listed:
        (tmp_path / "images.txt").write_text("\n".join(listed))
    assert run(capsys, annotations, mine) == expected


def test_plain_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="a folder, and not that of a prepared data set; name nightowls_validation"):
        nightowls.read_annotations(tmp_path)
