"""The service answers over HTTP what the detector finds, and is not brought down by strangers."""

from __future__ import annotations

import asyncio
import errno
import io
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
import urllib.request
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.requests import Request

from exported_duck import ExportedDuck
from fewbox.apps import http as sockets
from fewbox.apps.serve import DetectionServer, detecting
from fewbox.apps.serve.admission import Admission
from fewbox.apps.serve.app import PAGE, _FormInMemory, read_photos
from fewbox.cli import main
from fewbox.config import ServiceConfig
from fewbox.detection.detector import Detector
from fewbox.detection.photo_detector import TiledDetector
from service_client import Answer, HeldDetector, ask, form, random_detector, serving
from waiting import LONG, wait_until

KEY = "a key that nobody guesses"
DUCK = "/v1/detectors/duck/detect"


def png(seed: int = 0, size_hw: tuple[int, int] = (60, 80)) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 255, (*size_hw, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, "PNG")
    return stream.getvalue()


def bomb(side: int) -> bytes:
    """A PNG of some bytes that says it is ``side`` x ``side``."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


@pytest.fixture(scope="module")
def duck(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("detectors") / "duck.safetensors"
    random_detector().save(path)
    return path


@pytest.fixture(scope="module")
def server(duck: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DetectionServer]:
    raccoon = tmp_path_factory.mktemp("others") / "raccoon.safetensors"
    random_detector(("raccoon", "bin", "fence"), seed=1).save(raccoon)
    config = ServiceConfig(queue_seconds=LONG, workers=1, max_megabytes=1, max_megapixels=2, max_photos=3)
    with serving([duck, raccoon], config) as running:
        yield running


@pytest.fixture
def held(duck: Path) -> HeldDetector:
    return HeldDetector(Detector.load(duck))


def hold(server: DetectionServer, held: HeldDetector) -> None:
    """Let the service's first detector wait until ``held`` lets it go on."""
    one = next(iter(server.served))
    one.current = replace(one.current, detector=held)  # type: ignore[arg-type]


def refused(answer: Answer, status: int, words: str) -> bool:
    problem = answer.json()
    assert answer.status == status, problem
    assert words in problem["error"], problem
    assert set(problem) == {"error", "hint"}
    return True


