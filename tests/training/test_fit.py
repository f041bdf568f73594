"""In how many parts a step is taken, by the memory of the devices."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training_cases import make_batch

from dcrl_jax import parallel
from dcrl_jax.models.network import build_network
from dcrl_jax.training import fit
from dcrl_jax.training.optimizer import build_optimizer, build_schedule
from dcrl_jax.training.step import TrainState

GIB = fit.GIB


class Account(NamedTuple):
    argument_size_in_bytes: int
    temp_size_in_bytes: int
    output_size_in_bytes: int = 7
    alias_size_in_bytes: int = 7


class Step(NamedTuple):
    account: Account

    def memory_analysis(self):
        return self.account


def compiler(fixed_gib, image_gib, share, fails_below=0):
    """A compiler of steps that need so much, and the numbers of parts that it was asked for."""
    asked = []

    def compile_step(parts):
        asked.append(parts)
        if parts < fails_below:
            raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 5 bytes.")
        return Step(Account(int(fixed_gib * GIB), int(image_gib * share / parts * GIB)))

    return compile_step, asked


@pytest.mark.parametrize(
    ("room_gib", "parts", "compiled"),
    [
        (250, 1, [1]),
        (200, 2, [1, 2]),
        (72, 4, [1, 4]),  # 4.21 + 16 * 3.27 = 56.5
        (36, 8, [1, 8]),
        (21, 16, [1, 16]),
        (14, 32, [1, 32]),
        (8, 64, [1, 64]),
        (5, 64, [1, 64]),  # not even one image at a time: the least that there is
        (3, 64, [1, 64]),  # not even the parameters
    ],
)
def test_as_few_parts_as_fit_are_found_with_two_compilations(room_gib, parts, compiled):
    compile_step, asked = compiler(4.21, 3.27, 64)
    needed = int(4.21 * GIB) + int(3.27 * 64 / parts * GIB)
    assert fit.fit_parts(compile_step, 64, room_gib * GIB) == (parts, needed)
    assert asked == compiled


def test_guess_that_fits_is_all_that_is_compiled_unless_fewer_parts_would_fit_too():
    compile_step, asked = compiler(4.0, 3.0, 64)
    assert fit.fit_parts(compile_step, 64, 72 * GIB, guess=2.7)[0] == 4
    assert asked == [4]
    compile_step, asked = compiler(4.0, 3.0, 64)
    assert fit.fit_parts(compile_step, 64, 72 * GIB, guess=30)[0] == 4
    assert asked == [32, 16, 8, 4]


def test_devices_that_do_not_tell_their_memory_take_all_images_at_once():
    compile_step, asked = compiler(4.0, 3.0, 64)
    assert fit.fit_parts(compile_step, 64, math.inf)[0] == 1
    assert asked == [1]


def test_parts_share_the_images_of_a_device_evenly():
    compile_step, _ = compiler(1.0, 1.0, 12)
    assert [fit.fit_parts(compile_step, 12, room * GIB)[0] for room in (13, 7, 5, 4, 3, 2)] == [1, 2, 3, 4, 6, 12]


def test_step_that_cannot_even_be_compiled_for_want_of_memory_is_taken_in_more_parts():
    compile_step, asked = compiler(1.0, 1.0, 8, fails_below=4)
    assert fit.fit_parts(compile_step, 8, 100 * GIB)[0] == 4
    assert asked == [1, 2, 4]
    compile_step, asked = compiler(1.0, 1.0, 12, fails_below=3)
    assert fit.fit_parts(compile_step, 12, 100 * GIB)[0] == 3
    assert asked == [1, 2, 3]
    compile_step, _ = compiler(1.0, 1.0, 2, fails_below=4)
    with pytest.raises(RuntimeError, match="RESOURCE_EXHAUSTED"):
        fit.fit_parts(compile_step, 2, 100 * GIB)


def test_compiler_s_other_errors_are_raised_at_once():
    def compile_step(parts):
        raise RuntimeError("INTERNAL: a fault")

    with pytest.raises(RuntimeError, match="a fault"):
        fit.fit_parts(compile_step, 8, GIB)


def test_bytes_of_a_step_are_its_arguments_its_results_that_are_no_arguments_and_its_scratch():
    account = Account(1000, 200, output_size_in_bytes=600, alias_size_in_bytes=500)
    assert fit.step_bytes(Step(account)) == 1000 + 200 + 100
    compiled = jax.jit(lambda x: x + 1, donate_argnums=0).lower(jnp.zeros(256)).compile()
    assert fit.step_bytes(compiled) == 1024


def test_what_differentiation_keeps_is_counted_from_shapes():
    def loss(weights, inputs):
        return jnp.sum(jnp.sin(inputs @ weights)), None

    shapes = [jax.ShapeDtypeStruct(shape, np.float32) for shape in ((10, 3), (5, 10))]
    # The matrix product keeps its inputs [5, 10], the sine its derivative [5, 3]; the weights are not differentiated
    # through anything else.
    assert fit.saved_bytes(loss, *shapes) == 4 * (50 + 15)


@pytest.fixture(scope="module")
def setting(tiny_config, random_params):
    """Network, optimizer, config, state and batch of a baseline with four images on each of two devices."""
    config = tiny_config("baseline")
    config.train.batch_size = 8
    network, mesh = build_network(config), parallel.device_mesh()
    optimizer = build_optimizer(config, build_schedule(config, 8))
    params = random_params(network)
    state = parallel.replicate(TrainState(np.int32(0), params, jax.device_get(optimizer.init(params))), mesh)
    batch = jax.tree.map(lambda leaf: np.stack([leaf, leaf]), make_batch()._replace(lwir=None))
    batch = jax.device_put(batch, parallel.batch_sharding(mesh))
    return network, optimizer, config, state, batch


@pytest.mark.usefixtures("quick_compile", "shallow_backbone")
def test_step_that_does_not_fit_at_once_is_taken_in_parts_with_the_same_result(setting, monkeypatch, capsys):
    *arguments, state, batch = setting

    def run(memory_bytes, backend="cpu", accumulation_steps=None):
        monkeypatch.setattr(fit, "memory_bytes", lambda: memory_bytes)
        arguments[-1].train.accumulation_steps = accumulation_steps
        with monkeypatch.context() as patch:
            patch.setattr(fit.jax, "default_backend", lambda: backend)
            fitted = fit.fit_training_step(*arguments, state, batch)
        own_state = jax.tree.map(jnp.copy, state)  # the step reuses its buffers
        return fitted, jax.device_get(fitted.run(own_state, batch)[1]), capsys.readouterr().out

    whole, expected, printed = run(GIB)
    assert whole.parts == 1
    needed = f"{whole.needed_bytes / GIB:.2f} of 1.0 GiB of memory; compiled in "
    assert printed.startswith(f"step: 8 images on 2 devices; {needed}")
    for backend in ("cpu", "gpu"):
        parted, metrics, printed = run((whole.needed_bytes - 1) / fit.USABLE, backend)
        assert parted.parts in (2, 4)
        assert parted.needed_bytes < whole.needed_bytes
        assert f"step: 8 images on 2 devices, {4 // parted.parts} at a time on each; " in printed
        for name, value in expected.items():
            np.testing.assert_allclose(metrics[name], value, rtol=1e-4)
    given, _, printed = run(GIB, accumulation_steps=4)
    assert given.parts == 4
    assert "1 at a time on each" in printed
    given, _, printed = run(1000, accumulation_steps=1)
    assert given.parts == 1
    assert "warning: the step may not fit in memory. To need less: --config.train" in printed


class Device(NamedTuple):
    platform: str
    stats: dict | None

    def memory_stats(self):
        return self.stats


@pytest.mark.parametrize(
    "case",
    [
        (Device("gpu", {"bytes_limit": 60 * GIB}), 60 * GIB),
        (Device("gpu", {"bytes_limit": 60 * GIB}), Device("gpu", {"bytes_limit": 18 * GIB}), 18 * GIB),
        (Device("gpu", None), None),
        (Device("cpu", None), 24 * GIB),
        (Device("cpu", None), Device("cpu", {}), 12 * GIB),
    ],
)
def test_memory_is_what_the_smallest_device_reports_or_a_share_of_the_machine_s(monkeypatch, case):
    *devices, expected = case
    monkeypatch.setattr(fit.jax, "local_devices", lambda: devices)
    monkeypatch.setattr(fit, "machine_memory_bytes", lambda: 24 * GIB)
    assert fit.memory_bytes() == expected
