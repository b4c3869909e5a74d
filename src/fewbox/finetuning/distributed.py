"""Data parallel training: the processes that ``torchrun`` starts; without it, one alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fewbox.models.base import native_bfloat16

_TIMEOUT = timedelta(hours=2)  # the others wait while the main process evaluates on held-out photos


@dataclass(frozen=True)
class ProcessGroup:
    """This process among ``size``: its rank, 0 being the main process, and the device it computes on."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def data_parallel(self, network: nn.Module) -> nn.Module:
        """The network, whose gradients are then averaged over all processes."""
        if self.size == 1:
            return network
        # The statistics of batch-norms stay as they are: there is nothing to send round.
        return DistributedDataParallel(network, broadcast_buffers=False)

    def all_reduce(self, values: Tensor) -> Tensor:
        """The sum of a tensor over all processes."""
        total = values.detach().clone()
        if self.size > 1:
            dist.all_reduce(total)
        return total

    def barrier(self) -> None:
        """Wait until every process has come here."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def process_group() -> Iterator[ProcessGroup]:
    """Join the processes that ``torchrun`` has started: over nccl where each has a GPU, else over gloo."""
    size, local = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0"))
    has_gpu = torch.cuda.is_available() and local < torch.cuda.device_count()
    device = torch.device("cuda", local) if has_gpu else torch.device("cpu")
    if has_gpu:
        torch.cuda.set_device(device)
    if size == 1:
        yield ProcessGroup(0, 1, device)
        return
    dist.init_process_group("nccl" if has_gpu else "gloo", timeout=_TIMEOUT)
    try:
        yield ProcessGroup(dist.get_rank(), size, device)
    finally:
        dist.destroy_process_group()


def fastest_dtype(device: torch.device) -> torch.dtype:
    """What convolutions are fastest in: bfloat16 where the device computes in it."""
    has_bfloat16 = torch.cuda.is_bf16_supported() if device.type == "cuda" else native_bfloat16()
    return torch.bfloat16 if has_bfloat16 else torch.float32
