"""How processes find each other, and what is said when they do not."""

import signal
import socket
import threading
import time

import pytest
import torch

from senet.errors import UserError
from senet.train import distributed
from senet.train.distributed import Group, Place, connected, find_place

TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "node1", "MASTER_PORT": "1234"}
SRUN = {
    "SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "2", "SLURM_LOCALID": "0", "SLURM_STEP_NODELIST": "n1",
    "SLURM_JOB_ID": "30012",
}  # fmt: skip


@pytest.mark.parametrize(
    ("environ", "place"),
    [
        ({}, Place()),
        (TORCHRUN, Place(3, 4, 1, "node1", 1234)),
        (SRUN, Place(2, 4, 0, "n1", 20012)),
        (SRUN | {"MASTER_ADDR": "n7", "MASTER_PORT": "5"}, Place(2, 4, 0, "n7", 5)),
        (SRUN | TORCHRUN, Place(3, 4, 1, "node1", 1234)),  # torchrun within a step of Slurm
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, Place()),  # a job script itself
        (SRUN | {"SLURM_STEP_NUM_TASKS": "1"}, Place()),
        ({"RANK": "0", "WORLD_SIZE": "1"}, Place()),
    ],
)
def test_the_environment_says_which_process_this_is(environ, place):
    assert find_place(environ) == place


@pytest.mark.parametrize("wrong", [{"RANK": "4"}, {"RANK": "x"}, {"RANK": "-1"}, {"MASTER_PORT": "http"}])
def test_an_environment_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(UserError, match=r"the environment has RANK=.*WORLD_SIZE=4, LOCAL_RANK=1"):
        find_place(TORCHRUN | wrong)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def join(place, seconds, errors):
    try:
        with connected(place, "cpu", seconds):
            pass
    except UserError as error:
        errors.append(str(error))


def test_a_rank_that_does_not_come_is_named_on_all_that_did():
    errors, port = [], free_port()
    there = [threading.Thread(target=join, args=(Place(rank, 5, rank, port=port), 2, errors)) for rank in (0, 2, 3)]
    for thread in there:
        thread.start()
    for thread in there:
        thread.join(60)
    assert len(errors) == 3
    assert all("of 5 ranks, 1, 4 did not come within 2 s (those that did are on " in error for error in errors)


def test_a_rank_0_that_does_not_come_is_named_too():
    errors = []
    join(Place(1, 2, 1, port=free_port()), 1, errors)
    assert "rank 1 on " in errors[0] and "rank 0 did not answer at 127.0.0.1:" in errors[0] and " 1 s" in errors[0]


def test_a_port_that_is_taken_is_said():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        errors = []
        join(Place(0, 2, 0, port=s.getsockname()[1]), 1, errors)
    assert "set MASTER_PORT to a free port" in errors[0]


@pytest.fixture
def deaf():
    """The port of a program that takes connections and says nothing."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        yield s.getsockname()[1]


def test_another_program_at_the_port_of_rank_0_ends_the_wait_in_time(deaf):
    errors, start = [], time.monotonic()
    join(Place(1, 2, 1, port=deaf), 1, errors)
    assert time.monotonic() - start < 30
    assert "rank 0 did not answer at 127.0.0.1:" in errors[0] and "perhaps another program listens there" in errors[0]


def test_a_signal_is_heard_while_a_rank_looks_for_the_others(deaf):
    def stop(number, frame):
        raise SystemExit(75)

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        with pytest.raises(SystemExit), connected(Place(1, 2, 1, port=deaf), "cpu", 60):
            pass
    finally:
        signal.signal(signal.SIGALRM, before)


def test_an_address_that_nobody_knows_is_named():
    errors = []
    join(Place(1, 2, 1, address="no-such-host.invalid", port=free_port()), 20, errors)
    assert "MASTER_ADDR no-such-host.invalid: no address of this name is known on " in errors[0]


@pytest.fixture
def scontrol(tmp_path, monkeypatch):
    """Slurm's command, which knows two nodes."""
    path = tmp_path / "scontrol"
    path.write_text(
        "#!/bin/sh\n"
        "case $2 in hostnames) printf 'no-such-node1\\nno-such-node2\\n' ;;\n"
        "  node) echo NodeName=$3 Arch=x86_64 NodeAddr=127.0.0.1 NodeHostName=x ;; esac\n"
    )
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("SLURM_JOB_ID", "30012")


def test_a_nodes_address_is_slurms_where_its_name_is_known_to_it_alone(scontrol):
    place = find_place(SRUN | {"SLURM_STEP_NODELIST": "no-such-node[1-2]"})
    assert place.address == "no-such-node1"
    assert distributed._resolved(place.address) == "127.0.0.1"


def test_nodes_that_slurm_does_not_tell_are_asked_for(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match=r"scontrol does not say which nodes n\[1-2\] are; set MASTER_ADDR"):
        find_place(SRUN | {"SLURM_STEP_NODELIST": "n[1-2]"})


def test_gpus_without_nccl_are_refused_at_once(monkeypatch):
    monkeypatch.setattr(distributed.dist, "is_nccl_available", lambda: False)
    with (
        pytest.raises(UserError, match=r"2 processes on GPUs talk by NCCL, which torch .* use --ngpu 1"),
        connected(Place(0, 2), "cuda"),
    ):
        pass


def test_one_process_is_a_group_by_itself():
    with connected(Place(), "cpu") as group:
        assert (group.rank, group.world) == (0, 1)
    assert Group().gather(3) == [3]
    Group().share_buffers([torch.nn.BatchNorm1d(2)])
    assert Group().sums([1.0, 2.0]) == [1.0, 2.0]


def test_gradients_travel_some_at_a_time_those_of_one_dtype_together(monkeypatch):
    monkeypatch.setattr(distributed, "_BUCKET", 40)
    sizes = [4, 4, 4, 30, 1]
    parameters = [torch.zeros(n, dtype=torch.float64 if n == 1 else torch.float32) for n in sizes]
    assert [[len(p) for p in bucket] for bucket in distributed._buckets(parameters)] == [[4, 4], [4], [30], [1]]


def test_more_values_than_can_be_shared_are_refused():
    values = {f"v{i}": torch.zeros(()) for i in range(65)}
    with pytest.raises(UserError, match="tells 65 values of a step; several processes share up to 64"):
        Group(0, 2).mean_gradients([torch.zeros(1)], values, 1)
