"""Processes of a run that are cut off end the others, and the same command goes on bit for bit.

Network namespaces stand for machines: each has an address and a cable of its own, which a test can pull.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import time

import pytest
from training_cases import differences, end_of_run, finish, start_main

pytestmark = pytest.mark.slow

STEPS = 160
FLAGS = {
    **{"train.steps": STEPS, "train.batch_size": 4, "train.log_every_steps": 2},
    **{"train.evaluate_every_epochs": STEPS / 3 * 4 / 24, "train.checkpoint_every_minutes": 0.01},
    **{"optimizer.learning_rate": 0.01, "optimizer.warmup_steps": 2},
}
CUT_OFF = "it does not answer (is its machine or the network down?)"


class Machines:
    """Namespaces with the addresses 10.77.0.1, 10.77.0.2 and so on, whose cables meet in a switch."""

    def __init__(self, count):
        self.names = [f"dcrl{os.getpid()}-{index}" for index in range(count)]
        self.addresses = [f"10.77.0.{index + 1}" for index in range(count)]
        self.switch = f"dcrl{os.getpid()}-switch"

    def __enter__(self):
        ip("netns", "add", self.switch)
        ip("-n", self.switch, "link", "add", "bridge", "type", "bridge")
        ip("-n", self.switch, "link", "set", "bridge", "up")
        for index, (name, address) in enumerate(zip(self.names, self.addresses, strict=True)):
            ip("netns", "add", name)
            cable = ("peer", "name", f"port{index}", "netns", self.switch)
            ip("-n", name, "link", "add", "eth0", "type", "veth", *cable)
            ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
            for device in ("eth0", "lo"):
                ip("-n", name, "link", "set", device, "up")
            ip("-n", self.switch, "link", "set", f"port{index}", "up")
            self.plug(index)
        return self

    def __exit__(self, *error):
        for name in (*self.names, self.switch):
            with contextlib.suppress(subprocess.CalledProcessError):
                ip("netns", "delete", name)

    def plug(self, index):
        ip("-n", self.switch, "link", "set", f"port{index}", "master", "bridge")

    def unplug(self, index):
        # The machine's own end stays up: nothing tells either side.
        ip("-n", self.switch, "link", "set", f"port{index}", "nomaster")


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture(scope="module")
def namespaces():
    """Whether this machine can have network namespaces; the reason, if not."""
    if os.geteuid() != 0 or not shutil.which("ip"):
        return "needs root and the command ip"
    try:
        with Machines(1):
            return ""
    except subprocess.CalledProcessError as error:
        return f"no network namespaces here: {error.stderr.decode().strip()}"


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, data_dir):
    """Makes what a run of so many processes leaves that nobody disturbs."""
    ends = {}

    def end(count):
        if count not in ends:
            workdir = tmp_path_factory.mktemp("undisturbed")
            assert_finished(start_all(workdir, data_dir, count))
            ends[count] = end_of_run(workdir)
        return ends[count]

    return end


def start_all(workdir, data_dir, count, machines=None):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    host = machines.addresses[0] if machines else "127.0.0.1"
    processes = []
    for index in range(count):
        within = ("ip", "netns", "exec", machines.names[index]) if machines else ()
        where = f"--distributed={host}:{port},{count},{index}"
        flags = FLAGS | {"data.data_dir": data_dir}
        processes.append(start_main("baseline", workdir, flags, where, devices=1, within=within))
    return processes


def assert_finished(processes):
    ends = [finish(process) for process in processes]
    assert [status for status, _, _ in ends] == [0] * len(ends), ends


def assert_misses(err, index, address):
    """Assert that a process said once who is gone, and nothing of the errors that follow from it."""
    assert err.count("error: ") == 1, err
    assert f"error: process {index} at {address} is gone: {CUT_OFF}. This process cannot go on without it. The " in err
    assert "Traceback" not in err


@pytest.mark.parametrize(("count", "cut_off"), [(2, 0), (4, 2)])
def test_machine_that_is_cut_off_ends_the_others_within_a_minute(
    tmp_path, data_dir, undisturbed, namespaces, count, cut_off
):
    if namespaces:
        pytest.skip(namespaces)
    expected = undisturbed(count)
    with Machines(count) as machines:
        processes = start_all(tmp_path, data_dir, count, machines)
        for line in processes[0].stdout:
            if line.startswith("step 10/"):
                break
        machines.unplug(cut_off)
        since = time.monotonic()
        ends = [finish(process) for process in processes]
        assert time.monotonic() - since < 60
        assert [status for status, _, _ in ends] == [os.EX_TEMPFAIL] * count, ends
        for index, (_, _, err) in enumerate(ends):
            # The machine that is cut off misses the first one; as the first one, any other.
            missed = cut_off if index != cut_off else 0 if cut_off else 1
            assert_misses(err, missed, machines.addresses[missed])
        machines.plug(cut_off)
        assert_finished(start_all(tmp_path, data_dir, count, machines))
    assert differences(end_of_run(tmp_path), expected) == []
