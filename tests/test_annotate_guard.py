"""Strangers' requests to the annotation server: other pages, other hosts, no token, too much, elsewhere."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from annotate_client import PORT, TOKEN, URL, Page, a_box, make_photos
from fewbox.apps.annotate.guard import MAX_BODY_BYTES

JSON = {"Content-Type": "application/json"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_photos(tmp_path / "photos", "a.jpg", "b.jpg")


@pytest.fixture
def page(folder: Path) -> Page:
    return Page(folder)


@pytest.fixture
def outside(folder: Path) -> Page:
    """A client without the cookie."""
    return Page(folder, inside=False)


def everything(page: Page) -> list[tuple[str, str]]:
    """Each method and address that is answered."""
    photo = page.address("a.jpg")
    return [
        ("GET", "/"), ("GET", "/page/app.js"), ("GET", "/api/project"), ("GET", photo), ("PATCH", photo),
        ("GET", f"{photo}/image"), ("GET", f"{photo}/image?side=160"), ("GET", f"{photo}/proposals"),
        ("PUT", "/api/labels"), ("GET", "/api/learning"), ("GET", "/api/finish"), ("POST", "/api/finish"),
    ]  # fmt: skip


def unchanged(page: Page) -> bool:
    return not (page.folder / "annotations.json").exists() and page.learner.finished == 0


class TestToken:
    def test_the_address_lets_in_and_the_cookie_is_kept_from_scripts_and_other_sites(
        self, outside: Page
    ) -> None:
        answer = outside.get(f"/?token={TOKEN}", follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        name, *attributes = answer.headers["set-cookie"].split("; ")
        assert name == f"fewbox_{PORT}={TOKEN}"
        assert sorted(attributes) == ["HttpOnly", "Path=/", "SameSite=Strict"]
        assert outside.get("/api/project").status_code == 200

    @pytest.mark.parametrize("token", ["", "x", TOKEN[:-1], TOKEN + "t", TOKEN.upper(), f"{TOKEN}&token=x"])
    def test_a_wrong_token(self, outside: Page, token: str) -> None:
        answer = outside.get(f"/?token={token}", follow_redirects=False)
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers
        assert "fewbox annotate" in answer.json()["hint"]

    def test_nothing_is_answered_without_it(self, page: Page, outside: Page) -> None:
        for method, address in everything(page):
            answer = outside.request(method, address, json={} if method != "GET" else None)
            assert answer.status_code == 403, (method, address)
        outside.cookies.set(f"fewbox_{PORT}", TOKEN[:-1] + "u")
        outside.cookies.set(f"fewbox_{PORT + 1}", TOKEN)  # that of another project's server
        assert outside.get("/api/project").status_code == 403
        assert unchanged(page)

    def test_the_token_is_only_taken_at_the_front_door(self, outside: Page) -> None:
        assert outside.get(f"/api/project?token={TOKEN}").status_code == 403
        assert outside.post(f"/?token={TOKEN}", json={}).status_code == 403

    def test_a_link_in_another_page_leads_here_though_the_browser_keeps_the_cookie_back(
        self, page: Page, outside: Page
    ) -> None:
        clicked = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
        answer = outside.get("/", headers=clicked)
        assert answer.status_code == 200
        assert '<meta http-equiv="refresh" content="0; url=/">' in answer.text
        assert page.get("/api/project", headers=clicked).status_code == 403
        assert page.get("/", headers=clicked | {"Sec-Fetch-Dest": "iframe"}).status_code == 403


class TestOtherPages:
    @pytest.mark.parametrize(
        "host",
        ["evil.example", f"evil.example:{PORT}", "127.0.0.1", f"127.0.0.1:{PORT + 1}", f"[::1]:{PORT}", ""],
    )
    def test_another_host(self, page: Page, outside: Page, host: str) -> None:
        for method, address in everything(page):
            headers = {"Host": host, "Origin": f"http://{host}"}
            answer = page.request(method, address, headers=headers, json={} if method != "GET" else None)
            assert answer.status_code == 403, (method, address)
        answer = outside.get(f"/?token={TOKEN}", headers={"Host": host}, follow_redirects=False)
        assert answer.status_code == 403
        assert unchanged(page)

    def test_two_hosts(self, page: Page) -> None:
        headers = [("Host", f"127.0.0.1:{PORT}"), ("Host", "evil.example")]
        assert page.get("/api/project", headers=headers).status_code == 403

    @pytest.mark.parametrize(
        "origin", ["http://evil.example", "null", f"https://127.0.0.1:{PORT}", f"http://127.0.0.1:{PORT + 1}",
                   f"http://localhost:{PORT}", ""]
    )  # fmt: skip
    def test_another_origin(self, page: Page, origin: str) -> None:
        for method, address in everything(page):
            answer = page.request(
                method, address, headers={"Origin": origin}, json={} if method != "GET" else None
            )
            assert answer.status_code == 403, (method, address)
        assert unchanged(page)

    def test_a_change_without_an_origin(self, page: Page) -> None:
        del page.headers["Origin"]
        assert page.patch(page.address("a.jpg"), json={"put": [a_box()]}).status_code == 403
        assert page.post("/api/finish", json={}).status_code == 403
        assert page.get("/api/project").status_code == 200  # browsers send none with a GET of their own page
        assert unchanged(page)

    @pytest.mark.parametrize("site", ["cross-site", "same-site"])
    def test_a_picture_in_another_page(self, page: Page, site: str) -> None:
        address = page.address("a.jpg")
        headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
        del page.headers["Origin"]
        assert page.get(f"{address}/image", headers=headers).status_code == 403

    @pytest.mark.parametrize(
        "kind",
        ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonp", ""],
    )
    def test_what_a_form_can_send(self, page: Page, kind: str) -> None:
        for method, address in everything(page):
            if method != "GET":
                answer = page.request(method, address, headers={"Content-Type": kind}, content=b"{}")
                assert answer.status_code == 415, (method, address)
        assert unchanged(page)

    def test_every_answer_says_what_a_browser_may_do_with_it(self, page: Page, outside: Page) -> None:
        answers = [page.request(m, a, json={} if m != "GET" else None) for m, a in everything(page)]
        answers += [
            outside.get("/"),
            page.get("/gone"),
            outside.get(f"/?token={TOKEN}", follow_redirects=False),
        ]
        for answer in answers:
            policy = dict(
                part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; ")
            )
            assert policy == {
                "default-src": "'none'", "script-src": "'self'", "style-src": "'self'",
                "img-src": "'self' blob: data:", "connect-src": "'self'", "base-uri": "'none'",
                "form-action": "'none'", "frame-ancestors": "'none'",
            }  # fmt: skip
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "no-referrer"
            assert answer.headers["cross-origin-resource-policy"] == "same-origin"
            assert "access-control-allow-origin" not in answer.headers


class TestAnotherFolder:
    def test_what_a_page_of_another_folder_sends_is_refused(self, page: Page, tmp_path: Path) -> None:
        mine = page.get("/api/project").json()["key"]
        other = Page(make_photos(tmp_path / "other", "a.jpg")).get("/api/project").json()["key"]
        address = page.address("a.jpg")
        answers = [page.patch(address, json={"put": [a_box()]}, headers={"Fewbox-Project": other})]
        answers.append(page.get("/api/project", headers={"Fewbox-Project": other}))
        for answer in answers:
            assert (answer.status_code, answer.json()["error"]) == (
                403,
                "this address shows another folder now",
            )
        assert unchanged(page)
        headers = {"Fewbox-Project": mine}
        assert page.patch(address, json={"put": [a_box()]}, headers=headers).status_code == 200


class TestPaths:
    @pytest.mark.parametrize(
        "path",
        [
            "../secret.jpg", "..%2fsecret.jpg", "%2e%2e/secret.jpg", "..%5csecret.jpg", "%2fetc%2fpasswd",
            "/etc/passwd", "C:%5csecret.jpg", "a.jpg", "a.jpg%00", "%ff", ".", "..",
        ],
    )  # fmt: skip
    def test_photos_have_no_paths(self, page: Page, path: str) -> None:
        make_photos(page.folder.parent, "secret.jpg")
        for address in (f"/api/photos/{path}", f"/api/photos/{path}/image", f"/page/{path}", f"/{path}"):
            if path in (".", "..") and address.count("/") < 3:  # a client asks for / instead
                continue
            answer = page.get(address)
            assert answer.status_code == 404, address
            assert answer.headers["content-type"] == "application/json"
        assert page.patch(f"/api/photos/{path}", json={"put": [a_box()]}).status_code == 404

    def test_only_the_files_of_the_page(self, page: Page) -> None:
        for name in ("app.py", "guard.py", "__init__.py", "../app.py", "%2e%2e%2fapp.py", "."):
            assert page.get(f"/page/{name}").status_code == 404

    def test_a_photo_outside_that_a_strangers_file_names(self, page: Page) -> None:
        make_photos(page.folder.parent, "secret.jpg")
        text = '{"images": [{"id": 1, "file_name": "../secret.jpg"}], "annotations": [], "categories": []}'
        (page.folder / "annotations.json").write_text(text)
        assert list(page.photos()) == ["a.jpg", "b.jpg"]


class TestSize:
    def test_a_gigabyte_is_counted_as_it_comes(self, page: Page) -> None:
        # Not by the client of the other tests, which collects the whole body before it sends it.
        address, read, sent = page.address("a.jpg"), 0, []

        async def receive() -> dict[str, object]:
            nonlocal read
            read += 100_000
            return {"type": "http.request", "body": b" " * 100_000, "more_body": read < 10**9}

        async def send(message: dict[str, object]) -> None:
            sent.append(message)

        cookie = f"fewbox_{PORT}={TOKEN}"
        headers = {"host": URL[7:], "origin": URL, "cookie": cookie, "content-type": "application/json"}
        scope = {
            "type": "http", "method": "PATCH", "path": address, "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }  # fmt: skip
        asyncio.run(page.app(scope, receive, send))
        assert sent[0]["status"] == 413
        assert (b"connection", b"close") in sent[0]["headers"]
        assert read < MAX_BODY_BYTES + 30_000_000  # what is thrown away while the answer is read

    @pytest.mark.parametrize("length", [MAX_BODY_BYTES + 1, 10**9, 10**400, -1, "x"])
    def test_a_length_that_is_too_much_is_not_waited_for(self, page: Page, length: object) -> None:
        headers = JSON | {"Content-Length": str(length)}
        assert page.patch(page.address("a.jpg"), content=b"{}", headers=headers).status_code == 413
        assert unchanged(page)

    def test_the_largest_that_is_taken(self, page: Page) -> None:
        body = b'{"put": []' + b" " * (MAX_BODY_BYTES - 11) + b"}"
        assert page.patch(page.address("a.jpg"), content=body, headers=JSON).status_code == 200
        assert page.patch(page.address("a.jpg"), content=body + b" ", headers=JSON).status_code == 413

    def test_a_get_may_not_bring_more_either(self, page: Page) -> None:
        answer = page.request("GET", "/api/project", content=b" " * (MAX_BODY_BYTES + 1))
        assert answer.status_code == 413


def test_the_client_of_these_tests_is_let_in(page: Page) -> None:
    assert page.get("/api/project", headers={"Sec-Fetch-Site": "same-origin"}).status_code == 200
    answer = page.patch(page.address("a.jpg"), json={"put": [a_box()]})
    assert answer.status_code == 200
    localhost = {"Host": f"localhost:{PORT}", "Origin": f"http://localhost:{PORT}"}
    assert page.get("/api/project", headers=localhost).status_code == 200
