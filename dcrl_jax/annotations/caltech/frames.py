"""Caltech's frames: 137 videos in 11 sets, and the frames that are training and test images.

An image id is ``set06/V000/I00029``: set, video and frame, counted from 0. Sorted ids have the order of the toolbox.
"""

WIDTH_PX, HEIGHT_PX = 640, 480

SPLITS = ("train", "test")
# Frames from one test image to the next. Training also takes every 30th frame, or every third ("10x").
TEST_SKIP = 30

# Number of videos of each set.
_TRAIN_VIDEOS = (15, 6, 12, 13, 12, 13)
# Number of test images of each video of sets 6 to 10, counted in the list of the 4,024 test images. It is the video's
# number of frames divided by TEST_SKIP, rounded down.
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
    "train": tuple(
        f"set{number:02d}/V{video:03d}" for number, count in enumerate(_TRAIN_VIDEOS) for video in range(count)
    ),
    "test": tuple(TEST_IMAGES),
}


def numbers(length: int, skip: int) -> range:
    """Return the numbers of a video's frames that are images of a split: the last of every ``skip``, counted from 0.

    Args:
        length: frames of the video.
        skip: frames from one image to the next.
    """
    return range(skip - 1, length, skip)


def image_id(video: str, number: int) -> str:
    """Return the image id of frame ``number``, counted from 0, of a video such as ``set06/V000``."""
    return f"{video}/I{number:05d}"


def video_of(image_id: str) -> str:
    """Return the video of an image, such as ``set06/V000``."""
    return image_id.rpartition("/")[0]


def number_of(image_id: str) -> int:
    """Return the frame number of an image within its video, counted from 0."""
    return int(image_id.rpartition("/I")[2])


def test_frames() -> list[str]:
    """Return the ids of the 4,024 test images, in order."""
    return [
        image_id(video, number)
        for video, images in TEST_IMAGES.items()
        for number in numbers(images * TEST_SKIP, TEST_SKIP)
    ]
