"""Parameters by path, whether they fit a network, and their fingerprint."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dcrl_jax import param_trees
from dcrl_jax.errors import InputError


def make_params(value=0.0, width=3):
    rng = np.random.default_rng(2)
    return {
        "backbones_visible": {"conv1_1": {"kernel": rng.normal(size=(2, width)).astype(np.float32) + value}},
        "modality_fusion": {"logits": {"bias": np.float32([value, -value])}},
    }


def test_leaves_have_the_paths_of_dicts_tuples_and_sequences():
    tree = {"b": (np.zeros(2), [np.zeros((1, 3))]), "a": {"kernel": np.zeros(())}}
    assert param_trees.shapes_by_path(tree) == {"a/kernel": (), "b/0": (2,), "b/1/0": (1, 3)}
    assert list(param_trees.leaves_by_path(tree)) == ["a/kernel", "b/0", "b/1/0"]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_parameters_that_are_not_finite_are_named(value):
    with pytest.raises(InputError, match=r"^run: .* has values that are not finite"):
        param_trees.check_params(make_params(value), make_params(), "run")


def test_parameters_that_do_not_fit_are_named_with_their_source():
    param_trees.check_params(jax.tree.map(jnp.asarray, make_params(1.0)), make_params(), "run")
    param_trees.check_params(make_params(), jax.eval_shape(make_params), "run")
    params, expected = make_params(), make_params(width=4)
    params["rpns_old"] = {"bias": np.zeros(3, np.float32)}
    expected["rpns_lwir"] = {"bias": np.zeros(5, np.float32)}
    with pytest.raises(InputError) as refusal:
        param_trees.check_params(params, expected, "run/best/7")
    assert str(refusal.value) == (
        "run/best/7 does not fit the configured model:\n"
        "  rpns_lwir/bias: missing\n"
        "  rpns_old/bias: not expected\n"
        "  backbones_visible/conv1_1/kernel: (2, 3) instead of (2, 4)\n"
        "Use the config that it was trained with, or another workdir."
    )
    with pytest.raises(InputError, match="and 4 more") as refusal:
        param_trees.check_params({}, {f"layer{number}": np.zeros(1) for number in range(9)}, "run")
    assert str(refusal.value).count("missing") == 5


def test_fingerprint_depends_on_names_shapes_and_values():
    params, own = make_params(5.0), param_trees.fingerprint(make_params(5.0))
    assert param_trees.fingerprint(dict(reversed(params.items()))) == own
    others = [make_params(np.nextafter(np.float32(5), np.float32(6))), params | {"more": np.zeros(0, np.float32)}]
    others.append({"renamed" if name == "modality_fusion" else name: tree for name, tree in params.items()})
    others.append(jax.tree.map(lambda leaf: leaf.reshape(1, *leaf.shape), params))
    assert len({own, *map(param_trees.fingerprint, others)}) == 5
