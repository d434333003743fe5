"""ONNX files of an exported classifier, in float32 and int8, each compared with the network row by row."""

# N = rows, C = classes

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..core.errors import InputError
from ..core.packages import require
from ..core.task import Task
from ..data.sources import Rows

log = logging.getLogger(__name__)

FLOAT, INT8 = "onnx/model.onnx", "onnx/model_int8.onnx"  # names by which other tools find them
MOST_DIFFERENT = 1e-4  # of a probability, in float32
BATCH_ROWS = 32
OPSET = 18


def check_onnx() -> None:
    """Refuse an export to ONNX where its packages are missing.

    Raises:
        InputError: Names the extra.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        require(package, "onnx", "onnx")


def write_onnx(
    folder: Path, kind: Literal["float", "int8"], rows: Rows, task: Task, max_length: int
) -> dict[str, dict[str, Any]]:
    """Write the network of a model folder as ONNX, and compare what both say of every row.

    Args:
        folder: The model folder; the files lie in its folder `onnx`.
        kind: `float` writes float32; `int8` quantizes the weights as well, into a second file.
        rows: The rows, with a label if it is known.
        task: Text columns and labels.
        max_length: Longer rows are cut to this many tokens.

    Returns:
        For each file what was measured.

    Raises:
        InputError: If a float32 probability differs by more than 1e-4, naming the row.
    """
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    network = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    texts = list(zip(*(rows.table[name].to_pylist() for name in task.columns), strict=True))
    (folder / "onnx").mkdir(exist_ok=True)
    _write_float(network, dict(tokenizer(*map(list, zip(*_two(texts), strict=True)), **_OPTIONS)), folder / FLOAT)
    if kind == "int8":
        _write_int8(folder / FLOAT, folder / INT8)
    batches = [dict(batch) for batch in _batches(tokenizer, texts, max_length)]
    with torch.no_grad():
        probs_NC = np.concatenate([network(**batch).logits.double().softmax(dim=1).numpy() for batch in batches])
    order = [network.config.label2id.get(label) for label in task.labels]
    label_N = None
    if "label" in rows.table.column_names and None not in order:
        label_N = np.array([order[task.labels.index(label)] for label in rows.table["label"].to_pylist()])
    measured = {}
    for name in (FLOAT, INT8) if kind == "int8" else (FLOAT,):
        other_NC = _probabilities(folder / name, batches)
        measured[name] = _compared(probs_NC, other_NC, label_N)
        log.info("%s: largest difference %.2g over %d rows", name, measured[name]["largest_difference"], len(texts))
        if name == FLOAT and measured[name]["largest_difference"] > MOST_DIFFERENT:
            row = int(np.abs(other_NC - probs_NC).max(axis=1).argmax())
            raise InputError(
                f"onnx: row '{rows.ids[row]}' has probabilities {np.round(other_NC[row], 5).tolist()}, those of the "
                f"network are {np.round(probs_NC[row], 5).tolist()}, expected a difference of at most "
                f"{MOST_DIFFERENT}; this network cannot be exported faithfully, so leave out --onnx"
            )
    return measured


_OPTIONS: dict[str, Any] = {"padding": True, "truncation": True, "return_tensors": "pt"}


def _two(texts: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Two rows as an example: a batch of one, or of rows of one length, would fix these sizes."""
    return [texts[0], tuple(f"{text} {text}" for text in texts[0])]


def _batches(tokenizer: Any, texts: Sequence[tuple[str, ...]], max_length: int) -> Iterator[Any]:
    for start in range(0, len(texts), BATCH_ROWS):
        columns = map(list, zip(*texts[start : start + BATCH_ROWS], strict=True))
        yield tokenizer(*columns, max_length=max_length, **_OPTIONS)


def _write_float(network: Any, example: dict[str, Any], file: Path) -> None:
    """Trace the network for any number of rows and tokens."""
    import torch

    names = list(example)
    shapes = {name: {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC} for name in names}
    is_large = sum(parameter.numel() for parameter in network.parameters()) > 4.5e8  # one file has at most 2 GB
    with _quiet():
        torch.onnx.export(
            network,
            (),
            file,
            kwargs=example,
            input_names=names,
            output_names=["logits"],
            dynamic_shapes=shapes,
            opset_version=OPSET,
            dynamo=True,
            external_data=is_large,
            verbose=False,
        )


def _write_int8(source: Path, file: Path) -> None:
    """Quantize the weights; activations are quantized as they come, so that no rows are needed for it."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    is_large = source.with_name(f"{source.name}.data").is_file()
    with _quiet():
        # Weights of seven bits: sums of two products do not overflow on processors without VNNI.
        quantize_dynamic(
            source,
            file,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
            use_external_data_format=is_large,
        )


def _probabilities(file: Path, batches: Sequence[dict[str, Any]]) -> np.ndarray:
    """What ONNX Runtime computes on the CPU; float64 of shape (N, C)."""
    import onnxruntime
    from scipy.special import softmax

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    names = {one.name for one in session.get_inputs()}
    logits = [
        session.run(["logits"], {name: value.numpy() for name, value in batch.items() if name in names})[0]
        for batch in batches
    ]
    probs_NC: np.ndarray = softmax(np.concatenate(logits).astype(np.float64), axis=1)
    return probs_NC


def _compared(probs_NC: np.ndarray, other_NC: np.ndarray, label_N: np.ndarray | None) -> dict[str, Any]:
    best_N, other_N = probs_NC.argmax(axis=1), other_NC.argmax(axis=1)
    return {
        "rows": len(probs_NC),
        "largest_difference": float(np.abs(other_NC - probs_NC).max()),
        "other_predictions": int((best_N != other_N).sum()),
        "accuracy": None if label_N is None else float((other_N == label_N).mean()),
        "accuracy_of_network": None if label_N is None else float((best_N == label_N).mean()),
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporters say of themselves over several screens."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "root", None)]
    levels = [one.level for one in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for one in loggers:
            one.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for one, level in zip(loggers, levels, strict=True):
                one.setLevel(level)
