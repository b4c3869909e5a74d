"""The training of the starter base: from random weights, or from where it was interrupted.

All there is to know of a run lies in one checkpoint file, replaced whole every so often. Killing the
process costs the steps since then and nothing else: a run of so many steps ends in the same weights,
on the same machine, whether it was interrupted or not.
"""

from __future__ import annotations

import json
import math
import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from fewbox.config import setting
from fewbox.core.files import replacing
from fewbox.core.progress import console
from fewbox.errors import FinetuneError, SettingError
from fewbox.models.device import native_bfloat16
from fewbox.models.layers import FrozenBatchNorm
from fewbox.models.yolox import YOLOX_SIZES, YoloxConfig
from fewbox.models.yolox.csp_darknet import ConvLayer
from fewbox.models.yolox.network import STRIDES, YoloxDetector
from renderer.families import FAMILIES
from starter_loss import StarterLoss, Tutors, starter_loss
from starter_samples import CastBatch, ScenePool, mix

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
    character_weight: float = setting(1.0, "of the loss of who is who", low=0, high=100)
    averaging: float = setting(0.9995, "how much of the averaged weights a step keeps", low=0, high=0.999999)
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


class Body(nn.Module):
    """The network as one function of its input, which a graphics card can record as a whole."""

    def __init__(self, network: YoloxDetector) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Codes ``[N, A, 4]``, logits ``[N, A, 1 + C]`` and what the class heads read, ``[N, A, D]``."""
        with mixed_precision(pixels.device):
            maps = self.network.towers(self.network.features(pixels))
            codes, logits = self.network.heads(maps)
        rows = torch.cat([x.flatten(2).transpose(1, 2) for x in maps.class_maps], 1)
        return codes.float(), logits.float(), rows.float()


class Learner:
    """A network with all that its training carries from step to step."""

    def __init__(self, settings: TrainSettings, num_characters: int, device: torch.device) -> None:
        torch.manual_seed(settings.seed)
        self.settings, self.device = settings, device
        self.network = trainable_network(settings.network_config()).to(device)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        channels = self.network.head.cls_preds[0].in_channels
        self.tutors = Tutors(channels, num_characters).to(device)
        learnt = [*self.network.parameters(), *self.tutors.parameters()]
        kernels = [p for p in learnt if p.ndim > 1]
        others = [p for p in learnt if p.ndim <= 1]
        groups: list[dict[str, Any]] = [
            {"params": kernels, "weight_decay": settings.weight_decay},
            {"params": others},
        ]
        is_gpu = device.type == "cuda"
        self.optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, weight_decay=0, fused=is_gpu)
        self.average = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.step, self.seconds = 0, 0.0
        self._recorded: dict[torch.Size, Any] = {}
        self._memory = torch.cuda.graph_pool_handle() if is_gpu else None

    def learn(self, batch: CastBatch) -> StarterLoss:
        """One step on a batch, which lies on the learner's device; the loss before it."""
        rate = self.settings.rate_at(self.settings.progress(self.step, self.seconds))
        pixels = batch.pixels.float().contiguous(memory_format=torch.channels_last)
        codes, logits, class_rows = self._body(pixels)(pixels)
        cells = self.network.anchors(tuple(pixels.shape[2:])).to(self.device)
        loss = starter_loss(
            codes, logits, cells, batch, class_rows, self.tutors, self.settings.character_weight
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

    def _body(self, pixels: Tensor) -> Any:
        """The network for inputs of one shape; a graphics card replays what it recorded for the first.

        Otherwise it would wait for Python to name its thousand small steps one by one.
        """
        if self._memory is None:
            return Body(self.network)
        if pixels.shape not in self._recorded:
            self._recorded[pixels.shape] = torch.cuda.make_graphed_callables(  # type: ignore[no-untyped-call]
                Body(self.network), (pixels.clone(),), pool=self._memory
            )
        return self._recorded[pixels.shape]

    @torch.no_grad()
    def _take_into_average(self) -> None:
        # At first over as many steps as there were, or the random weights would count for long.
        keep = min(self.settings.averaging, self.step / (self.step + 9))
        now = self.network.state_dict()
        names = [name for name, value in now.items() if value.is_floating_point()]
        average = [self.average[name] for name in names]
        get_ema_multi_avg_fn(keep)(average, [now[name] for name in names], None)

    def save(self, path: Path) -> None:
        """Write the checkpoint, whole or not at all."""
        state = {
            "config": self.network.config.to_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "network": self.network.state_dict(),
            "tutors": self.tutors.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
        }
        with replacing(path) as temporary:
            torch.save(state, temporary)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint.

        Raises:
            SettingError: it is of another network, or of another cast.
        """
        state = self._take_weights(path, "network")
        self.optimizer.load_state_dict(state["optimizer"])
        self.average = {name: value.to(self.device) for name, value in state["average"].items()}
        self.step, self.seconds = state["step"], state["seconds"]

    def start_from(self, path: Path) -> None:
        """Begin a new run with the averaged weights of another.

        Raises:
            SettingError: it is of another network, or of another cast.
        """
        self._take_weights(path, "average")
        self.average = {name: value.clone() for name, value in self.network.state_dict().items()}

    def _take_weights(self, path: Path, which: str) -> dict[str, Any]:
        state = read_checkpoint(path)
        if state["config"] != self.network.config.to_dict():
            raise SettingError(f"{path}: a run with another network", hint="use another folder")
        if len(state["tutors"]["characters.bias"]) != self.tutors.characters.out_features:
            raise SettingError(f"{path}: a run with another cast", hint="use another folder")
        self.network.load_state_dict(state[which])
        self.tutors.load_state_dict(state["tutors"])
        return state


def train(scenes: Path, folder: Path, settings: TrainSettings, start: Path | None = None) -> Learner:
    """Train until the settings' end, going on from the checkpoint in ``folder`` if there is one.

    Else, from the averaged weights of the checkpoint ``start`` if that is given.

    Raises:
        FinetuneError: the loss is no longer a finite number.
        SettingError: there are no scenes, or the checkpoint is of another network.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    pool = ScenePool(scenes, device)
    learner = Learner(settings, pool.num_characters, device)
    checkpoint = folder / CHECKPOINT_NAME
    if checkpoint.exists():
        learner.load(checkpoint)
        console.print(f"going on from step {learner.step}")
    elif start is not None:
        learner.start_from(start)
    log = _Log(folder / LOG_NAME, settings)
    pool.watch()
    before = saved = time.monotonic()
    while settings.progress(learner.step, learner.seconds) < 1:
        loss = learner.learn(batch_of(pool, settings, learner.step))
        now = time.monotonic()
        learner.seconds, before = learner.seconds + now - before, now
        if log.add(learner, loss):
            pool.take_in()
        if now - saved >= settings.save_seconds:
            learner.save(checkpoint)
            saved = now
    learner.save(checkpoint)
    return learner


def batch_of(pool: ScenePool, settings: TrainSettings, step: int) -> CastBatch:
    """The batch of a step: it depends on the seed, the step and the scenes there are."""
    rng = np.random.default_rng((settings.seed, step))
    return mix(pool, rng, settings.batch_size, settings.side_at(step))


def mixed_precision(device: torch.device) -> Any:
    """Convolutions in bfloat16 where the processor computes in it; weights and losses stay float32."""
    if device.type == "cpu" and not native_bfloat16():
        return nullcontext()
    # No cache: a recorded step must hold the conversion of the weights.
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)


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