class TestDetecting:
    def test_a_photo_comes_back_as_what_the_detector_finds(self, server: DetectionServer, duck: Path) -> None:
        answer = ask(server, DUCK, png())
        found = Detector.load(duck).detect(Image.open(io.BytesIO(png())))
        assert answer.status == 200
        assert answer.json()["photos"] == [found.to_dict() | {"photo": "photo 1", "number": 1}]
        assert len(found) > 0
        assert answer.json()["failed"] == []

    def test_a_higher_threshold_leaves_fewer(self, server: DetectionServer) -> None:
        scores = [one["score"] for one in ask(server, DUCK, png()).json()["photos"][0]["detections"]]
        middle = scores[len(scores) // 2]
        answer = ask(server, f"{DUCK}?threshold={middle}", png()).json()
        assert answer["score_threshold"] == middle
        assert [one["score"] for one in answer["photos"][0]["detections"]] == [
            s for s in scores if s > middle
        ]

    def test_several_photos_in_a_form(self, server: DetectionServer) -> None:
        answer = ask(server, DUCK, *form(("b.png", png(1)), ("broken.png", png(2)[:90]), ("a.png", png(3))))
        assert [photo["photo"] for photo in answer.json()["photos"]] == ["b.png", "a.png"]
        assert (
            answer.json()["photos"][1]["detections"]
            == (ask(server, DUCK, png(3)).json()["photos"][0]["detections"])
        )
        assert [photo["photo"] for photo in answer.json()["failed"]] == ["broken.png"]
        assert "damaged" in answer.json()["failed"][0]["error"]

    def test_photos_of_one_name_have_a_number(self, server: DetectionServer) -> None:
        files = [("image.jpg", png(1)), ("image.jpg", png(2)[:90]), ("image.jpg", png(3))]
        answer = ask(server, DUCK, *form(*files)).json()
        assert [photo["number"] for photo in answer["photos"]] == [1, 3]
        assert [(photo["photo"], photo["number"]) for photo in answer["failed"]] == [("image.jpg", 2)]

    def test_tiles_of_a_photo(self, server: DetectionServer, duck: Path) -> None:
        photo = png(size_hw=(180, 240))
        answer = ask(server, f"{DUCK}?tiles=3", photo).json()
        found = Detector.load(duck).detect(Image.open(io.BytesIO(photo)), tiles=3)
        assert answer["tiles"] == 3
        assert ask(server, f"{DUCK}?tiles=auto", photo).json()["tiles"] == "auto"
        assert answer["photos"][0]["detections"] == found.to_dict()["detections"]
        assert "tiles" not in ask(server, DUCK, photo).json()

    @pytest.mark.parametrize("tiles", ["0", "1", "9", "88", "all", "", "2.5", "-2", "auto,2"])
    def test_so_many_tiles_there_cannot_be(self, server: DetectionServer, tiles: str) -> None:
        assert refused(ask(server, f"{DUCK}?tiles={tiles}", png()), 422, "tiles: string should match pattern")

    @pytest.mark.slow
    def test_one_request_cannot_ask_for_endless_work(self, duck: Path) -> None:
        photo, broken = ("a.png", png(size_hw=(180, 180))), ("b.png", b"no photo")
        most = len(TiledDetector(Detector.load(duck), 3).tiles_of((180, 180)))
        with serving([duck], ServiceConfig(queue_seconds=LONG, workers=1, max_tiles=most)) as running:
            assert ask(running, f"{DUCK}?tiles=3", *form(photo, broken)).status == 200
            answer = ask(running, f"{DUCK}?tiles=3", *form(photo, photo))
            assert refused(answer, 400, f"more than {most} tiles in one request: {2 * most}")
            assert ask(running, DUCK, *form(photo, photo)).status == 200
        with serving([duck], ServiceConfig(queue_seconds=LONG, workers=1, max_tiles=0)) as running:
            assert refused(ask(running, f"{DUCK}?tiles=3", photo[1]), 400, "more than 0 tiles")

    @pytest.mark.parametrize(
        ("query", "accept", "kind"),
        [
            ("", "image/png", "image/png"),
            ("?format=png", "application/json", "image/png"),
            ("?format=json", "image/png", "application/json"),
            ("", "*/*", "application/json"),
            ("", "application/json;q=1, image/png;q=0.5", "application/json"),
        ],
    )
    def test_numbers_or_a_picture(self, server: DetectionServer, query: str, accept: str, kind: str) -> None:
        answer = ask(server, DUCK + query, png(), {"Accept": accept})
        assert (answer.status, answer.headers["content-type"]) == (200, kind)

    def test_the_picture_is_the_photo_with_boxes(self, server: DetectionServer, duck: Path) -> None:
        photo = Image.open(io.BytesIO(png()))
        picture = Image.open(io.BytesIO(ask(server, f"{DUCK}?format=png", png()).body))
        assert np.array_equal(np.array(picture), np.array(Detector.load(duck).detect(photo).draw()))

    def test_the_picture_of_a_large_photo_shows_what_the_numbers_say(
        self, server: DetectionServer, duck: Path
    ) -> None:
        noise = np.random.default_rng(0).integers(0, 255, (100, 180, 3), np.uint8)
        photo, stream = Image.fromarray(noise.repeat(10, 0).repeat(10, 1)), io.BytesIO()
        photo.save(stream, "PNG")
        picture = Image.open(io.BytesIO(ask(server, f"{DUCK}?format=png", stream.getvalue()).body))
        found = Detector.load(duck).detect(stream.getvalue())
        assert len(found) > 0
        numbers = ask(server, DUCK, stream.getvalue()).json()["photos"][0]["detections"]
        assert numbers == found.to_dict()["detections"]
        assert np.array_equal(np.array(picture), np.array(found.draw(photo)))

    def test_every_detector_has_its_name(self, server: DetectionServer) -> None:
        listed = ask(server, "/v1/detectors").json()["detectors"]
        assert [(one["name"], one["labels"][0]) for one in listed] == [
            ("duck", "duck"),
            ("raccoon", "raccoon"),
        ]
        assert ask(server, "/v1/detectors/raccoon").json() == listed[1]
        found = ask(server, "/v1/detectors/raccoon/detect", png()).json()
        assert {one["label"] for one in found["photos"][0]["detections"]} <= {"raccoon", "bin", "fence"}
        assert found["sha256"] == listed[1]["sha256"]


class TestStrangers:
    @pytest.mark.parametrize(
        ("body", "words"),
        [
            (b"", "photo 1: the file is empty"),
            (b"this is no photo" * 9, "photo 1: not a photo"),
            (png()[:-200], "photo 1: the photo is damaged or incomplete"),
            (bomb(100_000), "photo 1: larger than 2 megapixels"),
            (bomb(1500), "photo 1: larger than 2 megapixels: 1500 x 1500"),
        ],
        ids=["empty", "no photo", "cut short", "10 gigapixels", "2.25 megapixels"],
    )
    def test_what_is_no_photo_is_told_so(self, server: DetectionServer, body: bytes, words: str) -> None:
        assert refused(ask(server, DUCK, body), 422, words)

    @pytest.mark.parametrize(
        ("body", "headers", "status", "words"),
        [
            (png(), {"Content-Type": "text/plain"}, 415, "a photo cannot come as text/plain"),
            (*form(("a", png()), field="image"), 400, "the form has an unknown field: 'image'"),
            (b"nothing", {"Content-Type": "multipart/form-data"}, 400, "the form cannot be read"),
            (*form(), 400, "the form has no photo"),
            (*form(*[("a", png())] * 4), 400, "more than 3 photos in one request"),
            (*form(*[("a", png())] * 9), 400, "the form cannot be read: Too many files"),
        ],
    )
    def test_other_bodies(
        self, server: DetectionServer, body: bytes, headers: dict[str, str], status: int, words: str
    ) -> None:
        assert refused(ask(server, DUCK, body, headers), status, words)

    @pytest.mark.parametrize("kind", ["the photo itself", "a form"])
    def test_a_body_is_in_memory_once_and_not_on_the_disk(
        self, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "full"))
        config, photo = ServiceConfig(), bytes(3_000_000)
        body, headers = form(("a.png", photo)) if kind == "a form" else (photo, {"Content-Type": "image/png"})
        parts = [body[begin : begin + 65_536] for begin in range(0, len(body), 65_536)]
        held: list[float] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": bytes(bytearray(parts.pop(0))), "more_body": bool(parts)}

        async def app(scope: Any, receive: Any, _: Any) -> None:
            (read,) = await read_photos(Request(scope, receive), config)
            assert read.data == photo
            held.extend(size / len(body) for size in tracemalloc.get_traced_memory())

        named = {"host": "localhost", **headers}
        encoded = [(name.lower().encode(), value.encode()) for name, value in named.items()]
        scope = {"type": "http", "method": "POST", "path": DUCK, "query_string": b"", "headers": encoded}
        admission = Admission(app, config=config, key=None, retry_after=lambda: 1)
        tracemalloc.start()
        try:
            asyncio.run(admission(scope, receive, None))  # type: ignore[arg-type]
        finally:
            tracemalloc.stop()
        now, most = held
        assert now < 1.2  # as docs/serve.md says, also of the moment before
        assert most < 3.2

    def test_no_starlette_writes_a_form_to_the_disk(self) -> None:
        """The limit above which a file is written there has another name in older ones."""
        assert _FormInMemory.spool_max_size == _FormInMemory.max_file_size == 0  # without a limit

    def test_other_questions(self, server: DetectionServer) -> None:
        two = form(("a", png()), ("b", png()))
        assert refused(ask(server, f"{DUCK}?format=png", *two), 400, "cannot come back as one picture")
        assert refused(ask(server, f"{DUCK}?threshold=7", png()), 422, "threshold")
        assert refused(ask(server, f"{DUCK}?format=gif", png()), 422, "format")
        misspelt = ask(server, f"{DUCK}?treshold=0.9", png())
        assert refused(misspelt, 422, "unknown parameter: 'treshold'")
        asked = ask(server, "/openapi.json").json()["paths"]["/v1/detectors/{name}/detect"]["post"]
        known = [row["name"] for row in asked["parameters"] if row["in"] == "query"]
        assert misspelt.json()["hint"] == f"there are: {', '.join(known)}"
        missing = ask(server, "/v1/detectors/cat/detect", png())
        assert refused(missing, 404, "no such detector: cat")
        assert missing.json()["hint"] == "there are: duck, raccoon"
        assert refused(ask(server, "/etc/passwd"), 404, "not found")
        assert refused(ask(server, "/page/..%2Fapp.py"), 404, "not found")
        assert refused(ask(server, DUCK, method="DELETE"), 405, "method not allowed")

    def test_a_slash_too_many_is_told_and_not_redirected(self, server: DetectionServer) -> None:
        for path in ("/healthz/", "/v1/detectors/", f"{DUCK}/"):
            assert refused(ask(server, path), 404, "not found")

    @pytest.mark.parametrize(
        ("path", "status"),
        [
            ("/", 200),
            ("/healthz", 200),
            ("/metrics", 200),
            ("/v1/detectors/duck", 200),
            ("/x", 404),
            (DUCK, 405),
        ],
    )
    def test_head_answers_as_get_without_the_body(
        self, server: DetectionServer, path: str, status: int
    ) -> None:
        head, got = ask(server, path, method="HEAD"), ask(server, path)
        assert (head.status, head.body) == (got.status, b"") == (status, b"")
        for name in ("content-type", "content-security-policy"):
            assert head.headers[name] == got.headers[name]

    def test_a_connection_is_kept_longer_than_the_usual_proxies_keep_theirs(
        self, server: DetectionServer
    ) -> None:
        assert server._server.config.timeout_keep_alive > 60

    def test_a_broken_head_is_answered_in_plain_text(self, server: DetectionServer) -> None:
        """As the page about the service says; it comes from below, where no request is known yet."""
        with socket.create_connection(("127.0.0.1", server.port), timeout=LONG) as client:
            client.sendall(b"no request at all\r\n\r\n")
            answer = _read_all(client)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"text/plain" in answer

    def test_a_gigabyte_without_a_length(self, server: DetectionServer) -> None:
        block = b"100000\r\n" + bytes(0x100000) + b"\r\n"
        with _connection(server, "Transfer-Encoding: chunked") as client:
            sent = 0
            try:
                while sent < 1000:
                    client.sendall(block)
                    sent += 1
            except OSError:
                pass
            answer = _read_all(client)
        assert b" 413 " in answer.splitlines()[0]
        assert b"the body is larger than 1000000 bytes" in answer
        assert sent < 300
        assert ask(server, DUCK, png()).status == 200

    def test_a_gigabyte_announced(self, server: DetectionServer) -> None:
        with _connection(server, "Content-Length: 1000000000") as client:
            assert b" 413 " in client.recv(1000).splitlines()[0]

    def test_a_photo_that_does_not_go_on(self, duck: Path) -> None:
        with serving([duck], ServiceConfig(queue_seconds=LONG, workers=1, body_seconds=0.3)) as server:
            with _connection(server, "Content-Length: 1000", b"half a photo") as client:
                answer = _read_all(client)
            assert b" 408 " in answer.splitlines()[0]
            assert b"the body took too long to arrive" in answer
            wait_until(lambda: server.admission.num_requests == 0)

    def test_a_photo_broken_off(self, server: DetectionServer) -> None:
        with _connection(server, "Content-Length: 1000") as client:
            client.sendall(b"half a photo")
            wait_until(lambda: server.admission.num_requests == 1)
        wait_until(lambda: server.admission.num_requests == 0)
        assert ask(server, DUCK, png()).status == 200

    def test_a_head_that_does_not_go_on(
        self, server: DetectionServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sockets, "HEADER_SECONDS", 0.2)
        with socket.create_connection(("127.0.0.1", server.port), LONG) as client:
            client.sendall(b"POST /v1/dete")
            assert client.recv(10) == b""

    def test_pages_of_other_sites_cannot_reach_it_by_a_name_of_theirs(self, server: DetectionServer) -> None:
        for host in ("evil.example", "127.0.0.1.evil.example", "localhost@evil.example"):
            assert refused(ask(server, "/healthz", headers={"Host": host}), 403, "another host")

    def test_its_page_asks_no_other_server(self, server: DetectionServer) -> None:
        for path in ("/", "/docs", "/page/page.css", "/page/page.js"):
            answer = ask(server, path)
            assert answer.status == 200
            assert not re.search(rb"""["'(](https?:)?//""", answer.body)
            assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert sorted(file.name for file in PAGE.iterdir()) == ["index.html", "page.css", "page.js"]


