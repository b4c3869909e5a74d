"""A family of networks as small as one can be: what a new one has to bring, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewbox.models.families import Config, Family

SIDE, CELL = 64, 16


@dataclass(frozen=True)
class ToyConfig(Config):
    """Photos are squeezed to 64 x 64 pixels, of which each 16 x 16 is an anchor."""

    num_classes: int = 2
    num_novel: int = 0
    score_threshold: float = 0.01
    iou_threshold: float = 0.5
    max_detections: int = 16

    @property
    def input_size_hw(self) -> tuple[int, int]:
        return (SIDE, SIDE)

    def covered_hw(self, photo_size_hw: tuple[int, int]) -> tuple[float, float]:
        return (SIDE, SIDE)


class _Toy(Family):
    architecture = "toy"
    config_type = ToyConfig

    def network_type(self) -> Any:
        from toy_family.network import ToyNetwork

        return ToyNetwork

    def reads(self, path: Path) -> bool:
        return False

    def feature_extractor(self, network: Any) -> Any:
        from toy_family.network import ToyExtractor

        return ToyExtractor(network)

    def prepare(self, graph: Any, photos: str, photo_hw: tuple[str, str], config: Any) -> Any:
        from toy_family.export import prepare

        return prepare(graph, photos, photo_hw, config)

    def select(self, graph: Any, prepared: Any, boxes: str, scores: str, threshold: str, config: Any) -> Any:
        from toy_family.export import select

        return select(graph, prepared, boxes, scores, threshold, config)


FAMILY = _Toy()
