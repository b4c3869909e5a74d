"""What is written with the package onnx: a network by PyTorch's exporter, a whole detector, and a base.

A base is exported as the graph of a detector with an empty head, which also tells what the linear probe
reads. Who learns in a browser runs this one graph over each photo, fits a head to what it tells, and puts the
head's numbers where the empty one's are: the result is the file that ``export_detector`` writes for the same
head. For that the graph must not depend on the number of classes; see ``models/yolox/export.py``.

What a base's file holds beside a detector's graph has names that begin with ``learning/``, and stands at the
end of each list, so that it is taken out again without touching the rest. Its header, under its own key:

format_version, fewbox_version, input, architecture, config
as in a detector's header; the classes in ``config`` are to be replaced by one's own
base            what a detector made from it remembers of its base
columns         what standardised base logits are multiplied with, ``[S]``
outputs         names of the graph's outputs for learning: boxes in pixels of the input, ``[N, A, 4]``; base
                logits, ``[N, A, S]``; tower features, ``[N, A, D]``
levels          for each level, finest first: how many anchors it has, and the names of the constants with
                its head's weight and bias, and with those that make base logits of tower features
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fewbox import __version__
from fewbox.core.arguments import checked_path
from fewbox.core.files import output_error, replacing, require_writable, temporary_folder
from fewbox.data.images import StrPath
from fewbox.errors import BaseModelError, OutputError
from fewbox.export import (
    Agreement,
    Anchors,
    AnchorsOf,
    iou_of_counterparts,
    not_the_same,
    read_photos,
    total_agreement,
)
from fewbox.export.graph import ANCHORS, Core, core_of_weights, detector_content
from fewbox.models import BASE_HEADER
from fewbox.models.base import BaseModel, take_weights
from fewbox.models.families import Config, build_network, family_of, weight_shapes
from fewbox.models.features import AnchorFeatures, FeatureExtractor
from fewbox.models.graph_builder import IR_VERSION, OPSET, GraphBuilder
from fewbox.models.network import Network
from fewbox.models.weights import Weight
from fewbox.runtimes import FORMAT_VERSION, HEADER_KEY, NETWORK_INPUT
from fewbox.runtimes.onnxruntime import open_session

# PyTorch takes a length of 1, of any map, as one that never changes.
_TRIED_BATCH = 2
_TRIED_SIZE_HW = (320, 448)
# PyTorch means to give it up some day; then networks go the slower way.
_HAS_TRACER = importlib.util.find_spec("torch.onnx._internal.torchscript_exporter") is not None

_UNLIKELY = -100.0
"""The least of the empty head's biases: a score that is 0 in float32."""
_ALMOST_NOTHING = 1e-9
_COMPARED = 100
"""Boxes of a photo that are compared: those of the likeliest anchors."""
_PREFIX = "learning"
_HEAD_PREFIX = "network/network."


class _Core(nn.Module):
    """Pixels to the boxes and scores of all anchors."""

    def __init__(self, network: Network, input_size_hw: tuple[int, int] | None) -> None:
        super().__init__()
        self.network = cast(nn.Module, network)
        # Computed here where they are always the same: a network may remember anchors, and those of a
        # graph that is being written are no numbers.
        self.anchors = None if input_size_hw is None else network.anchors(input_size_hw)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        network = cast(Network, self.network)
        codes, logits = network.forward(images)
        height, width = images.shape[-2:]
        anchors = network.anchors((height, width)) if self.anchors is None else self.anchors
        return network.decode(codes.float(), anchors), network.scores(logits)


def export_core(network: Network, config: Config) -> onnx.ModelProto:
    """The network as a graph: ``images`` ``[batch, 3, h, w]`` to ``boxes`` and ``scores`` of all anchors.

    ``h`` and ``w`` are numbers where the network has one size of input, else multiples of 32.
    """
    is_flexible = config.input_size_hw is None
    core = _Core(network, config.input_size_hw).eval()
    size_hw = config.input_size_hw or _TRIED_SIZE_HW
    images = torch.zeros(_TRIED_BATCH, 3, *size_hw)
    with _quiet():
        if _HAS_TRACER:
            model = _by_tracing(core, images, is_flexible)
        else:
            model = _by_compiler(core, images, is_flexible)
    del model.graph.value_info[:]  # shapes in between, of which nobody needs to know
    _name_axes(model.graph, is_flexible)
    return model


def _by_tracing(core: nn.Module, images: Tensor, is_flexible: bool) -> onnx.ModelProto:
    """By PyTorch's first exporter, in a tenth of the time.

    It follows a size only as long as nothing makes a Python number of it.
    """
    flexible = _flexible_axes(is_flexible)
    with torch.no_grad(), temporary_folder() as folder:
        written = Path(folder) / "core.onnx"
        try:
            torch.onnx.export(
                core,
                (images,),
                written,
                dynamo=False,
                opset_version=OPSET,
                input_names=["images"],
                output_names=["boxes", "scores"],
                dynamic_axes={name: {0: "batch", **axes} for name, axes in flexible.items()},
            )
        except OSError as error:
            raise output_error(Path(folder), error) from error
        model = onnx.load(written)
    steps = []
    for node in model.graph.node:
        if node.op_type == "Constant":
            node.attribute[0].t.name = node.output[0]
            model.graph.initializer.append(node.attribute[0].t)
        else:
            steps.append(node)
    del model.graph.node[:]
    model.graph.node.extend(steps)
    return model


