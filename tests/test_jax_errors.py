"""What a user reads when JAX has no memory left."""

import errno

import pytest

from configs import baseline, student
from dcrl_jax import jax_errors

TEXT = "RESOURCE_EXHAUSTED: Out of memory allocating 13554484784 bytes.\nAllocation dump:"


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError(TEXT),
        RuntimeError("INTERNAL: CUDA_ERROR_OUT_OF_MEMORY: out of memory"),
        RuntimeError("INTERNAL: Failed to allocate 98697216 bytes for new constant"),
        RuntimeError("FAILED_PRECONDITION: DNN library initialization failed. Look at the errors above"),
        RuntimeError("INTERNAL: cuBLAS: CUBLAS_STATUS_NOT_INITIALIZED"),
        RuntimeError("can't start new thread"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        MemoryError(),
    ],
)
def test_errors_of_no_memory_are_told_from_others(error):
    assert jax_errors.is_out_of_memory(error)
    assert not jax_errors.is_out_of_memory(RuntimeError("INVALID_ARGUMENT: shapes must be equal"))
    assert not jax_errors.is_out_of_memory(OSError(errno.ENOSPC, "No space left on device"))


def test_message_names_the_batch_and_what_makes_it_smaller():
    config = baseline.get_config("synthetic")
    config.train.batch_size = 512
    lines = jax_errors.explain_out_of_memory(RuntimeError(TEXT), config).splitlines()
    assert lines == [
        "memory ran out: RESOURCE_EXHAUSTED: Out of memory allocating 13554484784 bytes.",
        "config.train.batch_size is 512, config.eval.batch_size is 20, over 2 devices.",
        "For a training step to need less: --config.train.accumulation_steps=N (the same batch in N parts), "
        "--config.backbone.remat=True (more time), --config.backbone.dtype=bfloat16, a smaller "
        "--config.train.batch_size. While a student's command trains its teacher, "
        "--config.teacher.train.accumulation_steps and .batch_size count.",
        "For scoring to need less: a smaller --config.eval.batch_size.",
    ]


def test_student_s_message_names_its_teacher_s_batch_too():
    text = jax_errors.explain_out_of_memory(RuntimeError(TEXT), student.get_config())
    assert "config.train.batch_size is 64, config.eval.batch_size is 8, config.teacher.train.batch_size is 64" in text


def test_on_a_gpu_it_says_what_to_do_if_others_hold_the_memory(monkeypatch):
    monkeypatch.setattr("jax.default_backend", lambda: "gpu")
    text = jax_errors.explain_out_of_memory(MemoryError(), None)
    assert text.startswith("memory ran out: Python could not allocate\n")
    for word in ("nvidia-smi", "CUDA_VISIBLE_DEVICES", "XLA_PYTHON_CLIENT_MEM_FRACTION"):
        assert word in text
