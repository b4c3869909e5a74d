"""What fine-tuning has computed of each photo, kept in the cache until the run has come to its end.

    cache/unfinished/<what decides it>/<place and contents of a photo>: a digest, then arrays

A run that was killed left it there. The next one with the same photos, base and settings takes from it what
it would compute to the same bits, so it ends with the same detector. A file that is damaged is computed anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import PIL
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from fewbox import __version__
from fewbox.core import counted, installed_version, num_cores
from fewbox.core.files import cache_folder, sha256_of
from fewbox.data.annotations import AnnotatedImage

LEAST_PHOTOS = 20
"""Fewer are looked at again in a few seconds."""
MAX_BYTES = 2 * 2**30
"""Of a folder; what no longer fits is computed again."""
LEAST_FREE = 2**30
"""Bytes that are left free on the disk."""
MAX_FOLDERS = 4
"""Of runs that did not end; a run has up to two."""
MAX_DAYS = 3.0
"""After which they are removed."""
_DIGEST_SIZE = hashlib.sha256().digest_size

Arrays = dict[str, NDArray[Any]]
Result = TypeVar("Result")


class UnfinishedRun:
    """What a run of fine-tuning keeps: a context that removes it in the end, unless that is an error."""

    def __init__(self) -> None:
        self._parent = cache_folder() / "unfinished"
        self._begun: list[Path] = []

    def __enter__(self) -> Self:
        _remove_leftovers(self._parent)
        return self

    def __exit__(self, error: type[BaseException] | None, *about: object) -> None:
        if error is not None:
            return
        for folder in self._begun:
            shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # not there, or another run's is in it
            self._parent.rmdir()

    def has_kept(self) -> bool:
        """Whether something is computed that a run like this one would take up."""
        return any(any(folder.glob("*")) for folder in self._begun)

    def computed(self, num_photos: int, *decided_by: object) -> ComputedArrays | None:
        """Room for arrays of each photo; None where so few photos are not worth it.

        Args:
            num_photos: that are learnt from.
            decided_by: all that decides the arrays beside the photo, its boxes, and the versions and the
                processor they are computed with. Each must say by its ``repr`` what it is.
        """
        if num_photos < LEAST_PHOTOS:
            return None
        versions = (
            __version__,
            np.__version__,
            PIL.__version__,
            *map(installed_version, ("torch", "onnxruntime")),
        )
        instructions = np.show_config("dicts")["SIMD Extensions"]
        computer = (platform.machine(), instructions, num_cores(), os.environ.get("OMP_NUM_THREADS"))
        folder = self._parent / _name_of(versions, computer, decided_by)
        self._begun.append(folder)
        return ComputedArrays(folder)


class ComputedArrays:
    """A folder with a file of arrays for each photo.

    Whatever cannot be read or written is computed: a full disk stops no run.

    Args:
        folder: made if it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.num_found = folder, 0
        self._num_bytes, self._is_full = 0, False
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._num_bytes = sum(entry.stat().st_size for entry in os.scandir(folder))
        except OSError:
            self._is_full = True

    def of_photo(
        self,
        number: int,
        photo: AnnotatedImage,
        compute: Callable[[], Result],
        pack: Callable[[Result], Mapping[str, NDArray[Any]]],
        unpack: Callable[[Arrays], Result],
    ) -> Result:
        """What ``compute`` gives for a photo, or gave in a run before.

        Args:
            number: the photo's place among the others.
            photo: where it is, and its boxes.
            compute: called if nothing is kept of this photo.
            pack: gives all arrays of a result.
            unpack: makes the same result of them.

        Raises:
            PhotoError: as ``compute``, which is left to say why a photo cannot be read.
        """
        try:
            contents = sha256_of(photo.path)
        except OSError:
            return compute()
        path = self.folder / _name_of(number, contents, photo.size_hw, photo.boxes)
        kept = _read(path)
        if kept is not None:
            self.num_found += 1
            return unpack(kept)
        result = compute()
        self._write(path, pack(result))
        return result

    def in_words(self, num_photos: int) -> str:
        """What to say of a run that goes on; empty if it does not."""
        if not self.num_found:
            return ""
        looked = counted(num_photos, "photo")
        return f"{self.num_found} of {looked} had been looked at by a run that was interrupted"

    def _write(self, path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
        if self._is_full:
            return
        content = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
        half = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            self._num_bytes += len(content)
            if self._num_bytes > MAX_BYTES or shutil.disk_usage(self.folder).free < LEAST_FREE + len(content):
                self._is_full = True
                return
            # Not flushed to the disk: a power cut costs a file, which its digest tells, and waiting for the
            # disk at every photo would cost more.
            with half.open("wb") as file:
                file.write(hashlib.sha256(content).digest())
                file.write(content)
            half.replace(path)
        except OSError:  # the disk is full, or another run with the same photos has ended
            self._is_full = True
            with contextlib.suppress(OSError):
                half.unlink(missing_ok=True)


def _read(path: Path) -> Arrays | None:
    """The arrays in a file, each in memory of its own; None if it is not there or not whole."""
    try:
        content = path.read_bytes()
        digest, content = content[:_DIGEST_SIZE], content[_DIGEST_SIZE:]
        if hashlib.sha256(content).digest() != digest:
            return None
        # In a file they begin anywhere; products of matrices may round otherwise there.
        return {name: array.copy() for name, array in load(content).items()}
    except (OSError, SafetensorError):
        return None


def _name_of(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def _remove_leftovers(parent: Path) -> None:
    """Remove what runs have left that were never begun again."""
    try:
        changed = {entry.path: entry.stat().st_mtime for entry in os.scandir(parent)}
    except OSError:  # mostly: there is none
        return
    newest_first = sorted(changed, key=lambda path: -changed[path])
    for place, path in enumerate(newest_first):
        if place >= MAX_FOLDERS or time.time() - changed[path] > MAX_DAYS * 86400:
            shutil.rmtree(path, ignore_errors=True)
