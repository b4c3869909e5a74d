"""A learner that proposes what a test tells it to."""

from __future__ import annotations

from fewbox.apps.annotate.background import Finishing, Learning, Proposals


class MadeUpLearner:
    """Learns nothing."""

    def __init__(self) -> None:
        self.says = Learning("off", "not in this test")
        self.proposed: dict[str, Proposals] = {}
        command = "fewbox finetune photos -o photos.safetensors"
        self.finishes = Finishing("idle", "", command, "photos.safetensors")

    def photos_changed(self) -> None:
        pass

    def learning(self) -> Learning:
        return self.says

    def proposals(self, name: str) -> Proposals:
        return self.proposed.get(name, Proposals(self.says.round))

    def finish(self) -> None:
        self.finishes = Finishing("running", "step 10 of 100", self.finishes.command, self.finishes.output)

    def finishing(self) -> Finishing:
        return self.finishes

    def close(self) -> None:
        pass
