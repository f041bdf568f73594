"""The objects of a pair from its label files, and what labels become."""

import pytest
from folder_copies import config, write

from datasets.rgbt_folder import labels
from datasets.rgbt_folder.matching import LabelFile
from dcrl_jax.annotations.coco_files import CocoImage
from dcrl_jax.annotations.label_files import Labels, NoClassNames
from dcrl_jax.annotations.types import OTHER_SIZE, Annotation
from dcrl_jax.errors import InputError
from dcrl_jax.registration import Registration


def person(x, y=0, w=10, h=20, label="person", ignore=False):
    return Annotation(label, (x, y, w, h), ignore=ignore)


def test_objects_of_both_images_are_merged_one_to_one_the_best_first():
    visible = [person(0), person(100), person(200, label="car"), person(300)]
    lwir = [person(4), person(1), person(104), person(200), person(300, ignore=True), person(50)]
    # The second thermal box is nearer to the first visible one; 6 of 14 pixels are shared at an offset of 4.
    assert labels.merge(visible, lwir) == [*visible, lwir[0], *lwir[2:]]
    assert labels.merge([person(0), person(4)], [person(3)]) == [person(0), person(4)]
    assert labels.merge([person(0)], [person(3), person(3.4)]) == [person(0), person(3.4)]
    assert labels.merge([], lwir) == lwir


@pytest.mark.parametrize(
    ("found", "options", "expected"),
    [
        ("Pedestrian car", {}, "person car"),
        ("person people cyclist", {}, "person people cyclist"),
        ("People Car", {}, "person Car"),
        ("person PEOPLE rider", {"person_labels": "People, person"}, "person person rider"),
        ("person person? car", {"ignore_labels": ("person?",)}, "person ignore car"),
        ("person Person rider", {"person_labels": "rider"}, "other_person Person person"),
        ("person rider car", {"ignore_labels": "*", "person_labels": ["rider"]}, "ignore person ignore"),
    ],
)
def test_what_labels_become(found, options, expected):
    meanings = labels.choose_meanings(dict.fromkeys(found.split(), 1), config(**options))
    expected = [label.replace("_", " ") for label in expected.split()]
    assert meanings == dict(zip(found.split(), expected, strict=True))


def test_labels_that_only_options_name_are_told():
    options = config(person_labels="Walker, persn", ignore_labels="*, ppl")
    assert labels.unknown_labels({"walker": 3, "person": 2}, options) == ["persn", "ppl"]


def test_no_label_of_people_is_an_error_with_the_labels_found():
    message = (
        r"Found: car \(7\), bus \(2\)\. Expected one of: person, .*, people\. Name the labels of people with person_"
    )
    with pytest.raises(InputError, match=message):
        labels.choose_meanings({"bus": 2, "car": 7}, config())
    with pytest.raises(InputError, match=r"Found: no object at all\. Expected one of: walker\."):
        labels.choose_meanings({}, config(person_labels="walker"))


def test_regions_are_ignored_and_ignored_people_stay_so():
    meanings = {"Person": "person", "blurred": "ignore", "car": "car"}
    annotations = [person(0, label="Person", ignore=True), person(1, label="blurred"), person(2, label="car")]
    assert labels.apply_meanings(annotations, meanings) == [
        person(0, ignore=True),
        person(1, label="ignore", ignore=True),
        person(2, label="car"),
    ]


def read(files, registration=None, class_names=None, size=(320, 240), lwir_size=(160, 120)):
    files = {side: LabelFile(path) if not isinstance(path, LabelFile) else path for side, path in files.items()}
    return labels.read_labels(files, size, lwir_size, registration, class_names)


def test_thermal_labels_are_read_and_mapped_in_pixels_of_their_image(tmp_path):
    text = write(tmp_path / "a.txt", "0 0.5 0.5 0.25 0.5\n")
    expected = [Annotation("person", (120, 60, 80, 120))]
    for side in ("visible", "lwir", "pair"):
        found = read({side: text}, Registration(()), ["person"])
        assert (found.annotations, found.formats) == (expected, ["YOLO"])
    # The visible image shows the right half of the thermal one.
    found = read({"lwir": text}, Registration((80, 0, 160, 120)), ["person"])
    assert found.annotations == [Annotation("person", (-80, 60, 160, 120))]
    both = read({"visible": text, "lwir": text}, Registration(()), ["person"])
    assert (both.annotations, both.formats) == (expected, ["YOLO", "YOLO"])
    assert read({}) == ([], [], [])


def test_an_image_of_a_coco_file_may_state_another_size(tmp_path):
    content = Labels([person(1)], [], "COCO")
    files = [
        LabelFile(tmp_path / "c.json", CocoImage("a.png", size, content, 1)) for size in (None, (320, 240), (9, 8))
    ]
    results = [read({"pair": file}) for file in files]
    assert [found.annotations for found in results] == [[person(1)]] * 3
    text = f"{tmp_path}/c.json, a.png: 9x8 pixels, but the image has 320x240"
    assert [found.findings for found in results] == [[], [], [(OTHER_SIZE, text)]]


def test_yolo_labels_without_class_names_are_told_from_malformed_ones(tmp_path):
    with pytest.raises(NoClassNames, match=r"a\.txt: YOLO labels have numbers.*the option class_names"):
        read({"pair": write(tmp_path / "a.txt", "3 0.5 0.5 0.25 0.5\n")})
    with pytest.raises(InputError, match=r"b\.txt") as caught:
        read({"pair": write(tmp_path / "b.txt", "a word or two\n")})
    assert not isinstance(caught.value, NoClassNames)
    assert read({"pair": write(tmp_path / "c.txt", "")}) == ([], [], ["empty file"])
