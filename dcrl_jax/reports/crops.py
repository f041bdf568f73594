"""A box of an image, cut out with what is around it."""

from collections.abc import Sequence

import cv2
import numpy as np

# RGB; those of the panel, and one for the box that a crop is about.
PERSON_COLOR, IGNORE_COLOR, DETECTION_COLOR, SUBJECT_COLOR = (
    (255, 45, 45),
    (200, 200, 200),
    (43, 234, 43),
    (255, 225, 26),
)
# Of the crop as shown.
SIDE_PX, GAP_PX = 184, 3
# A crop's side in sides of its box, and its least part of the image's height: a distant person needs surroundings too.
CONTEXT, LEAST_PART = 2.2, 0.2


def crop_window(box: np.ndarray, height: int, width: int) -> tuple[int, int, int, int]:
    """The square around a box, moved into the image, and no larger than it.

    Args:
        box: x, y, width, height in pixels of the image.
        height, width: of the image.

    Returns:
        x1, y1, x2, y2 in whole pixels.
    """
    x, y, w, h = (float(value) for value in box)
    side = round(min(max(CONTEXT * max(w, h), LEAST_PART * height), height, width))
    x1 = min(max(round(x + w / 2 - side / 2), 0), width - side)
    y1 = min(max(round(y + h / 2 - side / 2), 0), height - side)
    return x1, y1, x1 + side, y1 + side


def draw_crop(
    images: Sequence[np.ndarray], subject: np.ndarray, boxes: Sequence[tuple[np.ndarray, tuple[int, int, int]]]
) -> np.ndarray:
    """Cut one box out of registered images, side by side.

    Args:
        images: uint8 [H, W, 3] RGB or [H, W, 1] grey, of one size.
        subject: x, y, width, height of the box that the crop is about, drawn over all others.
        boxes: others, float [N, 4] of the same kind, each group with its colour.

    Returns:
        uint8 [SIDE_PX, W', 3], RGB; W' is SIDE_PX for each image and GAP_PX between them.
    """
    x1, y1, x2, y2 = crop_window(subject, *images[0].shape[:2])
    scale = SIDE_PX / (y2 - y1)
    method = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    shown = []
    for image in images:
        part = cv2.resize(image[y1:y2, x1:x2], (SIDE_PX, SIDE_PX), interpolation=method).reshape(SIDE_PX, SIDE_PX, -1)
        part = np.broadcast_to(part, (*part.shape[:2], 3)).copy()
        for group, color, thickness in (*((group, color, 1) for group, color in boxes), ([subject], SUBJECT_COLOR, 2)):
            for x, y, w, h in group:
                corners = ((x - x1) * scale, (y - y1) * scale), ((x + w - x1) * scale, (y + h - y1) * scale)
                start, end = (tuple(round(float(value)) for value in corner) for corner in corners)
                cv2.rectangle(part, start, end, color, thickness)
        shown += [part, np.full((SIDE_PX, GAP_PX, 3), 255, np.uint8)]
    return np.concatenate(shown[:-1], axis=1)
