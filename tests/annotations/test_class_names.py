"""YOLO's class names: which files have them, in which forms, and which are refused."""

import pytest

from dcrl_jax.annotations.class_names import find_class_names
from dcrl_jax.errors import InputError


def find(tmp_path, **texts):
    """Write files, whose names have _ for . and __ for /, and find the class names."""
    files = {}
    for key, text in texts.items():
        name = key.replace("__", "/").replace("_", ".")
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        files[name] = path
    return find_class_names(files)


NAMES = ["person", "traffic light", "Fußgänger"]
TEXT = "person\ntraffic light\nFußgänger\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *((name, TEXT) for name in ("classes_txt", "Classes_TXT", "labels__classes_txt", "obj_names", "coco_names")),
        *((name, TEXT) for name in ("labels_txt", "train__darknet_labels")),
        ("classes_txt", "\ufeff" + TEXT.replace("\n", " \r\n") + "\r\n\r\n"),
        ("classes_txt", "0 person\n1 traffic light\n2 Fußgänger"),
        ("classes_txt", "0: person\n1: traffic light\n2: Fußgänger"),
        ("data_yaml", "train: ../train\nnc: 3\nnames: ['person', \"traffic light\", Fußgänger]\n"),
        (
            "data_yaml",
            "\ufeffnames:\r\n- person\r\n- traffic light\r\n- Fußgänger\r\n\r\nroboflow:\r\n  v: 1\r\n",
        ),
        ("dataset_yml", "# mine\nnames:\n  0: person\n  2: Fußgänger\n  1: traffic light  # red\n"),
        ("cfg__own_YAML", '{\n"names": {0: person, 1: traffic light, 2: Fußgänger}}'),
    ],
)
def test_names_are_read_in_every_form(tmp_path, name, text):
    key = name.replace("__", "/").replace("_", ".")
    assert find(tmp_path, **{name: text}) == (NAMES, key)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("names: [no, yes, 1, 1.10, null]", ["no", "yes", "1", "1.10", "null"]),
        ("names: {0: off}\nnc: 1", ["off"]),
    ],
)
def test_words_of_yaml_stay_words(tmp_path, text, names):
    assert find(tmp_path, data_yaml=text) == (names, "data.yaml")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("readme_txt", TEXT),
        ("train_txt", "images/1.jpg\n"),
        ("labels_txt", "0 0.5 0.5 0.1 0.1\n"),
        ("labels_txt", "person 505 212 20 50 0 0 0 0 0 0 0\n"),
        ("labels_txt", "images/1.jpg person\n"),
        ("labels_txt", "1.jpg person\n"),
        ("labels_txt", ""),
        ("args_yaml", "model: yolo.pt\nlr0: [0.1\n"),
        ("args_yaml", "model:\n  names: [person]\n"),
    ],
)
def test_other_files_have_no_names(tmp_path, name, text):
    assert find(tmp_path, **{name: text}) is None


def test_first_of_equal_files_is_named_and_different_ones_are_refused(tmp_path):
    yaml = f"names: {NAMES}"
    assert find(tmp_path, val__classes_txt=TEXT, train__classes_txt=TEXT, data_yaml=yaml) == (NAMES, "data.yaml")
    with pytest.raises(InputError) as caught:
        find(tmp_path, val__classes_txt="car\nperson", data_yaml=yaml, obj_names=TEXT)
    assert str(caught.value) == (
        f"{tmp_path}/val/classes.txt: the class names car, person are not those of {tmp_path}/data.yaml, person, "
        "traffic light, Fußgänger. Delete the wrong file"
    )


# Lists of lists, whose text has 10^30 characters.
LAUGHS = "names: [" + ", ".join(f"&a{n} [{', '.join([f'*a{n - 1}' if n else 'x'] * 10)}]" for n in range(30)) + "]"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("classes_txt", "", ":1: an empty line instead of the name of class 0"),
        ("obj_names", "person\n\ncar\n", ":2: an empty line instead of the name of class 1"),
        ("data_yaml", "names: [person\nnc: 1", ":2: not valid YAML: "),
        ("data_yaml", "names: \x01", r":1: has the control character '\\x01'"),
        ("data_yaml", "names: " + "[" * 100_000, ":1: not valid YAML: exceeded maximum nesting depth"),
        ("data_yaml", "names:", ": names is neither a list of class names nor names by number: "),
        ("data_yaml", "names: []", ": names is neither"),
        ("data_yaml", "names: coco.names", ": names is neither .*: 'coco.names'"),
        ("data_yaml", "names: [person, [car]]", ": names is neither"),
        ("data_yaml", "names: [person, '']", ": names is neither"),
        ("data_yaml", "- 1\nnames: [person]", ":2: not valid YAML"),
        ("data_yaml", r'names: [a, "per\nson", "\e[1m"]', r": the class name 'per\\nson' has a line break"),
        ("data_yaml", "names: {0: person, 2: car}", ": names has the numbers 0, 2; expected 0 to 1"),
        ("data_yaml", "names: {person: 0, car: 1}", ": names has the numbers person, car; expected 0 to 1"),
        ("data_yaml", "names: [person, car]\nnc: 3", ": nc is '3', but names has 2 class names"),
        ("data_yaml", "names: [person]\nnames: [car]", ":2: not valid YAML: 'names' is there twice"),
        ("data_yaml", "names: {0: person,\n 1: car,\n 0: dog}", ":3: not valid YAML: '0' is there twice"),
        ("data_yaml", LAUGHS, r": names is neither .*: \[\['x', 'x'"),
        ("data_yaml", f"names: [person]\nnc: {LAUGHS[7:]}", r": nc is \[\['x', 'x', 'x'"),
    ],
)
def test_malformed_files_are_refused(tmp_path, name, text, message):
    with pytest.raises(InputError, match=rf"{name.replace('_', '.')}{message}"):
        find(tmp_path, **{name: text})
