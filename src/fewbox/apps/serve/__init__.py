"""Serve detectors over HTTP: photos in, detections out.

Here is the service at its address: how it starts, and how it stops in good order. What can be asked of it is
in ``app.py``, who may ask in ``admission.py``.
"""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Sequence
from types import FrameType

import uvicorn

from fewbox.apps.http import is_loopback, listen, server_settings
from fewbox.apps.serve.admission import Admission
from fewbox.apps.serve.app import make_app
from fewbox.apps.serve.detecting import ServedDetector
from fewbox.config import ServiceConfig
from fewbox.core import environment_variable
from fewbox.errors import SettingError

_KEY_VARIABLE = "FEWBOX_API_KEY"
_MIN_KEY_LENGTH = 16
_MORE_CONNECTIONS = 200
"""Beside the admitted requests: for requests without a body, and to refuse the others."""


class DetectionServer:
    """Detectors at one address.

    Args:
        served: the detectors.
        config: the limits.
        host: an address of this machine.
        port: the port; 0 is any free one.
        key: the secret that requests have to carry; with None every program of this machine may ask.

    Raises:
        SettingError: ``host`` can be reached from outside and there is no key, or the key is too short.
        OutputError: there is no such address, or the port is in use.
    """

    def __init__(
        self,
        served: Sequence[ServedDetector],
        config: ServiceConfig,
        *,
        host: str = "127.0.0.1",
        port: int = 8000,
        key: str | None = None,
    ) -> None:
        require_key(host, key)
        self.served = tuple(served)
        self.admission = make_app(served, config, key)
        self.socket = listen(host, [port], config.queue + _MORE_CONNECTIONS)
        self.host = host
        self.port: int = self.socket.getsockname()[1]
        settings = server_settings(
            self.admission,
            lifespan=True,
            max_connections=config.queue + _MORE_CONNECTIONS,
            stop_seconds=1,  # by then all that was under way has been answered
        )
        self._server = _DrainingServer(settings, self.admission, config.stop_seconds)

    @property
    def url(self) -> str:
        """Where the service is."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    @property
    def has_started(self) -> bool:
        """Whether requests are answered."""
        return self._server.started

    def run(self) -> None:
        """Serve until Ctrl-C or SIGTERM."""
        try:
            self._server.run(sockets=[self.socket])
        finally:
            self.socket.close()

    def stop(self) -> None:
        """End :meth:`run` in good order, from another thread."""
        self._server.handle_exit(signal.SIGTERM, None)


class _DrainingServer(uvicorn.Server):
    """uvicorn's server, but told to stop, it first answers what is under way; new requests get 503."""

    def __init__(self, config: uvicorn.Config, admission: Admission, stop_seconds: float) -> None:
        super().__init__(config)
        self.admission = admission
        self.stop_seconds = stop_seconds
        self._deadline: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop; the second time, stop at once."""
        if self.admission.stopping:
            self.should_exit = self.force_exit = True
        self.admission.stopping = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close connections, and let the application end too where uvicorn would tear it off."""
        await super().shutdown(sockets)
        if self.force_exit:
            await self.lifespan.shutdown()

    async def on_tick(self, counter: int) -> bool:
        """Whether to end now, as uvicorn asks from time to time."""
        if self.admission.stopping and self._deadline is None:
            self._deadline = time.monotonic() + self.stop_seconds
        if self._deadline is not None and (
            self.admission.num_requests == 0 or time.monotonic() > self._deadline
        ):
            self.should_exit = True
        return await super().on_tick(counter)


def key_from_environment() -> str | None:
    """The key that requests have to carry, if there is one.

    Raises:
        SettingError: it is so short that it could be guessed, or no header can carry it as it is.
    """
    key = environment_variable(_KEY_VARIABLE)
    if key is None:
        return None
    hint = "make one with: python -c 'import secrets; print(secrets.token_urlsafe())'"
    if len(key) < _MIN_KEY_LENGTH:
        raise SettingError(f"{_KEY_VARIABLE} must have at least {_MIN_KEY_LENGTH} characters", hint=hint)
    # Programs encode other signs in a header differently, and the blanks around what it says are cut off.
    if not (key.isascii() and key.isprintable() and key == key.strip()):
        told = f"{_KEY_VARIABLE} must be of printable ASCII characters, without blanks around it"
        raise SettingError(told, hint=hint)
    return key


def require_key(host: str, key: str | None) -> None:
    """Refuse to serve other machines without a key.

    Raises:
        SettingError: ``host`` is no loopback address, and there is no key.
    """
    if key is None and not is_loopback(host):
        hint = f"set {_KEY_VARIABLE}, which requests then have to carry, or leave --host out"
        raise SettingError(f"other machines can reach {host}, so the service needs a key", hint=hint)
