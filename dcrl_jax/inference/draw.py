"""Detections drawn into their images."""

from collections.abc import Sequence

import cv2
import numpy as np

from dcrl_jax.inference.detector import People

COLOR = (43, 234, 43)  # RGB; the reports use the same colour
GAP = 4  # pixels between the images of a pair


def draw_people(images: Sequence[np.ndarray], people: People, min_score: float) -> np.ndarray:
    """Draw boxes and scores into each image of a scene, and put the images side by side.

    Args:
        images: uint8 [H, W, 3] RGB or [H, W, 1] grey, of one size.
        people: the detections in the images. The modality weights of a teacher are written into a pair, and into an
            image without its partner that it is alone.
        min_score: people with a lower score are not drawn.

    Returns:
        uint8 [H, W', 3], RGB; W' is the sum of the widths and the gaps.
    """
    height = images[0].shape[0]
    pictures = [_draw_boxes(image, people, min_score) for image in images]
    if people.modality_weights is not None:
        texts = [f"{name} {weight:.2f}" for name, weight in people.modality_weights.items()]
        if len(images) < len(texts):
            texts = [f"{name} only" for name in people.modalities]
        for picture, text in zip(pictures, texts, strict=True):
            _write(picture, text, (4, height - 5), _font_scale(picture), (255, 255, 255))
    gap = np.full((height, GAP, 3), 255, np.uint8)
    return np.concatenate([part for picture in pictures for part in (picture, gap)][:-1], axis=1)


def _draw_boxes(image, people, min_score):
    picture = np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image.copy()
    scale = _font_scale(picture)
    thickness = max(1, round(2 * scale))
    # Draw the highest scores last, on top.
    for box, score in zip(people.boxes[::-1], people.scores[::-1], strict=True):
        if score >= min_score:
            x1, y1, x2, y2 = (round(float(edge)) for edge in box)
            cv2.rectangle(picture, (x1, y1), (x2, y2), COLOR, thickness)
            _write(picture, f"{score:.2f}".removeprefix("0"), (x1, y1 - 3), scale, COLOR)
    return picture


def _font_scale(picture):
    # Legible at KAIST's 512 rows, not tiny at 4K and not huge on a thumbnail.
    return min(1.6, max(0.3, picture.shape[0] / 1100))


def _write(picture, text, corner, scale, color):
    """Write text on black, with its lower left corner at ``corner`` or as near as the picture allows."""
    font, thickness = cv2.FONT_HERSHEY_SIMPLEX, max(1, round(2 * scale))
    (width, height), below = cv2.getTextSize(text, font, scale, thickness)
    x = max(0, min(corner[0], picture.shape[1] - width))
    y = max(height + 1, min(corner[1], picture.shape[0] - below))
    cv2.rectangle(picture, (x, y - height - 1), (x + width, y + below - 1), (0, 0, 0), cv2.FILLED)
    cv2.putText(picture, text, (x, y), font, scale, color, thickness, cv2.LINE_AA)
