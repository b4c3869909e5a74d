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

from fewbox.core.arguments import AUTO, CPU, checked_device
from fewbox.errors import SettingError
from fewbox.models.base import native_bfloat16
from fewbox.models.device import choose_device, devices_here, gpu_has_bfloat16

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
def process_group(wanted: str = AUTO) -> Iterator[ProcessGroup]:
    """Join the processes that ``torchrun`` has started: over nccl where each has a GPU, else over gloo.

    Args:
        wanted: the device; of several processes each takes a GPU of its own, so that none can be named.

    Raises:
        SettingError: it is not here, or cannot be shared by several processes.
    """
    size, local = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0"))
    device = choose_device(wanted) if size == 1 else _own_device(wanted, local)
    has_gpu = device.type == "cuda"
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


def _own_device(wanted: str, local: int) -> torch.device:
    """The device of one of several processes on this machine, number ``local`` from 0."""
    if checked_device(wanted) not in (AUTO, CPU, "cuda"):
        hint = "leave --device out: each takes a GPU of its own, as far as there are enough"
        raise SettingError(f"several processes cannot share one device: {wanted}", hint=hint)
    if wanted == AUTO and torch.device("cuda", local) not in devices_here():
        return choose_device(CPU)
    return choose_device(CPU if wanted == CPU else f"cuda:{local}")


def fastest_dtype(device: torch.device) -> torch.dtype:
    """What convolutions are fastest in: bfloat16 where the device computes in it."""
    has_bfloat16 = native_bfloat16() if device.type == "cpu" else gpu_has_bfloat16(device)
    return torch.bfloat16 if has_bfloat16 else torch.float32
