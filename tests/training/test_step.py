"""The training step: its terms and gradients, on one device and on two; a teacher's, a baseline's and a student's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from training_cases import assert_learns, make_batch

from dcrl_jax import parallel
from dcrl_jax.models.network import build_network
from dcrl_jax.training.optimizer import build_optimizer, build_schedule
from dcrl_jax.training.step import TrainState, image_keys, make_loss, make_step
from dcrl_jax.training.terms import training_rules

pytestmark = pytest.mark.usefixtures("quick_compile", "shallow_backbone")

SEED = 5
STAGES = ("rpg", "rdr")
WEIGHTS = {"cls": 1.0, "reg": 0.5, "seg": 0.75, "branches": 0.25}
TERMS = {f"{stage}_{term}" for stage in STAGES for term in WEIGHTS}
OWN = {name for name in TERMS if not name.endswith("branches")}
ADDED = {f"{stage}_{term}" for stage in STAGES for term in ("cls_soft", "reg_bound", "seg_soft")} | {"fea"}


def keys_of_devices(count, seed, step, images=4):
    """Return the keys of all images of a global batch, shared by the first ``count`` devices: data [images, ...]."""

    def draw(step):
        return jax.random.key_data(image_keys(seed, step, images // count))

    run = jax.pmap(draw, parallel.AXIS, devices=jax.local_devices()[:count])
    return np.asarray(run(np.full(count, step, np.int32))).reshape(images, -1)


@pytest.fixture(scope="module")
def setting(tiny_config, random_params):
    """Config, network and parameters of a teacher; the weights of its terms differ."""
    config = tiny_config()
    config.loss.update(box_weight=0.5, segmentation_weight=0.75, per_branch_weight=0.25)
    config.optimizer.update(name="sgd", learning_rate=0.01, schedule="steps", warmup_steps=0)
    config.optimizer.update(clip_norm=0.0, weight_decay=0.0, fusion_rate_scale=1.0)
    network = build_network(config)
    return config, network, random_params(network)


@pytest.fixture(scope="module")
def one_device(setting):
    """Gradients and terms on one device."""
    config, network, params = setting
    keys = jax.random.wrap_key_data(jnp.array(keys_of_devices(1, SEED, 0)))
    gradients = jax.jit(jax.grad(make_loss(network, training_rules(config)), has_aux=True))
    return jax.device_get(gradients(params, (), make_batch(), keys))


@pytest.fixture(scope="module")
def two_devices(setting):
    """The compiled step on two devices, its placed batch, a function that places the first state, and that state."""
    config, network, params = setting
    mesh = Mesh(jax.local_devices()[:2], (parallel.AXIS,))
    optimizer = build_optimizer(config, build_schedule(config, 4))
    step = parallel.parallel_step(make_step(network, optimizer, training_rules(config), SEED), mesh)
    batch = jax.tree.map(lambda leaf: leaf.reshape(2, -1, *leaf.shape[1:]), make_batch())
    state = jax.device_get(TrainState(np.int32(0), params, optimizer.init(params)))

    def start():
        # A copy, because the step reuses the buffers of the state that it is given.
        return parallel.replicate(jax.tree.map(np.array, state), mesh)

    return step, jax.device_put(batch, parallel.batch_sharding(mesh)), start, state


def test_step_on_two_devices_moves_against_the_gradient_of_one(one_device, two_devices):
    gradient, terms = one_device
    assert_learns(gradient)
    step, batch, start, state = two_devices
    old = start()
    new, metrics = step(old, batch)
    assert int(new.step) == 1
    # The momentum of SGD is the gradient after the first step.
    trace = jax.tree.leaves(jax.device_get(new.opt_state), is_leaf=lambda node: hasattr(node, "trace"))[0].trace
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), trace, gradient)
    moved = jax.tree.map(lambda after, before: after - before, jax.device_get(new.params), state.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, -0.01 * b, atol=1e-6), moved, gradient)
    # Metrics are the terms, their weighted sum and the norm of the gradient.
    norm = np.sqrt(sum(np.sum(np.square(leaf, dtype=np.float64)) for leaf in jax.tree.leaves(gradient)))
    total = sum(WEIGHTS[name.split("_")[1]] * terms[name] for name in TERMS)
    expected = terms | {"loss": total, "gradient_norm": norm}
    assert metrics.keys() == expected.keys() == TERMS | {"loss", "gradient_norm"}
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-4)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(old.params))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves((new, batch)))


def test_warm_steps_lower_the_loss_and_neither_move_nor_trace_anything(two_devices):
    step, batch, start, _ = two_devices
    state, metrics = step(start(), batch)
    seen = [metrics["loss"]]
    jax.config.update("jax_no_tracing", True)
    try:
        with jax.transfer_guard("disallow"):
            for _ in range(11):
                state, metrics = step(state, batch)
                seen.append(metrics["loss"])
    finally:
        jax.config.update("jax_no_tracing", False)
    seen = jax.device_get(seen)
    assert np.mean(seen[-3:]) < 0.8 * seen[0]
    assert int(state.step) == 12


def test_image_keys_depend_on_seed_and_step_and_not_on_the_devices():
    np.testing.assert_array_equal(keys_of_devices(1, SEED, 3), keys_of_devices(2, SEED, 3))
    keys = [keys_of_devices(1, seed, step) for seed, step in ((0, 0), (0, 1), (1, 0), (1, 1))]
    assert len(np.unique(np.concatenate(keys), axis=0)) == 16


@pytest.mark.parametrize(("role", "terms"), [("teacher", TERMS), ("student", OWN | ADDED), ("baseline", OWN)])
def test_step_has_the_terms_of_its_role_and_keeps_float32(tiny_config, role, terms):
    config, teacher_config = tiny_config(role), tiny_config("teacher")
    for each in (config, teacher_config):
        each.backbone.update(dtype="bfloat16", remat=True)
    network = build_network(config)
    teacher = build_network(teacher_config) if role == "student" else None
    optimizer = build_optimizer(config, build_schedule(config, 4))
    step = make_step(network, optimizer, training_rules(config), SEED, teacher)
    params = network.param_shapes()
    state = TrainState(jnp.int32(0), params, jax.eval_shape(optimizer.init, params))
    batch = make_batch()._replace(lwir=None) if role == "baseline" else make_batch()
    arguments = (state, *([teacher.param_shapes()] if teacher else []), jax.tree.map(lambda leaf: leaf[None], batch))
    in_axes = (None,) * (len(arguments) - 1) + (0,)
    new, metrics = jax.eval_shape(jax.vmap(step, in_axes, out_axes=None, axis_name=parallel.AXIS), *arguments)
    assert jax.tree.map(np.shape, new.params) == jax.tree.map(np.shape, params)
    assert set(metrics) == terms | {"loss", "gradient_norm"}
    assert {(leaf.shape, leaf.dtype) for leaf in metrics.values()} == {((), np.dtype(np.float32))}
    dtypes = {leaf.dtype for leaf in jax.tree.leaves(new) if jnp.issubdtype(leaf.dtype, jnp.floating)}
    assert dtypes == {np.dtype(np.float32)}
