"""Random sampling of the anchors or proposals that a loss counts."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from dcrl_jax.ops import matching


class Sample(NamedTuple):
    """Sampled anchors or proposals of one image: positives, then negatives, then empty positions."""

    index: jax.Array  # int32 [size], 0 where not sampled
    is_positive: jax.Array  # bool [size]
    is_sampled: jax.Array  # bool [size]


def _random_members(key: jax.Array, is_member: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
    """Return the indices of up to ``count`` distinct members in random order, int32 [count], and their number."""
    draw = jnp.where(is_member, jax.random.uniform(key, is_member.shape), -1.0)
    _, index = jax.lax.top_k(draw, min(count, draw.size))
    index = jnp.pad(index, (0, count - index.size))
    return index, jnp.minimum(jnp.sum(is_member, dtype=jnp.int32), count)


def sample(key: jax.Array, label: jax.Array, size: int, max_positive: int) -> Sample:
    """Return a sample of positives and negatives, drawn uniformly without replacement.

    Args:
        key: random key.
        label: int32 [N], from ``matching.match``; NEITHER is never sampled.
        size: length of the sample.
        max_positive: largest number of positives; negatives fill the other positions, which stay empty if there are
            too few.
    """
    positive_key, negative_key = jax.random.split(key)
    positives, positive_count = _random_members(positive_key, label == matching.POSITIVE, min(max_positive, size))
    negatives, negative_count = _random_members(negative_key, label == matching.NEGATIVE, size)
    position = jnp.arange(size)
    is_positive = position < positive_count
    is_sampled = position < positive_count + negative_count
    from_positives = jnp.pad(positives, (0, size - positives.size))
    from_negatives = jnp.roll(negatives, positive_count)
    index = jnp.where(is_positive, from_positives, from_negatives)
    return Sample(jnp.where(is_sampled, index, 0).astype(jnp.int32), is_positive, is_sampled)
