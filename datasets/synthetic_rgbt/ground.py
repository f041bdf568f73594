"""The sky and the ground, on which all other objects are painted."""

import cv2
import numpy as np

from datasets.synthetic_rgbt.canvas import Canvas
from datasets.synthetic_rgbt.world import World

ASPHALT = (0.11, 0.11, 0.12)
PAVING = (0.3, 0.28, 0.25)
GRASS = (0.08, 0.16, 0.045)
SAND = (0.36, 0.28, 0.18)
PAINT = (0.7, 0.7, 0.68)
_TILE = 128


def _tile(rng: np.random.Generator, cells: int) -> np.ndarray:
    """Return a repeating texture of zero mean and unit standard deviation, float32 [128, 128].

    ``cells`` is the number of random values along each side.
    """
    coarse = rng.standard_normal((cells, cells)).astype(np.float32)
    wrapped = np.pad(coarse, 2, mode="wrap")
    scale = _TILE // cells
    smooth = cv2.resize(wrapped, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    tile = smooth[2 * scale : -2 * scale, 2 * scale : -2 * scale]
    return (tile - tile.mean()) / tile.std()


def sample(tile: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return the values of a repeating texture at ``u``, ``v``, float [h, w], in units of the texture's side."""
    return cv2.remap(
        tile,
        np.mod(u, 1).astype(np.float32) * (_TILE - 1),
        np.mod(v, 1).astype(np.float32) * (_TILE - 1),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_WRAP,
    )


def paint_sky(rng: np.random.Generator, canvas: Canvas, world: World) -> None:
    """Paint the sky from the top to the horizon, in place."""
    height, width = canvas.owner.shape
    rows = int(np.clip(world.camera.horizon * height + 1, 1, height))
    down = np.linspace(0, 1, rows, dtype=np.float32)[:, None, None]
    if world.night:
        colour = np.array([0.006, 0.007, 0.012]) * rng.uniform(0.3, 1.5) + down * world.ambient * 0.08
        temperature = world.air - 14 + 8 * down[..., 0]
    else:
        blue = np.array([0.22, 0.4, 0.75]) if world.sunny else np.array([0.62, 0.66, 0.7])
        colour = blue + down * (np.array([0.8, 0.85, 0.88]) - blue)
        clouds = cv2.resize(
            rng.standard_normal((4, 6)).astype(np.float32), (width, rows), interpolation=cv2.INTER_CUBIC
        )
        temperature = world.air - 16 + 12 * down[..., 0] + np.maximum(clouds, 0) * 4
        colour = colour + np.clip(clouds, 0, 1)[..., None] * 0.25
    canvas.radiance[:rows, :, :3] = colour
    canvas.radiance[:rows, :, 3] = temperature


def paint_ground(rng: np.random.Generator, canvas: Canvas, world: World, shadows: np.ndarray) -> None:
    """Paint the ground below the horizon, in place; ``shadows`` is bool ``[h, w]``, true in shadow."""
    height, width = canvas.owner.shape
    camera = world.camera
    top = int(np.clip(np.ceil(camera.horizon * height), 0, height - 1))
    rows = np.arange(top, height, dtype=np.float32)[:, None] + 0.5
    z = camera.eye_m * camera.focal * height / np.maximum(rows - camera.horizon * height, 0.3)
    x = (np.arange(width, dtype=np.float32)[None] + 0.5 - width / 2) * z / (camera.focal * height)
    z = np.broadcast_to(z, x.shape)

    layout = rng.random()
    # Bands: 0 the outer ground, 1 the pavement or open place, 2 the road; `line` is white paint.
    if layout < 0.6:  # a road along the direction of view, with pavements and verges
        centre, half = rng.uniform(-2.5, 2.5), rng.uniform(2.6, 4.2)
        across = np.abs(x - centre)
        verge = half + rng.uniform(1.5, 4)
        bands = (across < half).astype(np.int8) + (across < verge)
        line = (across < 0.08) & (np.mod(z + rng.uniform(0, 6), 6) < 3)
        line |= np.abs(across - half + 0.25) < 0.06
    elif layout < 0.8:  # a street across the direction of view
        near = rng.uniform(4, 9)
        far = near + rng.uniform(6, 9)
        bands = ((z > near) & (z < far)).astype(np.int8) + ((z > near - 3) & (z < far + 3))
        line = (np.abs(z - (near + far) / 2) < 0.1) & (np.mod(x, 4) < 2)
    else:  # an open place
        bands = np.ones(x.shape, np.int8)
        line = np.zeros(x.shape, bool)
    if layout < 0.8 and rng.random() < 0.4:  # a zebra crossing
        start = rng.uniform(5, 14)
        line |= (bands == 2) & (z > start) & (z < start + 2.5) & (np.mod(x + 50, 1.0) < 0.5)

    outer = (GRASS, PAVING, SAND)[rng.integers(3)]
    middle = PAVING if outer != PAVING else ((0.2, 0.19, 0.18), SAND)[rng.integers(2)]
    colours = np.array([outer, middle, ASPHALT], np.float32) * rng.uniform(0.75, 1.25, (3, 1)).astype(np.float32)
    # Dark asphalt heats up in the sun, grass stays cool; part of the difference remains after dark.
    warmth = np.array(
        [{GRASS: -3.0, PAVING: 0.0, SAND: 1.0}[outer], rng.uniform(-1.0, 1.0), rng.uniform(0.5, 2.5)], np.float32
    ) * (0.35 if world.night else 1.0)

    # Textures and light are smooth: half the resolution is enough.
    half_size = (width // 2, (height - top) // 2)
    few_x, few_z = (cv2.resize(grid, half_size, interpolation=cv2.INTER_AREA) for grid in (x, z))
    fine = np.minimum(1, 14 / few_z)  # details fade with distance, where a pixel averages over them
    patches = sample(_tile(rng, 16), few_x / 14, few_z / 20) * np.sqrt(fine)
    grain = sample(_tile(rng, 64), few_x / 5, few_z / 7) * fine

    def enlarge(image):
        return cv2.resize(image.astype(np.float32), (width, height - top), interpolation=cv2.INTER_LINEAR)

    tone = enlarge(np.clip(1 + 0.1 * patches + 0.1 * grain, 0.4, 1.6))
    shade = shadows[top:]
    surface, radiance = canvas.surface[top:], canvas.radiance[top:]
    surface[..., :3] = np.take(colours, bands, axis=0)
    surface[line, :3] = np.array(PAINT, np.float32) * 0.8
    surface[..., :3] *= tone[..., None]
    surface[..., 3] = enlarge(world.light(few_x, few_z)) * np.where(shade, np.float32(0.42), np.float32(1))
    radiance[..., :3] = 0
    radiance[..., 3] = enlarge(world.ground + world.mottle * (0.8 * patches + 0.25 * grain)) + np.take(warmth, bands)
    radiance[..., 3] -= line + 2.0 * shade
