"""Where a run over many photos keeps its results: a folder, or an address such as ``s3://bucket/found``.

Machines that work together must all see it under the same name.
"""

from __future__ import annotations

import posixpath
from contextlib import suppress
from pathlib import Path
from typing import Any

from goldeneye.data.remote import file_system, is_remote, without_secrets
from goldeneye.errors import GoldeneyeError, OutputError
from goldeneye.files import output_error, replacing

_HINT = "check the address, the connection, and what you are allowed to write there"


class Place:
    """Files by names such as ``"photos/00000.parquet"``, each written whole or not at all.

    In a folder by renaming; at an address because object stores show an object only once it is whole.
    """

    def __init__(self, where: str) -> None:
        self.where = where if is_remote(where) else str(Path(where).resolve())

    def __str__(self) -> str:
        return without_secrets(self.where) if is_remote(self.where) else self.where

    def write(self, name: str, data: bytes) -> None:
        """Write a file, in place of one that is there.

        Raises:
            OutputError: it cannot be written.
        """
        if not is_remote(self.where):
            with replacing(Path(self.where) / name) as temporary:
                temporary.write_bytes(data)
            return
        try:
            system, path = self._remote(name)
            system.makedirs(posixpath.dirname(path), exist_ok=True)
            system.pipe_file(path, data)
        except GoldeneyeError:
            raise
        except Exception as error:  # each backend has errors of its own
            reason = str(error) or type(error).__name__
            raise OutputError(f"{self}/{name}: cannot be written: {reason}", hint=_HINT) from error

    def read(self, name: str) -> bytes | None:
        """The contents of a file; None if there is none.

        Raises:
            OutputError: it is there but cannot be read.
        """
        try:
            if not is_remote(self.where):
                return (Path(self.where) / name).read_bytes()
            system, path = self._remote(name)
            data: bytes = system.cat_file(path)
            return data
        except FileNotFoundError:
            return None
        except OSError as error:
            raise output_error(Path(self.where) / name, error) from error

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        if not is_remote(self.where):
            (Path(self.where) / name).unlink(missing_ok=True)
            return
        system, path = self._remote(name)
        with suppress(FileNotFoundError):
            system.rm_file(path)

    def names(self, folder: str) -> set[str]:
        """The names of the files in a folder of this place; none if there is no such folder."""
        try:
            if not is_remote(self.where):
                return {path.name for path in (Path(self.where) / folder).iterdir()}
            system, path = self._remote(folder)
            system.invalidate_cache()  # other machines write there too
            return {posixpath.basename(name) for name in system.ls(path, detail=False)}
        except FileNotFoundError:
            return set()

    def _remote(self, name: str) -> tuple[Any, str]:
        return file_system(f"{self.where.rstrip('/')}/{name}")
