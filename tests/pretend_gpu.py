"""A GPU that is none: tensors that say they lie on one, compute on the processor, and mix with no others.

What a test learns with it: that nothing is left where it does not belong. A tensor of the processor beside
one of the GPU is an error, as it would be on a real one (there, an index may lie elsewhere; here it may not).
The numbers are those of the processor, to the last bit.

It has a name of its own, as PyTorch lets nobody say "cuda" where there is no CUDA; a FakeTensorMode either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "pretend"


class _Backend:
    """What ``torch.pretend`` is."""

    def is_available(self) -> bool:
        return True

    def is_initialized(self) -> bool:
        return True

    def device_count(self) -> int:
        return 1

    def current_device(self) -> int:
        return 0

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None: ...


# Before anything is differentiated: that makes a thread for each device there is.
_setup_privateuseone_for_python_backend(NAME, backend_module=_Backend())
_COPIES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)


class PretendTensor(torch.Tensor):
    """Has no numbers of its own; those are in ``inner``."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> PretendTensor:
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=torch.device(NAME, 0),
        )
        made.inner = inner
        return made

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["inner"], None

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, Tensor], *_: Any) -> PretendTensor:
        return PretendTensor(inner["inner"])

    def tolist(self) -> Any:
        return self.inner.tolist()

    def __repr__(self, **_: Any) -> str:
        return f"PretendTensor({self.inner})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(func, args, kwargs or {})


class _Mode(TorchDispatchMode):
    """Sees what is made for the GPU and sent there."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(func, args, kwargs or {})


def _computed(func: Any, args: Any, kwargs: Any) -> Any:
    tensors = [*_tensors(args), *_tensors(kwargs.values())]
    is_there = any(isinstance(one, PretendTensor) for one in tensors)
    to_device = kwargs.get("device")
    if not is_there and to_device is None:
        return func(*args, **kwargs)
    strangers = [one for one in tensors if not isinstance(one, PretendTensor) and one.dim()]
    if is_there and strangers and func not in _COPIES:
        raise RuntimeError(f"{func}: a tensor of the processor beside one of the GPU")
    if func is torch.ops.aten.copy_.default:
        is_there = isinstance(args[0], PretendTensor)
    elif to_device is not None:
        if torch.device(to_device).type == "meta":
            return func(*args, **kwargs)
        is_there = torch.device(to_device).type == NAME
        kwargs = {**kwargs, "device": torch.device("cpu")}
    result = func(*_unwrapped(args), **{name: _unwrapped(one) for name, one in kwargs.items()})
    returned = func._schema.returns
    if func._schema.is_mutable and returned and returned[0].alias_info is not None:
        return args[0]  # what was changed in place
    return _wrapped(result) if is_there else result


# PyTorch's own tree_map does the same for containers of all kinds, and took most of the time of these tests.
def _tensors(given: Iterable[Any]) -> Iterator[Tensor]:
    for one in given:
        if isinstance(one, Tensor):
            yield one
        elif isinstance(one, list | tuple):
            yield from _tensors(one)


def _wrapped(one: Any) -> Any:
    if isinstance(one, list | tuple):
        return type(one)(map(_wrapped, one))
    return PretendTensor(one) if isinstance(one, Tensor) else one


def _unwrapped(one: Any) -> Any:
    if isinstance(one, list | tuple):
        return type(one)(map(_unwrapped, one))
    return one.inner if isinstance(one, PretendTensor) else one


class _Executor(ThreadPoolExecutor):
    """Threads that know of the GPU too."""

    def __init__(
        self, workers: int, initializer: Callable[..., None] | None = None, initargs: Any = ()
    ) -> None:
        def begin(*args: Any) -> None:
            _Mode().__enter__()
            if initializer is not None:
                initializer(*args)

        super().__init__(workers, initializer=begin, initargs=initargs)


@contextmanager
def pretend_gpu() -> Iterator[torch.device]:
    """Have one, whatever device is asked for, until the end of the block."""
    device = torch.device(NAME, 0)
    with pytest.MonkeyPatch.context() as patch, _Mode():
        for module in ("finetuning", "detection.detector"):
            patch.setattr(f"fewbox.{module}.choose_processor_or", lambda _: device)
        patch.setattr("fewbox.detection.parallel.ThreadPoolExecutor", _Executor)
        yield device
