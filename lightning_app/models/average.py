"""The mean of several runs' exported weights."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..core.documents import read_json
from ..core.errors import InputError
from ..core.paths import find
from .fingerprints import check_different, model_fingerprint, tokenizer_fingerprint
from .loading import read_weights
from .locate import CARD_FACTS, WEIGHTS, read_facts

log = logging.getLogger(__name__)


def run_models(runs: Sequence[str]) -> list[Path]:
    """The model folders of runs, each given as its folder or as `RUN/model`.

    Raises:
        InputError: If there are fewer than two, one is no model of a fit, or two are the same.
    """
    folders = []
    for run in runs:
        folder = find(run) or Path(run)
        folder = folder / "model" if (folder / "model" / CARD_FACTS).is_file() else folder
        if not all((folder / name).is_file() for name in (CARD_FACTS, WEIGHTS)):
            raise InputError(f"average {run}: no {CARD_FACTS} and {WEIGHTS}, expected the folder of a fit run")
        folders.append(folder)
    if len(folders) < 2:
        raise InputError(f"average {list(runs)}: expected two or more different runs, such as --average '[A, B]'")
    check_different([str(folder) for folder in folders], "average")
    return folders


def average_weights(folders: Sequence[Path], out: Path) -> None:
    """Write the mean of the weights of models that differ in nothing else (arXiv 2310.10532).

    Sums are taken in float64, and written in the type of the first model. Runs must have started from the same weights,
    the head included (`model.head_seed`), or the mean has no meaning.

    Args:
        folders: Model folders, two or more.
        out: The file to write.

    Raises:
        InputError: If their tokenizers, labels or shapes differ.
    """
    from safetensors.torch import save_file

    first = read_weights(folders[0] / WEIGHTS)
    expected = _comparable(folders[0])
    sums = {name: tensor.double() for name, tensor in first.items()}
    for folder in folders[1:]:
        other = read_weights(folder / WEIGHTS)
        shapes = [{name: tensor.shape for name, tensor in weights.items()} for weights in (first, other)]
        if _comparable(folder) != expected or shapes[0] != shapes[1]:
            raise InputError(
                f"average {folder}: another architecture, label order or tokenizer than {folders[0]}, expected runs "
                "that differ in seed or settings of the training alone"
            )
        for name, tensor in other.items():
            sums[name] += tensor.double()
    mean = {
        name: (total / len(folders)).to(first[name].dtype) if first[name].is_floating_point() else first[name]
        for name, total in sums.items()
    }
    save_file(mean, out, metadata={"format": "pt"})


def averaged_facts(folders: Sequence[Path]) -> dict[str, Any]:
    """What the card says: the first run's facts, with every run named; figures of single runs are left out.

    Raises:
        InputError: If the runs predict under different label priors or temperatures.
    """
    read = [read_facts(folder) for folder in folders]
    for name in ("label_prior", "temperature"):
        if any(one.get(name) != read[0].get(name) for one in read):
            raise InputError(
                f"average: {name} is {[one.get(name) for one in read]}, expected the same in every run; fit them "
                "without export.prior and export.temperature, and export the mean with --prior"
            )
    heads = {one.get("head_seed", one.get("seed")) for one in read}
    if len(heads) > 1:
        log.warning(
            "average: the heads of these runs started from different weights (seeds %s), so that their mean may be "
            "worse than each; fit them with one --model.head_seed", ", ".join(map(str, sorted(heads, key=str))),
        )  # fmt: skip
    runs = [
        {"path": str(folder), "fingerprint": model_fingerprint(str(folder)), "seed": one.get("seed")}
        for folder, one in zip(folders, read, strict=True)
    ]
    left_out = {"dev", "step", "epoch", "monitor", "dev_confusion", "conformal", "results"}
    # Of runs with different gold the mean has no label prior that is known.
    left_out |= {
        name for name in ("gold_counts", "synthetic_counts") if any(one.get(name) != read[0].get(name) for one in read)
    }
    facts = {name: value for name, value in read[0].items() if name not in left_out}
    seeds = dict.fromkeys(one.get("seed") for one in read)
    seed = next(iter(seeds)) if len(seeds) == 1 else ", ".join(map(str, seeds))
    return {**facts, "seed": seed, "averaged": runs}


def _comparable(folder: Path) -> tuple[Any, str]:
    """What must be equal: the network's configuration, and the tokenizer."""
    config = read_json(folder / "config.json", "copy the model folder again from its run")
    for name in ("_name_or_path", "transformers_version"):
        config.pop(name, None)
    return config, tokenizer_fingerprint(str(folder))
