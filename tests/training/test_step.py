"""The training step: its terms and gradients, on one device and on two; a teacher's, a baseline's and a student's."""

import contextlib
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from training_cases import make_batch

from dcrl_jax import parallel
from dcrl_jax.losses import detection as losses
from dcrl_jax.models.network import build_network
from dcrl_jax.training import terms as training_terms
from dcrl_jax.training.optimizer import build_optimizer, build_schedule
from dcrl_jax.training.step import TrainState, image_keys, make_step
from dcrl_jax.training.terms import detection_terms, forward, training_rules

pytestmark = pytest.mark.usefixtures("quick_compile", "shallow_backbone")

SEED = 5
STAGES = ("rpg", "rdr")
TERMS = {f"{stage}_{term}" for stage in STAGES for term in ("cls", "reg", "seg", "branches")}


def keys_of_devices(count, seed, step, images):
    """The keys of all images of a global batch, shared by the first ``count`` devices: data [images, ...]."""
    per_device = images // count
    run = jax.pmap(
        lambda step: jax.random.key_data(image_keys(seed, step, per_device)),
        parallel.AXIS,
        devices=jax.local_devices()[:count],
    )
    return np.asarray(run(np.full(count, step, np.int32))).reshape(images, -1)


def place(state, mesh):
    # A copy, because the step reuses the buffers of the state that it is given.
    return parallel.replicate(jax.tree.map(np.array, jax.device_get(state)), mesh)


def shard(batch, mesh):
    devices = mesh.devices.size
    split = jax.tree.map(lambda leaf: leaf.reshape(devices, -1, *leaf.shape[1:]), batch)
    return jax.device_put(split, parallel.batch_sharding(mesh))


@pytest.fixture(scope="module")
def setting(tiny_config, random_params):
    """Config, network and parameters of a teacher whose every term has another weight."""
    config = tiny_config()
    config.loss.update(box_weight=0.5, segmentation_weight=0.75, per_branch_weight=0.25)
    config.optimizer.update(name="sgd", learning_rate=0.01, schedule="steps", warmup_steps=0)
    config.optimizer.update(clip_norm=0.0, weight_decay=0.0, fusion_rate_scale=1.0)
    network = build_network(config)
    return config, network, random_params(network)


@pytest.fixture(scope="module")
def one_device(setting):
    """``run(batch, fill)``: terms and gradients on one device, with ``fill`` in every place of the step's padding."""
    config, network, params = setting
    rules = training_rules(config)
    padding = ("propose", "rpg_targets", "sample_rois")
    original = SimpleNamespace(**{name: getattr(training_terms, name) for name in padding})
    keys = jax.random.wrap_key_data(jnp.array(keys_of_devices(1, SEED, 0, 4)))

    def filled(fill, seen):
        """Stand-ins for the functions that ``padding`` names, in its order."""
        finite = jnp.where(jnp.isfinite(fill), fill, 1000.0)

        def propose(*arguments, **keywords):
            found = original.propose(*arguments, **keywords)
            seen["proposals"] = found.mask
            boxes = jnp.where(found.mask[..., None], found.boxes, fill)
            return found._replace(boxes=boxes, scores=jnp.where(found.mask, found.scores, fill))

        def fill_offsets(targets):
            used = targets.is_positive & targets.is_sampled
            return targets._replace(offsets=jnp.where(used[..., None], targets.offsets, fill))

        def rpg_targets(*arguments):
            index, targets = original.rpg_targets(*arguments)
            seen["anchors"], seen["positives"] = targets.is_sampled, targets.is_positive
            return index, fill_offsets(targets)

        def sample_rois(*arguments):
            rois, targets = original.sample_rois(*arguments)
            seen["rois"] = targets.is_sampled
            return jnp.where(targets.is_sampled[..., None], rois, finite), fill_offsets(targets)

        return propose, rpg_targets, sample_rois

    @jax.jit
    def gradients(params, batch, fill):
        def loss(params):
            seen = {}
            with pytest.MonkeyPatch.context() as patch:
                for name, function in zip(padding, filled(fill, seen), strict=True):
                    patch.setattr(training_terms, name, function)
                terms = detection_terms(forward(network, params, batch, keys, rules))
            return losses.weighted_sum(terms, rules.weights), (terms, seen)

        return jax.grad(loss, has_aux=True)(params)

    def run(batch, fill):
        gradient, (terms, seen) = jax.device_get(gradients(params, batch, np.float32(fill)))
        return gradient, terms, seen

    return run


