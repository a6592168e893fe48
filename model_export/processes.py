"""The process among those of a training run; one process is a run of its own."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from model_export.errors import TrainingError


@dataclass(frozen=True, slots=True)
class Place:
    """Which process this is, of how many, and where it computes."""

    rank: int
    ranks: int
    device: torch.device


@contextmanager
def this_place(device: str, threads: int) -> Iterator[Place]:
    """Joins the process group that torchrun began, if it did (gloo on CPU, nccl on CUDA), and leaves it at the end."""
    kind = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    torch.set_num_threads(threads)
    if not dist.is_torchelastic_launched():
        yield Place(0, 1, torch.device(kind))
        return
    dist.init_process_group("nccl" if kind == "cuda" else "gloo")
    try:
        there = torch.device("cuda", dist.get_node_local_rank()) if kind == "cuda" else torch.device(kind)
        yield Place(dist.get_rank(), dist.get_world_size(), there)
        dist.barrier()  # who leaves while another still speaks to the group is aborted by it
    finally:
        dist.destroy_process_group()


def mean_over_ranks(values: Tensor, place: Place) -> Tensor:
    """The mean of this tensor over all processes."""
    if place.ranks == 1:
        return values
    values = values.clone()
    dist.all_reduce(values)
    return values / place.ranks


def shared_clock(place: Place, elapsed_s: float) -> Callable[[], float]:
    """A clock that starts at `elapsed_s` and shows what rank 0's shows, so that all processes keep one schedule."""
    began_s = time.monotonic() - elapsed_s

    def clock() -> float:
        now = torch.tensor([time.monotonic() - began_s], dtype=torch.float64)
        if place.ranks > 1:
            now = now.to(place.device)
            dist.broadcast(now, 0)
        return float(now.item())

    return clock


def require_same_everywhere(network: nn.Module, place: Place) -> None:
    """Raises TrainingError when the processes' parameters have drifted apart."""
    if place.ranks == 1:
        return
    mine = torch.cat([parameter.detach().flatten() for parameter in network.parameters()])
    first = mine.clone()
    dist.broadcast(first, 0)
    apart = (mine - first).abs().max()
    dist.all_reduce(apart, dist.ReduceOp.MAX)
    if apart > 0:
        raise TrainingError(f"All processes should hold the same parameters. Found a difference of {float(apart):g}.")
