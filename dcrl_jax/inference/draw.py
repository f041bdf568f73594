"""Detections drawn into the images they were found in."""

from collections.abc import Sequence

import cv2
import numpy as np

from dcrl_jax.inference.detector import People

COLOR = (43, 234, 43)  # RGB; that of the reports
GAP = 4  # pixels between the images of a pair


def draw_people(images: Sequence[np.ndarray], people: People, min_score: float) -> np.ndarray:
    """Draw boxes and scores into each image of a scene, side by side.

    Args:
        images: uint8 [H, W, 3] RGB or [H, W, 1] grey, of one size.
        people: found in them; the modality weights of a teacher are written into its images.
        min_score: those below it are not drawn.

    Returns:
        uint8 [H, W', 3], RGB.
    """
    height = images[0].shape[0]
    drawn = [_draw_one(image, people, min_score) for image in images]
    if people.modality_weights is not None:
        for image, (name, weight) in zip(drawn, people.modality_weights.items(), strict=True):
            _write(image, f"{name} {weight:.2f}", (4, height - 5), _font_scale(image), (255, 255, 255))
    gap = np.full((height, GAP, 3), 255, np.uint8)
    return np.concatenate([part for image in drawn for part in (image, gap)][:-1], axis=1)


def _draw_one(image, people, min_score):
    image = np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image.copy()
    scale = _font_scale(image)
    thickness = max(1, round(2 * scale))
    # The surest are drawn last, on top.
    for box, score in zip(people.boxes[::-1], people.scores[::-1], strict=True):
        if score >= min_score:
            x1, y1, x2, y2 = (round(float(edge)) for edge in box)
            cv2.rectangle(image, (x1, y1), (x2, y2), COLOR, thickness)
            _write(image, f"{score:.2f}".removeprefix("0"), (x1, y1 - 3), scale, COLOR)
    return image


def _font_scale(image):
    # Legible on KAIST's 512 rows, and neither tiny on 4K nor huge on a thumbnail.
    return min(1.6, max(0.3, image.shape[0] / 1100))


def _write(image, text, corner, scale, color):
    """Write on a dark ground, with the text's lower left corner there or where the image has room for it."""
    font, thickness = cv2.FONT_HERSHEY_SIMPLEX, max(1, round(2 * scale))
    (width, height), below = cv2.getTextSize(text, font, scale, thickness)
    x = max(0, min(corner[0], image.shape[1] - width))
    y = max(height + 1, min(corner[1], image.shape[0] - below))
    cv2.rectangle(image, (x, y - height - 1), (x + width, y + below - 1), (0, 0, 0), cv2.FILLED)
    cv2.putText(image, text, (x, y), font, scale, color, thickness, cv2.LINE_AA)
