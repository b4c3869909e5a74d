"""Learning while a person draws: what it learns from, what it keeps, and that it never holds anything up."""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx2
import pytest
import torch

from annotate_client import a_box
from exported_duck import ExportedDuck
from fewbox.apps.annotate import learning
from fewbox.apps.annotate.background import BackgroundLearner, Learning
from fewbox.apps.annotate.finishing import FinishRun
from fewbox.apps.annotate.learning import Rounds
from fewbox.core import files
from fewbox.data.annotations import AnnotationSet, Box
from fewbox.data.formats import read_annotations
from fewbox.data.project import Project
from fewbox.data.project_file import DrawnBox
from fewbox.detection.detector import Detector
from fewbox.errors import OutputError, SettingError
from fewbox.finetuning.linear_probe.recipe import Fitted
from fewbox.finetuning.seed import corners_of
from fewbox.models.boxes import paired_iou
from tiny import make_base, make_photos
from tiny_yolox import random_yolox, tiny_yolox_config
from waiting import LONG, has_ended, wait_until

pytestmark = pytest.mark.usefixtures("in_float32")

psutil = pytest.importorskip("psutil")


class TestRounds:
    @pytest.fixture
    def said(self, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = []
        monkeypatch.setattr(learning, "_send", messages.append)
        return messages

    @pytest.fixture
    def rounds(self, tmp_path: Path) -> Rounds:
        make_photos(tmp_path, count=6)
        config = tiny_yolox_config()
        return Rounds(Project(tmp_path), make_base(config, random_yolox(config).state_dict()))

    @pytest.fixture
    def looked_at(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """The photos that were shown to the frozen network to learn from them."""
        names: list[str] = []
        cache_photos = learning.cache_photos

        def noted(extractor: Any, network: Any, photos: AnnotationSet, *rest: Any, **more: Any) -> Any:
            names.extend(photos.names)
            return cache_photos(extractor, network, photos, *rest, **more)

        monkeypatch.setattr(learning, "cache_photos", noted)
        return names

    def draw(self, rounds: Rounds, name: str, label: str = "square", edge: float = 20) -> None:
        box = DrawnBox("k", Box(edge, 30, edge + 40, 70, label))
        rounds.project.change_photo(name, put=[box])

    def test_it_waits_for_two_photos_with_boxes(self, rounds: Rounds, said: list[dict[str, Any]]) -> None:
        rounds.learn()
        assert said.pop()["learning"]["message"] == "draw boxes in two photos"
        self.draw(rounds, "photo0.png")
        rounds.project.change_photo("photo1.png", reviewed=True)
        rounds.learn()
        assert said == [{"learning": vars(Learning("waiting", "draw boxes in one more photo"))}]

    @pytest.mark.slow
    def test_the_network_sees_each_photo_once(
        self, rounds: Rounds, said: list[dict[str, Any]], looked_at: list[str]
    ) -> None:
        names = [f"photo{number}.png" for number in range(3)]
        for name in names[:2]:
            self.draw(rounds, name)
        rounds.learn()
        assert (looked_at, rounds.number) == (names[:2], 1)
        rounds.learn()  # nothing has changed
        assert rounds.number == 1
        self.draw(rounds, names[2])
        rounds.learn()
        assert (looked_at, rounds.number) == (names, 2)
        self.draw(rounds, names[0], edge=25)
        rounds.learn()
        assert (looked_at, rounds.number) == ([*names, names[0]], 3)
        states = [message["learning"]["state"] for message in said if "learning" in message]
        assert states[0] == "learning"
        assert states[-1] == "ready"
        # A new class is one more thing to learn in every photo.
        self.draw(rounds, names[1], label="other")
        rounds.learn()
        assert looked_at[4:] == names
        assert rounds.detector is not None
        assert rounds.detector.labels == ("square", "other")

    @pytest.mark.slow
    def test_reviewed_and_empty_photos_teach_too(
        self, rounds: Rounds, said: list[Any], looked_at: list[str]
    ) -> None:
        for name in ("photo0.png", "photo1.png"):
            self.draw(rounds, name)
        rounds.project.change_photo("photo4.png", reviewed=True)
        rounds.learn()
        assert looked_at == ["photo0.png", "photo1.png", "photo4.png"]

    @pytest.mark.slow
    def test_proposals_are_for_photos_nobody_has_looked_at_and_never_saved(
        self, rounds: Rounds, said: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def sure_of_anything(*arguments: Any, **options: Any) -> Fitted:
            fitted = fit_detector(*arguments, **options)
            fitted.detector.threshold = 0.0
            return fitted

        fit_detector = learning.fit_detector
        monkeypatch.setattr(learning, "fit_detector", sure_of_anything)
        for name in ("SHOWN_SCORE", "CANDIDATE_SCORE"):
            monkeypatch.setattr(learning, name, 0.0)
        for name in ("photo0.png", "photo3.png"):
            self.draw(rounds, name)
        before = rounds.project.file.read_bytes()
        rounds.wanted.append("photo5.png")
        rounds.learn()
        proposed = {message["name"]: message for message in said if "name" in message}
        # The one that is open in the page comes first.
        assert list(proposed) == ["photo5.png", "photo1.png", "photo2.png", "photo4.png"]
        assert {message["round"] for message in proposed.values()} == {1}
        boxes = [box for message in proposed.values() for box in message["boxes"]]
        assert boxes
        assert {box["label"] for box in boxes} == {"square"}
        assert said[-1]["learning"]["suggested_next"] in proposed
        assert rounds.project.file.read_bytes() == before
        said.clear()
        rounds.propose("photo5.png")
        assert said == []  # that was told already

    @pytest.mark.slow
    def test_of_a_photo_it_has_learnt_from_it_proposes_nothing(
        self, rounds: Rounds, said: list[dict[str, Any]]
    ) -> None:
        for name in ("photo0.png", "photo1.png"):
            self.draw(rounds, name)
        rounds.project.change_photo("photo4.png", reviewed=True)
        rounds.learn()
        rounds.project.change_photo("photo4.png", reviewed=False)
        said.clear()
        rounds.propose("photo4.png")  # which it has just learnt to be empty
        assert said == []
        rounds.learn()
        assert "photo4.png" in [message.get("name") for message in said]

    @pytest.mark.slow
    def test_photos_that_cannot_be_read_are_passed_by(
        self, rounds: Rounds, said: list[dict[str, Any]]
    ) -> None:
        for number in range(3):
            self.draw(rounds, f"photo{number}.png")
        for name in ("photo2.png", "photo4.png"):
            path = rounds.project.path_of(name)
            path.write_bytes(path.read_bytes()[:200])
        rounds.learn()
        assert said[-1]["learning"]["state"] == "ready"
        assert said[-1]["learning"]["message"] == "learnt from 2 photos"
        assert "photo4.png" not in [message.get("name") for message in said]

    def test_one_that_is_moved_away_meanwhile_is_passed_by(
        self, rounds: Rounds, said: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for number in range(3):
            self.draw(rounds, f"photo{number}.png")
        labels = rounds.project.labels

        def labels_and_gone() -> list[str]:
            rounds.project.path_of("photo2.png").unlink(missing_ok=True)
            return labels()

        monkeypatch.setattr(rounds.project, "labels", labels_and_gone)
        rounds.learn()
        assert said[-1]["learning"]["message"] == "learnt from 2 photos"

    def test_it_learns_on_where_there_is_no_room_to_try_it(
        self, rounds: Rounds, said: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        def no_room(_: Path) -> None:
            raise OutputError("no space left on the disk", hint="free some space")

        monkeypatch.setattr(rounds, "save", no_room)
        orders: queue.Queue[dict[str, Any]] = queue.Queue()
        orders.put({"do": "save", "round": 1, "file": "r.safetensors"})
        orders.put({"do": "end"})
        with pytest.raises(KeyError, match="name"):  # what it does not know ends it
            learning.serve_orders(rounds, orders)
        assert said == [
            {"saved": "1 r.safetensors", "error": "no space left on the disk", "hint": "free some space"}
        ]


class TestProcess:
    @pytest.fixture
    def project(self, tmp_path: Path) -> Project:
        make_photos(tmp_path)
        return Project(tmp_path)

    @pytest.mark.slow
    def test_finishing_says_what_is_missing(self, project: Project, tmp_path: Path) -> None:
        output = tmp_path / "d.safetensors"
        learner = BackgroundLearner(project, base="starter", output=output, learn=False)
        assert learner.learning().state == "off"
        assert "--no-learn" in learner.learning().message
        command = f"fewbox finetune {tmp_path} --reviewed-only --base starter -o {output}"
        assert vars(learner.finishing()) == {
            "state": "idle", "message": "", "command": command, "output": str(output), "result": None
        }  # fmt: skip
        learner.finish()
        wait_until(lambda: learner.finishing().state == "failed")
        assert "annotations.json: no such file; draw boxes with" in learner.finishing().message.replace(
            "hint: ", ""
        )

    @pytest.mark.slow
    def test_the_estimate_of_an_exported_detector_is_told(
        self, project: Project, exported_duck: ExportedDuck
    ) -> None:
        run = FinishRun(project, "starter", exported_duck.onnx)
        assert run.state().command.endswith("duck.onnx")
        result = run._result()
        assert result.estimate == exported_duck.detector.provenance["estimate"]
        assert result.next[0][1].startswith(f"fewbox detect {exported_duck.onnx} PHOTOS -o ")

    @pytest.mark.slow
    def test_what_a_base_does_not_say_is_passed_on(self, project: Project, tmp_path: Path) -> None:
        output = tmp_path / "d.safetensors"
        learner = BackgroundLearner(project, base="starter", batch_norm_eps=1e-5, output=output)
        try:
            assert "--base starter -o" in learner.finishing().command
            assert learner.finishing().command.endswith("--batch-norm-eps 1e-05")
            wait_until(lambda: learner.learning().state == "off")
            assert "only for a .pth: starter states its own" in learner.learning().message
        finally:
            learner.close()

    def test_what_was_found_in_a_photo_is_not_proposed_once_it_has_changed(
        self, project: Project, tmp_path: Path
    ) -> None:
        learner = BackgroundLearner(project, base="starter", output=tmp_path / "d.safetensors", learn=False)
        learner._learning = Learning("ready", "", 1)
        path = project.path_of("photo0.png")
        box = {"box": [1, 2, 3, 4], "label": "mug", "score": 0.8}
        message = {"name": "photo0.png", "round": 1, "boxes": [box], "file": files.version_of(path)}
        learner._take(message)
        assert len(learner.proposals("photo0.png").boxes) == 1
        path.write_bytes(path.read_bytes() + b"\0")
        assert learner.proposals("photo0.png").boxes == ()
        learner._take(message)  # of a look that was under way
        assert learner.proposals("photo0.png").boxes == ()

    def test_why_a_photo_cannot_be_tried_is_told(self, project: Project, tmp_path: Path) -> None:
        learner = BackgroundLearner(project, base="starter", output=tmp_path / "d.safetensors", learn=False)
        answers = [{"error": "no space left on the disk", "hint": "free some space"}, {}]

        class Process:
            """The one that learns; its disk is full at first."""

            def __init__(self) -> None:
                self.stdin = self

            def write(self, text: str) -> None:
                order = json.loads(text)
                answer = {"saved": f"{order['round']} {order['file']}"} | answers.pop(0)
                threading.Thread(target=learner._take, args=(answer,)).start()

            def flush(self) -> None:
                pass

        learner._learning = Learning("ready", "", 1)
        learner._process = Process()  # type: ignore[assignment]
        with pytest.raises(SettingError, match="no space left on the disk"):
            learner.try_photo(tmp_path / "photo0.png")
        assert learner._save_round() is not None
        learner._process = None
        learner.close()

    @pytest.mark.slow
    @pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
    def test_without_a_base_it_is_off_and_it_ends_with_the_server_even_if_that_is_killed(
        self, project: Project
    ) -> None:
        code = (
            "import sys, time; from pathlib import Path\n"
            "from fewbox.apps.annotate.background import BackgroundLearner\n"
            "from fewbox.data.project import Project\n"
            "learner = BackgroundLearner(Project(sys.argv[1]), base='gone', output=Path('d.safetensors'))\n"
            "while learner.learning().state == 'waiting': time.sleep(0.05)\n"
            "print(learner._process.pid, learner.learning(), learner.proposals('photo0.png'), flush=True)\n"
            "time.sleep(100)"
        )
        command = [sys.executable, "-c", code, str(project.folder)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            number, said = server.stdout.readline().split(maxsplit=1)
            assert "state='off', message='gone: no base model of this name and no such file; choose" in said
            assert "boxes=()" in said
            process = psutil.Process(int(number))
            assert process.is_running()
            server.send_signal(signal.SIGKILL)
        wait_until(lambda: has_ended(process))


@pytest.mark.shared
@pytest.mark.slow
class TestDucks:
    """Everything together, as a person with two minutes meets it."""

    @pytest.mark.slow
    def test_two_photos_are_drawn_the_others_are_proposed_and_a_detector_is_made(
        self, shared: Path, tmp_path: Path, request: pytest.FixtureRequest
    ) -> None:
        ducks = read_annotations(
            shared / "data/ducky/train_boxes.csv", shared / "data/ducky/train", label="duck"
        )
        folder, output = tmp_path / "photos", tmp_path / "duck.safetensors"
        folder.mkdir()
        for image in ducks:
            shutil.copy(image.path, folder)
        base = shared / "weights" / "yolox_nano_coco.onnx"
        command = [sys.executable, "-m", "fewbox.cli", "annotate", str(folder), "--no-browser"]
        process = subprocess.Popen(
            [*command, "--base", str(base), "-o", str(output)], stdout=subprocess.PIPE, text=True
        )
        request.addfinalizer(process.kill)
        assert process.stdout is not None
        process.stdout.readline()
        url = process.stdout.readline().split()[1]
        origin = url.partition("/?")[0]
        children = psutil.Process(process.pid).children()
        assert len(children) == 1
        asking = httpx2.Client(base_url=origin, headers={"Origin": origin}, timeout=LONG)
        with process.stdout, asking as client:
            client.get(url)
            ids = {row["name"]: row["id"] for row in client.get("/api/project").json()["photos"]}
            for image in ducks.images[2:4]:
                (box,) = image.boxes
                body = {"put": [a_box(box=[box.x1, box.y1, box.x2, box.y2], label="duck")]}
                assert client.patch(f"/api/photos/{ids[image.path.name]}", json=body).status_code == 200
            drawn = (folder / "annotations.json").read_bytes()
            ready = wait_until(lambda: self.learnt(client))
            assert ready["round"] == 1
            others = [image for image in ducks if image.path.name not in drawn.decode()]
            found = 0
            for image in others:
                address = f"/api/photos/{ids[image.path.name]}/proposals"
                wait_until(lambda address=address: not client.get(address).json()["pending"])
                for proposed in client.get(address).json()["boxes"]:
                    (true,) = corners_of(image.boxes)
                    found += float(paired_iou(torch.tensor([proposed["box"]]), true[None])) > 0.5
            assert found >= 2, "a recipe that finds fewer of the three other ducks helps nobody"
            suggested = client.get("/api/learning").json()["suggested_next"]
            assert suggested in [ids[image.path.name] for image in others]
            assert (folder / "annotations.json").read_bytes() == drawn

            kind = {"Content-Type": "application/octet-stream"}
            other = others[0].path
            assert client.get("/api/try").json()["detector"].startswith("what has been learnt so far")
            tried = client.post("/api/try?name=other.jpg", content=other.read_bytes(), headers=kind).json()
            assert {box["label"] for box in tried["boxes"]} <= {"duck"}

            command_shown = client.post("/api/finish", json={}).json()["command"]
            assert command_shown == f"fewbox finetune {folder} --reviewed-only --base {base} -o {output}"
            wait_until(lambda: client.get("/api/finish").json()["state"] != "running")
            finished = client.get("/api/finish").json()
            assert finished["state"] == "done"
            estimate = Detector.load(output).provenance["estimate"]
            assert client.get("/api/try").json()["detector"] == str(output)
            tried = client.post("/api/try?name=other.jpg", content=other.read_bytes(), headers=kind).json()
            assert tried["threshold"] == pytest.approx(estimate["score_threshold"])
            assert finished["result"]["estimate"]["overall"] == estimate["overall"]
            assert [step[1] for step in finished["result"]["next"]][2] == f"fewbox show {output}"
            if estimate["overall"]["objects"]:
                picture = client.get("/api/finish/picture")
                assert picture.headers["content-type"] == "image/jpeg"
                assert picture.content[:2] == b"\xff\xd8"
            assert Detector.load(output).labels == ("duck",)
        process.send_signal(signal.SIGKILL)
        process.wait()
        wait_until(lambda: has_ended(children[0]))

    def learnt(self, client: httpx2.Client) -> dict[str, Any] | None:
        answer = client.get("/api/learning").json()
        assert answer["state"] in ("waiting", "learning", "ready"), answer
        return answer if answer["state"] == "ready" else None
