"""Caltech's frames: 137 videos in 11 sets, and the frames that are training and test images.

An image id is ``set06/V000/I00029``: set, video and frame, counted from 0. Sorted ids have the order of the toolbox.
"""

WIDTH_PX, HEIGHT_PX = 640, 480

SPLITS = ("train", "test")
# Frames from one test image to the next. Training takes every 30th frame too, or every third ("10x").
TEST_SKIP = 30

# Number of videos of each set.
_TRAIN_VIDEOS = (15, 6, 12, 13, 12, 13)
# Number of test images of each video of sets 6 to 10: its frames divided by TEST_SKIP, rounded down. Counted in a list
# of the 4,024 test images.
_TEST_IMAGES = (
    (61, 61, 59, 59, *[61] * 15),
    (61, 61, 61, 61, 65, 72, 61, 61, 61, 61, 61, 60),
    (59, 59, 61, 61, 61, 61, 61, 61, 61, 56, 56),
    (62, 62, 61, 61, 59, 66, 61, 61, 61, 61, 61, 62),
    (*[61] * 11, 57),
)
TEST_IMAGES = {
    f"set{number:02d}/V{video:03d}": images
    for number, counts in enumerate(_TEST_IMAGES, start=len(_TRAIN_VIDEOS))
    for video, images in enumerate(counts)
}
VIDEOS = {
    "train": tuple(f"set{number:02d}/V{v:03d}" for number, count in enumerate(_TRAIN_VIDEOS) for v in range(count)),
    "test": tuple(TEST_IMAGES),
}


def numbers(length: int, skip: int) -> range:
    """Return the frames of a video that are images of a split: the last of each run of ``skip``, counted from 0."""
    return range(skip - 1, length, skip)


def image_id(video: str, number: int) -> str:
    """Return the id of a frame of a video like ``set06/V000``."""
    return f"{video}/I{number:05d}"


def video_of(image_id: str) -> str:
    """Return the frame's video, ``set06/V000``."""
    return image_id.rpartition("/")[0]


def number_of(image_id: str) -> int:
    """Return the frame's number within its video, counted from 0."""
    return int(image_id.rpartition("/I")[2])


def test_frames() -> list[str]:
    """Return the ids of the 4,024 test images, in order."""
    return [
        image_id(video, number)
        for video, images in TEST_IMAGES.items()
        for number in numbers(images * TEST_SKIP, TEST_SKIP)
    ]
