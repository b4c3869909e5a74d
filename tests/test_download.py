"""A base model arrives whole or not at all, whatever the server, the network or the user does."""

from __future__ import annotations

import base64
import errno
import hashlib
import io
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.client import HTTPMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request

import pytest
from rich.console import Console

from fewbox.errors import DownloadError, OutputError
from fewbox.models import ZOO, ZooEntry, download
from fewbox.models.download import fetch
from waiting import LONG, wait_until

NAME = "model.tar.gz"
BODY = random.Random(0).randbytes(300_000)
OTHER = random.Random(1).randbytes(300_000)
HALF = 150_000
TAG = '"one"'
DATE = "Sat, 11 Jul 2020 00:00:00 GMT"


@dataclass
class Answer:
    """How the server answers one request; by default as a good server does."""

    status: int = 200
    body: bytes = BODY
    headers: dict[str, str] = field(default_factory=lambda: {"ETag": TAG})
    ranges: bool = True  # takes Range
    if_range: bool = True  # and asks If-Range first
    span: str | None = None  # what Content-Range says, if not the truth
    length: int | None = None  # what Content-Length says, if not the truth; -1: nothing
    chunked: bool = False
    send: int | None = None  # bytes of the answer that are sent before the connection is cut
    hold: threading.Event | None = None  # waited for before the connection is cut or the answer ends


class Server(ThreadingHTTPServer):
    """Gives ``answers`` one after the other, the last again and again, and keeps the requests."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers = [Answer()]
        self.requests: list[tuple[str, HTTPMessage]] = []
        self.address = f"http://127.0.0.1:{self.server_port}"

    def asked_for(self, name: str) -> list[str | None]:
        """The values of one header of all requests, in their order."""
        return [headers.get(name) for _, headers in self.requests]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self):
        self.server.requests.append((self.path, self.headers))
        answers = self.server.answers
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        status, payload = answer.status, answer.body
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        same = not answer.if_range or self.headers.get("If-Range") in answer.headers.values()
        span = None
        if status == 200 and wanted and answer.ranges and same:
            start = int(wanted[1])
            status, payload = (206, payload[start:]) if start < len(payload) else (416, b"")
            span = answer.span or f"bytes {start}-{len(answer.body) - 1}/{len(answer.body)}"
        self.send_response(status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if span is not None:
            self.send_header("Content-Range", span)
        if answer.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        elif answer.length != -1:
            self.send_header("Content-Length", str(len(payload) if answer.length is None else answer.length))
        self.end_headers()
        payload = payload[: answer.send]
        if answer.chunked:
            for at in range(0, len(payload), 70_000):
                piece = payload[at : at + 70_000]
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            if answer.send is None:
                self.wfile.write(b"0\r\n\r\n")
        else:
            self.wfile.write(payload)
        if answer.hold is not None:
            self.wfile.flush()
            answer.hold.wait(LONG)

    def handle(self):
        try:
            super().handle()
        except ConnectionError:  # the client is gone, as some tests want
            self.close_connection = True

    def log_message(self, *_):
        pass


@pytest.fixture
def make_server() -> Iterator[type[Server]]:
    servers: list[Server] = []

    def make() -> Server:
        server = Server()
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return server

    yield make
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def server(make_server) -> Server:
    return make_server()


@pytest.fixture
def entry(server: Server) -> ZooEntry:
    return replace(ZOO["ssd_resnet50_fpn_640"], name="test", url=f"{server.address}/zoo/{NAME}")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where to download to; after each test its target is a whole file or not there."""
    yield tmp_path / "downloads"
    target = tmp_path / "downloads" / NAME
    assert not target.exists() or target.read_bytes() in (BODY, OTHER)


@pytest.fixture(autouse=True)
def quick_and_alone(monkeypatch: pytest.MonkeyPatch):
    """No real waiting, and no proxy or mirror of the machine."""
    monkeypatch.setattr(download, "FIRST_WAIT_S", 0.001)
    monkeypatch.setattr(download, "LOCK_POLL_S", 0.01)
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name == "FEWBOX_MIRROR":
            monkeypatch.delenv(name)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that were slept, which are not."""
    slept: list[float] = []
    monkeypatch.setattr(download.time, "sleep", slept.append)
    return slept


def left_in(folder: Path) -> list[str]:
    """The files there, but for the lock."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def failure_of(entry: ZooEntry, folder: Path) -> DownloadError:
    with pytest.raises(DownloadError) as caught:
        fetch(entry, folder)
    assert not (folder / NAME).exists()
    return caught.value


