"""Annotations of many frames: what is missing or unreadable is said, and the improved set is known by its boxes."""

import collections
import json
import random
import tarfile
from pathlib import Path

import pytest

from dcrl_jax.annotations.kaist import folders, formats, frames
from dcrl_jax.annotations.kaist.truths import IMPROVED_TEST, Truths, improved_videos, read_truths
from dcrl_jax.annotations.types import MISSING, UNREADABLE, Annotation, Finding, checksum

KAIST = Path(__file__).resolve().parents[3] / "shared" / "kaist"
PERSON = Annotation("person", (505, 212, 20, 50), 1)


def real(name):
    path = KAIST / name
    if not path.is_file():
        pytest.skip(f"needs {path}")
    return path


def write(root, **texts):
    files = {}
    for name, text in texts.items():
        files[name] = root / f"{name}.txt"
        files[name].write_bytes(text if isinstance(text, bytes) else text.encode())
    return files


def test_frames_are_read_in_the_order_asked_for_and_no_others(tmp_path):
    row = "person 505 212 20 50 1 0 0 0 0 0 0\n"
    files = write(tmp_path, a=row, b="", c="people 1 2 3 4 0 0 0 0 0 1 0", d="not asked for")
    read = read_truths(files, iter("cab"))
    assert read == Truths({"c": [Annotation("people", (1, 2, 3, 4), 0, True)], "a": [PERSON], "b": []}, [], {"bbGt"})
    assert list(read.by_id) == ["c", "a", "b"]


def test_frames_without_objects_have_no_format(tmp_path):
    files = write(tmp_path, a="", b="% bbGt version=3", c="<annotation/>", d="person 1 2 0 0 0 0 0 0 0 0 0")
    read = read_truths(files, files)
    assert read.by_id == {"a": [], "b": [], "c": [], "d": []}
    assert read.formats == frozenset()


def test_missing_and_unreadable_frames_are_left_out_and_found(tmp_path):
    files = write(tmp_path, a="person 1 2 3 4", binary=b"\xff\xd8\xff\xe0", bad="person 1 2 3", xml="<annotation>")
    files |= {"gone": tmp_path / "gone.txt", "folder": tmp_path}
    read = read_truths(files, ["absent", *files])
    assert read.by_id == {"a": [Annotation("person", (1, 2, 2, 2))]}
    assert read.findings[0] == Finding(MISSING, "absent")
    expected = [
        f"{tmp_path}/binary.txt: is not a text file",
        f"{tmp_path}/bad.txt: 4 fields in the first line; expected bbGt text",
        f"{tmp_path}/xml.txt: not well-formed XML: no element found",
        f"{tmp_path}/gone.txt: cannot be read (No such file or directory)",
        f"{tmp_path}: cannot be read (Is a directory)",
    ]
    assert [one.kind for one in read.findings[1:]] == [UNREADABLE] * 5
    for finding, text in zip(read.findings[1:], expected, strict=True):
        assert finding.text.startswith(text)


def test_findings_of_a_file_name_it_and_rows_are_kept_if_asked(tmp_path):
    text = "car 1 2 3 4 0 0 0 0 0 0 0\nperson 1 2 0 4 0 0 0 0 0 0 0"
    files = write(tmp_path, a=text, b="person 1 2 3 4")
    for keep_rows, labels in ((False, ["car"]), (True, ["car", "person"])):
        read = read_truths(files, "ab", keep_rows)
        assert [one.label for one in read.by_id["a"]] == labels
        assert read.findings == [
            Finding(formats.UNKNOWN_LABEL, f"{tmp_path}/a.txt: 'car'"),
            Finding(formats.NO_SIZE, f"{tmp_path}/a.txt: person 1 2 0 4"),
        ]
        assert read.formats == {"bbGt", "corners"}


def images():
    """Fifty boxes on ten images, one of them empty."""
    rng = random.Random(0)
    found = [[] for _ in range(10)]
    for _ in range(50):
        box = tuple(float(rng.randrange(1, 400)) for _ in range(4))
        found[rng.randrange(9)].append(Annotation("person", box, rng.randrange(3)))
    return found


def test_checksum_leaves_order_within_an_image_labels_and_ignore_aside():
    first = images()
    assert checksum([image[::-1] for image in first]) == checksum(first)
    assert checksum([[one._replace(label="people", ignore=True) for one in image] for image in first]) == checksum(
        first
    )
    whole = [[one._replace(box=tuple(map(int, one.box))) for one in image] for image in first]
    assert checksum(whole) == checksum(first)


