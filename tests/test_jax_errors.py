"""What a user reads when memory runs out."""

import errno

import pytest

from configs import baseline, student
from dcrl_jax import jax_errors

TEXT = "RESOURCE_EXHAUSTED: Out of memory allocating 13554484784 bytes.\nAllocation dump:"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError(TEXT), True),
        (RuntimeError("INTERNAL: CUDA_ERROR_OUT_OF_MEMORY: out of memory"), True),
        (RuntimeError("INTERNAL: Failed to allocate 98697216 bytes for new constant"), True),
        (RuntimeError("FAILED_PRECONDITION: DNN library initialization failed. Look at the errors above"), True),
        (RuntimeError("INTERNAL: cuBLAS: CUBLAS_STATUS_NOT_INITIALIZED"), True),
        (RuntimeError("can't start new thread"), True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (MemoryError(), True),
        (RuntimeError("INVALID_ARGUMENT: shapes must be equal"), False),
        (OSError(errno.ENOSPC, "No space left on device"), False),
    ],
    ids=["xla", "cuda", "constant", "cudnn", "cublas", "thread", "system", "python", "shapes", "disk"],
)
def test_errors_of_memory_are_told_from_others(error, expected):
    assert jax_errors.is_out_of_memory(error) == expected


def test_message_names_the_batches_and_what_makes_them_smaller():
    config = baseline.get_config("synthetic")
    config.train.batch_size = 512
    assert jax_errors.explain_out_of_memory(RuntimeError(TEXT), config).splitlines() == [
        "memory ran out: RESOURCE_EXHAUSTED: Out of memory allocating 13554484784 bytes.",
        "config.train.batch_size is 512, config.eval.batch_size is 20, over 2 devices.",
        f"For a training step to need less: {jax_errors.REMEDIES}",
        "For scoring to need less: a smaller --config.eval.batch_size.",
    ]
    text = jax_errors.explain_out_of_memory(RuntimeError(TEXT), student.get_config())
    assert "config.train.batch_size is 64, config.eval.batch_size is 8, config.teacher.train.batch_size is 64" in text


def test_on_a_gpu_other_programs_may_hold_the_memory(monkeypatch):
    monkeypatch.setattr("jax.default_backend", lambda: "gpu")
    expected = f"memory ran out: Python could not allocate\n{jax_errors.SHARED_GPU}"
    assert jax_errors.explain_out_of_memory(MemoryError(), None) == expected
