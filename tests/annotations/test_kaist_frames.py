"""KAIST's frames: splits by rule and by list, day and night."""

import hashlib
from collections import Counter

import pytest

from dcrl_jax.annotations.kaist import frames
from dcrl_jax.annotations.text import read_bytes
from dcrl_jax.errors import InputError


def read_list(tmp_path, text):
    path = tmp_path / "list.txt"
    path.write_bytes(text.encode())
    return frames.read_list(path)


@pytest.mark.parametrize(
    ("split", "count", "day", "night", "sha256"),
    [
        ("train", 25_086, 16_694, 8_392, "e00574e4abaeb87fda0b1ac4e5cef1644d74c137d9eacc741e384d02da1a0e9e"),
        ("test", 2_252, 1_455, 797, "fddb27d52e7ef668487267c17185e1e3d242ec9a755e009b11872925c95cd784"),
    ],
)
def test_benchmark_frames_are_those_of_the_published_lists(split, count, day, night, sha256):
    """The checksums are those of train-all-02.txt and test-all-20.txt, with line ends of Unix."""
    ids = frames.split_frames(split)
    assert hashlib.sha256("\n".join(ids).encode()).hexdigest() == sha256
    assert len(ids) == len(set(ids)) == count
    assert Counter(map(frames.condition, ids)) == {"day": day, "night": night}
    assert {frames.split_of(one) for one in ids} == {split}
    assert all(map(frames.is_known, ids))
    assert ids == sorted(ids)


def test_every_set_and_video_has_a_split_and_a_condition():
    assert Counter(map(frames.split_of, frames.VIDEO_LENGTHS)) == {"train": 25, "test": 16}
    nights = [number for number in range(12) if frames.condition(f"set{number:02}/V000/I00000") == "night"]
    assert nights == [3, 4, 5, 9, 10, 11]
    assert frames.video_of("set06/V004/I00019") == "set06/V004"
    known = ("set00/V000/I00000", "set00/V000/I02244")  # the video has 2,245 frames
    unknown = ("set00/V000/I02245", "set00/V009/I00000", "set12/V000/I00000")
    assert [frames.is_known(image_id) for image_id in known + unknown] == [True, True, False, False, False]


def test_stride_takes_the_last_frame_of_each_complete_run():
    ids = frames.split_frames("train", 300)
    assert [one for one in ids if one.startswith("set01/V005")] == ["set01/V005/I00299"]  # of 301 frames
    assert [one for one in ids if one.startswith("set02/V003")] == [f"set02/V003/I00{n}99" for n in (2, 5, 8)]  # 1,000
    assert frames.split_frames("train", 302)[0] == "set00/V000/I00301"
    assert not [one for one in frames.split_frames("train", 302) if one.startswith("set01/V005")]
    assert frames.split_frames("test", 5_000) == []
    for split, count in (("train", 50_184), ("test", 45_140)):
        assert len(frames.split_frames(split, 1)) == count
        assert frames.split_frames(split, 1)[0].endswith("V000/I00000")


def test_list_is_read_in_any_spelling_and_order(tmp_path):
    text = "\ufeffset11_V000_I00019\r\n\r\n  set00/V001/I00003 \nset00_V001_I00001\nset06\\V000\\I00039"
    ids = ["set00/V001/I00001", "set00/V001/I00003", "set06/V000/I00039", "set11/V000/I00019"]
    assert read_list(tmp_path, text) == ids
    names = "images/set06/V000/I00039.jpg\ntest/set06_V000_I00019.png\n"
    assert read_list(tmp_path, names) == ["set06/V000/I00019", "set06/V000/I00039"]


# No frame: beyond the video's 1,523 frames, of no video, of no set, misspelt in several ways, with Arabic digits.
NO_FRAMES = """set06/V000/I01523 set06/V005/I00000 set12/V000/I00000 set06/V000/I0019 set06/V000/I000190 19
set06/V000/I00019. offset06/V000/I00019 set06/V000/visible/I00019 SET06/V000/I00019 set06/V000/I000\u0661\u0669"""


@pytest.mark.parametrize("line", [*NO_FRAMES.split(), "set06/V000/I00019 set06/V000/I00039"])
def test_line_that_is_no_frame_is_refused_with_its_number(tmp_path, line):
    with pytest.raises(InputError) as caught:
        read_list(tmp_path, f"set06/V000/I00039\n\n{line}\n")
    assert f"list.txt:3: {line!r} is no frame of KAIST; expected one like set06/V000/I00019" in str(caught.value)


SPELLINGS = """set06/V000/I00019 set06_V000_I00019_visible.png SET06/v000/lwir/i00019.JPG set06-V000-I00019-rgb
C:\\det\\set06_V000_I00019.jpg.txt"""


def test_names_of_results_have_more_spellings():
    assert {frames.spelled_frame(name) for name in SPELLINGS.split()} == {"set06/V000/I00019"}
    # Other data sets have other lengths of videos.
    assert frames.spelled_frame("set06/V000/I09999") == "set06/V000/I09999"
    assert {frames.spelled_frame(name) for name in ("V000/I00019", "I00019.txt", "set06/V000", "street", "")} == {None}


TWICE = b"set06/V000/I00019\nset06/V000/I00039\n\nset06_V000_I00019\n"
OTHER_FILES = {
    "a frame twice": (TWICE, ":4: set06/V000/I00019 is listed a second time, first on line 1"),
    "empty": (b"", ": lists no frames; expected lines like set06/V000/I00019"),
    "blank": ("\ufeff\n \r\n".encode(), ": lists no frames"),
    "PNG": (b"\x89PNG\r\n\x1a\n", ":1: is not a text file"),
    "absent": (None, r": cannot be read \(No such file"),
}


@pytest.mark.parametrize(("content", "message"), OTHER_FILES.values(), ids=OTHER_FILES)
def test_other_file_is_no_list(tmp_path, content, message):
    path = tmp_path / "list.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=rf"list\.txt{message}"):
        frames.read_list(path)
    if content == TWICE:
        with pytest.raises(InputError, match=r"list\.txt: larger than 0 MiB; this is no annotation file"):
            read_bytes(path, limit_bytes=3)
