"""The COCO command: its tables, pycocotools as the oracle, and the ways in which results do not fit annotations."""

import contextlib
import io
import json
import re

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scorer_cases import ROOT, lines
from scoring_cases import make_truth

from dcrl_jax.errors import InputError
from dcrl_jax.scorers import coco, coco_annotations
from dcrl_jax.scorers.coco_annotations import PEOPLE, read_annotations
from dcrl_jax.scorers.coco_results import read_coco_results

PERSON, CAR, TALL = [100, 100, 20, 50], [300, 300, 80, 40], [500, 50, 60, 180]
CATEGORIES = [{"id": 1, "name": "person"}, {"id": 2, "name": "car"}, {"id": 3, "name": "dog"}]
IMAGES = [
    {"id": number, "file_name": f"straße/{number:04d}.png", "width": 640, "height": 512} for number in (31, 7, 12)
]
ANNOTATIONS = [(31, 1, PERSON), (31, 2, CAR), (7, 1, TALL), (12, 1, PERSON)]
FOUND = [(31, 1, PERSON, 90), (31, 2, CAR, 80), (7, 1, TALL, 70), (12, 1, CAR, 75)]


def write(path, images=IMAGES, categories=CATEGORIES, annotations=ANNOTATIONS, **fields):
    entries = [{"image_id": image, "category_id": category, "bbox": box} for image, category, box in annotations]
    entries = [entry | fields for entry in entries]
    path.write_text(json.dumps({"images": images, "annotations": entries, "categories": categories}))
    return path


def write_results(path, rows):
    fields = ("image_id", "category_id", "bbox", "score")
    path.write_text(json.dumps([dict(zip(fields, row, strict=True)) for row in rows]))
    return path


@pytest.fixture
def annotations(tmp_path):
    return write(tmp_path / "test.json")


def run(capsys, annotations, results, *options):
    coco.main([f"--annotations={annotations}", f"--results={results}", *options])
    printed = capsys.readouterr()
    assert printed.err == ""
    return lines(printed.out)


def test_table_and_scores_of_a_case_worked_by_hand(annotations, tmp_path, capsys):
    results = write_results(tmp_path / "mine.json", FOUND)
    note = "note: mine.json: left out: 1 detections of other categories"
    # A person, a false alarm and another one of three people: precision 1 at 34 of 101 recalls, 2/3 at the next 33.
    assert run(capsys, annotations, results, f"--output={tmp_path}/out") == [
        str(annotations),
        "3 people (person) in 3 images",
        "COCO, %       AP   AP50   AP75    APs  APm     APl     AR  miss rate",
        "---------  -----  -----  -----  -----  ---  ------  -----  ---------",
        "mine.json  55.45  55.45  55.45  50.50    -  100.00  66.67      57.15",
        note,
        f"scores: {tmp_path}/out",
    ]
    assert json.loads((tmp_path / "out" / "scores.json").read_text())["mine.json"] == {
        "ap_percent": pytest.approx(5600 / 101),
        "ap50_percent": pytest.approx(5600 / 101),
        "ap75_percent": pytest.approx(5600 / 101),
        "ap_small_percent": pytest.approx(100 * 51 / 101),
        "ap_medium_percent": None,
        "ap_large_percent": 100,
        "ar_percent": pytest.approx(200 / 3),
        "objects": 3,
        "images": 3,
        # Two are missed below one false alarm in three images, at 7 of 9 reference points, then one.
        "miss_rate_percent": pytest.approx(100 * (2 / 3) ** (7 / 9) * (1 / 3) ** (2 / 9)),
        "remarks": [note],
    }


def test_each_category_and_their_mean(annotations, tmp_path, capsys):
    results = write_results(tmp_path / "mine.json", [*FOUND, (7, 3, TALL, 10)])
    printed = run(capsys, annotations, results, "--categories=all", f"--output={tmp_path}/out")
    note = "note: mine.json: left out: 1 detections of other categories"  # no dog is annotated
    assert printed == [
        str(annotations),
        "4 objects in 3 images",
        "COCO, mean of 2 categories, %     AP   AP50   AP75    APs     APm     APl     AR",
        "-----------------------------  -----  -----  -----  -----  ------  ------  -----",
        "mine.json                      77.72  77.72  77.72  50.50  100.00  100.00  83.33",
        note,
        "mine.json      AP    AP50    AP75    APs     APm     APl      AR  objects",
        "---------  ------  ------  ------  -----  ------  ------  ------  -------",
        "person      55.45   55.45   55.45  50.50       -  100.00   66.67        3",
        "car        100.00  100.00  100.00      -  100.00       -  100.00        1",
        f"scores: {tmp_path}/out",
    ]
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())["mine.json"]
    assert list(scores["categories"]) == ["person", "car"]
    assert (scores["categories"]["car"]["objects"], scores["remarks"]) == (1, [note])
    assert "miss_rate_percent" not in scores
    for names, expected in (("Car", ["car"]), ("dog,person,car", ["person", "car", "dog"])):
        assert list(read_annotations(annotations, categories=names.split(",")).subsets) == expected


