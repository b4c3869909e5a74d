"""A client of the annotation page's server, in one process, and a learner that does what a test says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image
from starlette.testclient import TestClient

from fewbox.apps.annotate.app import make_app
from fewbox.apps.annotate.background import Learning, Proposals
from fewbox.apps.annotate.finishing import Finishing
from fewbox.apps.annotate.trying import Tried
from fewbox.data.images import read_image
from fewbox.data.project import Project
from fewbox.errors import SettingError

PORT = 8931
URL = f"http://127.0.0.1:{PORT}"
TOKEN = "t" * 43


class StillLearner:
    """Learns nothing, and notes what it is asked."""

    def __init__(self) -> None:
        self.says = Learning("off", "not in this test")
        self.proposed: dict[str, Proposals] = {}
        self.tries: Tried | None = None
        self.changes = 0
        self.finished = 0

    def photos_changed(self) -> None:
        self.changes += 1

    def learning(self) -> Learning:
        return self.says

    def proposals(self, name: str) -> Proposals:
        return self.proposed.get(name, Proposals(self.says.round))

    def detector(self) -> str | None:
        return None if self.tries is None else "mug.safetensors"

    def try_photo(self, path: Path) -> Tried:
        if self.tries is None:
            raise SettingError("nothing has been learnt yet", hint="draw boxes in two photos")
        read_image(path)
        return self.tries

    def finish(self) -> None:
        self.finished += 1

    def finishing(self) -> Finishing:
        state = "running" if self.finished else "idle"
        return Finishing(state, "", "fewbox finetune photos", "photos.safetensors")

    def close(self) -> None:
        pass


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
