"""Caltech's files for the tests: videos and annotations in the real formats, some frames long."""

import functools
import struct

import cv2
import numpy as np
import scipy.io

NOWHERE = (0, 0, 0, 0)

# A copy of three videos with their lengths; the last has one test image, frame 29.
LENGTHS = {"set00/V000": 65, "set06/V000": 61, "set07/V001": 30}
TEST_IMAGES = {"set06/V000": 2, "set07/V001": 1}
VIDEOS = {"train": ("set00/V000",), "test": ("set06/V000", "set07/V001")}
TRAIN = ["set00/V000/I00029", "set00/V000/I00059"]
TEST = ["set06/V000/I00029", "set06/V000/I00059", "set07/V001/I00029"]
OBJECTS = {  # by frame number
    29: [
        ("person", (100.25, 200, 30, 60.5), NOWHERE),
        ("person", (300, 200, 20, 100), (300, 200, 20, 50)),
        ("people", (400, 200, 90, 80), NOWHERE),
    ],
    59: [("person-fa", (1, 2, 30, 40), NOWHERE)],
}


@functools.cache
def jpeg(number=0, width=640, height=480):
    """Return a JPEG of some kilobytes that shows the number."""
    grey = np.add.outer(np.arange(height), np.arange(width)) // 8 % 256
    image = np.repeat(grey[..., None], 3, 2).astype(np.uint8)
    cv2.putText(image, str(number), (20, height // 2), cv2.FONT_HERSHEY_PLAIN, 4, (255, 255, 255))
    return cv2.imencode(".jpg", image)[1].tobytes()


def seq_bytes(jpegs, count=None, extra=16, size=(640, 480), image_format=201, header_bytes=1024):
    """Return a .seq file; ``extra`` bytes, 8 or 16, follow each JPEG, with the time first."""
    count = len(jpegs) if count is None else count
    head = struct.pack("<I", 0xFEED) + "Norpix seq".encode("utf-16-le") + bytes(4) + struct.pack("<II", 3, header_bytes)
    head += "No Description".encode("utf-16-le").ljust(512, b"\0")
    head += struct.pack("<9I", *size, 24, 8, size[0] * size[1] * 3, image_format, count, 0, size[0] * size[1] * 3 + 512)
    head = (head + struct.pack("<d", 30.0)).ljust(1024, b"\0")
    frames = [
        struct.pack("<I", len(one) + 4) + one + struct.pack("<IH", 2000 + index, 33).ljust(extra, b"\0")
        for index, one in enumerate(jpegs)
    ]
    return head + b"".join(frames)


def write_seq(path, jpegs, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(seq_bytes(jpegs, **options))
    return path


def write_vbb(path, frames, labels=("person", "people", "person?", "person-fa")):
    """Write a .vbb file as the toolbox does: for each frame the objects as label, pos and posv.

    Each label is one object of the video; the toolbox keeps a slot without a label for a deleted object.
    """
    lists = np.empty((1, len(frames)), object)
    fields = [(name, object) for name in ("id", "pos", "occl", "lock", "posv")]
    for number, objects in enumerate(frames):
        lists[0, number] = np.zeros((1, len(objects)), fields) if objects else np.zeros((0, 0))
        for index, (label, pos, posv) in enumerate(objects):
            entry = (labels.index(label) + 1.0, np.array([pos], float), float(any(posv)), 0.0, np.array([posv], float))
            lists[0, number][0, index] = entry
    slots = len(labels) + 1
    names = np.empty((1, slots), object)
    names[0, :] = [*labels, np.zeros((0, 0))]
    annotation = {"nFrame": float(len(frames)), "objLists": lists, "maxObj": float(slots), "objLbl": names}
    annotation |= {"objInit": np.array([[1.0] * len(labels) + [0.0]]), "objStr": np.ones((1, slots))}
    annotation |= {"objEnd": np.full((1, slots), float(len(frames))), "objHide": np.zeros((1, slots))}
    annotation |= {"altered": False, "log": 0.0, "logLen": 0.0}
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        scipy.io.savemat(file, {"A": annotation, "vers": 1.4}, format="5", do_compression=False)
    return path


def video_jpegs(video):
    return [jpeg(1000 * list(LENGTHS).index(video) + number) for number in range(LENGTHS[video])]


def write_copy(root):
    """Write the copy of LENGTHS, with the videos in their own folder."""
    for video, length in LENGTHS.items():
        write_seq(root / "videos" / f"{video}.seq", video_jpegs(video))
        write_vbb(root / "annotations" / f"{video}.vbb", [OBJECTS.get(number, []) for number in range(length)])
    return root
