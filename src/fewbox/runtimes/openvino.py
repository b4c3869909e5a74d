"""Run an exported detector with OpenVINO: ``.onnx``, or its own ``.xml`` with the ``.bin`` beside it.

It is taken apart: what prepares photos, the network, what selects detections. Only the network may be
rounded: to bfloat16 all of it would be, and boxes in bfloat16 are pixels off. And the network's input
always has one size in most detectors, so OpenVINO lays everything out once, while photos come in all sizes.

The network computes in the precision that the file's header states, all else in float32. Photos are
looked at one by one: batches gain nothing on a processor, see
``docs/decisions/0034-one-thread-a-photo-no-micro-batches.md``.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fewbox.core import num_cores
from fewbox.core.arguments import CPU
from fewbox.core.files import cache_folder, keep_newest, sha256_of
from fewbox.errors import DetectorFileError, SettingError
from fewbox.models.families import config_from_dict, family_of
from fewbox.runtimes import (
    EXPORT_ONE,
    NETWORK_INPUT,
    Outputs,
    files_of,
    opened_again,
    read_onnx_header,
    read_openvino_header,
    require_photos,
)

MAX_COMPILED = 60
"""So many of the parts that were compiled last are kept: those of 20 detectors or more."""
_CONVOLUTIONS = ("Convolution", "GroupConvolution")


class Parts(NamedTuple):
    """Three models; each takes what the ones before it give, in this order."""

    prepare: Any
    """``photos`` to the network's input."""
    network: Any
    """To the outputs of the last convolutions."""
    select: Any
    """``photos``, ``score_threshold``, the network's input and outputs to detections."""


def split_model(model: Any, input_shape: Sequence[int]) -> Parts:
    """Cut ``model`` before the network and after its last convolutions; ``model`` stays as it is.

    Args:
        model: an ``openvino.Model`` of an exported file.
        input_shape: of the network's input, ``[1, 3, h, w]``; -1 where it depends on the photo.
    """
    import openvino

    one_photo = model.clone()
    one_photo.reshape({"photos": [1, -1, -1, 3]})

    whole = one_photo.clone()
    prepare = openvino.Model(
        [_result(_find(whole, NETWORK_INPUT))], [whole.input("photos").get_node()], "prepare"
    )

    whole = one_photo.clone()
    last = _last_outputs(whole)
    network = openvino.Model(
        [*map(_result, last)], [_cut(_find(whole, NETWORK_INPUT), input_shape)], "network"
    )
    network.validate_nodes_and_infer_types()

    whole = one_photo.clone()
    last = _last_outputs(whole)
    given = [whole.input(name).get_node() for name in ("photos", "score_threshold")]
    results = [whole.output(name).get_node() for name in ("boxes", "scores", "class_ids")]
    images = _cut(_find(whole, NETWORK_INPUT), input_shape)
    select = openvino.Model(results, [*given, images, *map(_cut, last)], "select")
    select.validate_nodes_and_infer_types()
    return Parts(prepare, network, select)


def outside_network(model: Any) -> list[str]:
    """Names of all steps of ``model`` that come before its first convolutions or after its last."""
    before, after = _convolved(model), _to_be_convolved(model)
    return [node.get_friendly_name() for node in model.get_ops() if not _is_in(node, before, after)]


def last_convolutions(model: Any) -> list[str]:
    """Names of the convolutions that none follows: those that give codes and logits."""
    after = _to_be_convolved(model)
    names = [node.get_friendly_name() for node in model.get_ops() if _is_convolution(node)]
    return [name for name in names if name not in after]


def _find(model: Any, tensor: str) -> Any:
    return next(
        output for node in model.get_ops() for output in node.outputs() if tensor in output.get_names()
    )


def _cut(output: Any, shape: Sequence[int] | None = None) -> Any:
    """Feed what reads ``output`` from a new parameter instead, which is returned."""
    import openvino

    known = output.get_partial_shape() if shape is None else openvino.PartialShape(list(shape))
    parameter = openvino.opset13.parameter(known, output.get_element_type(), name=f"{_name(output)}/cut")
    for reader in output.get_target_inputs():
        reader.replace_source_output(parameter.output(0))
    return parameter


def _result(output: Any) -> Any:
    """An end of a model at ``output``, with a name that is the same each time."""
    import openvino

    return openvino.opset13.result(output, name=f"{_name(output)}/result")


def _last_outputs(model: Any) -> list[Any]:
    """What comes out of the network, in the order of names: it is the same each time a file is read."""
    before, after = _convolved(model), _to_be_convolved(model)
    outputs = [
        output
        for node in model.get_ops()
        if _is_in(node, before, after)
        for output in node.outputs()
        if any(not _is_in(reader.get_node(), before, after) for reader in output.get_target_inputs())
    ]
    return sorted(outputs, key=_name)


