"""Modality fusion: MAF (Eq. 10-13) and the two alternatives of Table III."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np


def averaging_matrix(cells: int, size: int) -> np.ndarray:
    """Return the matrix of an adaptive average pool along one axis, float32 [cells, size]; row i averages to cell i."""
    matrix = np.zeros((cells, size), np.float32)
    for cell in range(cells):
        start, stop = cell * size // cells, -(-(cell + 1) * size // cells)
        matrix[cell, start:stop] = 1.0 / (stop - start)
    return matrix


def fuse(weights: jax.Array, branches: jax.Array) -> jax.Array:
    """Return the sum over m of mu_m times the output of branch m, Eq. 12 and 13.

    Args:
        weights: mu, float32 [B, M].
        branches: float32 [M, B, N, K], logits or offsets of each modality.

    Returns:
        float32 [B, N, K].
    """
    # The default precision of a GPU may be lower than float32.
    return jnp.einsum("bm,mbnk->bnk", weights, branches, precision="highest")


class ModalityFusion(nn.Module):
    """Weights of the modalities for each image, mu [B, M], which sum to one over the modalities.

    Attributes:
        strategy: 'maf' (Eq. 10, 11), 'linear' (learned weights, the same for every image) or 'average'.
        grid: rows and columns that each map is averaged to before it is flattened, so that the MLP does not depend on
            the input size. None flattens the complete map, as in Eq. 10.
        hidden: units of the MLP's hidden layer.
    """

    strategy: str = "maf"
    grid: tuple[int, int] | None = (4, 5)
    hidden: int = 256

    @nn.compact
    def __call__(self, features: tuple[jax.Array, ...]) -> jax.Array:
        """Map the conv5 features of each modality, float32 or bfloat16 [B, h, w, C], to mu, float32 [B, M]."""
        batch, height, width, _ = features[0].shape
        modalities = len(features)
        if self.strategy == "average":
            return jnp.full((batch, modalities), 1.0 / modalities)
        if self.strategy == "linear":
            weights = self.param("weights", nn.initializers.zeros, (modalities,))
            return jnp.broadcast_to(jax.nn.softmax(weights), (batch, modalities))
        if self.grid is not None:
            rows, columns = averaging_matrix(self.grid[0], height), averaging_matrix(self.grid[1], width)
            features = tuple(jnp.einsum("ih,bhwc,jw->bijc", rows, x, columns, precision="highest") for x in features)
        flat = jnp.concatenate([x.reshape(batch, -1) for x in features], axis=-1)
        hidden = nn.relu(nn.Dense(self.hidden, kernel_init=nn.initializers.he_normal(), name="hidden")(flat))
        # Zero weights in the last layer make mu = 1/M at the start.
        logits = nn.Dense(modalities, kernel_init=nn.initializers.zeros, name="logits")(hidden)
        return jax.nn.softmax(logits)