def _by_compiler(core: nn.Module, images: Tensor, is_flexible: bool) -> onnx.ModelProto:
    """By the exporter on top of PyTorch's compiler, which follows sizes wherever they are computed with."""
    batch: Any = torch.export.Dim("batch", min=1)
    axes: dict[int, Any] = {0: batch}
    if is_flexible:
        axes |= {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    program = torch.onnx.export(
        core,
        (images,),
        dynamo=True,
        opset_version=OPSET,
        input_names=["images"],
        output_names=["boxes", "scores"],
        dynamic_shapes=(axes,),
        verbose=False,
    )
    assert program is not None
    return program.model_proto


def _flexible_axes(is_flexible: bool) -> dict[str, dict[int, str]]:
    """The axes of each input and output that follow the size of the photo, and their names."""
    images, anchors = ({2: "height", 3: "width"}, {1: "anchors"}) if is_flexible else ({}, {})
    return {"images": images, "boxes": anchors, "scores": anchors}


def _name_axes(graph: onnx.GraphProto, is_flexible: bool) -> None:
    """Put words where the exporter has formulas."""
    names = _flexible_axes(is_flexible)
    for value in (*graph.input, *graph.output):
        for axis, name in names[value.name].items():
            value.type.tensor_type.shape.dim[axis].dim_param = name


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks, which are about libraries we do not use."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def make_model(network: Network, config: Config, header: Mapping[str, Any], *, raw: bool) -> onnx.ModelProto:
    """The whole model; with ``raw`` only the network, from its own input to the boxes of all anchors."""
    if raw:
        model = export_core(network, config)
        model.ir_version = IR_VERSION
        model.producer_name, model.producer_version = "fewbox", str(header["fewbox_version"])
        del model.metadata_props[:]
        onnx.helper.set_model_props(model, {HEADER_KEY: json.dumps(header)})
    else:
        if family_of(config).writes_graphs:
            weights = {name: weight.numpy() for name, weight in network.state_dict().items()}
            core = core_of_weights(cast(Any, network).config, weights)
        else:
            core = _core_of(export_core(network, config))
        model = onnx.load_model_from_string(detector_content(core, config, header))
    onnx.checker.check_model(model)
    return model


def _core_of(model: onnx.ModelProto) -> Core:
    """The part that PyTorch's exporter wrote, with the names that it has between the others."""
    graph = onnx.compose.add_prefix_graph(model.graph, "network/")
    assert (graph.input[0].name, *(output.name for output in graph.output)) == (NETWORK_INPUT, *ANCHORS)
    nodes, constants = ([one.SerializeToString() for one in some] for some in (graph.node, graph.initializer))
    return Core(nodes, constants)


def anchors_of(path: Path, *, raw: bool) -> AnchorsOf:
    """What ONNX Runtime computes with a file, ``raw`` or not, before anything is suppressed."""
    if raw:
        session = open_session(path)
        return lambda _image, pixels: _first(session.run(["boxes", "scores"], {"images": pixels.numpy()}))
    model = onnx.load(path)
    model.graph.output.extend(map(onnx.helper.make_empty_tensor_value_info, ANCHORS))
    session = open_session(model.SerializeToString())
    threshold = np.array(1, np.float32)
    return lambda image, _pixels: _first(
        session.run(list(ANCHORS), {"photos": image[None], "score_threshold": threshold})
    )


def _first(outputs: Sequence[Any]) -> Anchors:
    """The anchors of the one photo of a batch."""
    boxes, scores = outputs
    return boxes[0], scores[0]


def export_base(
    base: BaseModel, target: StrPath, *, photos: StrPath | Sequence[StrPath] | None = None
) -> Agreement:
    """Write a base as ONNX, to learn from without PyTorch: the page of ``examples/web`` does.

    It is written only if ONNX Runtime reads from photos what PyTorch does.

    Args:
        base: a YOLOX or the starter.
        target: ends in ``.onnx``.
        photos: to compare on, as for :func:`export_detector`.

    Returns:
        How well the two agree on boxes, the base's own scores, and tower features, the last as a share of
        the largest.

    Raises:
        BaseModelError: the base is of another kind, or lacks a weight.
        ExportError: they do not read the same; nothing is written.
        OutputError: the file cannot be written.
    """
    target = checked_path(target, "the file to write", OutputError)
    require_writable(target, [".onnx"])
    take_weights(base, base.config, {})  # a base that lacks a weight is refused before any work
    network = build_network(base.config, base.weights)
    family = family_of(base.config)
    columns = family.base_columns(base.weights)
    if columns is None:
        raise BaseModelError(
            f"{base.name}: its head cannot be learnt in a browser",
            hint="name the starter or a YOLOX: --base starter",
        )
    images = read_photos(photos, base.config)
    extractor = family.feature_extractor(network)
    model = _model(base, columns, extractor, images[0])
    with replacing(target) as temporary:
        temporary.write_bytes(model.SerializeToString())
        agreement = _compare(extractor, temporary, images)
        if not agreement.holds:
            raise not_the_same(target, agreement)
    return agreement


def _model(
    base: BaseModel,
    columns: Sequence[tuple[Weight, Weight]],
    extractor: FeatureExtractor,
    image: NDArray[np.uint8],
) -> onnx.ModelProto:
    """The graph of a detector with an empty head for one class, and the part for learning."""
    config = family_of(base.config).probe_config(base.config, 1, keep_classes=False)
    shapes = weight_shapes(config)
    # No two are alike: an exporter would make one constant of them.
    empty = {
        name: np.full(
            shapes[name], (_UNLIKELY if name.endswith("bias") else _ALMOST_NOTHING) * number, np.float32
        )
        for number, name in enumerate(sorted(shapes.keys() - base.weights.keys()), start=1)
    }
    network = build_network(config, {name: (base.weights | empty)[name] for name in shapes})
    about = {"format_version": FORMAT_VERSION, "fewbox_version": __version__, "input": "photos"}
    model = make_model(network, config, about, raw=False)
    heads = [_HEAD_PREFIX + name for name in network.head_names]
    pairs = list(zip(heads[::2], heads[1::2], strict=True))
    sizes = _read(extractor, image).group_sizes(extractor.num_groups)
    levels = _add_learning(model.graph, pairs, columns)
    header = {
        **about,
        "architecture": network.architecture,
        "config": config.to_dict(),
        "base": base.origin(),
        "columns": extractor.column_scale.tolist(),
        "outputs": {
            "boxes": ANCHORS[0],
            "base_logits": f"{_PREFIX}/base_logits",
            "tower_features": f"{_PREFIX}/tower_features",
        },
        "levels": [{"anchors": count, **names} for count, names in zip(sizes, levels, strict=True)],
    }
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {BASE_HEADER: json.dumps(header)})
    onnx.checker.check_model(model)
    return model