def md5_header(body: bytes) -> str:
    return base64.b64encode(hashlib.md5(body).digest()).decode()


def test_the_file_arrives_whole_and_nothing_else_is_left(server, entry, folder):
    assert fetch(entry, folder) == folder / NAME
    assert (folder / NAME).read_bytes() == BODY
    assert left_in(folder) == [NAME]
    assert [path for path, _ in server.requests] == [f"/zoo/{NAME}"]


def test_a_file_that_is_there_is_not_asked_for(server, entry, folder):
    folder.mkdir()
    (folder / NAME).write_bytes(BODY)
    assert fetch(entry, folder) == folder / NAME
    assert server.requests == []


def test_chunked_answers_are_taken(server, entry, folder):
    server.answers = [Answer(chunked=True)]
    assert fetch(entry, folder).read_bytes() == BODY


def test_an_http_proxy_is_honoured(server, entry, folder, monkeypatch):
    monkeypatch.setenv("http_proxy", server.address)
    assert fetch(replace(entry, url=f"http://zoo.invalid/{NAME}"), folder).read_bytes() == BODY
    assert server.requests[0][0] == f"http://zoo.invalid/{NAME}"
    monkeypatch.setenv("no_proxy", "zoo.invalid")
    (folder / NAME).unlink()
    monkeypatch.setattr(socket, "getaddrinfo", unknown_name)
    failure_of(replace(entry, url=f"http://zoo.invalid/{NAME}"), folder)


def test_progress_is_shown_on_a_terminal_and_said_elsewhere(entry, folder, monkeypatch, capsys):
    fetch(entry, folder, show_progress=False)
    assert capsys.readouterr() == ("", "")
    (folder / NAME).unlink()
    fetch(entry, folder)
    assert capsys.readouterr().err == f"downloading {entry.url}\n"
    (folder / NAME).unlink()
    screen = Console(file=io.StringIO(), force_terminal=True, width=120)
    monkeypatch.setattr(download, "console", screen)
    fetch(entry, folder)
    assert "/300.0 kB" in screen.file.getvalue()


def test_importing_loads_no_torch():
    code = "import sys, fewbox.models.download; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_cut_connection_is_continued_where_it_broke(server, entry, folder):
    server.answers = [Answer(send=HALF), Answer()]
    assert fetch(entry, folder).read_bytes() == BODY
    assert server.asked_for("Range") == [None, f"bytes={HALF}-"]
    assert server.asked_for("If-Range") == [None, TAG]
    assert left_in(folder) == [NAME]


