"""The annotation server on real sockets: where it listens, who may hold it up, and what survives a kill."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx2
import pytest

from annotate_client import a_box, make_photos
from fewbox.apps import http as sockets
from fewbox.apps.annotate import guard
from fewbox.apps.annotate.app import AnnotateServer, listen_here
from fewbox.apps.annotate.guard import token_of
from fewbox.data.project import Project
from fewbox.errors import OutputError
from made_up_learner import StillLearner
from waiting import LONG, free_port


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_photos(tmp_path / "photos", "a.jpg", "b.jpg")


@contextmanager
def running(folder: Path) -> Iterator[AnnotateServer]:
    served = AnnotateServer(Project(folder), StillLearner(), 0)
    thread = threading.Thread(target=served.run)
    thread.start()
    try:
        yield served
    finally:
        served.stop()
        thread.join(LONG)
        assert not thread.is_alive()


@contextmanager
def client_of(url: str) -> Iterator[httpx2.Client]:
    """A client that has gone in by the printed address."""
    origin = url.partition("/?")[0]
    with httpx2.Client(base_url=origin, headers={"Origin": origin}, timeout=LONG) as client:
        assert client.get(url).status_code == 303
        yield client


def hung_up(connection: socket.socket) -> bytes:
    """What the server still says before it closes a connection."""
    connection.settimeout(LONG)
    parts = []
    with suppress(ConnectionResetError):  # it has closed before the last bytes came
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def test_it_is_heard_on_this_machine_alone(folder: Path) -> None:
    with running(folder) as served:
        assert served.socket.getsockname() == ("127.0.0.1", served.port)
        assert served.url == f"http://127.0.0.1:{served.port}/?token={token_of(folder)}"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect(("192.0.2.1", 9))  # sends nothing; says which address others see
            except OSError:
                return  # there is no network that others could come from
            outside = probe.getsockname()[0]
        if outside != "127.0.0.1":
            with pytest.raises(OSError, match=r"refused|timed out"):
                socket.create_connection((outside, served.port), timeout=2)


def test_drawing_over_a_real_connection(folder: Path) -> None:
    with running(folder) as served, client_of(served.url) as client:
        rows = client.get("/api/project").json()["photos"]
        answer = client.patch(f"/api/photos/{rows[0]['id']}", json={"put": [a_box()]})
        assert answer.json()["boxes"] == [a_box() | {"box": [10, 20, 40, 50]}]
        assert client.get(f"/api/photos/{rows[0]['id']}/image?side=50").status_code == 200
        assert "server" not in answer.headers


def test_a_gigabyte_is_refused_early(folder: Path) -> None:
    sent = 0

    def stream() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(10_000):
            sent += 100_000
            yield b" " * 100_000

    with running(folder) as served, client_of(served.url) as client:
        photo = client.get("/api/project").json()["photos"][0]["id"]
        headers = {"Content-Type": "application/json"}
        answer = client.patch(f"/api/photos/{photo}", content=stream(), headers=headers)
        assert answer.status_code == 413
        assert "larger than" in answer.json()["error"]
        assert sent < 500_000_000  # of a gigabyte; tens of megabytes are on their way on a busy machine
        sent = 0
        client.cookies.clear()
        assert client.patch(f"/api/photos/{photo}", content=stream(), headers=headers).status_code == 403
        assert sent < 500_000_000
        assert client.get("/api/project").status_code == 403


class TestSlowClients:
    @pytest.fixture(autouse=True)
    def impatient(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sockets, "HEADER_SECONDS", 0.5)

    @pytest.mark.parametrize("start", [b"", b"GET /api/pro", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: "])
    def test_a_head_that_does_not_come(self, folder: Path, start: bytes) -> None:
        with running(folder) as served, socket.create_connection(("127.0.0.1", served.port)) as connection:
            connection.sendall(start)
            assert hung_up(connection) == b""

    def test_a_second_head_that_does_not_come(self, folder: Path) -> None:
        with running(folder) as served, socket.create_connection(("127.0.0.1", served.port)) as connection:
            request = f"GET /gone HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\n\r\n".encode()
            connection.sendall(request.replace(b"/gone", b"/?token=" + token_of(folder).encode()))
            assert connection.recv(65536).startswith(b"HTTP/1.1 303")
            connection.sendall(request[:-20])
            assert hung_up(connection) == b""

    def test_a_body_that_does_not_come(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sockets, "HEADER_SECONDS", LONG)
        monkeypatch.setattr(guard, "BODY_SECONDS", 0.3)
        with running(folder) as served, client_of(served.url) as client:
            photo = client.get("/api/project").json()["photos"][0]["id"]
            head = (
                f"PATCH /api/photos/{photo} HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\n"
                f"Origin: http://127.0.0.1:{served.port}\r\nContent-Type: application/json\r\n"
                f"Cookie: fewbox_{served.port}={token_of(folder)}\r\nContent-Length: 20\r\n\r\n"
            )
            with socket.create_connection(("127.0.0.1", served.port)) as connection:
                connection.sendall(head.encode() + b'{"put":')
                answer = hung_up(connection)
        assert answer.startswith(b"HTTP/1.1 408")
        assert b"took too long" in answer


class TestTokenFile:
    def test_one_for_each_folder_that_only_this_user_may_read(self, tmp_path: Path) -> None:
        one, other = (make_photos(tmp_path / name, "a.jpg") for name in ("one", "other"))
        assert token_of(one) == token_of(tmp_path / "other" / ".." / "one") != token_of(other)
        assert len(token_of(one)) >= 43  # 256 bits
        kept = list((Path(os.environ["FEWBOX_CACHE"]) / "annotate").iterdir())
        assert kept
        if os.name == "posix":
            assert {path.stat().st_mode & 0o777 for path in kept} == {0o600}

    @pytest.mark.skipif(os.name != "posix", reason="modes are those of POSIX")
    def test_one_that_others_could_read_is_replaced(self, folder: Path) -> None:
        before = token_of(folder)
        for path in (Path(os.environ["FEWBOX_CACHE"]) / "annotate").iterdir():
            path.chmod(0o644)
        assert token_of(folder) != before

    def test_a_damaged_one_is_replaced(self, folder: Path) -> None:
        token_of(folder)
        for path in (Path(os.environ["FEWBOX_CACHE"]) / "annotate").iterdir():
            path.write_bytes(b"\xff\x00")
        assert len(token_of(folder)) >= 43


class TestPort:
    def test_a_taken_port_is_an_error_if_it_was_asked_for(self) -> None:
        with listen_here(None) as taken:
            number = taken.getsockname()[1]
            with pytest.raises(OutputError, match=f"port {number} is in use") as caught:
                listen_here(number)
            assert "--port" in caught.value.hint
            with listen_here(None) as other:  # a lower one if another process has freed that meanwhile
                assert other.getsockname()[1] != number


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
class TestKilled:
    @pytest.fixture(autouse=True)
    def no_server_goes_on(self) -> Iterator[None]:
        self.started: list[subprocess.Popen[str]] = []
        yield
        for process in self.started:
            process.kill()

    def start(self, folder: Path, port: int) -> tuple[subprocess.Popen[str], str]:
        command = [sys.executable, "-m", "fewbox.cli", "annotate", str(folder), "--port", str(port)]
        process = subprocess.Popen(
            [*command, "--no-browser", "--no-learn", "--labels", "mug,lid"], stdout=subprocess.PIPE, text=True
        )
        self.started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == f"2 photos; boxes go to {folder / 'annotations.json'}\n"
        return process, process.stdout.readline().split()[1]

    def end(self, process: subprocess.Popen[str], how: signal.Signals) -> int:
        process.send_signal(how)
        code = process.wait(LONG)
        assert process.stdout is not None
        process.stdout.close()
        return code

    @pytest.mark.slow
    def test_an_open_page_goes_on_after_a_restart(self, folder: Path) -> None:
        port = free_port()
        process, url = self.start(folder, port)
        with client_of(url) as client:
            answer = client.get("/api/project").json()
            assert answer["labels"] == ["mug", "lid"]
            address = f"/api/photos/{answer['photos'][0]['id']}"
            for number in range(5):
                assert client.patch(address, json={"put": [a_box(f"k{number}")]}).status_code == 200
            assert self.end(process, signal.SIGKILL) == -signal.SIGKILL
            with pytest.raises(httpx2.TransportError):
                client.get(address)
            process, again = self.start(folder, port)
            assert again == url
            # The cookie, the id of the photo and the boxes are still the same.
            assert len(client.get(address).json()["boxes"]) == 5
            began = time.monotonic()
            assert self.end(process, signal.SIGINT) in (0, 130, -signal.SIGINT)
            assert time.monotonic() - began < 20

    @pytest.mark.slow
    @pytest.mark.skipif(os.name != "posix", reason="signals as a terminal sends them")
    def test_ctrl_c_while_it_gets_ready_to_learn_is_no_error(self, folder: Path) -> None:
        command = [sys.executable, "-m", "fewbox.cli", "annotate", str(folder), "--no-browser"]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        self.started.append(process)
        assert process.stdout is not None
        while "stop with Ctrl-C" not in process.stdout.readline():
            assert process.poll() is None
        time.sleep(0.3)
        os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to every process
        _, said = process.communicate(timeout=LONG)
        assert process.returncode == 130
        assert "Traceback" not in said


def test_a_folder_without_photos_is_refused_before_anything_listens(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from fewbox.cli import main

    assert main(["annotate", str(tmp_path), "--no-browser"]) == 2
    assert "no photos in this folder" in capsys.readouterr().err
    assert main(["annotate", str(tmp_path / "gone"), "--no-browser"]) == 2
    assert "gone" in capsys.readouterr().err
