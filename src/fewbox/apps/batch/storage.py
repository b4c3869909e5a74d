"""Storage for the results of a run: a folder, or an address such as ``s3://bucket/found``.

Machines that work together must all see it under the same name.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fewbox.core.files import replacing
from fewbox.data.remote import file_system, is_remote, without_secrets
from fewbox.errors import FewboxError, OutputError

_HINT = "check the address, the connection, and what you are allowed to write there"


class Storage:
    """Files by names such as ``"photos/00000.parquet"``, each written whole or not at all.

    In a folder by renaming; at an address because object stores show an object only once it is whole.
    """

    def __init__(self, where: str) -> None:
        self.where = where if is_remote(where) else str(Path(where).resolve())

    def __str__(self) -> str:
        return without_secrets(self.where) if is_remote(self.where) else self.where

    def write(self, name: str, data: bytes) -> None:
        """Write a file; one of this name is replaced.

        Raises:
            OutputError: it cannot be written.
        """
        if not is_remote(self.where):
            with replacing(Path(self.where) / name) as temporary:
                temporary.write_bytes(data)
            return
        with self._as_output_error(name, "written", FileNotFoundError):
            system, path = self._remote(name)
            system.makedirs(posixpath.dirname(path), exist_ok=True)
            system.pipe_file(path, data)

    def read(self, name: str) -> bytes | None:
        """The contents of a file; None if there is none.

        Raises:
            OutputError: it is there but cannot be read.
        """
        with suppress(FileNotFoundError), self._as_output_error(name, "read"):
            if not is_remote(self.where):
                return (Path(self.where) / name).read_bytes()
            system, path = self._remote(name)
            data: bytes = system.cat_file(path)
            return data
        return None

    def remove(self, name: str) -> None:
        """Remove a file, if it is there; errors as :meth:`write`."""
        with suppress(FileNotFoundError), self._as_output_error(name, "removed"):
            if is_remote(self.where):
                system, path = self._remote(name)
                system.rm_file(path)
            else:
                (Path(self.where) / name).unlink()

    def names(self, folder: str) -> set[str]:
        """The names of the files in a folder; none if there is no such folder; errors as :meth:`read`."""
        with suppress(FileNotFoundError), self._as_output_error(folder, "listed"):
            if not is_remote(self.where):
                return {path.name for path in (Path(self.where) / folder).iterdir()}
            system, path = self._remote(folder)
            system.invalidate_cache()  # other machines write there too
            return {posixpath.basename(name) for name in system.ls(path, detail=False)}
        return set()

    @contextmanager
    def _as_output_error(self, name: str, done: str, *also: type[Exception]) -> Iterator[None]:
        """Turn errors of the file system into ones a user understands, but not that of a missing file."""
        try:
            yield
        except FewboxError:
            raise
        except Exception as error:  # each backend has errors of its own
            if isinstance(error, FileNotFoundError) and not isinstance(error, also):
                raise
            reason = str(error) or type(error).__name__
            raise OutputError(f"{self}/{name}: cannot be {done}: {reason}", hint=_HINT) from error

    def _remote(self, name: str) -> tuple[Any, str]:
        return file_system(f"{self.where.rstrip('/')}/{name}")
