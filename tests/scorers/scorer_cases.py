"""What the tests of the scorers share: three images of KAIST with one person each, and the printed lines."""

import json
import re
from pathlib import Path

import pytest

from dcrl_jax.scorers import kaist

ROOT = Path(__file__).resolve().parents[2]

IDS = ("set06/V000/I00019", "set06/V000/I00039", "set09/V000/I00019")
PERSON = (100, 100, 25, 60)
REASONABLE = ("reasonable-all", "reasonable-day", "reasonable-night")


def write_coco(path, ids=IDS):
    """Write a COCO file with one person per image."""
    images = [{"id": index, "im_name": image_id} for index, image_id in enumerate(ids)]
    person = {"category_id": 1, "bbox": PERSON, "occlusion": 0, "ignore": 0}
    annotations = [{"image_id": image["id"], **person} for image in images]
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def write_results(path, *rows):
    """Write rows of image (from 1), box and score."""
    path.write_text("".join(f"{image},{','.join(map(str, box))},{score}\n" for image, box, score in rows))
    return path


def run_kaist(annotations, results, *options):
    """Run the command on one or several paths of each kind."""
    flags = [f"--annotations={path}" for path in ([annotations] if isinstance(annotations, Path) else annotations)]
    flags += [f"--results={path}" for path in ([results] if isinstance(results, Path) else results)]
    kaist.main([*flags, *options])


def fails(capsys, *arguments):
    """Return the message of a command that ends with status 1."""
    with pytest.raises(SystemExit) as stopped:
        run_kaist(*arguments)
    assert stopped.value.code == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    return printed.err


def rates(printed):
    """Return the numbers of all rows of the tables, by the row's name, in their order."""
    found = {}
    for line in printed.splitlines():
        name, *values = line.split() or [""]
        if len(values) == 9 and all(re.fullmatch(r"-|[\d.]+", value) for value in values):
            found.setdefault(name, []).append(values)
    return found


def lines(printed):
    """Return the lines that are not empty."""
    return [line for line in printed.splitlines() if line]
