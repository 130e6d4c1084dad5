"""The processes that train one model together: who they are, how they find each other, what they share.

Each process (rank) computes its share of every batch; gradients are added up, so that all take the same step from the
same weights. Rank 0 writes: logs, checkpoints, the record. Which process this is follows from

    RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT, as torchrun and ``senet.train.launch`` set them, or
    what srun says of its tasks (SLURM_STEP_NUM_TASKS, SLURM_PROCID, SLURM_LOCALID, and for the address the nodes),

and without these it is the only one. GPUs talk by NCCL, CPUs by gloo; so do all by gloo about what is not on a GPU.
"""

import contextlib
import datetime
import logging
import os
import platform
import subprocess
import sys
import time
from typing import NamedTuple

import torch
import torch.distributed as dist

from senet.errors import UserError

JOIN_SECONDS = 300  # to wait for a rank at the start
STUCK = datetime.timedelta(minutes=30)  # to wait for one later, which may write a checkpoint to a slow disk
_VALUES = 64  # numbers that travel with the gradients
_LOST = "closed by peer", "reset by peer", "Broken pipe", "Timed out waiting", "NCCL", "recvBytes", "sendBytes"


class Place(NamedTuple):
    """Of a process among those of a training."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0  # among those on this machine
    address: str = "127.0.0.1"  # of rank 0
    port: int = 0


def find_place(environ=os.environ):
    """The ``Place`` that the environment gives this process; UserError where it does not make sense."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    if "RANK" in environ and "WORLD_SIZE" in environ:
        address, port = environ.get("MASTER_ADDR", "127.0.0.1"), environ.get("MASTER_PORT", "29500")
    elif int(environ.get("SLURM_STEP_NUM_TASKS") or 1) > 1:  # of a job script, SLURM_NTASKS says what may be started
        names = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID")
        address = environ.get("MASTER_ADDR") or _first_node(environ)
        port = environ.get("MASTER_PORT") or str(20000 + int(environ.get("SLURM_JOB_ID", 0)) % 10000)
    else:
        return Place()
    found = [environ.get(name, "0") for name in names]
    try:
        rank, world, local_rank, port = (int(value) for value in (*found, port))
    except ValueError:
        rank = world = -1
    if not 0 <= rank < world:
        told = ", ".join(f"{name}={value}" for name, value in zip(names, found, strict=True))
        raise UserError(f"the environment has {told}, MASTER_PORT={port}: expected numbers, rank below number of ranks")
    return Place(rank, world, local_rank, address, port) if world > 1 else Place()


