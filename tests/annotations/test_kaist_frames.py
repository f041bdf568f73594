"""KAIST's frames: splits by rule and by list, day and night."""

import tarfile
from collections import Counter
from pathlib import Path

import pytest

from dcrl_jax.annotations.kaist import frames
from dcrl_jax.errors import InputError

KAIST = Path(__file__).resolve().parents[3] / "shared" / "kaist"
LISTS = {"train": "train-all-02.txt", "test": "test-all-20.txt"}


def real(name):
    path = KAIST / name
    if not path.is_file():
        pytest.skip(f"needs {path}")
    return path


def listed(tmp_path, text):
    path = tmp_path / "list.txt"
    path.write_bytes(text.encode())
    return frames.read_list(path)


@pytest.mark.parametrize(
    ("split", "count", "day", "night"), [("train", 25_086, 16_694, 8_392), ("test", 2_252, 1_455, 797)]
)
def test_benchmark_frames_are_counted_by_day_and_night(split, count, day, night):
    ids = frames.split_frames(split)
    assert len(ids) == len(set(ids)) == count
    assert Counter(map(frames.condition, ids)) == {"day": day, "night": night}
    assert {frames.split_of(one) for one in ids} == {split}
    assert all(map(frames.is_known, ids))
    assert ids == sorted(ids)


@pytest.mark.parametrize("split", frames.SPLITS)
def test_benchmark_frames_are_those_of_the_published_lists(split):
    path = real(LISTS[split])
    assert frames.split_frames(split) == frames.read_list(path) == path.read_text().split()


def test_videos_have_the_frames_of_the_published_annotations():
    with tarfile.open(real("annotations-xml-new.tar.xz")) as archive:
        names = [name.removeprefix("annotations-xml-new/") for name in archive.getnames() if name.endswith(".xml")]
    expected = {f"{video}/I{i:05}.xml" for video, length in frames.VIDEO_LENGTHS.items() for i in range(length)}
    assert len(names) == len(expected) == 95_324
    assert set(names) == expected


def test_there_are_41_videos_of_which_25_are_for_training():
    assert Counter(map(frames.split_of, frames.VIDEO_LENGTHS)) == {"train": 25, "test": 16}


def test_every_set_is_day_or_night():
    sets = {condition: [] for condition in ("day", "night")}
    for number in range(12):
        sets[frames.condition(f"set{number:02}/V000/I00000")].append(number)
    assert sets == {"day": [0, 1, 2, 6, 7, 8], "night": [3, 4, 5, 9, 10, 11]}


def test_video_of_a_frame_is_its_first_two_parts():
    assert frames.video_of("set06/V004/I00019") == "set06/V004"


def test_stride_takes_the_last_frame_of_each_full_run():
    ids = frames.split_frames("train", 300)
    assert [one for one in ids if one.startswith("set01/V005")] == ["set01/V005/I00299"]  # of 301 frames
    assert [one for one in ids if one.startswith("set02/V003")] == [f"set02/V003/I00{n}99" for n in (2, 5, 8)]  # 1,000
    assert frames.split_frames("train", 302)[0] == "set00/V000/I00301"
    assert not [one for one in frames.split_frames("train", 302) if one.startswith("set01/V005")]


@pytest.mark.parametrize(("split", "count"), [("train", 50_184), ("test", 45_140)])
def test_stride_of_one_takes_every_frame(split, count):
    ids = frames.split_frames(split, 1)
    assert len(ids) == count == sum(n for video, n in frames.VIDEO_LENGTHS.items() if frames.split_of(video) == split)
    assert ids[0].endswith("V000/I00000")


def test_stride_beyond_all_videos_takes_none():
    assert frames.split_frames("test", 5_000) == []


def test_frame_is_known_up_to_the_length_of_its_video():
    assert frames.is_known("set00/V000/I00000")
    assert frames.is_known("set00/V000/I02244")
    assert not frames.is_known("set00/V000/I02245")
    assert not frames.is_known("set00/V009/I00000")
    assert not frames.is_known("set12/V000/I00000")


def test_list_may_be_spelled_both_ways_and_in_any_order(tmp_path):
    text = "\ufeffset11_V000_I00019\r\n\r\n  set00/V001/I00003 \nset00_V001_I00001\nset06\\V000\\I00039"
    assert listed(tmp_path, text) == [
        "set00/V001/I00001",
        "set00/V001/I00003",
        "set06/V000/I00039",
        "set11/V000/I00019",
    ]


def test_names_in_lists_may_have_folders_before_them_and_an_ending(tmp_path):
    text = "images/set06/V000/I00039.jpg\ntest/set06_V000_I00019.png\n"
    assert listed(tmp_path, text) == ["set06/V000/I00019", "set06/V000/I00039"]


@pytest.mark.parametrize(
    "line",
    [
        "set06/V000/I01523",  # the video has 1,523 frames
        "set06/V005/I00000",
        "set12/V000/I00000",
        "set06/V000/I0019",
        "set06/V000/I000190",
        "set06/V000/I00019.",
        "offset06/V000/I00019",
        "set06/V000/visible/I00019",
        "SET06/V000/I00019",
        "set06/V000/I00019 set06/V000/I00039",
        "set06/V000/I000\u0661\u0669",  # Arabic digits
        "19",
    ],
)
def test_line_that_is_no_frame_is_refused_with_its_number(tmp_path, line):
    with pytest.raises(InputError) as caught:
        listed(tmp_path, f"set06/V000/I00039\n\n{line}\n")
    assert f"list.txt:3: {line!r} is no frame of KAIST; expected one like set06/V000/I00019" in str(caught.value)


def test_frame_listed_twice_is_refused_with_both_lines(tmp_path):
    with pytest.raises(InputError, match=r"list\.txt:4: set06/V000/I00019 is listed a second time, first on line 1"):
        listed(tmp_path, "set06/V000/I00019\nset06/V000/I00039\n\nset06_V000_I00019\n")


@pytest.mark.parametrize("text", ["", "\n \r\n", "\ufeff"])
def test_empty_list_is_refused(tmp_path, text):
    with pytest.raises(InputError, match=r"list\.txt: lists no frames; expected lines like set06/V000/I00019"):
        listed(tmp_path, text)


def test_list_that_is_missing_a_folder_or_no_text_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"absent\.txt: cannot be read \(No such file"):
        frames.read_list(tmp_path / "absent.txt")
    with pytest.raises(InputError, match=r"cannot be read \(Is a directory"):
        frames.read_list(tmp_path)
    (tmp_path / "image.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(InputError, match=r"image\.png: is not a text file"):
        frames.read_list(tmp_path / "image.png")


def test_many_frames_are_named_by_the_first_few():
    assert frames.shorten([]) == ""
    assert frames.shorten("abcde") == "a, b, c, d, e"
    assert frames.shorten("abcdef") == "a, b, c, d, e and 1 more"
    assert frames.shorten(map(str, range(2_252)), shown=1) == "0 and 2,251 more"