def _name(output: Any) -> str:
    return f"{output.get_node().get_friendly_name()}/{output.get_index()}"


def _is_in(node: Any, convolved: set[str], to_be_convolved: set[str]) -> bool:
    name = node.get_friendly_name()
    return _is_convolution(node) or (name in convolved and name in to_be_convolved)


def _is_convolution(node: Any) -> bool:
    return node.get_type_name() in _CONVOLUTIONS


def _sources(node: Any) -> Iterator[Any]:
    return (value.get_source_output().get_node() for value in node.inputs())


def _convolved(model: Any) -> set[str]:
    """Names of the steps that a convolution comes before."""
    names: set[str] = set()
    for node in model.get_ordered_ops():
        if any(_is_convolution(source) or source.get_friendly_name() in names for source in _sources(node)):
            names.add(node.get_friendly_name())
    return names


def _to_be_convolved(model: Any) -> set[str]:
    """Names of the steps that a convolution follows."""
    names: set[str] = set()
    for node in reversed(model.get_ordered_ops()):
        if _is_convolution(node) or node.get_friendly_name() in names:
            names.update(source.get_friendly_name() for source in _sources(node))
    return names


PRECISIONS = ("float32", "bfloat16", "int8")
"""What a network may compute in. int8 is in the weights of a file."""


