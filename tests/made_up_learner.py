"""Learners that propose what a test tells them to."""

from __future__ import annotations

from pathlib import Path

from fewbox.apps.annotate.background import Learning, Proposals
from fewbox.apps.annotate.finishing import Finishing
from fewbox.apps.annotate.trying import Tried
from fewbox.data.images import read_image
from fewbox.errors import SettingError


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


class MadeUpLearner(StillLearner):
    """Tells of a run that is under way once it is asked to finish."""

    def __init__(self) -> None:
        super().__init__()
        command = "fewbox finetune photos -o photos.safetensors"
        self.finishes = Finishing("idle", "", command, "photos.safetensors")

    def finish(self) -> None:
        self.finishes = Finishing("running", "step 10 of 100", self.finishes.command, self.finishes.output)

    def finishing(self) -> Finishing:
        return self.finishes