@pytest.fixture(scope="module")
def two_devices(setting):
    """The compiled step on two devices, its placed batch, and a fresh state and the result of its first step."""
    config, network, params = setting
    mesh = Mesh(jax.local_devices()[:2], (parallel.AXIS,))
    optimizer = build_optimizer(config, build_schedule(config, 4))
    step = parallel.parallel_step(make_step(network, optimizer, training_rules(config), SEED), mesh)
    batch = shard(make_batch(), mesh)
    state = TrainState(np.int32(0), params, optimizer.init(params))
    return step, batch, mesh, state, step(place(state, mesh), batch)


def test_terms_are_finite_and_every_place_of_padding_occurs(one_device):
    gradient, terms, seen = one_device(make_batch(), 0.0)
    assert set(terms) == TERMS
    assert all(np.isfinite(value) and value > 0 for value in terms.values())
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    for name in ("proposals", "anchors", "rois"):
        assert seen[name].any(1).all(), name
        assert not seen[name].all(), name
    np.testing.assert_array_equal(seen["positives"].any(1), [True, True, False, False])


def test_nan_in_the_padding_reaches_no_term_and_no_gradient(one_device):
    batch = make_batch()
    unused = ~(batch.is_person | batch.is_ignore)
    poisoned = batch._replace(boxes=np.where(unused[..., None], np.float32(np.nan), batch.boxes))
    gradient, terms, _ = one_device(batch, 0.0)
    poisoned_gradient, poisoned_terms, _ = one_device(poisoned, np.nan)
    assert np.isnan(poisoned.boxes).any()
    assert terms == poisoned_terms
    jax.tree.map(np.testing.assert_array_equal, gradient, poisoned_gradient)


def test_every_layer_learns(one_device):
    gradient, _, _ = one_device(make_batch(), 0.0)
    dead = [
        jax.tree_util.keystr(path)
        for path, leaf in jax.tree_util.tree_leaves_with_path(gradient)
        if not np.abs(leaf).max() > 0
    ]
    assert dead == []


def test_gradients_of_two_devices_are_those_of_one(one_device, two_devices):
    gradient, terms, _ = one_device(make_batch(), 0.0)
    _, _, _, _, (state, metrics) = two_devices
    # The momentum of SGD is the gradient after the first step.
    trace = jax.tree.leaves(jax.device_get(state.opt_state), is_leaf=lambda node: hasattr(node, "trace"))[0].trace
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), trace, gradient)
    for name, value in terms.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-5)


def test_step_moves_the_parameters_against_the_gradient_and_counts(one_device, two_devices):
    gradient, _, _ = one_device(make_batch(), 0.0)
    _, _, _, state, (new_state, _) = two_devices
    assert (int(state.step), int(new_state.step)) == (0, 1)

    def check(before, after, slope):
        np.testing.assert_allclose(after - before, -0.01 * slope, atol=1e-6)

    jax.tree.map(check, state.params, jax.device_get(new_state.params), gradient)


def test_metrics_are_the_terms_their_weighted_sum_and_the_gradient_s_norm(one_device, two_devices):
    gradient, terms, _ = one_device(make_batch(), 0.0)
    _, _, _, _, (_, metrics) = two_devices
    assert set(metrics) == TERMS | {"loss", "gradient_norm"}
    weights = {"cls": 1.0, "reg": 0.5, "seg": 0.75, "branches": 0.25}
    total = sum(weights[name.split("_")[1]] * value for name, value in terms.items())
    np.testing.assert_allclose(metrics["loss"], total, rtol=1e-5)
    norm = np.sqrt(sum(np.sum(np.square(leaf, dtype=np.float64)) for leaf in jax.tree.leaves(gradient)))
    np.testing.assert_allclose(metrics["gradient_norm"], norm, rtol=1e-4)


def test_steps_on_one_batch_lower_its_loss(two_devices):
    step, batch, mesh, state, _ = two_devices
    state, seen = place(state, mesh), []
    for _ in range(12):
        state, metrics = step(state, batch)
        seen.append(float(metrics["loss"]))
    assert np.mean(seen[-3:]) < 0.8 * seen[0]


@contextlib.contextmanager
def no_tracing():
    jax.config.update("jax_no_tracing", True)
    try:
        yield
    finally:
        jax.config.update("jax_no_tracing", False)


