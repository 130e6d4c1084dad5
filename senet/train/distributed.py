"""The processes that train one model together: who they are, how they find each other, what they share.

Each process (rank) computes its share of every batch; gradients are added up, so that all take the same step from the
same weights. Rank 0 writes: logs, checkpoints, the record. Which process this is follows from

    RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT, as torchrun and ``senet.train.launch`` set them, or
    what srun says of its tasks (SLURM_STEP_NUM_TASKS, SLURM_PROCID, SLURM_LOCALID, and for the address the nodes),

and without these it is the only one. GPUs talk by NCCL, CPUs by gloo; so do all by gloo about what is not on a GPU.
"""

import concurrent.futures
import contextlib
import datetime
import logging
import os
import platform
import re
import socket
import subprocess
import sys
import threading
import time
from typing import NamedTuple

import torch
import torch.distributed as dist

from senet.errors import UserError

JOIN_SECONDS = 300  # to wait for a rank at the start
STUCK = datetime.timedelta(minutes=30)  # to wait for one later, which may write a checkpoint to a slow disk
_VALUES = 64  # at most, that a step tells
_BUCKET = 25 << 20  # bytes of gradients that travel together
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
    found = _scontrol("show", "hostnames", nodes).split()
    if not found:
        raise UserError(f"scontrol does not say which nodes {nodes} are; set MASTER_ADDR to the name of the first")
    return found[0]


def _scontrol(*words):
    """What it says; nothing where it fails."""
    try:
        return subprocess.run(["scontrol", *words], capture_output=True, text=True, timeout=60).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _resolved(name):
    """The name, or the address that Slurm has for a node whose name nobody else knows."""
    try:
        socket.getaddrinfo(name, None)
        return name
    except OSError as error:
        in_slurm = "SLURM_JOB_ID" in os.environ and re.search(r"\bNodeAddr=(\S+)", _scontrol("show", "node", name))
        if in_slurm and in_slurm[1] != name:
            return _resolved(in_slurm[1])
        raise UserError(
            f"MASTER_ADDR {name}: no address of this name is known on {platform.node()} ({error}); set it to a name or "
            "an address of the first machine that all others know"
        ) from None


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
    serves = place.rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"  # else torchrun does

    def sign_in():
        store = dist.TCPStore(
            _resolved(place.address),
            place.port,
            is_master=serves,
            timeout=datetime.timedelta(seconds=seconds),
            wait_for_workers=False,
        )
        store = dist.PrefixStore("senet", store)
        store.set(f"host {place.rank}", platform.node())
        return store

    end = time.monotonic() + seconds
    try:
        store = _within(seconds + 2, sign_in)
    except (RuntimeError, ValueError, concurrent.futures.TimeoutError) as error:
        why = _first_line(error) or "perhaps another program listens there"
        if serves:
            raise UserError(
                f"{name_of(place)} cannot be reached at {at}: {why}; set MASTER_PORT to a free port, MASTER_ADDR to a "
                "name of the first machine"
            ) from error
        raise UserError(
            f"{name_of(place)}: rank 0 did not answer at {at} within {seconds:g} s: {why}; see its log, and whether "
            "MASTER_ADDR and MASTER_PORT can be reached from here"
        ) from error
    try:
        verdict = _count(store, place.world, end, seconds) if place.rank == 0 else _verdict(store, end + 10)
    except RuntimeError as error:
        raise UserError(f"{name_of(place)}: rank 0 ended before all {place.world} ranks were there") from error
    if verdict:
        raise UserError(verdict if place.rank == 0 else f"{name_of(place)}: {verdict}")
    return store, [store.get(f"host {rank}").decode() for rank in range(place.world)]


def _within(seconds, call):
    """What ``call()`` returns, or a TimeoutError. It runs in a thread, as signals are not heard inside of torch, which
    may also wait for longer than it was told: for what answers, but is no store of torch."""
    found = concurrent.futures.Future()

    def run():
        try:
            found.set_result(call())
        except BaseException as error:
            found.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return found.result(seconds)


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
        note: () -> numbers of this process, as many on each, that travel with its gradients.
    """

    def __init__(self, rank=0, world=1, hosts=None, control=None):
        self.rank, self.world, self.hosts, self._control = rank, world, hosts or [platform.node()], control
        self.note, self._noted = tuple, ()

    def mean_gradients(self, parameters, values, weight):
        """Mean the gradients of all processes, each by its weight, in place.

        Args:
            parameters: with their gradients; None counts as 0, unless it is None everywhere.
            values: {name: scalar tensor}, the same names on each process; none where the weight is 0.
            weight: of this process's share of the batch.
        Returns:
            the mean values; ``{"loss": ...}``, the first of them, where there were none.
        """
        if len(values) > _VALUES:
            raise UserError(f"the loss tells {len(values)} values of a step; several processes share up to {_VALUES}")
        weight = float(weight)
        device, notes, told = parameters[0].device, self.note(), [v.double() for v in values.values()]
        given = (p.grad is not None for p in parameters)
        head = torch.tensor([weight, *notes, *given], dtype=torch.float64, device=device)
        told = torch.stack([*told, *head.new_zeros(_VALUES - len(told))]) * weight
        shared = torch.cat([head, told])
        dist.all_reduce(shared)
        total, *head = shared[: len(head)].tolist()
        self._noted, given = head[: len(notes)], head[len(notes) :]
        for bucket in _buckets(p for p, there in zip(parameters, given, strict=True) if there):
            grads = [p.new_zeros(p.numel()) if p.grad is None else p.grad.flatten() for p in bucket]
            flat = torch.cat(grads).mul_(weight / total)
            dist.all_reduce(flat)
            for parameter, grad in zip(bucket, flat.split([p.numel() for p in bucket]), strict=True):
                if parameter.grad is None:
                    parameter.grad = torch.empty_like(parameter)
                parameter.grad.copy_(grad.view_as(parameter))
        means = (shared[-_VALUES:] / total).float()
        return dict(zip(values or ["loss"], means, strict=False))

    def noted(self):
        """Sums over all processes of what they had to ``note`` when they last shared gradients."""
        return self._noted if self.world > 1 else self.note()

    def sums(self, numbers):
        """Of numbers, as many on each process, over all of them."""
        if self.world == 1:
            return numbers
        found = torch.tensor(numbers, dtype=torch.float64)
        dist.all_reduce(found, group=self._control)
        return found.tolist()

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


def _buckets(parameters):
    """Lists of some at a time, of one dtype: few calls, and little memory for copies."""
    bucket, size = [], 0
    for parameter in parameters:
        if bucket and (size + parameter.nbytes > _BUCKET or parameter.dtype != bucket[0].dtype):
            yield bucket
            bucket, size = [], 0
        bucket.append(parameter)
        size += parameter.nbytes
    if bucket:
        yield bucket


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
