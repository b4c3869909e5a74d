"""Deep fine-tuning: the layers of the network itself learn, from hundreds or thousands of photos.

    annotations -> augmented dataset -> whole network -> loss -> gradients of all processes -> weights

YOLOX trained by its own published recipe (Ge et al., 2021: stochastic gradient descent with Nesterov's
momentum, cosine schedule), with two changes. Batch-norms keep the statistics they were pretrained with, as
batches are small; what they scale by is learnt. And a batch is divided among processes so that it does not
matter how many there are: losses are summed over the whole batch before they are divided.

A training sample follows from the seed and its number alone. So a resumed run sees what it would have seen,
and several processes divide the samples of a step without talking to each other.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fewbox.config import DeepConfig
from fewbox.core.files import replacing
from fewbox.core.progress import console, progress_bar
from fewbox.data.annotations import AnnotationSet
from fewbox.data.photo_file import content_hash
from fewbox.detection.detector import Detector
from fewbox.errors import FinetuneError, SettingError
from fewbox.evaluation import evaluate
from fewbox.evaluation.error_analysis import learnt_from_in_words, some_names
from fewbox.evaluation.matching import names_among, require_known_labels
from fewbox.finetuning import provenance
from fewbox.finetuning.input_size import with_input_size
from fewbox.finetuning.samples import AugmentedDataset, batches_of, loaders_with_room
from fewbox.models.base import BaseModel, restore
from fewbox.models.device import ProcessGroup, as_fits, fastest_dtype
from fewbox.models.families import SUPPRESSION_IOU, Config, family_of, network_type
from fewbox.models.layers import FrozenBatchNorm
from fewbox.models.network import Batch, BatchLoss
from fewbox.models.weights import Weight

_MAX_GRADIENT = 10.0  # norm; one bad batch must not undo what a thousand have taught
_SECONDS_BETWEEN_SAVES = 300.0


def finetune_deep(
    annotations: AnnotationSet,
    base: BaseModel,
    checkpoint: Path,
    group: ProcessGroup,
    *,
    config: DeepConfig | None = None,
    held_out: AnnotationSet | None = None,
    show_progress: bool = True,
) -> Detector:
    """Teach the layers of a YOLOX the classes of ``annotations``; every process of ``group`` calls this.

    Args:
        annotations: photos with boxes; every one must have been looked at.
        base: a YOLOX.
        checkpoint: where to keep what is learnt so far; a run with the same settings goes on from there.
            Beside it, in a file that ends in ``.jsonl``, go the losses of every step.
        group: the processes; see :func:`process_group`.
        config: settings.
        held_out: photos to evaluate on after every epoch, and at the end to choose the score threshold by.
        show_progress: show how far the work has come, and the AP of every epoch.

    Returns:
        The detector, the same in every process.

    Raises:
        AnnotationError: a photo has not been looked at, or there is no box at all.
        SettingError: the base is no YOLOX, the batch cannot be divided among the processes, or the
            checkpoint is of another run.
        FinetuneError: the loss is no longer a finite number, or a process that reads photos has failed.
        PhotoError: a photo cannot be read.
        OutputError: the checkpoint cannot be written.
    """
    settings = config or DeepConfig()
    annotations.require_reviewed()
    if held_out is not None:
        held_out.require_reviewed()
        require_known_labels(held_out, annotations.labels)
    if settings.batch_size % group.size:
        raise SettingError(
            f"batch_size must be a multiple of the {group.size} processes: {settings.batch_size}",
            hint=f"for example --batch-size {group.size * math.ceil(settings.batch_size / group.size)}",
        )
    trainer = Trainer(annotations, base, settings, group)
    trainer.resume_from(checkpoint)
    if held_out is not None and show_progress and group.is_main:
        known = names_among(held_out, set(trainer.contents))
        if known:
            told = learnt_from_in_words(len(known), len(held_out))
            console.print(f"held out: {told}: {some_names(known)}")
    with progress_bar("training", trainer.steps, show=show_progress and group.is_main) as advance:
        for _ in range(trainer.step):
            advance("done before")
        for batch in trainer.batches():
            row = trainer.train_step(batch)
            advance(f"loss {row['total']:.3f}")
            if trainer.step * settings.batch_size % trainer.photos_per_epoch < settings.batch_size:
                trainer.end_epoch(checkpoint, held_out, show_progress=show_progress)
            trainer.save_if_due(checkpoint)
    detector = trainer.detector()
    if held_out is not None and group.is_main:
        best = evaluate(detector, held_out, show_progress=False).best_threshold
        detector.threshold = detector.threshold if best is None else best
    return detector


class Trainer:
    """A network in training: its optimizer, its dataset, and how far it has come."""

    def __init__(
        self, annotations: AnnotationSet, base: BaseModel, settings: DeepConfig, group: ProcessGroup
    ) -> None:
        self.family = family_of(base.config)
        if not self.family.trained_layers:
            raise SettingError(
                f"deep fine-tuning is for a YOLOX: {base.name}", hint="for example: --base yolox_s"
            )
        if settings.input_size:
            base = with_input_size(base, settings.input_size)
        self.settings, self.group, self.base, self.labels = settings, group, base, annotations.labels
        network_config, weights, _ = restore(base, len(annotations.labels), settings.seed)
        self.network = trainable(network_config, weights, settings.layers).to(group.device)
        self.parallel = group.data_parallel(self.network)
        self.cells = self.network.anchors(self.network.config.size_hw).to(group.device)
        parameters = [p for p in self.network.parameters() if p.requires_grad]
        groups: list[dict[str, Any]] = [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.SGD(
            groups, lr=settings.learning_rate, momentum=settings.momentum, nesterov=settings.momentum > 0
        )
        self.dataset = AugmentedDataset(annotations, self.network, settings.seed)
        self.photos_per_epoch = len(annotations)
        self.steps = math.ceil(settings.epochs * self.photos_per_epoch / settings.batch_size)
        self.step = 0
        self.history: list[dict[str, float]] = []
        self.contents = [content_hash(image.path) for image in annotations]
        decided_by = asdict(settings)
        del decided_by["loaders"]  # which changes nothing of what is learnt
        self._run = {
            "settings": decided_by,
            "base": base.weights_sha256,
            "network": network_config.to_dict(),  # of which not all follows from the weights
            "photos": [[image.path.name, len(image.boxes)] for image in annotations],
            "boxes": _digest_of_boxes(annotations),
            "contents": self.contents,
        }
        self._saved = time.monotonic()
        self._most_at_once = settings.batch_size

    def batches(self) -> Iterator[Batch]:
        """This process's part of every step's batch from here on, on its device.

        Raises:
            PhotoError: a photo cannot be read.
            FinetuneError: a process that reads photos has failed.
        """
        size = self.settings.batch_size
        numbers = [
            list(range(step * size + self.group.rank, (step + 1) * size, self.group.size))
            for step in range(self.step, self.steps)
        ]
        size_hw, show = self.network.config.size_hw, self.group.is_main
        loaders = loaders_with_room(self.settings.loaders, size_hw, size, show=show)
        pin_memory = self.group.device.type == "cuda"
        for batch in batches_of(self.dataset, numbers, loaders=loaders, pin_memory=pin_memory):
            yield batch.to(self.group.device)

    def train_step(self, batch: Batch) -> dict[str, float]:
        """One optimizer step; the losses of the whole batch before it.

        Raises:
            FinetuneError: the loss is not a finite number.
        """
        rate = self.settings.rate_at(self.step, self.steps)
        # Several processes would all have to halve their parts in the same step.
        learn = self._learn_at_once if self.group.size > 1 else self._learn_as_fits
        total, box, objectness, classes = learn(batch)
        nn.utils.clip_grad_norm_(self.network.parameters(), _MAX_GRADIENT)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.step += 1
        row = {"step": self.step, "total": total, "localization": box, "classification": objectness + classes}
        self.history.append(row)
        return row

    def _learn_as_fits(self, batch: Batch) -> list[float]:
        """Gradients and losses of the whole batch, from parts of it if a device's memory asks for that."""
        size = len(batch.pixels)

        def learn(most: int) -> list[float]:
            return self._learn_at_once(batch) if most >= size else self._learn_in_parts(batch, most)

        losses, self._most_at_once = as_fits(learn, min(self._most_at_once, size))
        return losses

    def _learn_at_once(self, batch: Batch) -> list[float]:
        loss = self._loss(batch)
        sums = self.group.all_reduce(
            torch.stack((loss.total, loss.box, loss.object, loss.classes, loss.num_matched))
        )
        count = sums[4].clamp(min=1)
        losses = self._finite((sums / count).tolist()[:4])
        self.optimizer.zero_grad()
        # The mean of the processes' gradients is taken: times their number it is the sum.
        (loss.total * (self.group.size / count)).backward()  # type: ignore[no-untyped-call]
        return losses

    def _learn_in_parts(self, batch: Batch, most: int) -> list[float]:
        self.optimizer.zero_grad()
        sums = torch.zeros(5, device=self.group.device)
        for start in range(0, len(batch.pixels), most):
            loss = self._loss(batch.part(start, start + most))
            parts = (loss.total, loss.box, loss.object, loss.classes, loss.num_matched)
            sums += torch.stack(parts).detach()
            loss.total.backward()  # type: ignore[no-untyped-call]
        count = sums[4].clamp(min=1)
        losses = self._finite((sums / count).tolist()[:4])
        for weight in self.network.parameters():
            if weight.grad is not None:
                weight.grad /= count
        return losses

    def _loss(self, batch: Batch) -> BatchLoss:
        with self._autocast():
            codes, logits = self.parallel(batch.pixels.contiguous(memory_format=torch.channels_last))
        return self.family.batch_loss(codes, logits, self.cells, batch)

    def _finite(self, losses: list[float]) -> list[float]:
        if not math.isfinite(losses[0]):
            raise FinetuneError(
                f"step {self.step + 1}: the loss is not finite",
                hint="use a smaller step size, --learning-rate, and remove the checkpoint",
            )
        return losses

    def end_epoch(self, checkpoint: Path, held_out: AnnotationSet | None, *, show_progress: bool) -> None:
        """Save, and evaluate on the photos held out, while the other processes wait."""
        self.save(checkpoint)
        if self.group.is_main:
            epoch = min(self.step * self.settings.batch_size // self.photos_per_epoch, self.settings.epochs)
            words = f"epoch {epoch} of {self.settings.epochs}, loss {self.history[-1]['total']:.4f}"
            if held_out is not None:
                metrics = evaluate(self.detector(), held_out, show_progress=False).metrics
                words += f", AP {100 * metrics.ap:.1f}, AP50 {100 * metrics.ap50:.1f} on photos held out"
            if show_progress:
                console.print(words)
        self.group.barrier()

    def save_if_due(self, checkpoint: Path) -> None:
        """Save if the last time was long ago."""
        if time.monotonic() - self._saved > _SECONDS_BETWEEN_SAVES:
            self.save(checkpoint)

    def save(self, checkpoint: Path) -> None:
        """Write the checkpoint and the losses, whole or not at all; only the main process does."""
        self._saved = time.monotonic()
        if not self.group.is_main:
            return
        state = {
            "run": self._run,
            "step": self.step,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "history": self.history,
        }
        content = io.BytesIO()
        torch.save(state, content)
        with replacing(checkpoint) as temporary:
            # Written here, as PyTorch tells of a full disk in an error that is no OSError.
            temporary.write_bytes(content.getbuffer())
        with replacing(checkpoint.with_suffix(".jsonl")) as temporary:
            temporary.write_text("".join(f"{json.dumps(row)}\n" for row in self.history))

    def resume_from(self, checkpoint: Path) -> None:
        """Take up a run where its checkpoint was written; begin one if there is none.

        Raises:
            SettingError: it is of another run.
            FinetuneError: it is damaged.
        """
        if not checkpoint.exists():
            return
        try:
            state = torch.load(checkpoint, map_location="cpu", weights_only=True)
            run = state["run"]
        except Exception as error:  # where a file is cut off decides what fails
            raise FinetuneError(
                f"{checkpoint}: not a checkpoint of this command, or damaged: {type(error).__name__}",
                hint="remove it to begin anew",
            ) from error
        if run != self._run:
            raise SettingError(
                f"{checkpoint}: of a run with other photos or boxes, another base or other settings",
                hint="remove it to begin anew, or give the same as before to go on",
            )
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.history = state["step"], state["history"]

    def detector(self) -> Detector:
        """The detector as it is now."""
        config = self.network.config
        now = self.network.state_dict()
        weights = {name: w.detach().cpu().contiguous().clone().numpy() for name, w in now.items()}
        return Detector(
            config=config.changed(iou_threshold=min(config.iou_threshold, SUPPRESSION_IOU)),
            weights=weights,
            labels=self.labels,
            base=self.base.origin(),
            provenance=provenance(self.dataset.annotations, "deep", self.settings, self.history),
            history=self.history,
            device=self.group.device,
        )

    def _autocast(self) -> Any:
        wanted, device = self.settings.precision, self.group.device
        dtype = fastest_dtype(device) if wanted == "fastest" else getattr(torch, wanted)
        return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)


def _digest_of_boxes(annotations: AnnotationSet) -> str:
    """What tells boxes and classes from others: those of a checkpoint have to be the same, in their order."""
    told = (annotations.labels, [image.boxes for image in annotations])
    return hashlib.sha256(repr(told).encode()).hexdigest()


def trainable(config: Config, weights: Mapping[str, Weight], layers: str) -> Any:
    """The network with ``weights``, of which those of ``layers`` are trained, batch-norms' scales too."""
    network = network_type(config)(config)
    network.load_state_dict({name: torch.tensor(weight) for name, weight in weights.items()})
    network.to(memory_format=torch.channels_last)
    for norm in [module for module in network.modules() if isinstance(module, FrozenBatchNorm)]:
        for name in ("weight", "bias"):
            value = getattr(norm, name)
            delattr(norm, name)  # a constant until now
            norm.register_parameter(name, nn.Parameter(value, requires_grad=False))
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.startswith(family_of(config).trained_layers[layers]))
    return network
