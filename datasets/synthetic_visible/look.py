"""The cheaper camera of ``synthetic_visible``."""

import cv2
import numpy as np

# Factors of red, green and blue, from a wrong white balance; each image raises them to a random power.
CAST = (1.12, 0.98, 0.72)
# Exponent of the tone curve; the camera of synthetic_rgbt has 0.5.
GAMMA = 0.42


def photograph(rng: np.random.Generator, visible: np.ndarray) -> bytes:
    """Return the JPEG file that this camera makes of a scene.

    The gamma-2 curve of the rendered image is undone first. Then follow exposure, colour cast, haze in the distance,
    dark corners, an unsharp lens, coarse noise, a flat tone curve, and strong compression.

    Args:
        rng: the only source of randomness.
        visible: uint8 RGB ``[H, W, 3]`` from ``datasets.synthetic_rgbt.scenes.render``.
    """
    height, width = visible.shape[:2]
    light = np.square(visible.astype(np.float32) / 255)
    light *= np.exp(rng.uniform(-0.5, 0.6)) * (np.array(CAST) ** rng.uniform(0.6, 1.4)).astype(np.float32)

    y, x = np.mgrid[:height, :width].astype(np.float32)
    # Haze is thickest at the horizon, at about 0.4 of the height.
    haze = rng.uniform(0.05, 0.3) * np.exp(-np.square((y / height - 0.4) / 0.3))[..., None]
    light = (1 - haze) * light + haze * (0.6 * light.mean() + 0.4 * np.percentile(light, 95))
    from_centre = np.square(x / width - 0.5) + np.square(y / height - 0.5)  # squared distance, 0.5 in the corners
    light *= (1 - rng.uniform(0.3, 0.9) * from_centre)[..., None]
    light = cv2.GaussianBlur(light, (0, 0), rng.uniform(0.35, 0.6) * height / 112)

    grain = rng.standard_normal((height, width, 3), np.float32)
    coarse = cv2.resize(rng.standard_normal((height // 3 + 1, width // 3 + 1, 3), np.float32), (width, height))
    light += (0.7 * grain + 0.5 * coarse) * np.sqrt(rng.uniform(0.002, 0.006) ** 2 + 0.0008 * np.maximum(light, 0))

    pixels = 0.05 + 0.9 * np.clip(light, 0, 1) ** GAMMA
    encoded = cv2.imencode(
        ".jpg", np.rint(255 * pixels)[..., ::-1].astype(np.uint8), (cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(45, 80)))
    )
    return encoded[1].tobytes()
