"""Caltech's original or new annotations of a video, and the truth files of the toolbox."""

import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dcrl_jax.annotations.caltech import bbgt, frames, mat, vbb
from dcrl_jax.annotations.caltech.folders import Files
from dcrl_jax.annotations.text import read_text
from dcrl_jax.annotations.types import MISSING, UNREADABLE, Annotation, Finding
from dcrl_jax.errors import InputError

KINDS = ("original", "new")


class VideoTruths(NamedTuple):
    """The annotations of some frames of one video."""

    by_number: dict[int, list[Annotation]]  # by frame number, counted from 0; only frames that could be read
    findings: list[Finding]  # MISSING or UNREADABLE: one per other frame, or one for the complete video


def read_video(video: str, numbers: Sequence[int], files: Files, kind: str) -> VideoTruths:
    """Read the annotations of frames of one video.

    Args:
        video: its id, such as ``set06/V000``.
        numbers: the frames' numbers, counted from 0.
        files: the files of the user's copy.
        kind: ``original`` (.vbb) or ``new`` (one text per frame).
    """
    return _read_vbb(video, numbers, files) if kind == "original" else _read_texts(video, numbers, files)


def _read_vbb(video, numbers, files):
    path = files.vbb.get(video)
    if path is None:
        return VideoTruths({}, [Finding(MISSING, f"{video}.vbb")])
    try:
        lists = vbb.read(path)
    except InputError as error:
        return VideoTruths({}, [Finding(UNREADABLE, str(error))])
    return VideoTruths(
        {number: lists[number] for number in numbers if number < len(lists)},
        [
            Finding(MISSING, f"{frames.image_id(video, number)}: {path} has {len(lists):,} frames")
            for number in numbers
            if number >= len(lists)
        ],
    )


def _read_texts(video, numbers, files):
    by_number, findings = {}, []
    for number in numbers:
        path = files.texts.get(frames.image_id(video, number))
        if path is None:
            findings.append(Finding(MISSING, frames.image_id(video, number)))
            continue
        try:
            text = read_text(path)
        except InputError as error:
            findings.append(Finding(UNREADABLE, str(error)))
            continue
        try:
            by_number[number] = bbgt.parse(text)
        except InputError as error:
            findings.append(Finding(UNREADABLE, f"{path}: {error}"))
    return VideoTruths(by_number, findings)


def read_toolbox(path: str | os.PathLike[str]) -> list[np.ndarray]:
    """Read a truth file of the toolbox's ``dbEval``, such as ``gt-Reasonable.mat``.

    Its boxes have the rules of the subset applied: people who count have the aspect ratio (width / height) 0.41.

    Returns:
        float64 [G, 5] for each test image, in order: x, y, w, h in pixels, and 1 for an ignored box, else 0.

    Raises:
        InputError: the file cannot be read or is no such file.
    """
    cells = mat.read(path, "gt")
    try:
        if not isinstance(cells, tuple):
            raise ValueError("no cell `gt`")
        truths = [np.asarray(cell, np.float64).reshape(-1, 5) for cell in cells]
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{path}: no truth of the toolbox ({error}); expected a MAT file with `gt`, a cell of rows x y w h ignore "
            "for each image"
        ) from error
    images = len(frames.test_frames())
    if len(truths) != images:
        raise InputError(f"{path}: the truth of {len(truths):,} images; the test split has {images:,}")
    for number, rows in enumerate(truths, start=1):
        if not (np.isfinite(rows).all() and np.isin(rows[:, 4], (0, 1)).all()):
            raise InputError(f"{path}: image {number}: expected rows x y w h ignore, of numbers and 0 or 1")
    return truths
