"""What the tests of the KAIST command share: three images of one person each, and what the command prints."""

import json
import re
from pathlib import Path

import pytest

from dcrl_jax.evaluation import kaist

ROOT = Path(__file__).resolve().parents[2]
REAL = ROOT.parent / "shared" / "kaist"

IDS = ("set06/V000/I00019", "set06/V000/I00039", "set09/V000/I00019")
PERSON = (100, 100, 25, 60)
SUBSETS = (
    "reasonable-all",
    "reasonable-day",
    "reasonable-night",
    "scale-near",
    "scale-medium",
    "scale-far",
    "occlusion-none",
    "occlusion-partial",
    "occlusion-heavy",
)


def write_coco(path, ids=IDS, boxes=(PERSON, PERSON, PERSON)):
    """One person an image."""
    content = {
        "images": [{"id": place, "im_name": image_id} for place, image_id in enumerate(ids)],
        "annotations": [
            {"image_id": place, "category_id": 1, "bbox": box, "occlusion": 0, "ignore": 0}
            for place, box in enumerate(boxes)
        ],
        "categories": [{"id": 1, "name": "person"}],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def write_tree(folder, ids=IDS, box=PERSON, suffix=".txt", label="person"):
    """bbGt files in folders of videos, one person each."""
    for image_id in ids:
        path = folder / f"{image_id}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("% bbGt version=3\n" + f"{label} {' '.join(map(str, box))} 0 0 0 0 0 0 0\n")
    return folder


def write_results(path, *rows):
    """Rows of image (from 1), box and score."""
    path.write_text("".join(f"{image},{','.join(map(str, box))},{score}\n" for image, box, score in rows))
    return path


def main(annotations, results, *options):
    many = [f"--annotations={path}" for path in ([annotations] if isinstance(annotations, Path) else annotations)]
    many += [f"--results={path}" for path in ([results] if isinstance(results, Path) else results)]
    kaist.main([*many, *options])


def fails(capsys, *arguments):
    """The message of a command that ends with status 1."""
    with pytest.raises(SystemExit) as stopped:
        main(*arguments)
    assert stopped.value.code == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    return printed.err


def rates(printed):
    """The numbers of every row of the tables, by the row's name, in order."""
    found = {}
    for line in printed.splitlines():
        name, *values = line.split() or [""]
        if len(values) == 9 and all(re.fullmatch(r"-|[\d.]+", value) for value in values):
            found.setdefault(name, []).append(values)
    return found


def lines(printed):
    return [line for line in printed.splitlines() if line]
