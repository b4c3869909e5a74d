"""The device that networks compute on: which one it is, and what to do when its memory is full.

It is chosen once, by :func:`choose_device`. From there on it is the network that says where its numbers are:
photos are sent to where its weights lie, and what is few comes back to the processor. There is no state.

Where ``torchrun`` has started several processes, each takes a device of its own: :func:`process_group`.
Without it there is one process alone.

PyTorch is imported where it is asked; the processor is chosen without it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from fewbox.core import is_installed, require_packages
from fewbox.core.arguments import AUTO, CPU, checked_device, may_have_gpu
from fewbox.errors import FewboxError, SettingError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from fewbox.models.network import Network

_CPU_INFO = Path("/proc/cpuinfo")  # of Linux; elsewhere PyTorch is asked
_TIMEOUT = timedelta(hours=2)  # the others wait while the main process evaluates on held-out photos
# In small letters, of GPUs, of the processor, of Windows, of oneDNN, of ONNX Runtime, of loading a library.
_FULL = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "could not create a primitive",
    "failed to allocate memory",
    "failed to map segment",
)
_ELSEWHERE = 'in Python device="cpu"'
Item = TypeVar("Item")
Result = TypeVar("Result")


def devices_here() -> list[torch.device]:
    """The devices of this machine, the one that ``auto`` takes first; the processor is always there."""
    import torch

    gpus = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    found = [torch.device("cuda", number) for number in gpus]
    if torch.backends.mps.is_available():
        found.append(torch.device("mps"))
    return [*found, torch.device(CPU)]


def choose_device(wanted: str | torch.device = AUTO) -> torch.device:
    """The device that is asked for.

    On CUDA, float32 then means float32 in this process: PyTorch would round the numbers that a convolution
    multiplies to 10 bits (TF32), and boxes would no longer be those of the processor.

    Args:
        wanted: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:N"`` or ``"mps"``.

    Raises:
        SettingError: it is not here, or there is no such kind of device.
    """
    import torch

    name = checked_device(wanted)
    here = devices_here()
    of_kind = [one for one in here if one.type == name.partition(":")[0]]
    device = here[0] if name == AUTO else next((one for one in of_kind if name in (one.type, str(one))), None)
    if device is None:
        there = ", ".join(map(str, here))
        raise SettingError(f"no such device here: {name}; there is: {there}", hint=_cure(name, bool(of_kind)))
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
    return device


def choose_processor_or(wanted: str | torch.device = AUTO) -> torch.device | None:
    """As :func:`choose_device`, but None for the processor where PyTorch need not be asked.

    Raises:
        SettingError: it is not here, there is no such kind of device, or it needs PyTorch.
    """
    name = checked_device(wanted)
    if name == CPU or (name == AUTO and not may_have_gpu()):
        return None
    require_packages(["torch"], f"computing on {name}")
    return choose_device(name)


def is_processor(device: torch.device | None) -> bool:
    """Whether a device is the processor, as None is too."""
    return device is None or device.type == CPU


def _cure(name: str, has_others: bool) -> str:
    """What to do about a device that is not here."""
    if has_others:
        return "they are counted from 0; or take the first: --device cuda"
    if name.startswith("mps"):
        return f"mps is the GPU of Apple's own processors; leave --device out, {_ELSEWHERE}"
    import torch

    if torch.version.cuda is None and torch.version.hip is None:
        what = "this PyTorch has no CUDA: choose one that has at https://pytorch.org/get-started/locally"
    else:
        what = "see whether nvidia-smi lists the GPU, and install its driver"
    return f"{what}; or leave --device out, {_ELSEWHERE}"


def device_in_words(device: torch.device | None) -> str:
    """Such as ``cpu`` or ``cuda:0, NVIDIA L4``."""
    if device is None:
        return CPU
    import torch

    return f"{device}, {torch.cuda.get_device_name(device)}" if device.type == "cuda" else str(device)


def device_of(network: Network) -> torch.device:
    """Where the weights of a network lie."""
    return next(iter(network.parameters())).device


def gpu_has_bfloat16(device: torch.device) -> bool:
    """Whether a GPU multiplies bfloat16 itself; nothing is known of Apple's, so they are left alone."""
    import torch

    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def native_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 itself; elsewhere it is slower than float32."""
    if "torch" not in sys.modules and _CPU_INFO.exists():
        flags = set(_CPU_INFO.read_text(encoding="utf-8", errors="replace").split())
        return bool(flags & {"avx512_bf16", "amx_tile"})
    if not is_installed("torch"):
        return False
    import torch

    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def fastest_dtype(device: torch.device) -> torch.dtype:
    """What convolutions are fastest in: bfloat16 where the device computes in it."""
    import torch

    has_bfloat16 = native_bfloat16() if device.type == "cpu" else gpu_has_bfloat16(device)
    return torch.bfloat16 if has_bfloat16 else torch.float32


def batch_for(weight: Tensor, inputs: Sequence[Tensor]) -> Tensor:
    """Inputs ``[3, h, w]`` as one batch ``[N, 3, h, w]`` where and as precise as a network's ``weight``.

    A GPU takes it from memory that stays in its place, while the processor goes on.
    """
    import torch

    pixels = torch.stack(list(inputs))
    if weight.device.type == "cuda":
        pixels = pixels.pin_memory().to(weight.device, non_blocking=True)
    elif weight.device.type != "cpu":
        pixels = pixels.to(weight.device)
    return pixels.to(weight.dtype, memory_format=torch.channels_last)


@contextmanager
def usual_torch_state() -> Iterator[None]:
    """Let PyTorch, if in use, compute float32 with gradients, whatever the caller has set; then as before.

    Learning in a notebook would else end halfway, or learn something else, of what an earlier cell has set.
    """
    torch = sys.modules.get("torch")
    if torch is None:  # then nobody has set anything
        yield
        return
    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        torch.set_default_dtype(dtype)


def synchronize(device: torch.device) -> None:
    """Wait until a GPU has done what it was given; the processor has always done so."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def in_batches(
    compute: Callable[[Sequence[Item]], Sequence[Result]], items: Sequence[Item], size: int
) -> Iterator[Result]:
    """What ``compute`` gives for each item, asked for ``size`` at once; for half if memory is full.

    Args:
        compute: gives one result for each of the items that it is given, in their order.
        items: any number.
        size: how many at once, 1 or more.

    Raises:
        SettingError: there is no memory for a single one.
    """
    done = 0
    while done < len(items):
        batch = items[done : done + size]
        results = attempt(lambda batch=batch: compute(batch))  # type: ignore[misc]
        if results is None:
            size = halved(len(batch))
        else:
            yield from results
            done += len(batch)


