from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fewbox.core.boxes import nms_per_class
from fewbox.models.features import AnchorFeatures, Coefficients
from fewbox.models.network import Found
from toy_family import CELL, SIDE, ToyConfig

CHANNELS = 8


class ToyNetwork(nn.Module):
    """The mean of every cell's pixels, mixed by a 1x1 convolution and read by the class head."""

    architecture = "toy"
    head_names = ("class_head.weight", "class_head.bias")

    def __init__(self, config: ToyConfig) -> None:
        super().__init__()
        self.config = config
        self.tower = nn.Conv2d(3, CHANNELS, 1)
        self.class_head = nn.Conv2d(CHANNELS, config.num_classes, 1)

    def fold(self) -> ToyNetwork:
        return self.eval()

    def batch_of(self, images: Sequence[np.ndarray]) -> Tensor:
        pixels = []
        for image in images:
            rows, columns = (np.arange(SIDE) * length // SIDE for length in image.shape[:2])
            pixels.append(torch.from_numpy(image[rows][:, columns]).permute(2, 0, 1).float())
        return torch.stack(pixels).to(self.tower.weight.dtype)

    def features(self, pixels: Tensor) -> list[Tensor]:
        return [F.relu(self.tower(F.avg_pool2d(pixels, CELL) / 255))]

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.class_head(self.features(pixels)[0]).flatten(2).transpose(1, 2)
        return torch.zeros_like(logits[..., :1]).expand(-1, -1, 4), logits

    def anchors(self, input_size_hw: tuple[int, int]) -> Tensor:
        rows, columns = (torch.arange(side // CELL) * CELL for side in input_size_hw)
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        return torch.stack((x, y, x + CELL, y + CELL), -1).reshape(-1, 4).float()

    def decode(self, codes: Tensor, anchors: Tensor) -> Tensor:
        return anchors + codes

    def scores(self, logits: Tensor) -> Tensor:
        return torch.sigmoid(logits.float())

    def input_size_hw(self, photo_size_hw: tuple[int, int]) -> tuple[int, int]:
        return (SIDE, SIDE)

    def to_input(self, boxes: Tensor, photo_size_hw: tuple[int, int]) -> Tensor:
        height, width = photo_size_hw
        return boxes * torch.tensor([SIDE / width, SIDE / height] * 2)

    def to_photo(self, boxes: Tensor, photo_size_hw: tuple[int, int]) -> Tensor:
        height, width = photo_size_hw
        return boxes * torch.tensor([width / SIDE, height / SIDE] * 2)

    @torch.no_grad()
    def find(self, image: np.ndarray, score_threshold: float) -> Found:
        codes, logits = self.forward(self.batch_of([image]))
        return self.found(codes[0], logits[0], image.shape[:2], score_threshold)

    def found(
        self, codes: Tensor, logits: Tensor, photo_size_hw: tuple[int, int], score_threshold: float
    ) -> Found:
        boxes, scores = self.decode(codes, self.anchors((SIDE, SIDE))), self.scores(logits)
        rows, class_ids = nms_per_class(
            boxes.numpy(),
            scores.numpy(),
            score_threshold=max(score_threshold, self.config.score_threshold),
            iou_threshold=self.config.iou_threshold,
            max_per_class=self.config.max_detections,
            max_detections=self.config.max_detections,
        )
        kept, ids = torch.from_numpy(rows), torch.from_numpy(class_ids)
        return Found(self.to_photo(boxes[kept], photo_size_hw), scores[kept, ids], ids)

    @staticmethod
    def new_class_head(config: ToyConfig, generator: torch.Generator) -> dict[str, Tensor]:
        weight = torch.randn(config.num_classes, CHANNELS, 1, 1, generator=generator)
        return {"class_head.weight": weight, "class_head.bias": torch.zeros(config.num_classes)}


class ToyExtractor:
    """What the linear probe reads from it, and how what it learnt becomes a class head."""

    num_groups = 1
    reads_beside = True

    def __init__(self, network: ToyNetwork) -> None:
        self.network = network
        self.column_scale = np.ones(network.config.num_classes, np.float32)

    @torch.no_grad()
    def read(self, image: np.ndarray) -> AnchorFeatures:
        pixels = self.network.batch_of([image])
        _, logits = self.network.forward(pixels)
        tower = self.network.features(pixels)[0][0].flatten(1).T
        return AnchorFeatures(
            base_logits=logits[0].numpy(),
            tower_features=tower.numpy(),
            groups=np.zeros(len(tower), np.int64),
            boxes=self.network.anchors((SIDE, SIDE)).numpy(),
            base_score=logits[0].amax(1).numpy(),
        )

    def head(self, coefficients: Coefficients, *, keep_classes: bool) -> dict[str, np.ndarray]:
        weight, bias = (part.detach().numpy() for part in self.network.class_head.parameters())
        kernel = coefficients.base_logits.T @ weight[..., 0, 0] + coefficients.tower_features[0].T
        offset = bias @ coefficients.base_logits + coefficients.bias
        return {"class_head.weight": kernel[..., None, None], "class_head.bias": offset}
