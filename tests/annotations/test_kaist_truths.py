"""Annotations of many frames: missing and unreadable files, and the recognition of the improved set by its boxes."""

import collections
import tarfile
from pathlib import Path

import pytest

from dcrl_jax.annotations import coco
from dcrl_jax.annotations.kaist import folders, formats, frames
from dcrl_jax.annotations.kaist.truths import (
    IMPROVED_PEOPLE,
    IMPROVED_TEST,
    Truths,
    improved_roles,
    improved_videos,
    read_truths,
)
from dcrl_jax.annotations.types import MISSING, UNREADABLE, Annotation, Finding, checksum

KAIST = Path(__file__).resolve().parents[3] / "shared" / "kaist"
PERSON = Annotation("person", (505, 212, 20, 50), 1)


def write(root, **texts):
    files = {}
    for name, text in texts.items():
        files[name] = root / f"{name}.txt"
        files[name].write_bytes(text if isinstance(text, bytes) else text.encode())
    return files


def test_only_the_wanted_frames_are_read_in_their_order(tmp_path):
    row = "person 505 212 20 50 1 0 0 0 0 0 0\n"
    files = write(tmp_path, a=row, b="", c="people 1 2 3 4 0 0 0 0 0 1 0", d="not asked for")
    read = read_truths(files, iter("cab"))
    assert read == Truths({"c": [Annotation("people", (1, 2, 3, 4), 0, True)], "a": [PERSON], "b": []}, [], {"bbGt"})
    assert list(read.by_id) == ["c", "a", "b"]
    # Frames without objects have no format.
    files = write(tmp_path, a="", b="% bbGt version=3", c="<annotation/>", d="person 1 2 0 0 0 0 0 0 0 0 0")
    read = read_truths(files, files)
    assert read.by_id == {"a": [], "b": [], "c": [], "d": []}
    assert read.formats == frozenset()


def test_findings_name_their_file_and_rows_can_be_kept(tmp_path):
    text = "car 1 2 3 4 0 0 0 0 0 0 0\nperson 1 2 0 4 0 0 0 0 0 0 0"
    files = write(tmp_path, a=text, b="person 1 2 3 4", binary=b"\xff\xd8\xff\xe0", bad="person 1 2 3")
    files |= {"gone": tmp_path / "gone.txt"}
    for keep_rows, labels in ((False, ["car"]), (True, ["car", "person"])):
        read = read_truths(files, ["absent", *files], keep_rows)
        assert [one.label for one in read.by_id["a"]] == labels
        assert read.by_id["b"] == [Annotation("person", (1, 2, 2, 2))]
        assert [Finding(one.kind, one.text.partition(";")[0]) for one in read.findings] == [
            Finding(MISSING, "absent"),
            Finding(formats.UNKNOWN_LABEL, f"{tmp_path}/a.txt: 'car'"),
            Finding(formats.NO_SIZE, f"{tmp_path}/a.txt: person 1 2 0 4"),
            Finding(UNREADABLE, f"{tmp_path}/binary.txt:1: is not a text file"),
            Finding(UNREADABLE, f"{tmp_path}/bad.txt: 4 fields in the first line"),
            Finding(UNREADABLE, f"{tmp_path}/gone.txt: cannot be read (No such file or directory)"),
        ]
        assert set(read.by_id) == {"a", "b"}
        assert read.formats == {"bbGt", "corners"}


PEOPLE = [Annotation("person", (1.0, 2.0, 3.0, 4.0), 0), Annotation("person", (9.0, 2.0, 30.0, 40.5), 1)]
IMAGES = [PEOPLE, [Annotation("person", (5.0, 6.0, 7.0, 8.0), 2)], []]