def test_patience_lasts_as_long_as_bytes_arrive(server, entry, folder):
    server.answers = [Answer(send=len(BODY) // 9)] * 9 + [Answer()]
    assert fetch(entry, folder).read_bytes() == BODY
    assert len(server.requests) > download.ATTEMPTS


def test_a_server_without_ranges_is_asked_for_all_again(server, entry, folder):
    server.answers = [Answer(send=HALF), Answer(ranges=False)]
    assert fetch(entry, folder).read_bytes() == BODY
    assert server.asked_for("Range")[1] is not None


def test_it_ends_where_a_server_without_ranges_cuts_every_time(server, entry, folder):
    server.answers = [Answer(send=HALF, ranges=False)]
    assert f"closed after {HALF} of {len(BODY)} bytes" in failure_of(entry, folder).message
    assert len(server.requests) == download.ATTEMPTS
    assert left_in(folder) == [f"{NAME}.part", f"{NAME}.part.json"]


@pytest.mark.parametrize(
    ("headers", "if_range"),
    [({}, None), ({"ETag": 'W/"weak"'}, None), ({"ETag": 'W/"weak"', "Last-Modified": DATE}, DATE)],
)
def test_only_what_identifies_the_file_is_continued_by(server, entry, folder, headers, if_range):
    server.answers = [Answer(send=HALF, headers=headers), Answer(headers=headers)]
    assert fetch(entry, folder).read_bytes() == BODY
    assert server.asked_for("If-Range")[1] == if_range
    assert (server.asked_for("Range")[1] is None) == (if_range is None)


@pytest.mark.parametrize("if_range", [True, False], ids=["asks If-Range", "ignores If-Range"])
@pytest.mark.parametrize("size", [300_000, 280_000, 100_000])
def test_two_versions_are_never_glued_together(server, entry, folder, if_range, size):
    new = OTHER[:size]
    headers = {"ETag": '"two"', "x-goog-hash": f"md5={md5_header(new)}"}
    server.answers = [Answer(send=HALF), Answer(body=new, headers=headers, if_range=if_range)]
    assert fetch(entry, folder).read_bytes() == new
    (folder / NAME).unlink()


@pytest.mark.parametrize("span", ["bytes 0-299999/300000", "bytes 150000-299999/400000", "nonsense"])
def test_a_wrong_content_range_starts_over(server, entry, folder, span):
    server.answers = [Answer(send=HALF), Answer(span=span), Answer()]
    assert fetch(entry, folder).read_bytes() == BODY
    assert server.asked_for("Range") == [None, f"bytes={HALF}-", None]


def test_a_cut_chunked_answer_is_not_taken_for_the_end(server, entry, folder):
    server.answers = [Answer(chunked=True, send=HALF), Answer()]
    assert fetch(entry, folder).read_bytes() == BODY


def test_a_silent_server_is_left_and_asked_again(server, entry, folder, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT_S", 1.0)  # for it to go on, on a busy machine too
    forever = threading.Event()
    server.answers = [Answer(send=HALF, hold=forever), Answer()]
    assert fetch(entry, folder).read_bytes() == BODY
    assert server.asked_for("Range") == [None, f"bytes={HALF}-"]
    forever.set()


def test_a_server_silent_for_good_is_given_up(server, entry, folder, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT_S", 0.05)
    forever = threading.Event()
    server.answers = [Answer(send=0, hold=forever)]
    assert "silent for 0.05 s" in failure_of(entry, folder).message
    # On a busy machine it reads the last one late.
    wait_until(lambda: len(server.requests) == download.ATTEMPTS)
    forever.set()


def test_a_network_lost_on_the_way_is_waited_for(server, entry, folder, monkeypatch, waits):
    server.answers = [Answer(send=HALF), Answer()]
    looked_up = socket.getaddrinfo
    answers = [looked_up, unknown_name, unknown_name, looked_up]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: answers.pop(0)(*a, **k))
    assert fetch(entry, folder).read_bytes() == BODY
    assert len(waits) == 3


CHILD = """
import sys
from dataclasses import replace
from pathlib import Path
from fewbox.models import ZOO, download
download.LOCK_POLL_S = 0.01
entry = replace(ZOO["ssd_resnet50_fpn_640"], url=sys.argv[1])
download.fetch(entry, Path(sys.argv[2]))
"""


def start_process(entry: ZooEntry, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CHILD, entry.url, str(folder)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("name", ["SIGKILL", "SIGINT"])
def test_a_stopped_process_leaves_what_the_next_continues(server, entry, folder, name):
    release = threading.Event()
    server.answers = [Answer(send=HALF, hold=release), Answer()]
    part = folder / f"{NAME}.part"
    with start_process(entry, folder) as process:
        wait_until(lambda: part.exists() and part.stat().st_size > HALF // 2)
        process.send_signal(getattr(signal, name))
    release.set()
    assert process.returncode != 0
    assert left_in(folder) == [f"{NAME}.part", f"{NAME}.part.json"]
    arrived = part.stat().st_size
    assert fetch(entry, folder).read_bytes() == BODY
    assert server.asked_for("Range") == [None, f"bytes={arrived}-"]
    assert left_in(folder) == [NAME]


@pytest.mark.slow
def test_two_processes_download_once(server, entry, folder):
    release = threading.Event()
    server.answers = [Answer(send=HALF, hold=release), Answer()]
    with start_process(entry, folder) as first:
        wait_until(lambda: server.requests)
        with start_process(entry, folder) as second:
            assert "downloading" not in (said := second.stderr.readline())
            assert "waiting for another process" in said
            release.set()
    assert (first.returncode, second.returncode) == (0, 0)
    assert (folder / NAME).read_bytes() == BODY
    assert server.asked_for("Range") == [None, f"bytes={HALF}-"]  # the first's alone


def test_many_threads_download_once(server, entry, folder):
    found: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: found.append(fetch(entry, folder).read_bytes())) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [BODY] * 8
    assert len(server.requests) == 1


def put_part(folder: Path, url: str, content: bytes, **version: object) -> None:
    folder.mkdir(exist_ok=True)
    (folder / f"{NAME}.part").write_bytes(content)
    known = {"url": url, "validator": TAG, "size": len(BODY), "md5": None} | version
    (folder / f"{NAME}.part.json").write_text(json.dumps(known))


def test_a_part_that_only_lacks_its_name_gets_it(server, entry, folder):
    put_part(folder, entry.url, BODY, md5=hashlib.md5(BODY).hexdigest())
    assert fetch(entry, folder).read_bytes() == BODY
    assert server.requests == []


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"url": "x"}'])
def test_a_part_of_unknown_origin_is_not_used(server, entry, folder, text):
    put_part(folder, entry.url, OTHER[:1000])
    version = folder / f"{NAME}.part.json"
    version.unlink() if text is None else version.write_text(text)
    assert fetch(entry, folder).read_bytes() == BODY
    assert server.asked_for("Range") == [None]


def test_a_part_from_another_server_is_not_used(entry, folder):
    put_part(folder, f"http://elsewhere.example/{NAME}", OTHER[:1000])
    assert fetch(entry, folder).read_bytes() == BODY


def test_a_part_longer_than_the_file_is_dropped(server, entry, folder):
    put_part(folder, entry.url, BODY + b"more", size=None)
    assert fetch(entry, folder).read_bytes() == BODY
    assert server.asked_for("Range") == [f"bytes={len(BODY) + 4}-", None]


def test_a_busy_server_is_asked_again(server, entry, folder, capsys):
    server.answers = [Answer(status=503), Answer(status=503), Answer()]
    assert fetch(entry, folder).read_bytes() == BODY
    assert capsys.readouterr().err.count("the server answers 503 Service Unavailable; trying again in") == 2


def test_waits_grow_and_follow_retry_after_up_to_a_limit(server, entry, folder, monkeypatch, waits):
    monkeypatch.setattr(download, "FIRST_WAIT_S", 1.0)
    server.answers = [
        Answer(status=500),
        Answer(status=429, headers={"Retry-After": "7"}),
        Answer(status=503, headers={"Retry-After": "86400"}),
        Answer(status=502, headers={"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}),
        Answer(),
    ]
    assert fetch(entry, folder).read_bytes() == BODY
    assert 1 <= waits[0] <= 1.5
    assert waits[1:3] == [7, download.LONGEST_WAIT_S]
    assert 8 <= waits[3] <= 12


@pytest.mark.parametrize("status", [404, 403, 401])
def test_a_refusal_is_final(server, entry, folder, status, waits):
    server.answers = [Answer(status=status, body=b"no")]
    error = failure_of(entry, folder)
    assert f"{entry.url}: cannot be fetched: the server answers {status}" in error.message
    assert len(server.requests) == 1
    assert waits == []


@pytest.mark.parametrize("header", ["x-goog-hash", "Content-MD5"])
def test_a_wrong_md5_deletes_the_bytes_and_names_both_values(server, entry, folder, header):
    stated = md5_header(OTHER)
    value = f"crc32c=AAAAAA==, md5={stated}" if header == "x-goog-hash" else stated
    server.answers = [Answer(headers={header: value})]
    error = failure_of(entry, folder)
    assert hashlib.md5(BODY).hexdigest() in error.message
    assert hashlib.md5(OTHER).hexdigest() in error.message
    assert left_in(folder) == []


def test_the_md5_of_the_first_answer_holds_for_a_continued_file(server, entry, folder):
    server.answers = [Answer(send=HALF, headers={"ETag": TAG, "Content-MD5": md5_header(OTHER)}), Answer()]
    assert "md5" in failure_of(entry, folder).message


@pytest.mark.parametrize(
    "headers",
    [
        {"x-goog-hash": f"crc32c=AAAAAA==,md5={md5_header(BODY)}"},
        {"x-goog-hash": "crc32c=AAAAAA=="},
        {"Content-MD5": "not base64"},
        {"x-goog-hash": f"md5={md5_header(OTHER)}", "x-goog-stored-content-encoding": "gzip"},
    ],
)
def test_an_md5_that_is_right_or_says_nothing_of_these_bytes_is_no_obstacle(server, entry, folder, headers):
    server.answers = [Answer(headers=headers)]
    assert fetch(entry, folder).read_bytes() == BODY


def test_sha256_is_checked_where_it_is_known(entry, folder):
    right, wrong = hashlib.sha256(BODY).hexdigest(), hashlib.sha256(OTHER).hexdigest()
    error = failure_of(replace(entry, sha256=wrong), folder)
    assert right in error.message
    assert wrong in error.message
    assert left_in(folder) == []
    assert fetch(replace(entry, sha256=right), folder).read_bytes() == BODY


def test_another_file_under_its_name_is_refused_and_kept(server, entry, folder):
    right, wrong = hashlib.sha256(BODY).hexdigest(), hashlib.sha256(OTHER).hexdigest()
    folder.mkdir()
    (folder / NAME).write_bytes(OTHER)
    with pytest.raises(DownloadError, match=f"not the file of .*{wrong}.*{right}") as refused:
        fetch(replace(entry, sha256=right), folder)
    assert "remove it" in str(refused.value.hint)
    assert (folder / NAME).read_bytes() == OTHER
    assert server.requests == []
    (folder / NAME).write_bytes(BODY)
    assert fetch(replace(entry, sha256=right), folder) == folder / NAME


def test_a_length_too_long_is_not_believed(server, entry, folder):
    server.answers = [Answer(length=len(BODY) + 10, ranges=False)]
    assert f"closed after {len(BODY)} of {len(BODY) + 10} bytes" in failure_of(entry, folder).message


def test_a_length_too_short_is_caught_by_the_checksum(server, entry, folder):
    server.answers = [Answer(length=HALF, headers={"x-goog-hash": f"md5={md5_header(BODY)}"})]
    assert "md5" in failure_of(entry, folder).message


def test_a_dead_proxy_is_named_without_its_password(server, entry, folder, monkeypatch):
    server.shutdown()
    server.server_close()  # from now on nothing listens there
    address = server.address.removeprefix("http://")
    for proxy in (f"http://ann:s3cret@{address}", f"ann:s3cret@{address}"):
        monkeypatch.setenv("http_proxy", proxy)
        message = failure_of(replace(entry, url=f"http://zoo.invalid/{NAME}"), folder).message
        assert "refused" in message
        assert f"through the proxy {address}" in message
        assert "(http_proxy)" in message
        assert "s3cret" not in message


@pytest.mark.parametrize("answer", [Answer(length=-1), Answer(body=b""), Answer(status=204, body=b"")])
def test_an_answer_without_end_or_content_is_refused(server, entry, folder, answer):
    server.answers = [answer]
    failure_of(entry, folder)
    assert left_in(folder) == []


def test_a_login_page_is_not_taken_for_the_file(server, entry, folder):
    server.answers = [Answer(headers={"Content-Type": "text/html; charset=utf-8"})]
    assert "login in a browser" in failure_of(entry, folder).message
    assert left_in(folder) == []


def unknown_name(*_args, **_kwargs):
    raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


def test_offline_says_so_at_once_and_what_to_do_instead(server, entry, folder, waits):
    server.shutdown()
    server.server_close()  # from now on nothing listens there
    error = failure_of(entry, folder)
    assert error.message.startswith(f"{entry.url}: cannot be fetched: ")
    assert "refused" in error.message
    assert f"fetch {entry.url} with a browser" in error.hint
    assert f"give the file in place of the name {entry.name}" in error.hint
    assert f"save it as {folder / NAME}" in error.hint
    assert waits == []


def test_an_unknown_name_is_said_at_once(entry, folder, monkeypatch, waits):
    monkeypatch.setattr(socket, "getaddrinfo", unknown_name)
    assert "cannot be looked up; is there a network" in failure_of(entry, folder).message
    assert waits == []


class FullDisk(io.FileIO):
    def write(self, _):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_named_and_the_rest_fetched_later(server, entry, folder, monkeypatch):
    put_part(folder, entry.url, BODY[:HALF])
    real = Path.open

    def open_on_full_disk(path: Path, mode: str = "r", *args, **kwargs):
        if path.suffix == ".part" and "a" in mode:
            return FullDisk(path, mode)
        return real(path, mode, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", open_on_full_disk)
        with pytest.raises(OutputError, match="no space left on the disk") as caught:
            fetch(entry, folder)
    assert str(folder / NAME) in caught.value.message
    assert len(server.requests) == 1
    assert fetch(entry, folder).read_bytes() == BODY
    assert server.asked_for("Range") == [f"bytes={HALF}-"] * 2


def test_a_folder_that_cannot_be_made_is_named(entry, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot be written"):
        fetch(entry, tmp_path / "file" / "downloads")


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EIO])
def test_a_file_system_without_locks_still_downloads(entry, folder, monkeypatch, capsys, recwarn, number):
    fcntl = pytest.importorskip("fcntl")

    def no_locks(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    assert fetch(entry, folder).read_bytes() == BODY
    assert capsys.readouterr().err == f"downloading {entry.url}\n"
    assert not recwarn.list


def test_a_lock_that_cannot_be_made_is_said_in_words(entry, folder):
    (folder / f"{NAME}.lock").mkdir(parents=True)
    with pytest.raises(OutputError, match=rf"{re.escape(str(folder / NAME))}: cannot be written: "):
        fetch(entry, folder)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_killed_process_leaves_no_lock(server, entry, folder):
    release = threading.Event()
    server.answers = [Answer(send=HALF, hold=release), Answer()]
    with start_process(entry, folder) as first:
        wait_until(lambda: server.requests)
        with start_process(entry, folder) as second:
            assert "waiting for another process" in second.stderr.readline()
            first.kill()
            assert "downloading" in second.stderr.readline()  # while the first's answer is still held open
            release.set()
    assert second.returncode == 0
    assert (folder / NAME).read_bytes() == BODY


def test_a_mirror_is_asked_for_the_same_file(server, entry, folder, monkeypatch):
    monkeypatch.setenv("FEWBOX_MIRROR", f"{server.address}/our/mirror/")
    fetch(replace(entry, url=f"https://official.example/zoo/{NAME}"), folder)
    assert [path for path, _ in server.requests] == [f"/our/mirror/{NAME}"]


def test_credentials_go_to_the_mirror_and_nowhere_else(
    server, make_server, entry, folder, monkeypatch, capsys
):
    elsewhere = make_server()
    elsewhere.answers = [Answer(send=HALF), Answer(status=404)]
    server.answers = [Answer(status=302, headers={"Location": f"{elsewhere.address}/{NAME}"})]
    monkeypatch.setenv("FEWBOX_MIRROR", server.address.replace("//", "//me:top%2Fsecret@"))
    monkeypatch.setattr(download, "ATTEMPTS", 2)
    error = failure_of(entry, folder)
    assert server.asked_for("Authorization")[0] == "Basic " + base64.b64encode(b"me:top/secret").decode()
    assert elsewhere.asked_for("Authorization")[0] is None
    shown = f"{error}{capsys.readouterr()}{(folder / f'{NAME}.part.json').read_text()}"
    assert server.address in shown
    assert "secret" not in shown


@pytest.mark.parametrize(
    "mirror",
    [
        "ftp://mirror.example/zoo",
        "file:///zoo",
        "mirror.example/zoo",
        "https://",
        "https://mirror.example:port/zoo",
        "https://mirror..example/zoo",
        "https://[mirror/zoo",
        "https://mirror.example/zoo?token=secret",
        "https://me:sec/ret@mirror.example/zoo",
    ],
)
def test_a_mirror_that_is_no_http_address_is_refused(entry, folder, monkeypatch, mirror):
    monkeypatch.setenv("FEWBOX_MIRROR", mirror)
    error = failure_of(entry, folder)
    assert error.message.startswith("FEWBOX_MIRROR: not an http or https address: ")
    assert "sec" not in str(error)


def test_only_http_addresses_are_fetched(entry, folder, tmp_path):
    (tmp_path / NAME).write_bytes(BODY)
    error = failure_of(replace(entry, url=(tmp_path / NAME).as_uri()), folder)
    assert "not an http or https address" in error.message


def test_redirects_are_followed_with_the_range(server, make_server, entry, folder):
    store = make_server()
    store.answers = [Answer(send=HALF), Answer()]
    server.answers = [Answer(status=302, headers={"Location": f"{store.address}/bucket/{NAME}"})]
    assert fetch(entry, folder).read_bytes() == BODY
    assert store.asked_for("Range") == [None, f"bytes={HALF}-"]


@pytest.mark.parametrize("location", ["ftp://elsewhere.example/x", "file:///etc/passwd", "data:,x"])
def test_redirects_to_other_schemes_are_refused(server, entry, folder, location):
    server.answers = [Answer(status=302, headers={"Location": location})]
    assert re.search("not followed|not allowed", failure_of(entry, folder).message)
    assert len(server.requests) == 1


def test_a_redirect_from_https_to_http_is_refused():
    request = Request("https://official.example/x")
    with pytest.raises(URLError, match="from https to http"):
        download._Redirects().redirect_request(
            request, None, 302, "", HTTPMessage(), "http://official.example/x"
        )


def test_a_redirect_takes_no_proxy_credentials_along():
    request = Request("http://official.example/x", headers={"Proxy-authorization": "Basic eA=="})
    following = download._Redirects().redirect_request(
        request, None, 302, "", HTTPMessage(), "https://b.example/"
    )
    assert following.headers == {}
