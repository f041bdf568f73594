"""Annotations of many frames: missing and unreadable files, and the recognition of the improved set by its boxes."""

import collections
import tarfile
from pathlib import Path

import pytest

from dcrl_jax.annotations import coco
from dcrl_jax.annotations.kaist import folders, formats, frames
from dcrl_jax.annotations.kaist.truths import IMPROVED_TEST, Truths, improved_videos, read_truths
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


def test_frames_without_objects_have_no_format(tmp_path):
    files = write(tmp_path, a="", b="% bbGt version=3", c="<annotation/>", d="person 1 2 0 0 0 0 0 0 0 0 0")
    read = read_truths(files, files)
    assert read.by_id == {"a": [], "b": [], "c": [], "d": []}
    assert read.formats == frozenset()


def test_missing_and_unreadable_frames_are_findings(tmp_path):
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


def test_findings_name_their_file_and_rows_can_be_kept(tmp_path):
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


IMAGES = [
    [Annotation("person", (1.0, 2.0, 3.0, 4.0), 0), Annotation("person", (9.0, 2.0, 30.0, 40.5), 1)],
    [Annotation("person", (5.0, 6.0, 7.0, 8.0), 2)],
    [],
]


def test_checksum_does_not_depend_on_order_within_an_image_labels_or_ignore():
    expected = checksum(IMAGES)
    assert checksum([image[::-1] for image in IMAGES]) == expected
    assert checksum([[one._replace(label="people", ignore=True) for one in image] for image in IMAGES]) == expected
    assert checksum([IMAGES[0], [IMAGES[1][0]._replace(box=(5, 6, 7, 8))], []]) == expected
    assert checksum([]) == checksum([[]]) == 0


def test_checksum_depends_on_every_number_and_on_order_and_number_of_images():
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
    assert len(set(IMPROVED_TEST.values())) == 16
    assert improved_videos({}) == (0, 0)
    assert improved_videos({image_id: [] for image_id in frames.split_frames("test")}) == (0, 16)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The annotation files of all test frames, unpacked."""
    path = KAIST / "annotations-xml-new.tar.xz"
    if not path.is_file():
        pytest.skip(f"needs {path}")
    root = tmp_path_factory.mktemp("kaist")
    wanted = {f"annotations-xml-new/{image_id}.xml" for image_id in frames.split_frames("test")}
    names = []
    with tarfile.open(path) as archive:
        for member in archive:
            names += [member.name] if member.name.endswith(".xml") else []
            if member.name in wanted:
                (root / member.name).parent.mkdir(parents=True, exist_ok=True)
                (root / member.name).write_bytes(archive.extractfile(member).read())
    # The lengths of the videos are those of the published annotations.
    lengths = frames.VIDEO_LENGTHS.items()
    assert len(names) == 95_324
    assert set(names) == {f"annotations-xml-new/{video}/I{i:05}.xml" for video, n in lengths for i in range(n)}
    (found,) = folders.index_annotations(root)
    assert found.name == "annotations-xml-new"
    return found.files[None]


@pytest.fixture(scope="module")
def truths(files):
    return read_truths(files, frames.split_frames("test"))


def test_copied_new_annotations_are_the_improved_ones(truths):
    assert len(truths.by_id) == 2_252
    assert truths.formats == {"XML"}
    # Persons within a group of people, annotated on one image only, are in no published truth.
    assert collections.Counter(one.kind for one in truths.findings) == {formats.ONE_MODALITY: 17}
    assert improved_videos(truths.by_id) == (16, 16)


def test_video_with_one_changed_box_or_occlusion_is_not_improved(truths, files, tmp_path):
    image_id = "set06/V000/I00019"
    text = files[image_id].read_text()
    (tmp_path / "I00019.xml").write_text(text.replace("<x>505</x>", "<x>506</x>"))
    moved = read_truths({image_id: tmp_path / "I00019.xml"}, [image_id]).by_id
    assert moved != {image_id: truths.by_id[image_id]}
    assert improved_videos(truths.by_id | moved) == (15, 16)
    image_id, image = next((key, image) for key, image in reversed(truths.by_id.items()) if image)
    first = image[0]._replace(occlusion=(image[0].occlusion + 1) % 3)
    assert improved_videos(truths.by_id | {image_id: [first, *image[1:]]}) == (15, 16)


def test_incomplete_video_is_not_compared(truths):
    assert improved_videos({key: image for key, image in truths.by_id.items() if key != "set11/V001/I01539"}) == (
        15,
        15,
    )


def test_published_coco_file_has_the_same_boxes(truths):
    by_id = coco.read(KAIST / "KAIST_annotation.json").by_id
    assert checksum(list(by_id.values())) == checksum([truths.by_id[image_id] for image_id in by_id])
