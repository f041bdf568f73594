"""Random sampling of positives and negatives."""

import jax
import numpy as np
import pytest

from dcrl_jax.ops.matching import NEGATIVE, NEITHER, POSITIVE
from dcrl_jax.ops.sampling import sample

pytestmark = pytest.mark.usefixtures("quick_compile")


compiled = jax.jit(sample, static_argnums=(2, 3))


def labels(positive, negative, neither):
    label = np.repeat([POSITIVE, NEGATIVE, NEITHER], [positive, negative, neither])
    return np.random.default_rng(0).permutation(label).astype(np.int32)


def run(label, max_positive=4, key=3):
    return jax.device_get(compiled(jax.random.key(key), label, 10, max_positive))


@pytest.mark.parametrize(
    ("positive", "negative", "max_positive", "chosen_positive", "chosen_negative"),
    [
        (9, 30, 4, 4, 6),  # more positives than allowed
        (2, 37, 4, 2, 8),  # negatives replace missing positives
        (0, 39, 4, 0, 10),
        (30, 3, 4, 4, 3),  # positives do not replace missing negatives
        (1, 2, 4, 1, 2),
        (0, 0, 4, 0, 0),
        (20, 20, 0, 0, 10),
        (20, 20, 50, 10, 0),
    ],
)
def test_positives_are_first_then_negatives_then_empty_positions(
    positive, negative, max_positive, chosen_positive, chosen_negative
):
    label = labels(positive, negative, 40 - positive - negative)
    chosen = run(label, max_positive)
    sampled = chosen_positive + chosen_negative
    np.testing.assert_array_equal(chosen.is_positive, np.arange(10) < chosen_positive)
    np.testing.assert_array_equal(chosen.is_sampled, np.arange(10) < sampled)
    assert (label[chosen.index[:chosen_positive]] == POSITIVE).all()
    assert (label[chosen.index[chosen_positive:sampled]] == NEGATIVE).all()
    assert (chosen.index[sampled:] == 0).all()


def test_choice_depends_on_the_key_only_and_has_no_duplicates():
    label = labels(10, 20, 10)
    first, again, other = run(label, key=3), run(label, key=3), run(label, key=4)
    np.testing.assert_array_equal(first.index, again.index)
    assert (first.index[:4] != other.index[:4]).any()
    assert (first.index[4:] != other.index[4:]).any()
    for key in range(5):
        assert len(set(run(label, key=key).index.tolist())) == 10


def test_every_candidate_of_a_kind_is_equally_likely():
    label = labels(12, 24, 4)
    draws = 4000
    keys = jax.random.split(jax.random.key(0), draws)
    chosen = jax.jit(jax.vmap(lambda key: sample(key, label, 10, 4)))(keys)
    counts = np.bincount(np.asarray(chosen.index).ravel(), minlength=40)
    # The standard deviation of a count is about 30 in both kinds.
    np.testing.assert_allclose(counts[label == POSITIVE], draws * 4 / 12, atol=150)
    np.testing.assert_allclose(counts[label == NEGATIVE], draws * 6 / 24, atol=150)
    assert counts[label == NEITHER].sum() == 0
