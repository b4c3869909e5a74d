"""The weights of a YOLOX: their names, in the order of the network's layers, and shapes. No torch."""

from __future__ import annotations

from fewbox.models.yolox import HEAD_CHANNELS, STAGE_CHANNELS, STRIDES, YoloxConfig

Shape = tuple[int, ...]


def weight_shapes(config: YoloxConfig) -> dict[str, Shape]:
    """The shape of every weight, by its name in the public release."""
    shapes = _Shapes(config)
    _backbone(shapes, config)
    _neck(shapes, config)
    _heads(shapes, config)
    return shapes.of


def head_names(config: YoloxConfig) -> tuple[str, ...]:
    """The weights and biases of the heads that fine-tuning changes."""
    kinds = ("novel",) if config.num_novel else ("reg", "obj", "cls")
    return tuple(
        f"head.{kind}_preds.{level}.{part}"
        for kind in kinds
        for level in range(len(STRIDES))
        for part in ("weight", "bias")
    )


class _Shapes:
    """Collects the weights of layers."""

    def __init__(self, config: YoloxConfig) -> None:
        self.config = config
        self.of: dict[str, Shape] = {}

    def layer(self, name: str, channels_in: int, channels_out: int, side: int, *, groups: int = 1) -> None:
        """As ``ConvLayer``."""
        self.of[f"{name}.conv.weight"] = (channels_out, channels_in // groups, side, side)
        if self.config.is_folded:
            self.of[f"{name}.conv.bias"] = (channels_out,)
        else:
            for part in ("weight", "bias", "running_mean", "running_var"):
                self.of[f"{name}.bn.{part}"] = (channels_out,)

    def layer3x3(self, name: str, channels_in: int, channels_out: int) -> None:
        """As ``conv3x3``."""
        if self.config.depthwise:
            self.layer(f"{name}.dconv", channels_in, channels_in, 3, groups=channels_in)
            self.layer(f"{name}.pconv", channels_in, channels_out, 1)
        else:
            self.layer(name, channels_in, channels_out, 3)

    def csp(self, name: str, channels_in: int, channels_out: int, times: int = 1) -> None:
        """As ``CspLayer``, of ``times`` as many blocks as the config says."""
        half = channels_out // 2
        self.layer(f"{name}.conv1", channels_in, half, 1)
        self.layer(f"{name}.conv2", channels_in, half, 1)
        self.layer(f"{name}.conv3", 2 * half, channels_out, 1)
        for number in range(times * self.config.blocks):
            self.layer(f"{name}.m.{number}.conv1", half, half, 1)
            self.layer3x3(f"{name}.m.{number}.conv2", half, half)


def _backbone(shapes: _Shapes, config: YoloxConfig) -> None:
    """As ``CspDarknet``."""
    name = "backbone.backbone"
    stem, c2, c3, c4, c5 = map(config.channels, (64, 128, *STAGE_CHANNELS))
    shapes.layer(f"{name}.stem.conv", 4 * 3, stem, 3)
    for stage, channels_in, channels, times in (
        ("dark2", stem, c2, 1),
        ("dark3", c2, c3, 3),
        ("dark4", c3, c4, 3),
    ):
        shapes.layer3x3(f"{name}.{stage}.0", channels_in, channels)
        shapes.csp(f"{name}.{stage}.1", channels, channels, times)
    shapes.layer3x3(f"{name}.dark5.0", c4, c5)
    shapes.layer(f"{name}.dark5.1.conv1", c5, c5 // 2, 1)
    shapes.layer(f"{name}.dark5.1.conv2", c5 // 2 * 4, c5, 1)
    shapes.csp(f"{name}.dark5.2", c5, c5)


def _neck(shapes: _Shapes, config: YoloxConfig) -> None:
    """As ``Pafpn``."""
    c3, c4, c5 = map(config.channels, STAGE_CHANNELS)
    shapes.layer("backbone.lateral_conv0", c5, c4, 1)
    shapes.csp("backbone.C3_p4", 2 * c4, c4)
    shapes.layer("backbone.reduce_conv1", c4, c3, 1)
    shapes.csp("backbone.C3_p3", 2 * c3, c3)
    shapes.layer3x3("backbone.bu_conv2", c3, c3)
    shapes.csp("backbone.C3_n3", 2 * c3, c4)
    shapes.layer3x3("backbone.bu_conv1", c4, c4)
    shapes.csp("backbone.C3_n4", 2 * c4, c5)


def _heads(shapes: _Shapes, config: YoloxConfig) -> None:
    """As ``Head``."""
    channels = config.channels(HEAD_CHANNELS)
    levels = range(len(STRIDES))
    for level, published in enumerate(STAGE_CHANNELS):
        shapes.layer(f"head.stems.{level}", config.channels(published), channels, 1)
    for kind in ("cls", "reg"):
        for level in levels:
            for number in range(2):
                shapes.layer3x3(f"head.{kind}_convs.{level}.{number}", channels, channels)
    columns = {"cls": (channels, config.num_base), "reg": (channels, 4)}
    columns |= {"obj": (channels, min(config.num_base, 1)), "novel": (2 * channels, config.num_novel)}
    for kind, (channels_in, count) in columns.items():
        for level in levels if count else ():
            shapes.of[f"head.{kind}_preds.{level}.weight"] = (count, channels_in, 1, 1)
            shapes.of[f"head.{kind}_preds.{level}.bias"] = (count,)
