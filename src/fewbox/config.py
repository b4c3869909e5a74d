"""Settings of learning, of the service, and some of detecting: names, defaults, limits, help, stated once.

The command line is built from such dataclasses, so a setting has no second home.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fewbox.core import num_cores
from fewbox.core.arguments import require_kind
from fewbox.errors import SettingError


def setting(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    default_in_words: str | None = None,
) -> Any:
    """A dataclass field that knows what it means and what it may be; limits are inclusive.

    ``default_in_words`` is for a default that differs from one machine to the next.
    """
    limits = {"help": help, "low": low, "high": high, "choices": choices}
    limits["default_in_words"] = default_in_words
    return field(default=default, metadata=limits)


INPUT_SIZE_STEP, MIN_INPUT_SIZE, MAX_INPUT_SIZE = 32, 320, 1024
"""Of the side of a network's input that may be asked for: the largest stride of a YOLOX, and limits."""
CLUSTERS = ("processes", "ray")
"""What the workers of a run over many photos can be."""
DEFAULT_CONFIRM = 2
"""In so many frames in a row an object is found before it gets a number, as in ByteTrack."""


@dataclass(frozen=True)
class FinetuneConfig:
    """How much work is put in, and how the seed recipe, which has no dial, fits the heads.

    Raises:
        SettingError: a value is outside its limits.

    Examples:
        >>> config = fewbox.FinetuneConfig(effort="long", seed=7)
        >>> config.effort, config.seed, config.precision
        ('long', 7, 'float32')
        >>> fewbox.FinetuneConfig.from_dict({"seed": 7}) == fewbox.FinetuneConfig(seed=7)
        True
    """

    effort: str = setting(
        "normal",
        "how much work the recipes best, probe and adapt put in: 1, 4 or 16 augmented views of each photo, "
        "and 3, 5 or 10 folds to check on; with quick, best does not adapt, and no larger inputs are tried",
        choices=("quick", "normal", "long"),
    )
    steps: int = setting(100, "gradient steps of the seed recipe", low=1, high=1_000_000)
    batch_size: int = setting(
        4, "photos per step of the seed recipe; all, if there are fewer", low=1, high=10_000
    )
    learning_rate: float = setting(0.01, "step size of the seed recipe", low=1e-8, high=10)
    momentum: float = setting(
        0.9, "how much of the last step goes into the next, in the seed recipe", low=0, high=0.9999
    )
    seed: int = setting(0, "number all randomness follows from", low=0, high=2**32 - 1)
    precision: str = setting(
        "float32",
        "numbers the frozen network computes in while it learns; not while it detects",
        choices=("float32", "bfloat16"),
    )
    input_size: int = setting(
        0,
        "side in pixels of the network's square input, a multiple of 32 from 320; only for a YOLOX or the "
        "starter",
        low=0,
        high=MAX_INPUT_SIZE,
        default_in_words="0, which chooses it by the sizes of the boxes",
    )

    def __post_init__(self) -> None:
        check_settings(self)
        _check_input_size(self.input_size)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FinetuneConfig:
        """Settings by name; those not given keep their defaults.

        Raises:
            SettingError: a name is unknown (the nearest one is suggested) or a value outside its limits.
        """
        names = [spec.name for spec in dataclasses.fields(cls)]
        require_kind(values, Mapping, "settings", SettingError, "give them by name: {'seed': 1}")
        for name in values:
            if name not in names:
                near = difflib.get_close_matches(name, names, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"settings: {', '.join(names)}"
                raise SettingError(f"unknown setting: {name!r}", hint=hint)
        return cls(**values)


@dataclass(frozen=True)
class DeepConfig:
    """How deep fine-tuning trains the layers of a network.

    Raises:
        SettingError: a value is outside its limits.
    """

    layers: str = setting(
        "neck", "what learns: towers and heads, the neck too, or all", choices=("towers", "neck", "all")
    )
    epochs: int = setting(20, "how often every photo is seen, each time augmented anew", low=1, high=10_000)
    batch_size: int = setting(16, "photos per step, over all processes", low=1, high=65_536)
    learning_rate: float = setting(0.0025, "highest step size", low=1e-8, high=10)
    momentum: float = setting(0.9, "how much of the last step goes into the next", low=0, high=0.9999)
    weight_decay: float = setting(5e-4, "weight decay of the kernels", low=0, high=1)
    warm_up: float = setting(0.05, "part of the steps in which the step size rises", low=0, high=1)
    precision: str = setting(
        "fastest",
        "numbers that convolutions compute in; the fastest is bfloat16 where the device has it",
        choices=("fastest", "float32", "bfloat16"),
    )
    loaders: int = setting(2, "processes that read photos, for each that trains", low=0, high=256)
    seed: int = setting(0, "number all randomness follows from", low=0, high=2**32 - 1)
    input_size: int = setting(
        0,
        "side in pixels of the network's square input, a multiple of 32 from 320",
        low=0,
        high=MAX_INPUT_SIZE,
        default_in_words="0, which keeps the base's",
    )

    def __post_init__(self) -> None:
        check_settings(self)
        _check_input_size(self.input_size)

    def rate_at(self, step: int, steps: int) -> float:
        """The size of a step, from 0: up in a line, down in half a cosine, to a twentieth."""
        rising = max(round(self.warm_up * steps), 1)
        if step < rising:
            return self.learning_rate * (step + 1) / rising
        done = (step - rising) / max(steps - rising, 1)
        return self.learning_rate * (0.05 + 0.95 * (1 + math.cos(math.pi * done)) / 2)


def check_settings(settings: Any) -> None:
    """Hold every field of a dataclass made of :func:`setting` against its limits.

    Raises:
        SettingError: a value is outside its limits.
    """
    for spec in dataclasses.fields(settings):
        checked = _checked(spec.name, getattr(settings, spec.name), spec.metadata, spec.type == "int")
        object.__setattr__(settings, spec.name, checked)  # numpy's numbers become Python's, for JSON


def _check_input_size(side: int) -> None:
    """Refuse a side that no network takes; 0 leaves the choice to others."""
    if side and (side < MIN_INPUT_SIZE or side % INPUT_SIZE_STEP):
        nearest = max(INPUT_SIZE_STEP * round(side / INPUT_SIZE_STEP), MIN_INPUT_SIZE)
        raise SettingError(
            f"input_size must be a multiple of {INPUT_SIZE_STEP} from {MIN_INPUT_SIZE} to {MAX_INPUT_SIZE}, "
            f"or 0: {side}",
            hint=f"the nearest is {nearest}",
        )


def _checked(name: str, value: Any, limits: Mapping[str, Any], is_whole: bool) -> Any:
    choices, low, high = limits["choices"], limits["low"], limits["high"]
    if choices and value not in choices:
        raise SettingError(f"{name} must be one of {', '.join(choices)}: {value!r}")
    if low is None:
        return value
    number = value.item() if hasattr(value, "item") else value
    is_right = isinstance(number, int) or (isinstance(number, float) and not is_whole)
    if isinstance(number, bool) or not is_right or not low <= number <= high:
        what = "whole number" if is_whole and isinstance(number, float) else "number"
        raise SettingError(f"{name} must be a {what} from {low} to {high}: {value!r}")
    return number


@dataclass(frozen=True)
class ServiceConfig:
    """What the service takes in and how long it waits.

    Raises:
        SettingError: a value is outside its limits.
    """

    workers: int = setting(
        num_cores(),
        "photos worked on at once, each by one thread",
        low=1,
        high=256,
        default_in_words="one a core",
    )
    queue: int = setting(
        32, "requests taken in at once; one more gets 429 before its body is read", low=1, high=10_000
    )
    queue_seconds: float = setting(
        10.0, "how long a photo may wait before it is looked at", low=0.001, high=3600
    )
    max_photos: int = setting(16, "photos in one request", low=1, high=1000)
    max_megabytes: int = setting(20, "size of one request", low=1, high=1000)
    max_megapixels: int = setting(50, "size of one photo", low=1, high=200)
    max_tiles: int = setting(
        100, "tiles looked at for one request, where it asks for tiles; 0 refuses them", low=0, high=100_000
    )
    body_seconds: float = setting(30.0, "how long a request may take to arrive", low=0.1, high=3600)
    stop_seconds: float = setting(
        30.0, "how long requests may go on once the service stops", low=0, high=3600
    )

    def __post_init__(self) -> None:
        check_settings(self)
