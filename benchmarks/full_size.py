"""Parameters, memory and time of a training step at full size, 640x512 and width 1.

    python -m benchmarks.full_size --role=teacher
    python -m benchmarks.full_size --role=student     the frozen teacher included, after the baseline's step
    python -m benchmarks.full_size --flops            operations of one image's step of all roles; compiles nothing

Without ``--flops`` the step is compiled for batches of two and of one, and run three times. The memory is what the
compiled step reports: arguments (parameters, optimizer state, batch), and the temporary buffers that the step needs
besides. The memory of a further image is the difference between the two batches. The teacher's share of the student's
step is the time by which that step is longer than the baseline's, which is the same step without a teacher.
"""

import time
from collections.abc import Sequence

import jax
from ml_collections import ConfigDict

from benchmarks.steps import TrainingStep, noise_batch, repeated
from benchmarks.timing import describe_machine_and_peak
from configs import baseline, student, teacher
from dcrl_jax.command_line import Parser, exit_on_error
from dcrl_jax.devices import quiet_without_gpu
from dcrl_jax.training.fit import GIB

STEPS = 2  # timed, after the first


def measure(config: ConfigDict) -> float:
    """Print the figures of one role; return the fastest of its steps in seconds."""
    training = TrainingStep(config)
    step, (state, frozen) = training.on(), training.initial_shapes()
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    size = f"{config.data.width_px}x{config.data.height_px}"
    anchors = len(training.network.anchors)
    print(f"{config.role} of {size}, width {config.backbone.width:g}, head {config.roi.hidden}, {anchors:,} anchors")
    print(f"parameters: {parameters:,} ({4 * parameters / GIB:.2f} GiB as float32)")

    temporary = {}
    for images in (2, 1):
        started = time.perf_counter()
        account = step.lower(state, *frozen, noise_batch(images, config)).compile().memory_analysis()
        temporary[images] = account.temp_size_in_bytes
        print(
            f"batch {images}: compiled in {time.perf_counter() - started:.0f} s; arguments "
            f"{account.argument_size_in_bytes / GIB:.2f} GiB, temporary {temporary[images] / GIB:.2f} GiB",
            flush=True,
        )
    print(f"memory of a further image: {(temporary[2] - temporary[1]) / GIB:.2f} GiB")

    take_step = repeated(step, training.place(training.initial(), images=1))
    times = []
    for number in range(STEPS + 1):
        started = time.perf_counter()
        loss = float(take_step()["loss"])
        times.append(time.perf_counter() - started)
        name = f"step {number}" if number else "first step, with compilation"
        print(f"{name}: {times[-1]:.1f} s, loss {loss:.3f}", flush=True)
    return min(times[1:])


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures of the roles."""
    parser = Parser(__doc__)
    parser.add_argument("--role", choices=("teacher", "student"), default="teacher")
    parser.add_argument("--flops", action="store_true", help="count the operations of all roles, and nothing else")
    options = parser.parse_args(arguments)
    quiet_without_gpu()
    with exit_on_error():
        if options.flops:
            for recipe in (teacher, student, baseline):
                config = recipe.get_config("kaist/literal")
                print(f"{config.role}: {TrainingStep(config).image_flops() / 1e12:.3f} TFLOP an image", flush=True)
            return
        print(f"{describe_machine_and_peak()}\n", flush=True)
        if options.role == "teacher":
            measure(teacher.get_config("kaist/literal"))
        else:
            baseline_s = measure(baseline.get_config("kaist/literal"))
            print()
            student_s = measure(student.get_config("kaist/literal"))
            print(f"\nthe frozen teacher's share of the student's step: {1 - baseline_s / student_s:.2f}")


if __name__ == "__main__":
    main()