class TestKey:
    def test_only_those_who_know_it_are_answered(self, duck: Path) -> None:
        with serving([duck], key=KEY) as server:
            for path, body in ((DUCK, png()), ("/v1/detectors", None), ("/metrics", None)):
                assert refused(ask(server, path, body), 401, "does not carry the key")
                for wrong in ("Bearer no", f"Basic {KEY}", f"Bearer {KEY}x", "Bearer \xe9"):
                    answer = ask(server, path, body, {"Authorization": wrong})
                    assert refused(answer, 401, "does not carry the key")
                    assert answer.headers["www-authenticate"] == "Bearer"
                assert ask(server, path, body, {"Authorization": f"Bearer {KEY}"}).status == 200
            for path in ("/", "/docs", "/page/page.js", "/openapi.json", "/healthz"):
                assert ask(server, path, headers={"Host": "duck.example"}).status == 200

    def test_other_machines_need_one(
        self, duck: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.delenv("FEWBOX_API_KEY", raising=False)
        assert main(["serve", str(duck), "--host", "0.0.0.0"]) == 2
        assert "other machines can reach 0.0.0.0, so the service needs a key" in capsys.readouterr().err
        monkeypatch.setenv("FEWBOX_API_KEY", "short")
        assert main(["serve", str(duck)]) == 2
        assert "FEWBOX_API_KEY must have at least 16 characters" in capsys.readouterr().err
        for key in ("schlüssel-mit-umlaut", "a-key-with-a-break\n", " a-key-with-a-blank"):
            monkeypatch.setenv("FEWBOX_API_KEY", key)
            assert main(["serve", str(duck)]) == 2
            assert "FEWBOX_API_KEY must be of printable ASCII characters" in capsys.readouterr().err


class TestLoad:
    def test_more_than_the_queue_come_back_later(self, duck: Path, held: HeldDetector) -> None:
        with serving([duck], ServiceConfig(queue_seconds=LONG, workers=1, queue=2)) as server:
            hold(server, held)
            answers: list[Answer] = []
            clients = [
                threading.Thread(target=lambda: answers.append(ask(server, DUCK, png()))) for _ in range(2)
            ]
            for client in clients:
                client.start()
            wait_until(lambda: server.admission.num_requests == 2)
            full = ask(server, DUCK, png())
            assert refused(full, 429, "too many requests are under way")
            assert int(full.headers["retry-after"]) >= 1
            assert ask(server, "/healthz").status == 200
            held.release.set()
            for client in clients:
                client.join()
            assert [answer.status for answer in answers] == [200, 200]
            assert ask(server, DUCK, png()).status == 200

    def test_a_photo_that_waited_too_long_is_given_back(
        self, duck: Path, held: HeldDetector, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = 0.0
        monkeypatch.setattr(detecting, "time", SimpleNamespace(monotonic=lambda: now, time=lambda: now))
        with serving([duck], ServiceConfig(workers=1, queue_seconds=10)) as server:
            hold(server, held)
            answers: dict[str, Answer] = {}

            def send(name: str) -> None:
                answers[name] = ask(server, DUCK, png())

            clients = {name: threading.Thread(target=send, args=(name,)) for name in ("first", "late")}
            clients["first"].start()
            held.wait_for_a_photo()
            clients["late"].start()
            wait_until(lambda: b"\nfewbox_photos_under_way 2.0\n" in ask(server, "/metrics").body)
            now = 10.1
            held.release.set()
            for client in clients.values():
                client.join()
            assert answers["first"].status == 200
            assert refused(answers["late"], 503, "the photos waited too long")
            assert int(answers["late"].headers["retry-after"]) >= 1

    def test_a_photo_whose_client_has_gone_is_not_looked_at(self, duck: Path, held: HeldDetector) -> None:
        with serving([duck]) as server:
            hold(server, held)
            first = threading.Thread(target=lambda: ask(server, DUCK, png()))
            first.start()
            held.wait_for_a_photo()
            with _connection(server, f"Content-Length: {len(png())}") as impatient:
                impatient.sendall(png())
                wait_until(lambda: server.admission.num_requests == 2)
            wait_until(lambda: server.admission.num_requests == 1)
            held.release.set()
            first.join()
            assert ask(server, DUCK, png()).status == 200
            assert held.has_begun()  # that of the last
            assert not held.has_begun()

    def test_told_to_stop_it_finishes_what_it_began(self, duck: Path, held: HeldDetector) -> None:
        with serving([duck]) as server:
            hold(server, held)
            begun: list[Answer] = []
            client = threading.Thread(target=lambda: begun.append(ask(server, DUCK, png())))
            client.start()
            held.wait_for_a_photo()
            server.stop()
            assert refused(ask(server, DUCK, png()), 503, "the service is stopping")
            health = ask(server, "/healthz")
            assert (health.status, health.json()["status"]) == (503, "stopping")
            held.release.set()
            client.join()
            assert begun[0].status == 200

    def test_what_happened_is_counted(self, duck: Path) -> None:
        from prometheus_client.parser import text_string_to_metric_families

        with serving([duck]) as server:
            ask(server, DUCK, png())
            ask(server, DUCK, *form(("a", png()), ("b", b"no photo at all")))
            ask(server, "/no/such/path")
            answer = ask(server, "/metrics")
        families = text_string_to_metric_families(answer.body.decode())
        values = {
            (one.name, *sorted(one.labels.values())): one.value
            for family in families
            for one in family.samples
        }
        assert values["fewbox_photos_total", "done", "duck"] == 2
        assert values["fewbox_photos_total", "duck", "unreadable"] == 1
        assert values["fewbox_requests_total", "/v1/detectors/{name}/detect", "200"] == 2
        assert values["fewbox_requests_total", "404", "other"] == 1
        assert values["fewbox_photo_seconds_count", "duck"] == 2
        assert values["fewbox_detector_stale", "duck"] == 0
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")


@pytest.mark.slow
def test_a_new_file_is_served_and_a_bad_one_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detecting, "POLL_SECONDS", 0.05)
    path = tmp_path / "duck.safetensors"
    random_detector().save(path)
    with serving([path]) as server:

        def labels() -> list[str]:
            labels: list[str] = ask(server, "/v1/detectors/duck").json()["labels"]
            return labels

        def health() -> str:
            status: str = ask(server, "/healthz").json()["status"]
            return status

        random_detector(("cup", "mug", "lid"), seed=1).save(path)
        wait_until(lambda: labels() == ["cup", "mug", "lid"])
        good = path.read_bytes()
        # Written over in place: had the weights been read from the file itself, they would vanish now.
        path.write_bytes(good[:-100])
        wait_until(lambda: health() == "stale")
        assert ask(server, DUCK, png()).status == 200
        told = ask(server, "/healthz").json()["detectors"]["duck"]
        assert told.startswith("duck.safetensors: not a safetensors file, or damaged")
        path.unlink()
        wait_until(lambda: "No such file" in ask(server, "/healthz").json()["detectors"]["duck"])
        assert labels() == ["cup", "mug", "lid"]
        random_detector(("pan", "pot", "lid")).save(path)
        wait_until(lambda: health() == "ok")
        assert labels() == ["pan", "pot", "lid"]


@pytest.mark.slow
def test_files_are_followed_on_after_one_could_not_be_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detecting, "POLL_SECONDS", 0.05)
    path = tmp_path / "duck.safetensors"
    random_detector().save(path)

    def no_room(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def fault(*_: object, **__: object) -> None:
        raise RuntimeError("the engine is at fault")

    with serving([path]) as server:

        def told() -> str | None:
            about: str | None = ask(server, "/healthz").json()["detectors"]["duck"]
            return about

        for module, name, does, says in (
            (tempfile, "TemporaryDirectory", no_room, "cannot be read: No space left on device"),
            (detecting, "open_detector", fault, "cannot be loaded; the service's log says why"),
        ):
            with monkeypatch.context() as broken:
                broken.setattr(module, name, does)
                random_detector(("cup", "mug", "lid"), seed=1).save(path)
                wait_until(lambda says=says: told() == f"duck.safetensors: {says}")
                assert ask(server, DUCK, png()).status == 200
            random_detector(("pan", "pot", "lid")).save(path)
            wait_until(lambda: told() is None)
        assert ask(server, "/v1/detectors/duck").json()["labels"] == ["pan", "pot", "lid"]


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 2])
def test_the_command_stops_when_told(exported_duck: ExportedDuck, times: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "fewbox.cli", "serve", str(exported_duck.onnx), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={name: value for name, value in os.environ.items() if name != "FEWBOX_API_KEY"},
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        assert process.stdout.readline() == "duck: finds rubber_duck\n"
        address = process.stdout.readline().split()[-1]
        with urllib.request.urlopen(
            f"{address}/healthz", timeout=LONG
        ) as answer:  # waits until it is answered
            assert json.load(answer)["status"] == "ok"
        for _ in range(times):
            process.send_signal(signal.SIGTERM)
            time.sleep(0.01)  # or the two become one
        assert process.wait(LONG) == 0
        assert "Traceback" not in process.stderr.read()
    finally:
        process.kill()


def test_wrong_files_and_settings(duck: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", str(tmp_path / "none.safetensors")]) == 2
    assert "none.safetensors: cannot be read: No such file" in capsys.readouterr().err
    assert main(["serve", str(duck), str(duck)]) == 2
    assert "two detectors have one name" in capsys.readouterr().err
    assert main(["serve", str(duck), "--queue", "0"]) == 2
    assert "queue must be a number from 1 to 10000: 0" in capsys.readouterr().err
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["serve", str(duck), "--port", str(taken.getsockname()[1])]) == 2
    assert "in use" in capsys.readouterr().err


def _connection(server: DetectionServer, header: str, body: bytes = b"") -> socket.socket:
    client = socket.create_connection(("127.0.0.1", server.port), LONG)
    head = f"POST {DUCK} HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n{header}\r\n\r\n"
    client.sendall(head.encode() + body)
    return client


def _read_all(client: socket.socket) -> bytes:
    answer = b""
    while block := client.recv(65536):
        answer += block
        _head, end, body = answer.partition(b"\r\n\r\n")
        if end and body.endswith(b"}") and json.loads(body):
            break
    return answer


@pytest.mark.slow
def test_schemathesis_finds_nothing(server: DetectionServer, tmp_path: Path) -> None:
    """Several hundred requests, right and wrong, held against the service's own OpenAPI document."""
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"http://127.0.0.1:{server.port}/openapi.json"),
        *("--max-examples", "6", "--seed", "1", "--phases", "coverage,fuzzing", "--no-color"),
        *("--generation-database", "none"),
    ]
    hooks = {"SCHEMATHESIS_HOOKS": "schemathesis_hooks", "PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=os.environ | hooks)
    assert done.returncode == 0, done.stdout