def _add_learning(
    graph: onnx.GraphProto,
    heads: Sequence[tuple[str, str]],
    columns: Sequence[tuple[Weight, Weight]],
) -> list[dict[str, str]]:
    """Add the outputs for learning; the names of each level's constants, as in the header."""
    read_by = {node.input[1]: node.input[0] for node in graph.node if node.op_type == "Conv"}
    part, logits, features, levels = GraphBuilder(_PREFIX), [], [], []
    for (weight, bias), (kernel, shift) in zip(heads, columns, strict=True):
        maps = read_by[weight]
        kernels = part.constant(kernel[:, :, None, None])
        shifts = part.constant(shift)
        logits.append(part.cells(part.op("Conv", maps, kernels, shifts)))
        features.append(part.cells(maps))
        levels.append({"weight": weight, "bias": bias, "columns_weight": kernels, "columns_bias": shifts})
    part.rename(part.op("Concat", *logits, axis=1), f"{_PREFIX}/base_logits")
    part.rename(part.op("Concat", *features, axis=1), f"{_PREFIX}/tower_features")
    graph.node.extend(part.nodes)
    graph.initializer.extend(part.constants)
    described = onnx.helper.make_tensor_value_info
    num_columns, num_features = columns[0][0].shape
    for name, width in (
        (ANCHORS[0], 4),
        (f"{_PREFIX}/base_logits", num_columns),
        (f"{_PREFIX}/tower_features", num_features),
    ):
        graph.output.append(described(name, onnx.TensorProto.FLOAT, ["batch", "anchors", width]))
    return levels


def _compare(extractor: FeatureExtractor, path: Path, images: Sequence[NDArray[np.uint8]]) -> Agreement:
    """What PyTorch and the file read from photos ``[H, W, 3]``."""
    session = open_session(path)
    names = [ANCHORS[0], f"{_PREFIX}/base_logits", f"{_PREFIX}/tower_features"]
    results = []
    for image in images:
        ours = _read(extractor, image)
        inputs: dict[str, Any] = {"photos": image[None], "score_threshold": np.array(1, np.float32)}
        boxes, logits, features = (part[0] for part in session.run(names, inputs))
        likeliest = np.argsort(-ours.base_score, kind="stable")[:_COMPARED]
        scores, largest = _sigmoid(ours.base_logits), float(np.abs(ours.tower_features).max())
        results.append(
            Agreement(
                num_photos=1,
                num_boxes=len(likeliest),
                lowest_iou=float(iou_of_counterparts(ours.boxes[likeliest], boxes[likeliest]).min()),
                largest_score_difference=float(np.abs(scores - _sigmoid(logits)).max()),
                largest_score_share=float(np.abs(ours.tower_features - features).max() / largest),
            )
        )
    return total_agreement(results)


def _read(extractor: FeatureExtractor, image: NDArray[np.uint8]) -> AnchorFeatures:
    """All anchors of a picture."""
    seen = extractor.read(image)
    return seen.at(np.arange(len(seen.boxes)))


def _sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    scores: NDArray[np.float32] = 0.5 * (1 + np.tanh(0.5 * logits))  # which never overflows
    return scores
