"""A client of the annotation page's server, in one process."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from PIL import Image
from starlette.testclient import TestClient

from fewbox.apps.annotate.app import make_app
from fewbox.data.project import Project
from made_up_learner import StillLearner

PORT = 8931
URL = f"http://127.0.0.1:{PORT}"
TOKEN = "t" * 43


def write_certificate(folder: Path) -> tuple[Path, Path]:
    """Make ``cert.pem`` and its ``key.pem`` with openssl, for a machine called laptop."""
    certificate, key = folder / "cert.pem", folder / "key.pem"
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    named = ["-subj", "/CN=laptop", "-keyout", str(key), "-out", str(certificate), "-days", "2"]
    subprocess.run([*made, *named], check=True, capture_output=True)
    return certificate, key


class Page(TestClient):
    """What the page does: requests of our own origin, with the cookie once it has come in."""

    def __init__(self, folder: Path, *, inside: bool = True) -> None:
        self.folder = folder
        self.learner = StillLearner()
        self.project = Project(folder)
        app = make_app(self.project, self.learner, token=TOKEN, port=PORT)
        super().__init__(app, base_url=URL, headers={"Origin": URL}, raise_server_exceptions=False)
        if inside:
            self.get(f"/?token={TOKEN}", follow_redirects=False)

    def photos(self) -> dict[str, dict[str, Any]]:
        """The rows of ``/api/project`` by the photos' names."""
        return {row["name"]: row for row in self.get("/api/project").json()["photos"]}

    def address(self, name: str) -> str:
        return f"/api/photos/{self.photos()[name]['id']}"


def a_box(box_id: str = "k1", box: object = (10, 20, 40, 50), label: object = "mug") -> dict[str, Any]:
    return {"id": box_id, "box": box, "label": label, "ignore": False}


def make_photos(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (100, 60), "teal").save(folder / name)
    return folder
