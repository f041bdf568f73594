"""Caltech's frames, its .vbb files, its new texts and the toolbox's truths."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from caltech_files import NOWHERE, write_vbb

from dcrl_jax.annotations.caltech import bbgt, folders, frames, occlusion, truths, vbb
from dcrl_jax.annotations.types import Annotation
from dcrl_jax.errors import InputError

REAL = Path(__file__).resolve().parents[2].parent / "shared" / "caltech"


def save(path, **content):
    with path.open("wb") as file:
        scipy.io.savemat(file, content)
    return path


def test_test_images_are_4024_every_thirtieth_frame_of_66_videos():
    image_ids = frames.test_frames()
    assert len(image_ids) == len(set(image_ids)) == 4024
    assert image_ids == sorted(image_ids)
    assert image_ids[:2] == ["set06/V000/I00029", "set06/V000/I00059"]
    assert image_ids[-1] == "set10/V011/I01709"
    counts = Counter(image_id[:5] for image_id in image_ids)
    assert counts == {"set06": 1155, "set07": 746, "set08": 657, "set09": 738, "set10": 728}
    assert {frames.number_of(image_id) % 30 for image_id in image_ids} == {29}
    assert frames.video_of(image_ids[0]) == "set06/V000"
    train = frames.VIDEOS["train"]
    assert (len(train), len(frames.VIDEOS["test"])) == (71, 66)
    assert (train[0], train[-1]) == ("set00/V000", "set05/V012")
    assert [video in train for video in ("set01/V005", "set01/V006")] == [True, False]
    # The images of a video are the last of each run.
    runs = {(89, 30): [29, 59], (90, 30): [29, 59, 89], (9, 3): [2, 5, 8]}
    assert {arguments: list(frames.numbers(*arguments)) for arguments in runs} == runs


@pytest.mark.parametrize(
    ("visible", "level"),
    [
        *(((0, 0, 0, 0), 0), ((10, 10, 20, 50), 2), ((10, 10, 20, 65), 1), ((10, 10, 20, 64.9), 2)),
        *(((10, 10, 13, 100), 1), ((10, 10, 1, 1), 2), ((10, 10, 20, 110), 1)),
    ],
)
def test_level_of_occlusion_is_given_by_the_visible_share_of_the_area(visible, level):
    # The area is 2,000 square pixels; 65 % are 1,300.
    assert occlusion.level((10, 10, 20, 100), visible) == level
    assert occlusion.level((10, 10, 0, 100), (10, 10, 5, 5)) == 2


def test_vbb_gives_the_objects_of_each_frame(tmp_path):
    person_fa = ("person-fa", (1, 2, 3, 4), (1, 2, 3, 3))
    doubtful = [("person?", (-5, 2, 30, 60), NOWHERE), ("person", (10, 20, 20, 100), (10, 20, 20, 64))]
    people = [("person", (10.5, 20.25, 30, 60), NOWHERE), ("people", (1, 2, 3, 4), NOWHERE)]
    assert vbb.read(write_vbb(tmp_path / "V000.vbb", [[], people, [], doubtful, [person_fa]])) == [
        [],
        [Annotation("person", (10.5, 20.25, 30, 60), 0, False), Annotation("people", (1, 2, 3, 4), 0, False)],
        [],
        [Annotation("person?", (-5, 2, 30, 60), 0, False), Annotation("person", (10, 20, 20, 100), 2, False)],
        [Annotation("person-fa", (1, 2, 3, 4), 1, False)],
    ]
    # A fully visible person that is marked as occluded is partially occluded here and heavily in a text.
    path = write_vbb(tmp_path / "V000.vbb", [[("person", (10, 20, 30, 60), (10, 20, 30, 60))]])
    assert vbb.read(path)[0][0].occlusion == 1
    assert bbgt.parse("person 10 20 30 60 1 10 20 30 60 0 0")[0].occlusion == 2


def test_cut_off_or_absent_file_is_no_vbb(tmp_path):
    path = tmp_path / "V000.vbb"
    with pytest.raises(InputError, match=r"V000\.vbb: cannot be read \(No such file"):
        vbb.read(path)
    content = write_vbb(path, [[("person", (10, 20, 30, 60), NOWHERE)]] * 5).read_bytes()
    for length in range(0, len(content) - 100, 293):
        path.write_bytes(content[:length])
        with pytest.raises(InputError, match=r"V000\.vbb: "):
            vbb.read(path)


def damaged(name, value, fields=("id", "pos", "posv"), frames=1.0):
    lists, labels = np.empty((1, 1), object), np.empty((1, 1), object)
    labels[0, 0] = "person"
    entry = {"id": 1.0, "pos": np.array([[1.0, 2, 3, 4]]), "posv": np.zeros((1, 4)), name: value}
    lists[0, 0] = np.zeros((1, 1), [(key, object) for key in fields])
    lists[0, 0][0, 0] = tuple(entry[key] for key in fields)
    return {"A": {"nFrame": frames, "objLists": lists, "objLbl": labels}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"gt": np.zeros(3)}, "expected a struct A with nFrame, objLists, objLbl"),
        ({"A": {"nFrame": 3.0}}, "expected a struct A with"),
        (damaged("id", 2.0), "frame 0: object 2 with pos"),
        (damaged("id", "one"), "frame 0: an object is malformed"),
        (damaged("pos", np.zeros((1, 3))), "frame 0: object 1 with pos"),
        (damaged("pos", np.array([[1, 2, 3, np.nan]])), "frame 0: object 1 with pos"),
        (damaged("pos", np.array([[-1e39, -1e39, 2e39, 2e39]])), "frame 0: object 1 with pos"),
        (damaged("pos", np.ones((1, 2**20))), "frame 0: an object is malformed .too many numbers"),
        (damaged("id", 1.7), "frame 0: object 1.7 with pos"),
        (damaged("id", 1.0, frames=1.9), "annotations of 1 frames, but nFrame says 1.9"),
        (damaged("posv", np.zeros((0, 0))), r"posv \(\); expected an id from 1 to 1 and four numbers each"),
        (damaged("id", 1.0, ("id", "pos")), "frame 0: expected objects with id, pos, posv"),
        (damaged("id", 1.0, frames=2.0), "annotations of 1 frames, but nFrame says 2"),
        (damaged("id", 1.0, frames=np.zeros((2, 2))), "its struct A is malformed"),
    ],
)
def test_damaged_objects_of_a_vbb_are_named(tmp_path, content, message):
    with pytest.raises(InputError, match=message):
        vbb.read(save(tmp_path / "V000.vbb", **content))


def test_text_gives_the_level_of_the_visible_share():
    # Without the occlusion flag, or without a visible part, a person is not occluded.
    visible = {"0 0 0 0 0": 0, "1 10 20 20 65": 1, "1 10 20 20 64": 2, "0 10 20 20 10": 0, "1 0 0 0 0": 0}
    lines = [f"person 10 20 20 100 {part} 0 0\n" for part in visible]
    *people, ignored = bbgt.parse("".join(["% bbGt version=3\n", *lines, "ignore 1 2 3 4 0 0 0 0 0 1 0\n"]))
    assert people == [Annotation("person", (10, 20, 20, 100), level, False) for level in visible.values()]
    assert ignored == Annotation("ignore", (1, 2, 3, 4), 0, True)
    with pytest.raises(InputError, match="line 2: 5 fields instead of 12"):
        bbgt.parse("% bbGt version=3\nperson 1 2 3 4\n")


def test_texts_that_are_missing_or_unreadable_are_findings(tmp_path):
    for number, content in {29: b"", 59: b"person 1 2 3 4\n", 89: b"\xff\xfe\xff"}.items():
        (tmp_path / f"set06_V000_I{number:05d}.txt").write_bytes(content)
    by_number, findings = truths.read_video("set06/V000", (29, 59, 89, 119), folders.index(tmp_path), "new")
    assert by_number == {29: []}
    assert [(one.kind, one.text.removeprefix(f"{tmp_path}/")[:40]) for one in findings] == [
        ("annotation unreadable", "set06_V000_I00059.txt: line 1: 5 fields "),
        ("annotation unreadable", "set06_V000_I00089.txt:1: is not a text f"),
        ("annotation missing", "set06/V000/I00119"),
    ]


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def test_files_are_found_in_any_parent_folders(tmp_path):
    touch(tmp_path, "videos/set00/V000.seq", "set06/V001.seq", "annotations/set00/V000.vbb", "readme.txt")
    touch(tmp_path, "new/set06_V000_I00029.jpg.txt", "new/set06_V000_I00059.txt", "videos/lost.seq")
    files = folders.index(tmp_path)
    assert {name: path.relative_to(tmp_path).as_posix() for name, path in files.seq.items()} == {
        "set00/V000": "videos/set00/V000.seq",
        "set06/V001": "set06/V001.seq",
    }
    assert list(files.vbb) == ["set00/V000"]
    assert list(files.texts) == ["set06/V000/I00029", "set06/V000/I00059"]
    assert files.text_folders == ("new",)
    assert files.unused == [f"{tmp_path}/videos/lost.seq: its path does not end in setXX/VYYY.seq"]
    for repeated in ("set00/V000.seq", "old/set06_V000_I00029.txt"):
        touch(tmp_path, repeated)
        with pytest.raises(InputError, match=r"both belong to set0.*; keep one of them"):
            folders.index(tmp_path)
        (tmp_path / repeated).unlink()


@pytest.mark.parametrize(("name", "people"), [("gt-Reasonable.mat", 1014), ("gt-new-Reasonable.mat", 912)])
def test_published_truths_of_the_toolbox(name, people):
    if not (REAL / name).is_file():
        pytest.skip(f"needs {REAL / name}")
    rows = truths.read_toolbox(REAL / name)
    assert len(rows) == 4024
    everything = np.concatenate(rows)
    assert everything.dtype == np.float64
    counted = everything[everything[:, 4] == 0]
    assert len(counted) == people
    # One box of the new annotations is 26 pixels wide instead of 26.24.
    narrow = ~np.isclose(counted[:, 2], 0.41 * counted[:, 3])
    assert counted[narrow].tolist() == ([[counted[479, 0], counted[479, 1], 26, 64, 0]] if "new" in name else [])


def cells(count, row):
    array = np.empty((1, count), object)
    for index in range(count):
        array[0, index] = np.zeros((0, 5))
    array[0, 1] = np.array([row])
    return array


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"dt": np.zeros(3)}, "no truth of the toolbox"),
        ({"gt": np.zeros((1, 3))}, "no truth of the toolbox"),
        ({"gt": cells(2, [1.0, 2, 3, 4, 1])}, "the truth of 2 images; .* 4,024"),
        ({"gt": cells(4024, [1.0, 2, 3, 4, 0.5])}, "image 2: expected rows x y w h ignore, of numbers and 0"),
        (None, r"gt\.mat: cannot be read \(No such file"),
    ],
    ids=["other name", "no cell", "2 images", "ignore 0.5", "absent"],
)
def test_other_files_are_no_truth_of_the_toolbox(tmp_path, content, message):
    path = tmp_path / "gt.mat"
    rows = truths.read_toolbox(save(path, gt=cells(4024, [1.0, 2, 3, 4, 1])))
    assert [rows[0].shape, rows[1].tolist(), len(rows)] == [(0, 5), [[1, 2, 3, 4, 1]], 4024]
    path.unlink()
    with pytest.raises(InputError, match=message):
        truths.read_toolbox(save(path, **content) if content else path)
