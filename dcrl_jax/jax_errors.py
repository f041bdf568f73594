"""Out-of-memory errors of JAX and its libraries, and their remedies."""

import errno

from ml_collections import ConfigDict

# Changes that make a training step need less memory; the first two do not change the training.
REMEDIES = (
    "--config.train.accumulation_steps=N (the same batch in N parts), --config.backbone.remat=True (more time), "
    "--config.backbone.dtype=bfloat16, a smaller --config.train.batch_size. While a student's command trains its "
    "teacher, --config.teacher.train.accumulation_steps and .batch_size count."
)
SHARED_GPU = (
    "nvidia-smi shows which programs hold a GPU's memory. If others do: end them, choose another GPU with "
    "CUDA_VISIBLE_DEVICES, or set XLA_PYTHON_CLIENT_MEM_FRACTION to the share that JAX may take, 0.75 by default; more "
    "if the GPU is JAX's alone, less if its libraries cannot start."
)

# From messages of XLA, CUDA, cuDNN, cuBLAS and Python. NVIDIA's libraries need memory beside JAX's own; without it they
# only report that they could not start (https://docs.jax.dev/en/latest/gpu_memory_allocation.html).
_OUT_OF_MEMORY = (
    "RESOURCE_EXHAUSTED",
    "out of memory",
    "CUDA_ERROR_OUT_OF_MEMORY",
    "Failed to allocate",
    "DNN library initialization failed",
    "Could not create cudnn handle",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED",
    "can't start new thread",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that a device or the machine has no memory left."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    text = str(error).casefold()
    return isinstance(error, MemoryError) or any(sign.casefold() in text for sign in _OUT_OF_MEMORY)


def explain_out_of_memory(error: BaseException, config: ConfigDict | None) -> str:
    """Return a message that says what ran out of memory and what a user can do.

    Args:
        error: an error for which ``is_out_of_memory`` is true.
        config: the run's config, if there is one.
    """
    import jax

    lines = [f"memory ran out: {(str(error).strip() or 'Python could not allocate').splitlines()[0]}"]
    if config is not None:
        sizes = {"config.train.batch_size": config.train.batch_size, "config.eval.batch_size": config.eval.batch_size}
        if config.role == "student":
            sizes["config.teacher.train.batch_size"] = config.teacher.train.batch_size
        batches = ", ".join(f"{key} is {size}" for key, size in sizes.items())
        lines += [f"{batches}, over {jax.device_count()} device{'s' if jax.device_count() > 1 else ''}."]
        lines += [f"For a training step to need less: {REMEDIES}"]
        lines += ["For scoring to need less: a smaller --config.eval.batch_size."]
    if jax.default_backend() != "cpu":
        lines += [SHARED_GPU]
    return "\n".join(lines)
