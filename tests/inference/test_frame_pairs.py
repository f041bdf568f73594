"""Frames of two cameras are paired by their times, one to one."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from video_files import write_video

from dcrl_jax.errors import InputError
from dcrl_jax.inference.frame_pairs import FramePairs, pair_in_time, pair_tolerance
from dcrl_jax.inference.video import Video


def ms(*times):
    return [Fraction(time, 1000) for time in times]


def every(rate, count, start="0"):
    return [Fraction(start) + index / Fraction(rate) for index in range(count)]


def indices_of_pairs(visible, lwir, tolerance):
    """The pairs as the indices of their frames."""
    indexed = (zip(times, range(len(times)), strict=True) for times in (visible, lwir))
    return list(pair_in_time(*indexed, tolerance))


@pytest.mark.parametrize(
    ("visible", "lwir", "tolerance_ms", "pairs"),
    [
        pytest.param(every(10, 4), every(10, 4), 50, [(0, 0), (1, 1), (2, 2), (3, 3)], id="equal rates"),
        pytest.param(every(30, 9), every(10, 3), 17, [(0, 0), (3, 1), (6, 2)], id="slower thermal"),
        pytest.param(every(10, 3), every(30, 9), 17, [(0, 0), (1, 3), (2, 6)], id="faster thermal"),
        pytest.param(every(30, 14), every(9, 5), 17, [(0, 0), (3, 1), (7, 2), (10, 3), (13, 4)], id="no multiple"),
        pytest.param(every(10, 2), every(10, 90), 50, [(0, 0), (1, 1)], id="much longer thermal"),
        pytest.param(every(10, 4), every(10, 4, "0.2"), 50, [(2, 0), (3, 1)], id="later thermal"),
        pytest.param(every(10, 4), every(10, 4, "-0.2"), 50, [(0, 2), (1, 3)], id="earlier thermal"),
        pytest.param(every(10, 3), every(10, 3, "-0.04"), 50, [(0, 0), (1, 1), (2, 2)], id="slightly earlier thermal"),
        pytest.param(ms(0, 95, 210, 300), ms(10, 110, 190, 305), 50, [(0, 0), (1, 1), (2, 2), (3, 3)], id="jitter"),
        pytest.param(ms(0, 100, 500, 600), every(10, 7), 50, [(0, 0), (1, 1), (2, 5), (3, 6)], id="gap"),
        pytest.param(ms(0, 40), ms(30, 60), 50, [(1, 0)], id="nearest first"),
        pytest.param(ms(0, 36), ms(20, 46), 50, [(0, 0), (1, 1)], id="nearest first, then the rest"),
        pytest.param(ms(0, 40), ms(20), 20, [(0, 0)], id="tie"),
        pytest.param(every(10, 3), every(10, 3, "60"), 50, [], id="no partner"),
        pytest.param(every(10, 3), [], 50, [], id="no thermal frame"),
    ],
)
def test_nearest_frames_are_pairs(visible, lwir, tolerance_ms, pairs):
    assert indices_of_pairs(visible, lwir, Fraction(tolerance_ms, 1000)) == pairs


def test_rates_that_drift_leave_out_one_frame_for_each_that_the_faster_camera_gains():
    slower, faster = every(Fraction(30000, 1001), 2997), every(30, 3000)
    pairs = indices_of_pairs(slower, faster, Fraction(1, 60))
    assert [first for first, _ in pairs] == list(range(2997))
    assert all(before[1] < after[1] for before, after in itertools.pairwise(pairs))
    assert all(abs(slower[first] - faster[second]) <= Fraction(1, 60) for first, second in pairs)


def test_frames_are_read_only_as_far_as_needed():
    pairs = pair_in_time(
        zip(every(10, 3), "abc", strict=True), ((time, "z") for time in itertools.count(Fraction(0), 1)), Fraction(0)
    )
    assert next(pairs) == ("a", "z")


def grey(count):
    return [np.zeros((40, 60), np.uint8)] * count


@pytest.fixture
def videos(tmp_path):
    """30 frames in 1 s, and 30 frames in 3 s whose time stamps begin at 1.5 s."""
    times = every(10, 30, "1.5")
    write_video(tmp_path / "a.mp4", [np.zeros((40, 60, 3), np.uint8)] * 30, 30)
    write_video(tmp_path / "b.mkv", grey(30), 10, "ffv1", "gray", times=times)
    return Video(tmp_path / "a.mp4"), Video(tmp_path / "b.mkv")


@pytest.mark.parametrize(
    ("offset", "numbers", "unpaired"),
    [
        (0, [(index * 3, index) for index in range(10)], (20, 20)),
        (0.5, [(15 + index * 3, index) for index in range(5)], (25, 25)),
        (-2.5, [(index * 3, 25 + index) for index in range(5)], (25, 25)),
    ],
)
def test_videos_are_paired_from_their_starts_with_the_offset(videos, offset, numbers, unpaired):
    pairs = FramePairs(*videos, offset)
    assert [tuple(frame.number for frame in frames) for frames in pairs] == numbers
    assert pairs.summary().splitlines() == [
        f"{len(numbers)} pairs of frames within 17.2 ms of each other, the thermal times shifted by {offset:g} s:",
        f"  {videos[0].path}: 30 frames at 30 frames/s, {unpaired[0]} without a partner",
        f"  {videos[1].path}: 30 frames at 10 frames/s, {unpaired[1]} without a partner",
    ]


def test_tolerance_is_half_the_interval_of_the_faster_camera_and_of_both_ticks(videos):
    assert pair_tolerance(*videos) == (Fraction(1, 30) + Fraction(1, 15360) + Fraction(1, 1000)) / 2


def test_videos_without_a_pair_are_refused_with_their_times(videos):
    message = (
        r"The visible frames are at 0\.000 to 0\.967 s, the thermal ones at -60\.000 to -57\.100 s, with --lwir_off"
    )
    with pytest.raises(InputError, match=message):
        list(FramePairs(*videos, -60))
