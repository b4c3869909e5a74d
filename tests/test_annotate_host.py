"""The page shared with other machines: who is let in, by which address, and what is said about it."""

from __future__ import annotations

import shutil
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient

from annotate_client import PORT, TOKEN, a_box, make_photos, write_certificate
from fewbox.apps.annotate.app import AnnotateServer, make_app
from fewbox.apps.annotate.guard import LOCAL_NAMES, token_of
from fewbox.commands import annotate as command
from fewbox.data.project import Project
from fewbox.errors import OutputError, SettingError
from made_up_learner import StillLearner
from waiting import LONG

PHONE = f"http://192.168.1.7:{PORT}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_photos(tmp_path / "photos", "a.jpg", "b.jpg")


def a_client(folder: Path, address: str = PHONE, **guarded: Any) -> TestClient:
    guarded = {"shared": True, "names": {*LOCAL_NAMES, "laptop.local"}} | guarded
    app = make_app(Project(folder), StillLearner(), token=TOKEN, port=PORT, **guarded)
    return TestClient(app, base_url=address, headers={"Origin": address}, raise_server_exceptions=False)


@contextmanager
def shared(folder: Path, **options: Any) -> Iterator[AnnotateServer]:
    served = AnnotateServer(Project(folder), StillLearner(), 0, host="0.0.0.0", **options)
    thread = threading.Thread(target=served.run)
    thread.start()
    try:
        yield served
    finally:
        served.stop()
        thread.join(LONG)


def test_a_phone_gets_in_by_the_token_which_becomes_a_cookie(folder: Path) -> None:
    client = a_client(folder)
    answer = client.get(f"/?token={TOKEN}", follow_redirects=False)
    # Not a redirect: from a link in a chat a browser would follow it without the cookie.
    assert (answer.status_code, "url=/" in answer.text) == (200, True)
    assert answer.headers["set-cookie"] == f"fewbox_{PORT}={TOKEN}; HttpOnly; SameSite=Strict; Path=/"
    assert [row["name"] for row in client.get("/api/project").json()["photos"]] == ["a.jpg", "b.jpg"]


def test_without_the_token_a_person_reads_why_and_programs_get_json(folder: Path) -> None:
    client = a_client(folder)
    answer = client.get("/", headers={"Accept": "text/html,*/*"})
    assert (answer.status_code, answer.headers["content-type"]) == (403, "text/plain")
    assert answer.text == (
        "the request does not carry the token: "
        "open the address that 'fewbox annotate' has printed, with its token\n"
    )
    assert client.get("/?token=wrong", headers={"Accept": "text/html"}).status_code == 403
    assert client.get("/api/project").json()["error"] == "the request does not carry the token"


@pytest.mark.parametrize(
    ("host", "status"),
    [(f"10.0.0.2:{PORT}", 200), (f"[fe80::1]:{PORT}", 200), (f"laptop.local:{PORT}", 200),
     (f"evil.example:{PORT}", 403), (f"192.168.1.7:{PORT + 1}", 403), ("192.168.1.7", 403),
     (f"192.168.1.7.evil.example:{PORT}", 403)],
)  # fmt: skip
def test_addresses_in_numbers_are_ours_and_strangers_names_are_not(
    folder: Path, host: str, status: int
) -> None:
    client = a_client(folder, f"http://{host}")
    client.get(f"/?token={TOKEN}")
    assert client.get("/api/project").status_code == status


def test_other_pages_change_nothing(folder: Path) -> None:
    client = a_client(folder)
    client.get(f"/?token={TOKEN}")
    photo = client.get("/api/project").json()["photos"][0]["id"]
    for origin in ("http://evil.example", f"http://192.168.1.8:{PORT}", f"https://192.168.1.7:{PORT}"):
        answer = client.patch(f"/api/photos/{photo}", json={"put": [a_box()]}, headers={"Origin": origin})
        assert answer.status_code == 403
    assert not (folder / "annotations.json").exists()


def test_a_page_that_is_not_shared_takes_no_other_address(folder: Path) -> None:
    client = a_client(folder, shared=False)
    assert client.get(f"/?token={TOKEN}").status_code == 403


def test_each_start_has_a_token_of_its_own_and_not_the_one_of_this_machine(folder: Path) -> None:
    with shared(folder) as one, shared(folder) as other:
        tokens = {served.url.partition("token=")[2] for served in (one, other)}
        assert len(tokens | {token_of(folder)}) == 3
        assert one.url.startswith("http://")
        for address in {one.url.partition("/?")[0], f"http://127.0.0.1:{one.port}"}:
            with httpx2.Client(base_url=address, timeout=LONG) as client:
                assert client.get(f"/?token={one.url.partition('token=')[2]}").status_code == 200
                assert client.get("/api/project").status_code == 200


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
def test_with_a_certificate_it_is_https(folder: Path, tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path)
    with shared(folder, certificate=certificate, key=key) as served:
        assert served.url.startswith("https://")
        trusting = ssl.create_default_context(cafile=str(certificate))
        trusting.check_hostname = False
        base = f"https://127.0.0.1:{served.port}"
        with httpx2.Client(base_url=base, verify=trusting, timeout=LONG) as client:
            answer = client.get(f"/?token={served.url.partition('token=')[2]}")
            assert answer.headers["set-cookie"].endswith("; Secure")
            assert client.get("/api/project", headers={"Origin": base}).status_code == 200
            assert client.get("/api/project", headers={"Origin": base[:4] + base[5:]}).status_code == 403
    other = tmp_path / "other.pem"
    other.write_text("no key")
    with pytest.raises(SettingError, match=r"cert\.pem: cannot be used"):
        AnnotateServer(Project(folder), StillLearner(), 0, certificate=certificate, key=other)


def test_an_address_of_another_machine_is_an_error() -> None:
    for host in ("192.0.2.1", "no.such.host.invalid"):
        with pytest.raises(OutputError, match=f"cannot listen at {host}"):
            AnnotateServer(Project("."), StillLearner(), 0, host=host)


def test_the_terminal_shows_a_qr_code_and_warns_where_nothing_is_encrypted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    command._tell_others(f"http://192.168.1.7:{PORT}/?token={TOKEN}")
    plain = capsys.readouterr().out
    assert plain.count("▀") + plain.count("▄") + plain.count("█") > 100
    assert "warning: the connection is not encrypted" in plain
    monkeypatch.setattr("sys.stdout.isatty", lambda: False, raising=False)
    command._tell_others(f"https://192.168.1.7:{PORT}/?token={TOKEN}")
    said = capsys.readouterr().out
    assert "▀" not in said
    assert "warning" not in said
    assert "can see and change the photos" in said


def test_a_key_without_a_certificate_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from fewbox.cli import main

    assert main(["annotate", str(folder), "--no-browser", "--no-learn", "--key", "key.pem"]) == 2
    assert "--certificate" in capsys.readouterr().err
