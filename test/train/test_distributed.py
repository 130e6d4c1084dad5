"""How processes find each other, and what is said when they do not."""

import socket
import threading

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
