"""The training of the starter base: from random weights, or from where it was interrupted.

All there is to know of a run lies in one checkpoint file, replaced whole every so often. Killing the
process costs the steps since then and nothing else: a run of so many steps ends in the same weights,
on the same machine, whether it was interrupted or not.
"""

from __future__ import annotations

import itertools
import json
import math
import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from starter_loss import PORTRAIT_NUMBERS, StarterLoss, starter_loss
from starter_samples import Samples
from torch import Tensor, nn
from torch.utils.data import DataLoader

from goldeneye.config import setting
from goldeneye.data.rendered.families import FAMILIES
from goldeneye.errors import FinetuneError, SettingError
from goldeneye.files import replacing
from goldeneye.finetuning.dense_loss import Batch
from goldeneye.models.base import native_bfloat16
from goldeneye.models.csp_darknet import ConvLayer
from goldeneye.models.layers import FrozenBatchNorm
from goldeneye.models.yolox import YoloxDetector
from goldeneye.models.yolox_config import YOLOX_SIZES, YoloxConfig
from goldeneye.progress import console

CHECKPOINT_NAME = "checkpoint.pt"
LOG_NAME = "log.jsonl"

# A step of the slim network takes the nano network's time, as a depthwise convolution waits for memory,
# and it has two and a half times the weights.
NETWORKS = YOLOX_SIZES | {"slim": replace(YOLOX_SIZES["nano"], depthwise=False)}
"""The networks that can be trained, by name."""

_NORM_MOMENTUM = 0.03  # by the public release
_NOT_OURS = "num_batches_tracked"  # a counter that the network's own batch-norms do not have