def pycocotools(annotations, results, **parameters):
    """Return the figures of pycocotools on files, in the order of the tables."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = annotations
        truth.createIndex()
        evaluator = COCOeval(truth, truth.loadRes(results), "bbox")
        for name, value in parameters.items():
            setattr(evaluator.params, name, value)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator.stats[[0, 1, 2, 3, 4, 5, 8]]


@pytest.mark.parametrize("categories", [None, ["all"]])
def test_figures_equal_those_of_pycocotools_on_the_same_files(tmp_path, categories):
    rng = np.random.default_rng(0)
    truth = [(number, 1 + index % 2, rng.integers(1, 60, 4).tolist()) for number in (31, 7, 12) for index in range(9)]
    rows = [(*row[:2], (np.array(row[2]) + rng.integers(0, 4, 4)).tolist()) for row in truth]
    rows += [(number, category, rng.integers(1, 60, 4).tolist()) for number, category, _ in truth * 12]
    rows = [(*row, int(rng.integers(0, 30))) for row in rows]
    write(tmp_path / "test.json", annotations=truth)
    results = write_results(tmp_path / "mine.json", rows)
    scored = coco.score_files(read_annotations(tmp_path / "test.json", categories=categories), [results])
    content = json.loads((tmp_path / "test.json").read_text())
    for number, entry in enumerate(content["annotations"], start=1):
        entry |= {"id": number, "area": entry["bbox"][2] * entry["bbox"][3], "iscrowd": 0}
    expected = pycocotools(content, json.loads(results.read_text()), **({} if categories else {"catIds": [1]}))
    figures = scored.scores["mine.json"].mean[:7]
    np.testing.assert_allclose(figures, np.where(expected == -1, np.nan, expected), atol=1e-15)


@pytest.mark.parametrize(
    ("categories", "expected"),
    [
        ("person car", {"person"}),
        ("Pedestrian person people person? cyclist", {"Pedestrian", "person"}),
        ("People Car", {"People"}),
    ],
)
def test_names_of_people_and_of_ignore_regions(tmp_path, categories, expected):
    categories = [{"id": number, "name": name} for number, name in enumerate(categories.split())]
    path = write(tmp_path / "a", categories=categories, annotations=[(7, entry["id"], TALL) for entry in categories])
    subset = read_annotations(path).subsets[PEOPLE]
    assert subset.person_labels == expected
    assert subset.ignore_labels == {entry["name"] for entry in categories} & {"people", "person?", "cyclist"}


def test_people_may_have_other_names(tmp_path):
    path = write(tmp_path / "a", categories=[{"id": 1, "name": "Rider"}, {"id": 2, "name": "person"}])
    assert read_annotations(path, ["rider"]).subsets[PEOPLE].person_labels == {"Rider"}


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (
            {"categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "car"}]},
            (),
            "nobody to find but 3 'cat', 1 'car'",
        ),
        ({"annotations": []}, (), "has nobody to find but no objects; expected person or pedestrian or people"),
        ({"iscrowd": 1}, (), "nobody counts in everyone. Labels found: 3 'person', 1 'car'; 4 objects are marked"),
        ({"annotations": []}, (None, ["all"]), "nobody counts in all categories. Labels found: none"),
        ({}, (["rider"],), "nobody to find but 3 'person', 1 'car'; expected rider. Name people with --person_labels"),
        ({}, (None, ["bus"]), "has no category bus; --categories takes all, people or person, car, dog"),
    ],
)
def test_annotations_without_anything_to_find_are_refused(tmp_path, change, options, message):
    path = write(tmp_path / "test.json", **change)
    with pytest.raises(InputError, match=f"^{path}: ") as raised:
        read_annotations(path, *options)
    assert message in str(raised.value)


def test_folders_other_than_prepared_data_are_refused(tmp_path, prepare):
    with pytest.raises(InputError, match="not that of a prepared data set; name a COCO file with --annotations"):
        read_annotations(tmp_path)
    folder = prepare(coco_annotations, "validation", objects=[make_truth("a", PERSON)])
    with pytest.raises(InputError, match="a prepared data set has no category ids; --categories needs a COCO file"):
        read_annotations(folder, categories=["all"], split="validation")


def test_prepared_data_score_like_their_annotation_file_with_warnings(annotations, tmp_path, prepare, capsys):
    people = [make_truth(str(number), box) for number, box in ((7, TALL), (12, PERSON), (31, PERSON))]
    people[2] = make_truth("31", PERSON, CAR, labels=["person", "car"])
    folder = prepare(coco_annotations, "validation", "own labels", ["in haste"], objects=people)
    # The images count in the order of their ids, from 1.
    text = "".join(f"{image},{','.join(map(str, box))},0.5\n" for image, box in ((1, TALL), (2, CAR), (3, PERSON)))
    (tmp_path / "mine.txt").write_text(text)
    printed = run(capsys, folder, tmp_path / "mine.txt", "--split=validation")
    assert printed[1:3] == ["annotations: own labels", "3 people (person) in 3 images"]
    assert printed[-1] == "warning: in haste"
    assert printed[2:-1] == run(capsys, annotations, tmp_path / "mine.txt")[1:]


@pytest.mark.parametrize(
    ("names", "listed"),
    [
        ({}, None),
        ({31: "31", 7: 7.0}, None),
        ({31: "val/0031.jpg", 7: "0007", 12: "straße/0012.png"}, None),
        # A list of names gives numbers a meaning.
        ({31: 0, 7: 2, 12: 1}, ["0031.png", "0012.png", "0007.png"]),
    ],
)
def test_results_name_images_by_id_or_file(annotations, tmp_path, capsys, names, listed):
    rows = [(names.get(row[0], row[0]), *row[1:]) for row in FOUND]
    if listed:
        (tmp_path / "images.txt").write_text("\r\n".join(listed))
    printed = run(capsys, annotations, write_results(tmp_path / "mine.json", rows))
    assert printed[4].split()[1:] == ["55.45", "55.45", "55.45", "50.50", "-", "100.00", "66.67", "57.15"]


@pytest.mark.parametrize(
    ("annotation_id", "result_id"), [(1, "1"), (1, 1.0), (1, "Person"), ("1", 1), ("1", "1"), ("person", "person")]
)
def test_ids_of_categories_may_be_texts_or_names(tmp_path, capsys, annotation_id, result_id):
    categories = [CATEGORIES[0] | {"id": annotation_id}, *CATEGORIES[1:]]
    objects = [(image, annotation_id if category == 1 else category, box) for image, category, box in ANNOTATIONS]
    annotations = write(tmp_path / "test.json", categories=categories, annotations=objects)
    rows = [(image, result_id if category == 1 else category, *rest) for image, category, *rest in FOUND]
    results = write_results(tmp_path / "mine.json", rows)
    printed = run(capsys, annotations, results)
    assert printed[4].split()[1] == "55.45"
    assert not any(line.startswith("warning") for line in printed)
    assert "error" not in "".join(run(capsys, annotations, results, "--categories=all"))


def test_images_of_both_cameras_may_be_in_one_set(tmp_path, capsys):
    files = {31: "0001_visible.jpg", 7: "0001_lwir.jpg", 12: "0002_visible.jpg"}
    annotations = write(tmp_path / "test.json", images=[{"id": key, "file_name": name} for key, name in files.items()])
    rows = [(files[image][:-4], *rest) for image, *rest in FOUND]
    assert run(capsys, annotations, write_results(tmp_path / "mine.json", rows))[4].split()[1] == "55.45"


def test_ids_of_images_may_be_texts(tmp_path, capsys):
    images = [image | {"id": f"night_{image['id']}"} for image in IMAGES]
    moved = [(f"night_{image}", *rest) for image, *rest in ANNOTATIONS]
    annotations = write(tmp_path / "test.json", images=images, annotations=moved)
    rows = [(f"night_{image}", *rest) for image, *rest in FOUND]
    printed = run(capsys, annotations, write_results(tmp_path / "mine.json", rows))
    assert printed[4].split()[1] == "55.45"


NOT_IDS = "warning: mine: image numbers are taken as the numbers in the names of the images, since not all are ids of"
NOT_PLACES = "warning: mine: image numbers are taken as ids of the annotation file, since not all are places in"
REVERSED = [41 - number for number in range(1, 41)]


@pytest.mark.parametrize(
    ("names", "id_of", "number_of", "listed", "remark"),
    [
        (None, str, lambda index: index + 1, 0, None),
        (None, float, lambda index: index + 1, 0, None),
        (None, lambda number: str(number) if number > 20 else number, lambda index: index + 1, 0, None),
        # Ultralytics writes the number that is the name of an image.
        ([1900 + number for number in REVERSED], int, lambda index: 1900 + REVERSED[index], 0, NOT_IDS),
        ([number - 1 for number in REVERSED], int, lambda index: REVERSED[index] - 1, 0, NOT_IDS),
        (REVERSED, int, lambda index: REVERSED[index], 0, "hint: mine: .* if its image numbers are the numbers in the"),
        (None, int, lambda index: index + 1, 30, NOT_PLACES),
        (None, int, lambda index: index, 30, None),
        (None, int, lambda index: min(index + 1, 29), 30, "hint: mine: .* if its image numbers are ids of the annotat"),
    ],
)
def test_what_numbers_of_images_mean(tmp_path, capsys, names, id_of, number_of, listed, remark):
    files = [f"{name:06d}.png" for name in names] if names else [f"frame{number}.png" for number in range(40)]
    boxes = np.random.default_rng(0).integers(0, [400, 300], (40, 2)).tolist()
    images = [{"id": id_of(index + 1), "file_name": file} for index, file in enumerate(files)]
    objects = [(image["id"], 1, [*corner, 30, 80]) for image, corner in zip(images, boxes, strict=True)]
    annotations = write(tmp_path / "test.json", images=images, annotations=objects)
    if listed:
        (tmp_path / "images.txt").write_text("\n".join(files[:listed]))
    rows = [(number_of(index), 1, row[2], 0.9) for index, row in enumerate(objects[: listed or 40])]
    printed = run(capsys, annotations, write_results(tmp_path / "mine", rows))
    remarks = [line for line in printed if line.startswith(("warning", "hint")) and "not comparable" not in line]
    assert len(remarks) == (remark is not None), printed
    assert not remarks or re.match(remark, remarks[0]), remarks
    assert (float(printed[4].split()[1]) > 99) == (remark is None or remark.startswith("warning"))


def test_part_of_the_images_is_scored_if_it_is_listed(annotations, tmp_path, capsys):
    (tmp_path / "images.txt").write_text("31\n12")
    printed = run(capsys, annotations, write_results(tmp_path / "mine.json", FOUND[:2]))
    assert printed[4].split()[1] == "50.50"
    assert "warning: mine.json: scored on 2 of 3 images" in printed[6]


def test_folder_of_text_files_has_people(annotations, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    for number in (31, 7, 12):
        (tmp_path / "mine" / f"{number:04d}.txt").write_text("person 100 100 120 150 0.9\n" if number != 7 else "")
    assert run(capsys, annotations, tmp_path / "mine")[4].split()[1:3] == ["66.34", "66.34"]


@pytest.mark.parametrize(
    ("rows", "remark"),
    [
        # Any id of a single category stands for people.
        (
            [(image, 2, box, score) for image, category, box, score in FOUND if category == 1],
            "warning: mine: all detections have category_id 2, car, and are taken as people, who are 1 (person)",
        ),
        (
            [(image, 0, box, score) for image, category, box, score in FOUND if category == 1],
            "warning: mine: all detections have category_id 0 and are taken as people, who are 1 (person)",
        ),
        (
            FOUND + [(7, 1, [9, 9, 20, 50], 0.001 * index) for index in range(120)],
            "note: mine: left out: 21 of 123 detections, because COCO scores the 100 strongest of an image",
        ),
        (FOUND[:1], "warning: mine: no detections in 2 of 3 images, which have 2 of the 3 people; if"),
    ],
)
def test_remarks_on_results(annotations, tmp_path, capsys, rows, remark):
    printed = run(capsys, annotations, write_results(tmp_path / "mine", rows))
    assert any(line.startswith(remark) for line in printed), printed


def scenes(path):
    """Write many images with one person, one car and one dog each."""
    images = [{"id": number, "file_name": f"{number}.png", "width": 640, "height": 512} for number in range(1, 41)]
    rng = np.random.default_rng(0)
    rows = []
    for number in range(1, 41):
        corners = rng.integers(0, [400, 300], (3, 2)).tolist()
        rows += [(number, category, [*corners[category - 1], 20 * category, 50]) for category in (1, 2, 3)]
    return write(path, images=images, annotations=rows), [(*row, 0.9 - row[0] / 100) for row in rows]


CORNERS = "if its boxes are corners x1,y1,x2,y2; if so, write boxes as x,y,width,height"


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        (lambda image, category, box: (image, category, [*box[:2], box[0] + box[2], box[1] + box[3]]), CORNERS),
        (
            lambda image, category, box: (max(image - 1, 1), category, box),
            "if its image numbers are one too low; if so, write numbers that are one higher, or the names",
        ),
        (
            lambda image, category, box: (image, category, [box[0] / 640, box[1] / 512, box[2] / 640, box[3] / 512]),
            "if its boxes are relative to the size of the images",
        ),
        (
            lambda image, category, box: (image, category % 3 + 1, box),
            "hint: mine: detections lie on objects of another category, those of person on dog, those of car on "
            "person, those of dog on car; if the ids have another meaning, write those of the annotations: 1 person, 2",
        ),
    ],
    ids=["corners", "shifted", "relative", "categories"],
)
def test_hint_at_another_meaning_of_the_numbers(tmp_path, capsys, change, hint):
    annotations, rows = scenes(tmp_path / "test.json")
    results = write_results(tmp_path / "mine", [(*change(*row[:3]), row[3]) for row in rows])
    (found,) = [line for line in run(capsys, annotations, results, "--categories=all") if line.startswith("hint: ")]
    assert hint in found


@pytest.mark.parametrize(
    ("rows", "categories", "message"),
    [
        ([(8, 1, PERSON, 1)], None, "entry 1: image 8; expected the id of one of the 3 annotated images, 7 to 31"),
        ([("street.png", 1, PERSON, 1)], None, "names that are none of the 3 images"),
        (
            [(7, 2, CAR, 1), (7, 3, CAR, 1)],
            None,
            "has detections of category_id 2 (1), category_id 3 (1), none of people; expected category_id 1 (person)",
        ),
        (
            [(7, 0, CAR, 1), (7, 1, CAR, 1)],
            None,
            "has detections of category_id 0 (1); expected the ids of {annotations}: 1 person, 2 car, 3 dog",
        ),
        ([(7, 4, CAR, 1)], ["all"], "has detections of category_id 4 (1); expected the ids of {annotations}: 1 person"),
        (
            [(7, None, CAR, 1)],
            ["all"],
            "1 detections have no category_id; --categories needs COCO JSON with 1 person, 2 car, 3 dog",
        ),
    ],
)
def test_results_that_do_not_fit_are_refused(annotations, tmp_path, rows, categories, message):
    results = write_results(tmp_path / "mine.json", rows)
    with pytest.raises(InputError, match=f"^{results}: ") as raised:
        read_coco_results(results, read_annotations(annotations, categories=categories))
    assert message.format(annotations=annotations) in str(raised.value)


def test_categories_and_names_of_people_exclude_each_other(annotations, capsys):
    with pytest.raises(SystemExit):
        coco.main([f"--annotations={annotations}", "--results=a", "--categories=all", "--person_labels=rider"])
    assert "error: --person_labels and --categories: give one of them" in capsys.readouterr().err


def test_empty_results_find_nobody(annotations, tmp_path, capsys):
    for name, content in (("mine.json", "[]"), ("mine.txt", "")):
        (tmp_path / name).write_text(content)
        assert run(capsys, annotations, tmp_path / name)[4].split()[1] == "0.00"


PUBLISHED = {"MBNet_result.txt": 39.80451235596997, "MLPD_result.txt": 36.575785614599155}


def test_published_results_have_the_figures_of_pycocotools():
    folder = ROOT.parent / "shared" / "kaist"
    if not folder.is_dir():
        pytest.skip(f"needs {folder}")
    content = json.loads((folder / "KAIST_annotation.json").read_text())
    for entry in content["annotations"]:
        # pycocotools takes id 0 for no match, and knows ignored people as crowds only.
        entry["id"] += 1
        entry |= {"area": entry["bbox"][2] * entry["bbox"][3], "iscrowd": entry["ignore"]}
    paths = [folder / "results" / name for name in PUBLISHED]
    scored = coco.score_files(read_annotations(folder / "KAIST_annotation.json"), paths)
    assert list(scored.scores) == list(PUBLISHED)
    for path in paths:
        rows = np.loadtxt(path, delimiter=",")
        results = [
            {"image_id": int(row[0]) - 1, "category_id": 1, "bbox": row[1:5].tolist(), "score": row[5]} for row in rows
        ]
        figures = scored.scores[path.name].mean
        assert figures[:7] == tuple(pycocotools(content, results, catIds=[1]))
        assert 100 * figures.ap == pytest.approx(PUBLISHED[path.name], abs=1e-9)
        assert (figures.objects, figures.images) == (3390, 2252)