def test_warm_steps_move_nothing_between_host_and_devices_and_trace_nothing(two_devices):
    step, batch, mesh, state, _ = two_devices
    state = place(state, mesh)
    state, _ = step(state, batch)
    with jax.transfer_guard("disallow"), no_tracing():
        for _ in range(3):
            state, metrics = step(state, batch)
    assert int(state.step) == 4
    assert np.isfinite(metrics["loss"])


def test_step_reuses_the_buffers_of_the_state_and_keeps_the_batch(two_devices):
    step, batch, mesh, state, _ = two_devices
    old = place(state, mesh)
    new, _ = step(old, batch)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(old.params))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves((new, batch)))


def test_image_keys_are_the_same_however_many_devices_share_the_batch():
    one, two = (keys_of_devices(devices, SEED, 3, 4) for devices in (1, 2))
    np.testing.assert_array_equal(one, two)
    assert len(np.unique(one, axis=0)) == 4


def test_image_keys_change_with_seed_and_step():
    keys = [keys_of_devices(1, seed, step, 4) for seed, step in ((0, 0), (0, 1), (1, 0), (1, 1))]
    assert len(np.unique(np.concatenate(keys), axis=0)) == 16


def shapes_of_step(config, batch, teacher_config=None):
    """What a step gives, by shape alone: its new state and metrics, and the parameters that it was given."""
    network = build_network(config)
    teacher = build_network(teacher_config) if teacher_config else None
    optimizer = build_optimizer(config, build_schedule(config, 4))
    step = make_step(network, optimizer, training_rules(config), SEED, teacher)

    def run(batch):
        params = network.init_params(0)
        state = TrainState(jnp.int32(0), params, optimizer.init(params))
        frozen = (teacher.init_params(0),) if teacher else ()
        return step(state, *frozen, batch), params

    batches = jax.tree.map(lambda leaf: leaf[None], batch)
    (state, metrics), params = jax.eval_shape(jax.vmap(run, axis_name=parallel.AXIS), batches)
    return state, metrics, params


def test_baseline_s_terms_are_those_of_eq_1_without_branches_and_need_nothing_thermal(tiny_config):
    _, metrics, _ = shapes_of_step(tiny_config("baseline"), make_batch()._replace(lwir=None))
    assert set(metrics) == {name for name in TERMS if not name.endswith("branches")} | {"loss", "gradient_norm"}


def test_student_s_step_adds_the_terms_of_eq_14_and_gives_the_student_s_parameters_alone(tiny_config):
    state, metrics, params = shapes_of_step(tiny_config("student"), make_batch(), tiny_config("teacher"))
    added = {f"{stage}_{term}" for stage in STAGES for term in ("cls_soft", "reg_bound", "seg_soft")} | {"fea"}
    own = {name for name in TERMS if not name.endswith("branches")}
    assert set(metrics) == own | added | {"loss", "gradient_norm"}
    assert {leaf.shape for leaf in metrics.values()} == {(1,)}
    assert jax.tree.map(lambda leaf: leaf.shape, state.params) == jax.tree.map(lambda leaf: leaf.shape, params)


@pytest.mark.parametrize("role", ["teacher", "student"])
def test_losses_and_state_are_float32_whatever_the_activations_are(tiny_config, role):
    config, teacher_config = tiny_config(role), tiny_config("teacher")
    for one in (config, teacher_config):
        one.backbone.update(dtype="bfloat16", remat=True)
    state, metrics, _ = shapes_of_step(config, make_batch(), teacher_config if role == "student" else None)
    assert {leaf.dtype for leaf in metrics.values()} == {np.dtype(np.float32)}
    floats = [leaf.dtype for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    assert set(floats) == {np.dtype(np.float32)}


@pytest.mark.parametrize("stages", [("rpg", "rdr"), ("rpg",), ("rdr",), ()])
def test_table_vi_a_stage_without_segmentation_has_no_such_term(tiny_config, stages):
    config = tiny_config()
    config.segmentation.stages = stages
    network = build_network(config)
    keys = jax.random.split(jax.random.key(0), 4)
    rules = training_rules(config)
    terms = jax.eval_shape(
        lambda p: detection_terms(forward(network, p, make_batch(), keys, rules)), network.param_shapes()
    )
    assert set(terms) == {name for name in TERMS if not name.endswith("seg") or name[:3] in stages}