def test_checksum_changes_with_every_number_and_occlusion_level():
    first = images()
    sums = {checksum(first)}
    count = 1
    for i, image in enumerate(first):
        for j, one in enumerate(image):
            changed = [one._replace(occlusion=(one.occlusion + 1) % 3)]
            changed += [one._replace(box=(*one.box[:k], one.box[k] + 1, *one.box[k + 1 :])) for k in range(4)]
            for other in changed:
                sums.add(checksum([*first[:i], [*image[:j], other, *image[j + 1 :]], *first[i + 1 :]]))
                count += 1
    assert count == 251
    assert len(sums) == count


def test_checksum_changes_with_order_and_number_of_images_and_boxes():
    first = images()
    moved = [first[0][1:], [*first[1], first[0][0]], *first[2:]]
    others = (first[::-1], first[:-1], [*first, []], [first[0][1:], *first[1:]], moved, [[*first[0], first[0][0]]])
    assert len({checksum(one) for one in (first, *others)}) == 7
    assert checksum([]) == checksum([[]]) == 0


def test_improved_checksums_are_of_all_test_videos():
    assert list(IMPROVED_TEST) == [video for video in frames.VIDEO_LENGTHS if frames.split_of(video) == "test"]
    assert len(set(IMPROVED_TEST.values())) == 16


def test_no_video_is_compared_where_no_frame_is_there():
    assert improved_videos({}) == (0, 0)


def test_complete_videos_of_other_boxes_are_not_the_improved_ones():
    assert improved_videos({image_id: [] for image_id in frames.split_frames("test")}) == (0, 16)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """The annotation files of all test frames, unpacked."""
    path = real("annotations-xml-new.tar.xz")
    root = tmp_path_factory.mktemp("kaist")
    wanted = {f"annotations-xml-new/{image_id}.xml" for image_id in frames.split_frames("test")}
    with tarfile.open(path) as archive:
        for member in archive:
            if member.name in wanted:
                (root / member.name).parent.mkdir(parents=True, exist_ok=True)
                (root / member.name).write_bytes(archive.extractfile(member).read())
    return root


@pytest.fixture(scope="module")
def files(tree):
    (found,) = folders.index_annotations(tree)
    assert found.name == "annotations-xml-new"
    return found.files[None]


@pytest.fixture(scope="module")
def truths(files):
    return read_truths(files, frames.split_frames("test"))


def test_copied_new_annotations_are_the_improved_ones(truths):
    assert len(truths.by_id) == 2_252
    assert truths.formats == {"XML"}
    # Persons within a group of people, annotated on one image alone, are in no published truth.
    assert collections.Counter(one.kind for one in truths.findings) == {formats.ONE_MODALITY: 17}
    assert improved_videos(truths.by_id) == (16, 16)


def test_one_box_moved_by_a_pixel_makes_its_video_another(truths, files, tmp_path):
    image_id = "set06/V000/I00019"
    text = files[image_id].read_text()
    changed = tmp_path / "I00019.xml"
    changed.write_text(text.replace("<x>505</x>", "<x>506</x>"))
    assert changed.read_text() != text
    read = read_truths({image_id: changed}, [image_id])
    assert improved_videos(truths.by_id | read.by_id) == (15, 16)


def test_one_other_occlusion_level_makes_its_video_another(truths):
    image_id, image = next((key, image) for key, image in reversed(truths.by_id.items()) if image)
    first = image[0]._replace(occlusion=(image[0].occlusion + 1) % 3)
    assert improved_videos(truths.by_id | {image_id: [first, *image[1:]]}) == (15, 16)


def test_video_with_a_frame_missing_is_not_compared(truths, files):
    image_ids = frames.split_frames("test")
    read = read_truths({key: path for key, path in files.items() if key != "set11/V001/I01539"}, image_ids)
    assert read.findings[-1] == Finding(MISSING, "set11/V001/I01539")
    assert improved_videos(read.by_id) == (15, 15)


def test_improved_annotations_in_coco_manner_are_the_improved_ones(truths):
    content = json.loads(real("KAIST_annotation.json").read_text())
    labels = {category["id"]: category["name"] for category in content["categories"]}
    ids = {image["id"]: image["im_name"] for image in content["images"]}
    by_id = {image_id: [] for image_id in ids.values()}
    for one in content["annotations"]:
        annotation = Annotation(
            labels[one["category_id"]], tuple(map(float, one["bbox"])), one["occlusion"], bool(one["ignore"])
        )
        by_id[ids[one["image_id"]]].append(annotation)
    assert improved_videos(by_id) == (16, 16)
    assert checksum(list(by_id.values())) == checksum([truths.by_id[image_id] for image_id in by_id])