def learnt_weights(path: Path, num_classes: int) -> tuple[YoloxConfig, dict[str, Tensor]]:
    """The network in a checkpoint, and its averaged weights by the names of a :class:`YoloxDetector`.

    Its classes are characters, evenly chosen from all, and no longer families: what tells one character
    from another tells a new object from what is like it. The head is the tutor's, the same at every level,
    so that all levels speak of an object in the same words.
    """
    state = read_checkpoint(path)
    weights = {name: value for name, value in state["average"].items() if not name.endswith(_NOT_OURS)}
    kernels, biases = state["tutors"]["characters.weight"], state["tutors"]["characters.bias"]
    chosen = torch.linspace(0, len(kernels) - 1, num_classes).round().long()
    for level in range(len(STRIDES)):
        weights[f"head.cls_preds.{level}.weight"] = kernels[chosen][:, :, None, None]
        weights[f"head.cls_preds.{level}.bias"] = biases[chosen]
    return replace(YoloxConfig.from_dict(state["config"]), num_classes=num_classes), weights


class _Log:
    """Means over a few steps as rows of JSON; a resumed run repeats the rows after its checkpoint."""

    def __init__(self, path: Path, settings: TrainSettings) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.every = path, settings.log_every
        self.losses: list[Tensor] = []
        self.started = time.monotonic()

    def add(self, learner: Learner, loss: StarterLoss) -> bool:
        """Take note of a step; whether a row was written, for which a graphics card must be waited for.

        Raises:
            FinetuneError: a loss is not finite.
        """
        parts = (loss.box, loss.object, loss.classes, loss.characters, loss.portraits)
        matched = torch.as_tensor(float(loss.num_matched), device=loss.box.device)
        self.losses.append(torch.stack([*(part.detach() for part in parts), matched]))
        if len(self.losses) < self.every:
            return False
        means = torch.stack(self.losses).mean(0).tolist()
        if not all(map(math.isfinite, means)):
            raise FinetuneError(
                f"step {learner.step}: the loss is not finite", hint="use a smaller learning rate"
            )
        now = time.monotonic()
        images = len(self.losses) * learner.settings.batch_size
        names = ("box", "object", "classes", "characters", "portraits", "matched")
        row = {
            "step": learner.step,
            "seconds": round(learner.seconds, 1),
            "rate": learner.optimizer.param_groups[0]["lr"],
            **{name: round(mean, 4) for name, mean in zip(names, means, strict=True)},
            "ms_per_image": round(1000 * (now - self.started) / images, 3),
        }
        self.losses, self.started = [], now
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        console.print(json.dumps(row))
        return True
