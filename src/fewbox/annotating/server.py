"""The server behind the page: on this machine alone, and not to be held up by slow clients."""

from __future__ import annotations

import socket
import threading
import webbrowser

import uvicorn

from fewbox.annotating.app import make_app
from fewbox.annotating.learner import Learner
from fewbox.annotating.token import token_of
from fewbox.data.project import Project
from fewbox.web import sockets

HOST = "127.0.0.1"
PORT = 8931
"""Where to begin to look for a free port: always the same, so that an open page finds its server again."""
_PORTS_TRIED = 20
MAX_CONNECTIONS = 100
"""A browser opens six to a server."""


class AnnotateServer:
    """The page of one project at one address.

    Args:
        project: the photos.
        learner: who proposes boxes.
        port: the port; if None, the first free one from ``PORT`` on.

    Raises:
        OutputError: the port is in use, or the token cannot be kept.
    """

    def __init__(self, project: Project, learner: Learner, port: int | None = None) -> None:
        self.learner = learner
        self.socket = listen(port)
        self.port: int = self.socket.getsockname()[1]
        token = token_of(project.folder)
        self.url = f"http://{HOST}:{self.port}/?token={token}"
        app = make_app(project, learner, token=token, port=self.port)
        self._server = uvicorn.Server(
            sockets.server_settings(app, lifespan=False, max_connections=MAX_CONNECTIONS, stop_seconds=3)
        )

    def run(self, *, open_browser: bool = False) -> None:
        """Serve until Ctrl-C."""
        if open_browser:
            # The socket listens already, so the browser's request waits until it is answered.
            threading.Thread(target=webbrowser.open, args=(self.url,), daemon=True).start()
        try:
            self._server.run(sockets=[self.socket])
        finally:
            self.learner.close()
            self.socket.close()

    def stop(self) -> None:
        """End :meth:`run`, from another thread."""
        self._server.should_exit = True


def listen(port: int | None) -> socket.socket:
    """A socket that listens on this machine alone, at the first free port if none is given.

    Raises:
        OutputError: the port is in use, or all that are tried.
    """
    ports = range(PORT, PORT + _PORTS_TRIED) if port is None else [port]
    return sockets.listen(HOST, ports, MAX_CONNECTIONS)
