"""The processes that train one network together, as ``torchrun`` starts them; without it, one alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as distributed
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fewbox.models.base import native_bfloat16

_PATIENCE = timedelta(hours=2)  # the others wait while the first looks at the photos held out


@dataclass(frozen=True)
class ProcessGroup:
    """This process among ``size``: its number, 0 being the one that writes, and what it computes on."""

    rank: int
    size: int
    device: torch.device

    @property
    def writes(self) -> bool:
        """Whether this is the process that writes files and shows progress."""
        return self.rank == 0

    def share(self, network: nn.Module) -> nn.Module:
        """The network so that its gradients are the mean over all processes."""
        if self.size == 1:
            return network
        # The statistics of batch-norms stay as they are: there is nothing to send round.
        return DistributedDataParallel(network, broadcast_buffers=False)

    def sum(self, values: Tensor) -> Tensor:
        """The sum of a tensor over all processes."""
        total = values.detach().clone()
        if self.size > 1:
            distributed.all_reduce(total)
        return total

    def wait(self) -> None:
        """Go on when all have come here."""
        if self.size > 1:
            distributed.barrier()


@contextmanager
def joined() -> Iterator[ProcessGroup]:
    """Join the processes that ``torchrun`` has started: over nccl where each has a GPU, else over gloo."""
    size, local = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0"))
    has_gpu = torch.cuda.is_available() and local < torch.cuda.device_count()
    device = torch.device("cuda", local) if has_gpu else torch.device("cpu")
    if has_gpu:
        torch.cuda.set_device(device)
    if size == 1:
        yield ProcessGroup(0, 1, device)
        return
    distributed.init_process_group("nccl" if has_gpu else "gloo", timeout=_PATIENCE)
    try:
        yield ProcessGroup(distributed.get_rank(), size, device)
    finally:
        distributed.destroy_process_group()


def fastest_dtype(device: torch.device) -> torch.dtype:
    """What convolutions are fastest in: bfloat16 where the device computes in it."""
    has_bfloat16 = torch.cuda.is_bf16_supported() if device.type == "cuda" else native_bfloat16()
    return torch.bfloat16 if has_bfloat16 else torch.float32
