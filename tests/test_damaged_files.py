"""Readers of annotations, results and lists on damaged files: usable values, or one message that names the file."""

import json
import os
import random
import re

import numpy as np
import pytest
from nightowls_files import CATEGORIES, annotation, image

from dcrl_jax.annotations import coco, coco_files, nightowls
from dcrl_jax.annotations.kaist import frames
from dcrl_jax.errors import InputError
from dcrl_jax.evaluation.caltech_results import read_caltech
from dcrl_jax.evaluation.image_names import listed_images
from dcrl_jax.evaluation.results import read_categories, read_results
from dcrl_jax.pairs.lists import read_rows
from dcrl_jax.registration import read_registration

IDS = ["set06/V000/I00029", "set06/V000/I00059"]
PIECES = [
    *("null", "true", "false", "0", "-1", "1.5", "1e7", "1e400", "NaN", "inf", '""', '"1"', "[]", "{}", "person"),
    *("9" * 400, "9" * 5000, "[" * 2000, '{"a":' * 2000, "a" * 5000, "1_0", "\u0661", '"a\\u0000b"', '"\\ud800"'),
    *("\u2028", "\ufeff", "\x00", "\x1b", '"', "'", ",", ";", ":", "\t", "\n", "\r", "#", "%", "}", "]", IDS[0]),
]
KAIST = {
    "images": [{"id": 0, "im_name": "set06/V000/I00019"}, {"id": 1, "file_name": "set06_V000_I00039.png"}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "occlusion": 1, "ignore": 0}],
    "categories": [{"id": 1, "name": "person"}],
}
NIGHTOWLS = {"images": [image(5)], "annotations": [annotation(5, (1, 2, 3, 4))], "categories": CATEGORIES}
RESULTS = [{"image_id": index, "category_id": 1, "bbox": [1, 2, 3, 4.5], "score": 0.5} for index in range(2)]
TEXT = "1,1,2,3,4.5,0.5\n2,1,2,3,4.5,0.25\n"


def people(path):
    return [entry.box for objects in coco.read(path).by_id.values() for entry in objects]


def objects(path):
    return [entry.box for image in coco_files.read(path) for entry in image.labels.annotations]


def owls(path):
    return [entry.box for image in nightowls.read(path) for entry in image.objects]


def detections(path):
    return [row for image in read_results(path, IDS).values() for row in image.boxes]


def categories(path):
    return [row for found in read_categories(path, IDS).values() for image in found.values() for row in image.boxes]


def caltech(path):
    return [row for image in read_caltech(path.parent.parent, IDS).values() for row in image.boxes]


def names(path):
    assert set(listed_images(path.parent / "results", IDS) or ()) <= {*path.read_text("utf-8-sig").split()}
    return []


def pairs(path):
    assert all("\n" not in cell for row in read_rows(path, ("visible", "lwir"), (), []) for cell in row.cells.values())
    return []


def frame_list(path):
    assert all(map(frames.is_known, frames.read_list(path)))
    return []


def registration(path):
    assert len(read_registration(str(path), path.parent).numbers) in (4, 9)
    return []


READERS = {
    "KAIST": ("a.json", json.dumps(KAIST), people),
    "COCO": ("a.json", json.dumps(KAIST), objects),
    "NightOwls": ("a.json", json.dumps(NIGHTOWLS), owls),
    "results": ("a.json", json.dumps(RESULTS), detections),
    "results of categories": ("a.json", json.dumps(RESULTS), categories),
    "text results": ("a.txt", TEXT, detections),
    "Caltech's results": ("set06/V000.txt", TEXT.replace("1,1", "30,1"), caltech),
    "list of images": ("images.txt", "\n".join(IDS), names),
    "list of frames": ("a.txt", "set06/V000/I00019\nset06_V000_I00039\n", frame_list),
    "list of pairs": ("a.csv", 'visible,lwir\n"a,1.png",b.png\nc.png,d.png\n', pairs),
    "registration": ("a.txt", "# H\n1.1 0 3\n0 1.1 2\n0 0 1\n", registration),
    "registration in JSON": ("a.json", "[[1.1, 0, 3], [0, 1.1, 2], [0, 0, 1]]", registration),
}


def damage(rng, text):
    """Return a text with up to three tokens, characters or lines dropped, replaced, moved or doubled."""
    parts = re.findall(rng.choice([r'"[^"]*"|[\w.]+|\W', r"(?s).", r"[^\n]*\n?"]), text)
    for _ in range(rng.randint(1, 3)):
        first, second = rng.randrange(len(parts)), rng.randrange(len(parts))
        piece = rng.choice(PIECES)
        parts[first] = rng.choice(["", piece, parts[second], piece + parts[first], parts[first] * 2])
    content = "".join(parts).encode("utf-8", "surrogatepass")
    return content[: rng.randrange(len(content) + 1)] if rng.random() < 0.1 else content


@pytest.mark.parametrize(("name", "text", "read"), READERS.values(), ids=READERS)
def test_a_damaged_file_gives_usable_values_or_one_message(tmp_path, name, text, read):
    rng = random.Random(text)
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    read(path)
    messages = []
    for _ in range(100):
        path.write_bytes(damage(rng, text))
        try:
            boxes = np.array(read(path), np.float64).reshape(-1, 4)
        except InputError as error:
            messages.append(str(error))
        else:
            assert (np.abs(boxes) <= 1e6).all()
    assert len(messages) > 30
    assert all(str(path) in message or str(path.parent) in message for message in messages)
    assert max(map(len, messages)) < 2000


@pytest.mark.parametrize("reader", sorted(READERS.keys() - {"list of images"}))  # which is as good as absent
def test_a_pipe_is_refused_without_waiting_for_its_writer(tmp_path, reader):
    name, _, read = READERS[reader]
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    os.mkfifo(path)
    with pytest.raises(InputError, match=r"neither a file nor a folder|no such file"):
        read(path)


@pytest.mark.parametrize("name", [name for name, (file, _, _) in READERS.items() if file == "a.json"][:5])
def test_every_key_that_is_there_twice_is_refused(tmp_path, name):
    _, text, read = READERS[name]
    path = tmp_path / "a.json"
    keys = list(re.finditer(r'"(\w+)": (?=([-\d.]+|"[^"]*"|null|false|\[[-\d., ]*\]))', text))
    assert len(keys) >= 8
    for match in keys:
        path.write_text(f"{text[: match.start()]}{match[0]}{match[2]}, {text[match.start() :]}")
        with pytest.raises(InputError, match=rf"a\.json:1: not valid JSON.*'{match[1]}' is there 2 times"):
            read(path)
