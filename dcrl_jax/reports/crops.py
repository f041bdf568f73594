"""Crops of images around a box, with its surroundings."""

from collections.abc import Sequence

import cv2
import numpy as np

# RGB: the colours of ``panels``, and one for the box that a crop shows.
PERSON_COLOR, IGNORE_COLOR, DETECTION_COLOR = (255, 45, 45), (200, 200, 200), (43, 234, 43)
SUBJECT_COLOR = (255, 225, 26)
# Pixels of the displayed crop.
SIDE_PX, GAP_PX = 184, 3
# The side of a crop, as a multiple of the longer side of its box; at least MIN_SHARE of the image's height, so that a
# distant person keeps some surroundings.
CONTEXT, MIN_SHARE = 2.2, 0.2


def crop_window(box: np.ndarray, height: int, width: int) -> tuple[int, int, int, int]:
    """Return the square around a box that its crop shows, shifted into the image and no larger than the image.

    Args:
        box: x, y, width, height in pixels of the image.
        height: height of the image in pixels.
        width: width of the image in pixels.

    Returns:
        x1, y1, x2, y2 in whole pixels.
    """
    x, y, w, h = (float(value) for value in box)
    side = round(min(max(CONTEXT * max(w, h), MIN_SHARE * height), height, width))
    x1 = min(max(round(x + w / 2 - side / 2), 0), width - side)
    y1 = min(max(round(y + h / 2 - side / 2), 0), height - side)
    return x1, y1, x1 + side, y1 + side


def draw_crop(
    images: Sequence[np.ndarray], subject: np.ndarray, boxes: Sequence[tuple[np.ndarray, tuple[int, int, int]]]
) -> np.ndarray:
    """Return the crops of registered images around one box, side by side, with the boxes drawn on them.

    Args:
        images: uint8 [H, W, 3] RGB or [H, W, 1] grey, all of the same size.
        subject: x, y, width, height of the box that the crop shows, drawn over all others.
        boxes: groups of other boxes, float [N, 4], x, y, width, height, each with its RGB colour.

    Returns:
        uint8 [SIDE_PX, W', 3], RGB; W' is SIDE_PX per image plus GAP_PX between images.
    """
    x1, y1, x2, y2 = crop_window(subject, *images[0].shape[:2])
    scale = SIDE_PX / (y2 - y1)
    method = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    crops = []
    for image in images:
        crop = cv2.resize(image[y1:y2, x1:x2], (SIDE_PX, SIDE_PX), interpolation=method).reshape(SIDE_PX, SIDE_PX, -1)
        crop = np.broadcast_to(crop, (*crop.shape[:2], 3)).copy()
        for group, color, thickness in (*((group, color, 1) for group, color in boxes), ([subject], SUBJECT_COLOR, 2)):
            for x, y, w, h in group:
                corners = ((x - x1) * scale, (y - y1) * scale), ((x + w - x1) * scale, (y + h - y1) * scale)
                start, end = (tuple(round(float(value)) for value in corner) for corner in corners)
                cv2.rectangle(crop, start, end, color, thickness)
        crops += [crop, np.full((SIDE_PX, GAP_PX, 3), 255, np.uint8)]
    return np.concatenate(crops[:-1], axis=1)
