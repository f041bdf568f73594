"""The number of parts of a step, by the memory of the devices."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training_cases import make_batch

from dcrl_jax import parallel
from dcrl_jax.training import fit, step
from dcrl_jax.training.optimizer import build_optimizer, build_schedule
from dcrl_jax.training.step import FrozenTeacher, TrainState

GIB = fit.GIB


class Account(NamedTuple):
    """The memory of a compiled step, which stands for the step."""

    argument_size_in_bytes: int
    temp_size_in_bytes: int
    output_size_in_bytes: int = 7
    alias_size_in_bytes: int = 7

    def memory_analysis(self):
        return self


def compiler(fixed_gib, image_gib, share, fails_below=0, error="RESOURCE_EXHAUSTED: Out of memory allocating 5 bytes"):
    """Return a compiler of steps that need so much, and the list of the numbers of parts that it compiled."""
    compiled = []

    def compile_step(parts):
        compiled.append(parts)
        if parts < fails_below:
            raise RuntimeError(error)
        return Account(int(fixed_gib * GIB), int(image_gib * share / parts * GIB))

    return compile_step, compiled


@pytest.mark.parametrize(
    ("room_gib", "guess", "compiled"),
    [
        (250, 1, [1]),
        (200, 1, [1, 2]),
        (72, 1, [1, 4]),  # 4.21 + 16 * 3.27 = 56.5
        (36, 1, [1, 8]),
        (8, 1, [1, 64]),
        (5, 1, [1, 64]),  # even one image at a time needs more
        (3, 1, [1, 64]),  # even the parameters need more
        (math.inf, 1, [1]),  # devices that do not report their memory
        (72, 2.7, [4]),
        (72, 30, [32, 16, 8, 4]),
    ],
)
def test_fewest_parts_that_fit_are_found_with_few_compilations(room_gib, guess, compiled):
    compile_step, asked = compiler(4.21, 3.27, 64)
    parts = compiled[-1]
    needed = int(4.21 * GIB) + int(3.27 * 64 / parts * GIB)
    assert fit.fit_parts(compile_step, 64, room_gib * GIB, guess) == (parts, needed)
    assert asked == compiled


def test_parts_share_the_images_of_a_device_evenly():
    compile_step, _ = compiler(1.0, 1.0, 12)
    assert [fit.fit_parts(compile_step, 12, room * GIB)[0] for room in (13, 7, 5, 4, 3, 2)] == [1, 2, 3, 4, 6, 12]


@pytest.mark.parametrize(("share", "fails_below", "compiled"), [(8, 4, [1, 2, 4]), (12, 3, [1, 2, 3])])
def test_step_that_cannot_be_compiled_for_lack_of_memory_is_split(share, fails_below, compiled):
    compile_step, asked = compiler(1.0, 1.0, share, fails_below)
    assert fit.fit_parts(compile_step, share, 100 * GIB)[0] == compiled[-1]
    assert asked == compiled
    with pytest.raises(RuntimeError, match="RESOURCE_EXHAUSTED"):
        fit.fit_parts(compiler(1.0, 1.0, 2, fails_below)[0], 2, 100 * GIB)
    with pytest.raises(RuntimeError, match="a fault"):
        fit.fit_parts(compiler(1.0, 1.0, share, fails_below, "INTERNAL: a fault")[0], share, 100 * GIB)


def test_bytes_of_a_step_are_arguments_new_results_and_scratch():
    assert fit.step_bytes(Account(1000, 200, output_size_in_bytes=600, alias_size_in_bytes=500)) == 1000 + 200 + 100
    compiled = jax.jit(lambda x: x + 1, donate_argnums=0).lower(jnp.zeros(256)).compile()
    assert fit.step_bytes(compiled) == 1024


def test_bytes_that_differentiation_keeps_are_counted_from_shapes():
    def loss(weights, inputs):
        return jnp.sum(jnp.sin(inputs @ weights)), None

    shapes = [jax.ShapeDtypeStruct(shape, np.float32) for shape in ((10, 3), (5, 10))]
    # The matrix product keeps its inputs [5, 10], the sine its derivative [5, 3]; the weights are not differentiated
    # through anything else.
    assert fit.saved_bytes(loss, *shapes) == 4 * (50 + 15)


def small_loss(*_):
    """Stand in for ``make_loss``: a mean over images, whose memory grows with them."""

    def loss(params, frozen, batch, keys):
        images = batch.visible.reshape(len(batch.visible), -1, 3) / 255.0
        total = jnp.mean(jnp.tanh(images @ params["w"]) ** 2)
        return total, {"loss": total}

    return loss


def test_step_in_parts_computes_the_same_in_less_memory(tiny_config, monkeypatch, capsys):
    config, mesh = tiny_config("baseline"), parallel.device_mesh()
    config.train.batch_size = 8
    for module in (fit, step):
        monkeypatch.setattr(module, "make_loss", small_loss)
    optimizer = build_optimizer(config, build_schedule(config, 8))
    params = {"w": np.random.default_rng(0).normal(0, 0.02, (3, 256)).astype(np.float32)}
    state = parallel.replicate(TrainState(np.int32(0), params, jax.device_get(optimizer.init(params))), mesh)
    batch = jax.tree.map(lambda leaf: np.stack([leaf, leaf]), make_batch()._replace(lwir=None))
    batch = jax.device_put(batch, parallel.batch_sharding(mesh))

    def fitted(memory_bytes, backend="cpu", accumulation_steps=None):
        monkeypatch.setattr(fit, "memory_bytes", lambda: memory_bytes)
        config.train.accumulation_steps = accumulation_steps
        with monkeypatch.context() as patch:
            patch.setattr(fit.jax, "default_backend", lambda: backend)
            result = fit.fit_training_step(None, optimizer, config, state, batch)
        return result, capsys.readouterr().out

    def metrics(result):
        return jax.device_get(result.run(jax.tree.map(jnp.copy, state), batch)[1])  # the step reuses its buffers

    whole, printed = fitted(GIB)
    assert whole.parts == 1
    needed = f"{whole.needed_bytes / GIB:.2f} of 1.0 GiB of memory; compiled in "
    assert printed.startswith(f"step: 8 images on 2 devices; {needed}")
    # A GPU guesses the number of parts first.
    parted, printed = fitted((whole.needed_bytes - 1) / fit.USABLE, "gpu")
    assert parted.parts in (2, 4)
    assert parted.needed_bytes < 0.7 * whole.needed_bytes
    assert f"step: 8 images on 2 devices, {4 // parted.parts} at a time on each; " in printed
    expected = metrics(whole)
    for name, value in metrics(parted).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-4)
    given, printed = fitted(1000, accumulation_steps=1)
    assert given.parts == 1
    assert "warning: the step may not fit in memory. To need less: --config.train" in printed
    with pytest.raises(ValueError, match="no other detector takes one"):
        fit.fit_training_step(None, optimizer, config, state, batch, FrozenTeacher(None, None, None, ""))


class Device(NamedTuple):
    platform: str
    stats: dict | None

    def memory_stats(self):
        return self.stats


@pytest.mark.parametrize(
    ("devices", "expected"),
    [
        ([Device("gpu", {"bytes_limit": 60 * GIB})], 60 * GIB),
        ([Device("gpu", {"bytes_limit": 60 * GIB}), Device("gpu", {"bytes_limit": 18 * GIB})], 18 * GIB),
        ([Device("gpu", None)], None),
        ([Device("cpu", None)], 24 * GIB),
        ([Device("cpu", None), Device("cpu", {})], 12 * GIB),
    ],
    ids=["gpu", "gpus", "unknown", "cpu", "cpus"],
)
def test_memory_is_that_of_the_smallest_device_or_a_share_of_the_machine(monkeypatch, devices, expected):
    monkeypatch.setattr(fit.jax, "local_devices", lambda: devices)
    monkeypatch.setattr(fit, "machine_memory_bytes", lambda: 24 * GIB)
    assert fit.memory_bytes() == expected