def test_checksum_depends_on_every_number_and_on_the_order_of_images():
    # Not on the order within an image, labels or ignore.
    same = [[image[::-1] for image in IMAGES], [IMAGES[0], [IMAGES[1][0]._replace(box=(5, 6, 7, 8))], []]]
    same.append([[one._replace(label="people", ignore=True) for one in image] for image in IMAGES])
    assert {checksum(one) for one in same} == {checksum(IMAGES)}
    assert checksum([]) == checksum([[]]) == 0
    variants = [IMAGES[::-1], IMAGES[:-1], [*IMAGES, []], [IMAGES[0][1:], *IMAGES[1:]]]
    variants.append([IMAGES[0][1:], [*IMAGES[1], IMAGES[0][0]], []])
    for i, image in enumerate(IMAGES):
        for j, one in enumerate(image):
            changed = [one._replace(occlusion=(one.occlusion + 1) % 3)]
            changed += [one._replace(box=(*one.box[:k], one.box[k] + 1, *one.box[k + 1 :])) for k in range(4)]
            variants += [[*IMAGES[:i], [*image[:j], other, *image[j + 1 :]], *IMAGES[i + 1 :]] for other in changed]
    assert len(variants) == 20
    assert len({checksum(one) for one in [IMAGES, *variants]}) == 21


def test_only_complete_test_videos_are_compared():
    assert list(IMPROVED_TEST) == [video for video in frames.VIDEO_LENGTHS if frames.split_of(video) == "test"]
    assert list(IMPROVED_PEOPLE) == list(IMPROVED_TEST)
    assert len({*IMPROVED_TEST.values(), *IMPROVED_PEOPLE.values()}) == 32
    assert improved_videos({}) == (0, 0)
    empty = {image_id: [] for image_id in frames.split_frames("test")}
    assert improved_videos(empty) == (0, 16)
    del empty["set11/V001/I01539"]
    assert improved_videos(empty) == (0, 15)


@pytest.mark.skipif(not KAIST.is_dir(), reason=f"needs {KAIST}")
def test_changed_box_or_occlusion_makes_a_video_another():
    by_id = coco.read(KAIST / "KAIST_annotation.json").by_id
    assert list(by_id) == frames.split_frames("test")
    assert sum(map(len, by_id.values())) == 4254
    assert improved_videos(by_id) == (16, 16)
    image_id, image = next((key, image) for key, image in reversed(by_id.items()) if image)
    x, *sides = image[0].box
    for changed in ({"occlusion": (image[0].occlusion + 1) % 3}, {"box": (x + 1, *sides)}):
        changed = by_id | {image_id: [image[0]._replace(**changed), *image[1:]]}
        assert (improved_videos(changed), improved_roles(changed)) == ((15, 16), 15)
    # A label or a flag decides who counts, so the video is another one, though its boxes are the same.
    assert improved_roles(by_id) == 16
    for changed in ({"ignore": not image[0].ignore}, {"label": "tram"}):
        changed = by_id | {image_id: [image[0]._replace(**changed), *image[1:]]}
        assert (improved_videos(changed), improved_roles(changed)) == ((16, 16), 15)


@pytest.mark.slow
@pytest.mark.skipif(not KAIST.is_dir(), reason=f"needs {KAIST}")
def test_copied_new_annotations_are_the_improved_ones(tmp_path):
    wanted = {f"annotations-xml-new/{image_id}.xml" for image_id in frames.split_frames("test")}
    names = []
    with tarfile.open(KAIST / "annotations-xml-new.tar.xz") as archive:
        for member in archive:
            names += [member.name] if member.name.endswith(".xml") else []
            if member.name in wanted:
                (tmp_path / member.name).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / member.name).write_bytes(archive.extractfile(member).read())
    # The lengths of the videos are those of the published annotations.
    lengths = frames.VIDEO_LENGTHS.items()
    assert len(names) == 95_324
    assert set(names) == {f"annotations-xml-new/{video}/I{i:05}.xml" for video, n in lengths for i in range(n)}
    (folder,) = folders.index_annotations(tmp_path)
    assert folder.name == "annotations-xml-new"
    truths = read_truths(folder.files[None], frames.split_frames("test"))
    assert len(truths.by_id) == 2_252
    assert truths.formats == {"XML"}
    # Persons within a group of people, annotated on one image only, are in no published truth.
    assert collections.Counter(one.kind for one in truths.findings) == {formats.ONE_MODALITY: 17}
    # Here groups and cyclists have their own labels.
    assert (improved_videos(truths.by_id), improved_roles(truths.by_id)) == ((16, 16), 16)
    published = coco.read(KAIST / "KAIST_annotation.json").by_id
    assert checksum(list(published.values())) == checksum([truths.by_id[image_id] for image_id in published])
