"""Many devices compute the same as one: equal losses and gradients, with a round of all-reduce and nothing else."""

import json
import os
import subprocess
import sys

import pytest
from training_cases import ROOT

from benchmarks.data_parallel import collectives_of

# In a process of its own, since the number of devices is set at its start.
SCRIPT = """
import json, jax
from conftest import shrink
from benchmarks.data_parallel import compare
from configs import student, teacher
from dcrl_jax.models import vgg16

jax.config.update("jax_disable_most_optimizations", True)
vgg16.BLOCKS = tuple((channels, 1) for channels, _ in vgg16.BLOCKS)
rows = compare(shrink(teacher.get_config("synthetic")), 8, [(8, 1), (2, 4)])
rows += compare(shrink(student.get_config("synthetic")), 8, [(4, 1)])
print(json.dumps(rows))
"""


@pytest.mark.slow
def test_losses_and_gradients_do_not_depend_on_the_number_of_devices_or_parts():
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "8", "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout.splitlines()[-1])
    assert {(row["role"], row["devices"]) for row in rows} == {("teacher", 8), ("teacher", 2), ("student", 4)}
    for row in rows:
        assert max(row["gradient"], row["losses"]) < 1e-5, row
        assert row["worst_tensor"] < 1e-4, row
        # Every device sends its gradients and losses once, and nothing else.
        assert set(row["collectives"]) == {"all-reduce"}, row
        _, sent = row["collectives"]["all-reduce"]
        assert row["gradient_bytes"] <= sent < row["gradient_bytes"] + 200, row


def test_collectives_are_counted_in_the_text_of_a_program():
    program = """
      %a = f32[3,4]{1,0} all-reduce(%x), replica_groups={{0,1}}
      %b = (f32[2]{0}, bf16[5]{0}, f32[]) all-reduce(%y, %z, %w), to_apply=%add
      %c = f32[8]{0} all-gather-start(%a), dimensions={0}
      %d = f32[7]{0} add(%all-reduce.1, %c)
    """
    assert collectives_of(program) == {"all-reduce": (2, 48 + 8 + 10 + 4), "all-gather": (1, 32)}
