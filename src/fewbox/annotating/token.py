"""The secret of a project's page, kept so that an open page goes on after a restart."""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path

from fewbox.cache import cache_folder
from fewbox.files import output_error

_MIN_LENGTH = 32


def token_of(folder: Path) -> str:
    """The token of a folder of photos; made at random when it is first asked for.

    It is kept in the cache of this user, in a file that nobody else may read.

    Raises:
        OutputError: it cannot be written.
    """
    name = hashlib.sha256(os.fsencode(os.path.realpath(folder))).hexdigest()[:32]
    path = cache_folder() / "annotate" / f"{name}.token"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if path.exists() and not (os.name == "posix" and path.stat().st_mode & 0o077):
            known = path.read_text(encoding="ascii", errors="replace").strip()
            if len(known) >= _MIN_LENGTH:
                return known
        path.unlink(missing_ok=True)
        token = secrets.token_urlsafe(32)
        # Never readable for others, not even for the moment before a change of its mode.
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(token)
    except OSError as error:
        raise output_error(path, error) from error
    return token