def _first_node(environ):
    nodes = environ.get("SLURM_STEP_NODELIST") or environ.get("SLURM_JOB_NODELIST") or ""
    if not set(nodes) & set("[,"):
        return nodes or "127.0.0.1"
    found = subprocess.run(["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, check=True)
    return found.stdout.split()[0]


@contextlib.contextmanager
def connected(place, kind, seconds=JOIN_SECONDS):
    """The ``Group`` of this process, once all of its processes are there.

    Args:
        place: of this process.
        kind: "cuda" or "cpu", where the model is.
        seconds: to wait for the others.
    Raises:
        UserError: a rank did not come, which is named; or there is no NCCL.
    """
    if place.world == 1:
        yield Group()
        return
    if kind == "cuda" and not dist.is_nccl_available():
        raise UserError(
            f"{place.world} processes on GPUs talk by NCCL, which torch {torch.__version__} has not here; install a "
            "torch for CUDA, or use --ngpu 1"
        )
    store, hosts = _meet(place, seconds)
    try:
        backend = "nccl" if kind == "cuda" else "gloo"
        dist.init_process_group(
            backend, store=dist.PrefixStore("group", store), rank=place.rank, world_size=place.world, timeout=STUCK
        )
        control = dist.group.WORLD if backend == "gloo" else dist.new_group(backend="gloo", timeout=STUCK)
    except RuntimeError as error:
        raise UserError(f"{name_of(place)}: the processes found, but cannot talk to each other: {error}") from error
    group = Group(place.rank, place.world, hosts, control)
    yield group
    group.barrier()  # not after an error, where the others may never answer


def leave(status):
    """End this process, one of several, at once.

    In the ordinary end, which takes its time, a connection that another process closes aborts this one now and then
    (gloo of torch 2.13), and srun kills it, because the first that has left with a status ends the others.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _meet(place, seconds):
    """(store, hosts of all ranks) when all have signed in."""
    at = f"{place.address}:{place.port}"
    hosted = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"  # by torchrun
    end = time.monotonic() + seconds
    try:
        store = dist.TCPStore(
            place.address,
            place.port,
            is_master=place.rank == 0 and not hosted,
            timeout=datetime.timedelta(seconds=seconds),
            wait_for_workers=False,
        )
    except (RuntimeError, ValueError) as error:
        if place.rank == 0 and not hosted:
            raise UserError(
                f"{name_of(place)} cannot be reached at {at}: {_first_line(error)}; set MASTER_PORT to a free port, "
                "MASTER_ADDR to a name of the first machine"
            ) from error
        raise UserError(
            f"{name_of(place)}: rank 0 did not answer at {at} within {seconds:g} s: {_first_line(error)}; see its log, "
            "and whether MASTER_ADDR and MASTER_PORT can be reached from here"
        ) from error
    store = dist.PrefixStore("senet", store)
    store.set(f"host {place.rank}", platform.node())
    try:
        verdict = _count(store, place.world, end, seconds) if place.rank == 0 else _verdict(store, end + 10)
    except RuntimeError as error:
        raise UserError(f"{name_of(place)}: rank 0 ended before all {place.world} ranks were there") from error
    if verdict:
        raise UserError(verdict if place.rank == 0 else f"{name_of(place)}: {verdict}")
    return store, [store.get(f"host {rank}").decode() for rank in range(place.world)]


def _count(store, world, end, seconds):
    """Rank 0: wait for all, and tell them: "" or what is wrong."""
    missing, verdict = list(range(world)), ""
    while missing := [rank for rank in missing if not store.check([f"host {rank}"])]:
        if time.monotonic() > end:
            there = sorted({store.get(f"host {rank}").decode() for rank in set(range(world)) - set(missing)})
            verdict = (
                f"of {world} ranks, {', '.join(map(str, missing))} did not come within {seconds:g} s (those that did "
                f"are on {', '.join(there)}); see their logs, or raise --join_seconds where nodes start late"
            )
            break
        time.sleep(0.05)
    store.set("verdict", verdict)
    if verdict:
        time.sleep(1)  # until they have read it: it goes with this process
    return verdict


def _verdict(store, end):
    while not store.check(["verdict"]):
        if time.monotonic() > end:
            return "rank 0 does not say that all are there"
        time.sleep(0.05)
    return store.get("verdict").decode()


class Group:
    """What the processes share. The default is one process by itself, for which each call is next to nothing.

    Attributes:
        rank: of this process, 0 to ``world`` - 1.
        hosts: of all ranks.
    """

    def __init__(self, rank=0, world=1, hosts=None, control=None):
        self.rank, self.world, self.hosts, self._control = rank, world, hosts or [platform.node()], control

    def mean_gradients(self, parameters, values, weight):
        """Mean the gradients of all processes, each by its weight, in place.

        Args:
            parameters: with their gradients; None counts as 0, unless it is None everywhere.
            values: {name: scalar tensor}, the same names on each process; none where the weight is 0.
            weight: of this process's share of the batch.
        Returns:
            the mean values; ``{"loss": ...}``, the first of them, where there were none.
        """
        first = parameters[0]
        scalars = torch.zeros(1 + _VALUES, device=first.device)
        scalars[0] = weight
        if values:
            scalars[1 : 1 + len(values)] = torch.stack([v.float() for v in values.values()]) * weight
        given = torch.tensor([float(p.grad is not None) for p in parameters], device=first.device)
        grads = [p.new_zeros(p.numel()) if p.grad is None else p.grad.flatten() * weight for p in parameters]
        flat = torch.cat([*grads, given, scalars])
        dist.all_reduce(flat)
        *grads, given, scalars = flat.split([*(p.numel() for p in parameters), len(parameters), 1 + _VALUES])
        total = scalars[0]
        for parameter, grad, there in zip(parameters, grads, given.tolist(), strict=True):
            parameter.grad = (grad / total).view_as(parameter) if there else None
        return {name: scalars[1 + i] / total for i, name in enumerate(values or ["loss"])}

    def share_buffers(self, networks):
        """All take over what rank 0 keeps besides parameters, such as the running statistics of batch norm."""
        if self.world == 1:
            return
        for buffers in _by_type(networks):
            flat = torch.cat([b.flatten() for b in buffers])
            dist.broadcast(flat, 0)
            for buffer, value in zip(buffers, flat.split([b.numel() for b in buffers]), strict=True):
                buffer.copy_(value.view_as(buffer))

    def gather(self, value):
        """A plain value of each process, by rank."""
        if self.world == 1:
            return [value]
        values = [None] * self.world
        dist.all_gather_object(values, value, group=self._control)
        return values

    def agree(self, prepare):
        """``prepare()`` on each process, or a UserError on all where one had an error."""
        error = None
        try:
            found = prepare()
        except Exception as raised:
            error = raised
        told = self.gather(None if error is None else f"{type(error).__name__}: {error}".removeprefix("UserError: "))
        if error is not None:
            raise error
        for rank, problem in enumerate(told):
            if problem:
                raise UserError(f"rank {rank} on {self.hosts[rank]}: {problem}")
        return found

    def barrier(self):
        """Wait for all."""
        self.gather(None)


def _by_type(networks):
    """The buffers that are in state dicts, those of one dtype together: few calls, in the same order everywhere."""
    found = {}
    for network in networks:
        kept = network.state_dict(keep_vars=True)
        for name, buffer in network.named_buffers():
            if name in kept:
                found.setdefault(buffer.dtype, []).append(buffer)
    return found.values()


def name_of(place):
    return f"rank {place.rank} on {platform.node()}"


def is_lost(error):
    """Whether an error means that another process has gone."""
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _LOST)


def _first_line(error):
    return str(error).strip().partition("\n")[0]