def attempt(compute: Callable[[], Result]) -> Result | None:
    """What ``compute`` gives, or None if the device has no memory for it.

    Once this returns, nothing holds the tensors any more that were made on the way.
    """
    try:
        return compute()
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
    return None


def as_fits(learn: Callable[[int], Result], size: int) -> tuple[Result, int]:
    """What ``learn`` makes of a batch in parts of ``size`` at the most, and the size that went well.

    That is halved until the device's memory holds a part; where a run goes on with it, the next step begins
    with parts that fit.

    Raises:
        SettingError: there is no memory for parts of one.
    """
    while (learnt := attempt(partial(learn, size))) is None:
        size = halved(size)
    return learnt, size


def halved(size: int) -> int:
    """Half of a batch that was too large.

    Raises:
        SettingError: it was of one only.
    """
    if size <= 1:
        raise SettingError(
            "the device has no memory left, not even for one photo at a time",
            hint=f"end other programs that use it, or spare a GPU: --device cpu, {_ELSEWHERE}",
        )
    return size // 2


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that a device's memory is full; of Apple's GPUs and processors words alone do."""
    if isinstance(error, MemoryError) or any(words in str(error).lower() for words in _FULL):
        return True
    if "torch" not in sys.modules:
        return False
    import torch

    return isinstance(error, torch.OutOfMemoryError)


@contextmanager
def full_memory_told() -> Iterator[None]:
    """Tell that memory is full in a line, whatever it was needed for.

    Raises:
        SettingError: it is.
    """
    try:
        yield
    except FewboxError:
        raise
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        hint = "end other programs that use it, or learn from fewer photos"
        raise SettingError("there is not enough memory", hint=hint) from error


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
        from torch.nn.parallel import DistributedDataParallel

        # The statistics of batch-norms stay as they are: there is nothing to send round.
        return DistributedDataParallel(network, broadcast_buffers=False)

    def all_reduce(self, values: Tensor) -> Tensor:
        """The sum of a tensor over all processes."""
        import torch.distributed as dist

        total = values.detach().clone()
        if self.size > 1:
            dist.all_reduce(total)
        return total

    def barrier(self) -> None:
        """Wait until every process has come here."""
        import torch.distributed as dist

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
    import torch
    import torch.distributed as dist

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
    import torch

    if checked_device(wanted) not in (AUTO, CPU, "cuda"):
        hint = "leave --device out: each takes a GPU of its own, as far as there are enough"
        raise SettingError(f"several processes cannot share one device: {wanted}", hint=hint)
    if wanted == AUTO and torch.device("cuda", local) not in devices_here():
        return choose_device(CPU)
    return choose_device(CPU if wanted == CPU else f"cuda:{local}")
