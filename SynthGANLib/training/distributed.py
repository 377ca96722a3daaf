"""Several processes, one training: gradients are averaged turn by turn.

Started by `torchrun`, each process takes its share of every batch, and after the backward pass of a turn the gradients
of that turn's parameters are summed over all processes and divided by their number. For losses that are means over
the batch, and shares of one size, that is exactly the gradient of the whole batch (to the rounding of the sum's order).

Why not `DistributedDataParallel`: it hooks into the backward pass of one wrapped module and expects one forward and one
backward per step with the same parameters each time. A step here has several backward passes, runs a discriminator on
several inputs, switches off the gradients of all groups but one, and may differentiate twice (gradient penalty); each
of these needs a special case there and none here. What DDP saves, the overlap of communication and computation, is
little beside a step of these networks.

Batch statistics (BatchNorm) and whatever else looks at a whole batch see one process's share. Only the first process
validates, writes and talks; buffers that are validated and exported are its own.
"""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from SynthGANLib.errors import InputError
from SynthGANLib.inference.devices import resolve_device

_PATIENCE = datetime.timedelta(hours=12)
"""How long the others wait while the first process validates: long volumes may take hours on a CPU."""


@dataclass(frozen=True)
class World:
    """The processes of a run: this one's number, how many there are, and the device this one computes on."""

    rank: int
    size: int
    device: torch.device

    @property
    def first(self) -> bool:
        """True in the process that writes and talks."""
        return self.rank == 0

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over all processes, in one message for each kind of number."""
        if self.size == 1:
            return
        for dtype in sorted({tensor.dtype for tensor in tensors}, key=str):
            same = [tensor for tensor in tensors if tensor.dtype == dtype]
            flat = torch.cat([tensor.reshape(-1) for tensor in same])
            dist.all_reduce(flat)
            flat /= self.size
            for tensor, mean in zip(same, torch.split(flat, [tensor.numel() for tensor in same]), strict=True):
                tensor.copy_(mean.reshape(tensor.shape))

    def every(self, flag: bool) -> bool:
        """True if `flag` is true in all processes; waits for them."""
        if self.size == 1:
            return flag
        votes = torch.tensor([int(flag)], device=self.device)
        dist.all_reduce(votes, op=dist.ReduceOp.MIN)
        return bool(votes.item())

    def any(self, flag: bool) -> bool:
        """True if `flag` is true in one process; waits for them."""
        return not self.every(not flag)

    def broadcast_int(self, number: int) -> int:
        """The first process's number, in all; waits for them."""
        if self.size == 1:
            return number
        shared = torch.tensor([number], dtype=torch.int64, device=self.device)
        dist.broadcast(shared, 0)
        return int(shared.item())

    @torch.no_grad()
    def share(self, module: nn.Module) -> None:
        """Give all processes the first one's parameters and buffers."""
        if self.size > 1:
            for tensor in [*module.parameters(), *module.buffers()]:
                dense = tensor.detach().contiguous()
                dist.broadcast(dense, 0)
                tensor.copy_(dense)


@contextlib.contextmanager
def joined(device: str = "auto") -> Iterator[World]:
    """The world of this process: those that `torchrun` started, or this one alone.

    With several processes on CUDA each takes the device of its LOCAL_RANK and speaks NCCL; on the CPU they speak Gloo.

    Raises:
        InputError: the device is not there, or names one card for several processes.
    """
    size, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    if size == 1:
        yield World(0, 1, resolve_device(device))
        return
    place = resolve_device(device)
    if place.type == "cuda":
        if place.index is not None:
            raise InputError(
                f"{size} processes cannot share the device '{device}'.", next_step="Choose the device cuda or auto."
            )
        place = resolve_device(f"cuda:{os.environ.get('LOCAL_RANK', rank)}")
        torch.cuda.set_device(place)
    elif place.type != "cpu":
        raise InputError(f"Several processes cannot compute on '{place}'.", next_step="Choose the device cpu or cuda.")
    backend = "nccl" if place.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=_PATIENCE)
    try:
        yield World(rank, size, place)
    finally:
        dist.destroy_process_group()