@dataclass(frozen=True)
class TrainSettings:
    """How the starter base is trained. Exactly one of ``steps`` and ``minutes`` ends it."""

    network: str = setting("slim", "size of the YOLOX", choices=tuple(NETWORKS))
    side: int = setting(320, "longest side of the inputs in pixels, a multiple of 32", low=32, high=1280)
    shortest: int = setting(160, "shortest side of the inputs, a multiple of 32", low=32, high=1280)
    steps: int = setting(0, "gradient steps in all", low=0, high=10_000_000)
    minutes: float = setting(0.0, "minutes of training in all, over all resumed runs", low=0, high=100_000)
    batch_size: int = setting(16, "samples per step", low=1, high=4096)
    learning_rate: float = setting(2e-3, "highest step size of AdamW", low=1e-8, high=1)
    weight_decay: float = setting(0.05, "of the kernels; biases and batch-norms have none", low=0, high=1)
    warm_up: float = setting(0.03, "part of the run in which the step size rises", low=1e-6, high=1)
    averaging: float = setting(0.9995, "how much of the averaged weights a step keeps", low=0, high=0.999999)
    workers: int = setting(0, "processes that mix samples; 0 does it in between", low=0, high=256)
    save_seconds: float = setting(60.0, "time between checkpoints", low=0, high=3600)
    log_every: int = setting(20, "steps per row of the log", low=1, high=100_000)
    seed: int = setting(0, "number all randomness follows from", low=0, high=2**32 - 1)

    def __post_init__(self) -> None:
        if (self.steps > 0) == (self.minutes > 0):
            raise SettingError("a run ends after either steps or minutes: give one of them")
        for side in (self.side, self.shortest):
            if side % 32:
                raise SettingError(f"side must be a multiple of 32: {side}")

    def network_config(self) -> YoloxConfig:
        """Of the network to train: its classes are the families of the renderer."""
        return replace(NETWORKS[self.network], num_classes=len(FAMILIES), size_hw=(self.side, self.side))

    def side_at(self, step: int) -> int:
        """The side of a step's inputs: any multiple of 32 between the two limits."""
        shortest = min(self.shortest, self.side)
        generator = np.random.default_rng((self.seed, step, 1))
        return 32 * int(generator.integers(shortest // 32, self.side // 32 + 1))

    def progress(self, step: int, seconds: float) -> float:
        """Which part of the run is done, from 0 to 1."""
        return min(step / self.steps if self.steps else seconds / (60 * self.minutes), 1.0)

    def rate_at(self, progress: float) -> float:
        """The step size: up in a line, down in half a cosine, to a fiftieth."""
        if progress < self.warm_up:
            return self.learning_rate * (progress / self.warm_up + 1e-3)
        done = (progress - self.warm_up) / max(1 - self.warm_up, 1e-9)
        return self.learning_rate * (0.02 + 0.98 * (1 + math.cos(math.pi * done)) / 2)


class Learner:
    """A network with all that its training carries from step to step."""

    def __init__(self, settings: TrainSettings, device: torch.device) -> None:
        torch.manual_seed(settings.seed)
        self.settings, self.device = settings, device
        self.network = trainable_network(settings.network_config()).to(device)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        channels = self.network.head.cls_preds[0].in_channels
        self.portraits = nn.Linear(channels, PORTRAIT_NUMBERS).to(device)
        learnt = [*self.network.parameters(), *self.portraits.parameters()]
        kernels = [p for p in learnt if p.ndim > 1]
        others = [p for p in learnt if p.ndim <= 1]
        groups: list[dict[str, Any]] = [
            {"params": kernels, "weight_decay": settings.weight_decay},
            {"params": others},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, weight_decay=0)
        self.average = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.step, self.seconds = 0, 0.0

    def learn(self, batch: Batch) -> StarterLoss:
        """One step on a batch; the loss before it.

        Raises:
            FinetuneError: the loss is no longer a finite number.
        """
        rate = self.settings.rate_at(self.settings.progress(self.step, self.seconds))
        batch = batch.to(self.device)
        pixels = batch.pixels.float().contiguous(memory_format=torch.channels_last)
        with mixed_precision(self.device):
            maps = self.network.towers(self.network.features(pixels))
            codes, logits = self.network.heads(maps)
        class_rows = torch.cat([x.flatten(2).transpose(1, 2) for x in maps.class_maps], 1).float()
        cells = self.network.anchors(tuple(pixels.shape[2:])).to(self.device)
        loss = starter_loss(codes, logits, cells, batch, class_rows, self.portraits)
        if not math.isfinite(loss.total.item()):
            raise FinetuneError(
                f"step {self.step}: the loss is not finite", hint="use a smaller learning rate"
            )
        self.optimizer.zero_grad()
        loss.total.backward()  # type: ignore[no-untyped-call]
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        nn.utils.clip_grad_norm_(parameters, 10.0)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.step += 1
        self._take_into_average()
        return loss

    @torch.no_grad()
    def _take_into_average(self) -> None:
        # At first over as many steps as there were, or the random weights would count for long.
        keep = min(self.settings.averaging, self.step / (self.step + 9))
        for name, value in self.network.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - keep)

    def save(self, path: Path) -> None:
        """Write the checkpoint, whole or not at all."""
        state = {
            "config": self.network.config.to_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "network": self.network.state_dict(),
            "portraits": self.portraits.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
        }
        with replacing(path) as temporary:
            torch.save(state, temporary)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint.

        Raises:
            SettingError: it is of another network.
        """
        state = read_checkpoint(path)
        if state["config"] != self.network.config.to_dict():
            raise SettingError(f"{path}: a run with another network", hint="use another folder")
        self.network.load_state_dict(state["network"])
        self.portraits.load_state_dict(state["portraits"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average = {name: value.to(self.device) for name, value in state["average"].items()}
        self.step, self.seconds = state["step"], state["seconds"]


def train(scenes: Path, folder: Path, settings: TrainSettings) -> Learner:
    """Train until the settings' end, going on from the checkpoint in ``folder`` if there is one."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    learner = Learner(settings, device)
    checkpoint = folder / CHECKPOINT_NAME
    if checkpoint.exists():
        learner.load(checkpoint)
        console.print(f"going on from step {learner.step}")
    batches = iter(batches_from(Samples(scenes, seed=settings.seed), settings, learner.step))
    log = _Log(folder / LOG_NAME, settings)
    before = saved = time.monotonic()
    while settings.progress(learner.step, learner.seconds) < 1:
        loss = learner.learn(next(batches))
        now = time.monotonic()
        learner.seconds, before = learner.seconds + now - before, now
        log.add(learner, loss)
        if now - saved >= settings.save_seconds:
            learner.save(checkpoint)
            saved = now
    learner.save(checkpoint)
    return learner


def batches_from(samples: Samples, settings: TrainSettings, first_step: int) -> DataLoader[Any]:
    """An endless stream of batches that begins with the one of ``first_step``."""
    size = settings.batch_size
    # Any iterable of keys will do, but the loader's types ask for lists of numbers.
    sampler: Any = (
        [(number, settings.side_at(step)) for number in range(step * size, (step + 1) * size)]
        for step in itertools.count(first_step)
    )
    return DataLoader(samples, batch_sampler=sampler, num_workers=settings.workers, collate_fn=Batch.of)


def mixed_precision(device: torch.device) -> Any:
    """Convolutions in bfloat16 where the processor computes in it; weights and losses stay float32."""
    if device.type == "cpu" and not native_bfloat16():
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


def trainable_network(config: YoloxConfig) -> YoloxDetector:
    """A network with new weights and batch-norms that learn, under the names they always have."""
    network = YoloxDetector(config)
    for layer in network.modules():
        if isinstance(layer, ConvLayer) and isinstance(layer.bn, FrozenBatchNorm):
            layer.bn = nn.BatchNorm2d(len(layer.bn.weight), layer.bn.epsilon, _NORM_MOMENTUM)
    for name, weight in network.named_parameters():
        if name.endswith("bias") and ("obj_preds" in name or "cls_preds" in name):
            nn.init.constant_(weight, config.class_bias)  # at first nothing is likely anywhere
    return network.train().requires_grad_(True)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """All that :meth:`Learner.save` wrote."""
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def learnt_weights(path: Path) -> tuple[YoloxConfig, dict[str, Tensor]]:
    """The network in a checkpoint, and its averaged weights by the names of a :class:`YoloxDetector`."""
    state = read_checkpoint(path)
    weights = {name: value for name, value in state["average"].items() if not name.endswith(_NOT_OURS)}
    return YoloxConfig.from_dict(state["config"]), weights


class _Log:
    """Means over a few steps as rows of JSON; a resumed run repeats the rows after its checkpoint."""

    def __init__(self, path: Path, settings: TrainSettings) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.every = path, settings.log_every
        self.losses: list[tuple[float, ...]] = []
        self.started = time.monotonic()

    def add(self, learner: Learner, loss: StarterLoss) -> None:
        """Take note of a step."""
        parts = (loss.box, loss.object, loss.classes, loss.portraits)
        self.losses.append((*(part.item() for part in parts), loss.num_matched))
        if len(self.losses) < self.every:
            return
        box, of_object, classes, portraits, matched = (
            sum(c) / len(c) for c in zip(*self.losses, strict=True)
        )
        now = time.monotonic()
        images = len(self.losses) * learner.settings.batch_size
        row = {
            "step": learner.step,
            "seconds": round(learner.seconds, 1),
            "rate": learner.optimizer.param_groups[0]["lr"],
            "box": round(box, 4),
            "object": round(of_object, 4),
            "classes": round(classes, 4),
            "portraits": round(portraits, 4),
            "matched": round(matched, 1),
            "ms_per_image": round(1000 * (now - self.started) / images, 1),
        }
        self.losses, self.started = [], now
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        console.print(json.dumps(row))