class OpenVinoEngine:
    """A file that ``fewbox export`` wrote, on the CPU.

    Args:
        path: ends in ``.onnx`` or ``.xml``.
        num_threads: how many threads one photo may take; all cores if not given. As many photos as fit
            beside each other are computed at once.
        precision: one of ``PRECISIONS``; what the file says if not given. A processor that does not
            multiply bfloat16 uses float32.

    Raises:
        SettingError: OpenVINO is not installed, or the file's weights do not have the precision.
        DetectorFileError: the file is missing, damaged, or not an exported detector.
    """

    name = "openvino"
    runs_on = CPU

    def __init__(self, path: Path, *, num_threads: int | None = None, precision: str | None = None) -> None:
        # As a path from here: a process that is handed this one may be in another folder.
        self._opening = partial(OpenVinoEngine, path.absolute(), num_threads=num_threads, precision=precision)
        core = _start(path)
        read_header = read_openvino_header if path.suffix.lower() == ".xml" else read_onnx_header
        self.header: Mapping[str, Any] = read_header(path)
        require_photos(path, self.header)
        model = _read(core, path, self.header)
        self.precision = _chosen_precision(path, self.header, precision, core)
        try:
            self._config = config_from_dict(self.header["architecture"], self.header["config"])
        except (KeyError, TypeError, ValueError) as error:
            raise DetectorFileError(f"{path}: its header is damaged: {error}", hint=EXPORT_ONE) from error
        try:
            size_hw = self._config.input_size_hw or (-1, -1)
            parts = split_model(model, [1, 3, *size_hw])
        except (StopIteration, RuntimeError) as error:
            raise DetectorFileError(
                f"{path}: its header and its network do not fit: {error}", hint=EXPORT_ONE
            ) from error
        cores = num_cores()
        streams = max(1, cores // (num_threads or cores))
        settings: dict[str, Any] = {
            "NUM_STREAMS": streams,
            "INFERENCE_NUM_THREADS": streams * (num_threads or cores),
            "ENABLE_CPU_PINNING": False,  # other programs use the cores too
        }
        if path.suffix.lower() == ".xml":  # names in what was read from ONNX are new each time
            settings |= _compiled_cache()
        # What int8 leaves of a network is rounded too: the SSD's takes 105 ms instead of 225, by one core.
        rounds = self.precision != "float32" and _has_bfloat16(core)

        def compiled(part: Any, hint: str = "f32") -> Any:
            wanted = settings | {"INFERENCE_PRECISION_HINT": hint}
            try:
                return core.compile_model(part, "CPU", wanted)
            except RuntimeError:  # maybe of a cache whose files this user may neither read nor replace
                if settings.pop("CACHE_DIR", None) is None:
                    raise
            # Not by calling itself: a function that holds itself would keep OpenVINO's network until Python
            # next looks for garbage.
            del wanted["CACHE_DIR"]
            return core.compile_model(part, "CPU", wanted)

        self._network = compiled(parts.network, "bf16" if rounds else "f32")
        self._select = compiled(parts.select)
        # When it is first needed: a YOLOX, which prepares photos without it, opens by a quarter sooner.
        self._prepare = cache(lambda: compiled(parts.prepare))
        self._one_compiles = threading.Lock()  # threads that begin together would each do it
        self._of_thread = threading.local()

    def __reduce__(self) -> tuple[Any, ...]:
        return opened_again, (self._opening, self.header)

    def run(self, photos: NDArray[np.uint8], threshold: float) -> Outputs:
        """As :meth:`Engine.run`."""
        each = [self._run_one(photos[n : n + 1], threshold) for n in range(len(photos))]
        return Outputs(*(np.concatenate(parts) for parts in zip(*each, strict=True)))

    def _run_one(self, photo: NDArray[np.uint8], threshold: float) -> Outputs:
        images = self.prepare(photo)
        self.compute(images)
        return self.select(photo, threshold, images)

    def compute(self, images: Any) -> None:
        """Run the network on its input; this thread's :meth:`select` reads what comes out."""
        network = self._request("network", self._network)
        network.set_input_tensor(images)
        network.infer()

    def select(self, photo: NDArray[np.uint8], threshold: float, images: Any) -> Outputs:
        """The detections in a photo ``[1, H, W, 3]`` that this thread has computed last."""
        from openvino import Tensor

        network, select = self._request("network", self._network), self._request("select", self._select)
        given = [Tensor(photo), Tensor(np.array(threshold, np.float32)), images, *network.output_tensors]
        for number, tensor in enumerate(given):
            select.set_input_tensor(number, tensor)
        select.infer()
        return Outputs(*(tensor.data.copy() for tensor in select.output_tensors))

    def prepare(self, photo: NDArray[np.uint8]) -> Any:
        """The network's input of a photo ``[1, H, W, 3]``."""
        from openvino import Tensor

        images = family_of(self._config).prepared_array(photo[0], self._config)
        if images is not None:
            return Tensor(images)
        with self._one_compiles:
            compiled = self._prepare()
        prepare = self._request("prepare", compiled)
        prepare.set_input_tensor(Tensor(photo))
        prepare.infer()
        return prepare.get_output_tensor(0)

    def _request(self, name: str, compiled: Any) -> Any:
        """This thread's own for a part; what others compute meanwhile is not touched."""
        requests = self._of_thread.__dict__
        if name not in requests:
            requests[name] = compiled.create_infer_request()
        return requests[name]


def _compiled_cache() -> dict[str, str]:
    """The setting with which the next start takes half as long; none where nothing can be kept."""
    kept = cache_folder() / "openvino"
    try:
        kept.mkdir(parents=True, exist_ok=True)
        keep_newest(kept.glob("*.blob"), MAX_COMPILED)
    except OSError:
        return {}
    return {"CACHE_DIR": str(kept)}


@cache
def openvino_core() -> Any:
    """OpenVINO's ``Core``, one for as long as the process lives.

    Of two, the one that goes last gives the thread back the signal stack of the one before, which is gone by
    then: Python's handler of the next signal, Ctrl-C say, would end the process with a segmentation fault.
    See ``findings/openvino_signal_stack.sh``.

    Raises:
        ModuleNotFoundError: openvino is not installed.
    """
    import openvino

    return openvino.Core()


def _start(path: Path) -> Any:
    try:
        return openvino_core()
    except ModuleNotFoundError as error:
        hint = "pip install '.[openvino]'"
        raise SettingError(f"{path}: needs openvino, which is not installed", hint=hint) from error


def _read(core: Any, path: Path, header: Mapping[str, Any]) -> Any:
    weights = files_of(path)[-1]
    hint = f"copy {weights.name} to where {path.name} is: the two belong together"
    if not weights.is_file():
        raise DetectorFileError(f"{weights}: no such file", hint=hint)
    # Weights of another detector fit as well, and would find something else under this one's labels.
    if "weights_sha256" in header and sha256_of(weights) != header["weights_sha256"]:
        raise DetectorFileError(f"{weights}: not the weights of {path.name}, or not all of them", hint=hint)
    try:
        return core.read_model(path)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else "no reason given"
        raise DetectorFileError(f"{path}: cannot be run, or is damaged: {reason}", hint=EXPORT_ONE) from error


def _chosen_precision(path: Path, header: Mapping[str, Any], precision: str | None, core: Any) -> str:
    stored = header.get("precision", "float32")
    chosen = precision or stored
    if chosen not in PRECISIONS:
        raise SettingError(f"unknown precision: {chosen!r}", hint=f"choose one of: {', '.join(PRECISIONS)}")
    if (chosen == "int8") != (stored == "int8"):
        raise SettingError(
            f"{path}: its weights are in {stored}, not in {chosen}",
            hint="export the detector again: fewbox export duck.safetensors duck.xml --precision int8",
        )
    return "float32" if chosen == "bfloat16" and not _has_bfloat16(core) else chosen


def _has_bfloat16(core: Any) -> bool:
    """Whether this processor multiplies bfloat16 itself."""
    return "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
