"""Export a base: the graph of a detector with an empty head, which also tells what the linear probe reads.

Who learns in a browser runs this one graph over each photo, fits a head to what it tells, and puts the
head's numbers where the empty one's are: the result is the file that ``export_detector`` writes for the same
head. For that the graph must not depend on the number of classes; see ``models/yolox/export.py``.

What the file holds beside a detector's graph has names that begin with ``learning/``, and stands at the end
of each list, so that it is taken out again without touching the rest. The header, under a key of its own:

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

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from fewbox import __version__
from fewbox.core.arguments import checked_path
from fewbox.core.files import replacing, require_writable
from fewbox.data.images import StrPath
from fewbox.errors import BaseModelError, OutputError
from fewbox.export import Agreement, iou_of_counterparts, not_the_same, read_photos, total_agreement
from fewbox.export.graph import ANCHORS
from fewbox.export.onnx import make_model
from fewbox.models import BASE_HEADER
from fewbox.models.base import BaseModel, take_weights
from fewbox.models.families import build_network, family_of, weight_shapes
from fewbox.models.features import AnchorFeatures, FeatureExtractor
from fewbox.models.graph_builder import GraphBuilder
from fewbox.models.weights import Weight
from fewbox.runtimes import FORMAT_VERSION
from fewbox.runtimes.onnxruntime import open_session

_UNLIKELY = -100.0
"""The least of the empty head's biases: a score that is 0 in float32."""
_ALMOST_NOTHING = 1e-9
_COMPARED = 100
"""Boxes of a photo that are compared: those of the likeliest anchors."""
_PREFIX = "learning"
_HEAD_PREFIX = "network/network."


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
