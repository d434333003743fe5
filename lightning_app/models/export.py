"""`python main.py export`: a model folder ready for the Hub."""

import errno
import filecmp
import logging
import os
import re
import shutil
from pathlib import Path
from typing import Any, Literal

from ..core import artifacts
from ..core.errors import InputError, system_errors
from ..core.runs import output_folder
from ..stages import BY_NAME
from .average import average_weights, averaged_facts, run_models
from .card import is_translator, model_card
from .correction import write_prior
from .loading import read_weights
from .locate import CARD_FACTS, WEIGHTS, read_facts

log = logging.getLogger(__name__)


def export(
    model: str = "runs/student/model",
    out: str = "runs/export",
    test: str | None = None,
    average: list[str] | None = None,
    prior: Literal["uniform", "em", "bbse"] | dict[str, float] | None = None,
    target: str | None = None,
    overwrite: bool = False,
) -> None:
    """Copy a trained model to a folder ready for the Hub, with its card.

    Args:
        model: The model folder of a fit run.
        out: The new folder; upload it with `hf upload USER/NAME FOLDER`.
        test: An artifact of a test of this model, whose results go into the card.
        average: Fit runs whose weights are averaged, in the place of `model`; they must differ in seed or training
            settings alone, and start from the same head (`model.head_seed`).
        prior: A label prior to write into the head's bias: `uniform`, a map from label to share, or one estimated on
            the rows of `target`: `em` (Saerens et al., 2002) or `bbse` (Lipton et al., arXiv 1802.03916; takes the
            confusion matrix on the source dev set).
        target: What `predict` wrote when this model scored unlabelled target text (`--config pseudolabel.yaml
            --data.prompt_labels false`); for `em` and `bbse`. These are transductive: the text must not be tested on.
        overwrite: Replace the folder.
    """
    folders = run_models(average) if average is not None else []
    source, out_folder = folders[0] if folders else Path(model), output_folder(out)
    if not (source / CARD_FACTS).is_file():
        maker = BY_NAME["student"].line
        raise InputError(f'{model}: no {CARD_FACTS}, expected a model folder of a fit run; make it with "{maker}"')
    if folders and test is not None:
        raise InputError(f"test {test}: results of another model than the mean, expected none with --average")
    _check_source(source, prior, target)
    facts: dict[str, Any] = averaged_facts(folders) if folders else read_facts(source)
    if test is not None:
        facts["results"] = _results(Path(test), facts, model, prior is not None)
    _recover(out_folder)
    is_there = _check_replaceable(out_folder, source)
    if is_there and not overwrite and read_facts(out_folder).get("base") != facts.get("base"):
        raise InputError(_NOT_EMPTY.format(out_folder))
    temporary = out_folder.absolute().with_name(f".{out_folder.absolute().name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with system_errors(out_folder):
            _copy(source, temporary)
            if folders:
                average_weights(folders, temporary / WEIGHTS)
            if prior is not None:
                facts.update(write_prior(temporary, facts, prior, target, str(source)))
            artifacts.write_json(temporary / CARD_FACTS, facts)
            (temporary / "README.md").write_text(model_card(facts), encoding="utf-8")
        if is_there and not overwrite and not _are_same(temporary, out_folder):
            raise InputError(_NOT_EMPTY.format(out_folder))
    except Exception:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _exchange(temporary, out_folder)
    log.info("%s: ready for the Hub", out)


def _check_source(source: Path, prior: str | dict[str, float] | None, target: str | None) -> None:
    """Refuse a target that nothing is estimated on, and weights that are damaged or not finite."""
    if target is not None and prior not in ("em", "bbse"):
        raise InputError(f"target {target}: expected none without --prior em or bbse, which are estimated on it")
    for file in sorted(source.glob("*.safetensors")):
        read_weights(file)


_NOT_EMPTY = "{}: not empty; choose another --out, or replace it with --overwrite true"


def _exchange(new: Path, out: Path) -> None:
    """Put a finished export in its place; the one that it replaces is removed last."""
    previous = _previous(out)
    if out.exists():
        out.rename(previous)
    new.rename(out)
    shutil.rmtree(previous, ignore_errors=True)


def _recover(out: Path) -> None:
    """Finish an exchange that a kill has interrupted."""
    previous = _previous(out)
    if previous.is_dir() and not out.exists():
        previous.rename(out)
    shutil.rmtree(previous, ignore_errors=True)


def _previous(out: Path) -> Path:
    return out.absolute().with_name(f".{out.absolute().name}.previous")


def _copy(source: Path, target: Path) -> None:
    """Copy a model's folder.

    Raises:
        InputError: If a file of it cannot be copied, such as a link to nothing.
    """
    try:
        shutil.copytree(source, target)
    except shutil.Error as error:  # one line for each file
        name, _, reason = error.args[0][0]
        if (told := re.search(r"\[Errno (\d+)\]", reason)) is not None and int(told[1]) in (errno.ENOSPC, errno.EDQUOT):
            raise OSError(int(told[1]), os.strerror(int(told[1])), str(target)) from None
        raise InputError(f"{name}: cannot be copied ({reason}); copy the model folder again from its run") from None


def _are_same(one: Path, other: Path) -> bool:
    """Whether two folders hold the same files."""
    names, others = ({file.relative_to(folder) for file in _files(folder)} for folder in (one, other))
    return names == others and all(filecmp.cmp(one / name, other / name, shallow=False) for name in names)


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def _check_replaceable(target: Path, source: Path) -> bool:
    """Whether an earlier export is there; only what one wrote is ever removed, and never the model itself.

    Raises:
        InputError: If anything else is there.
    """
    if target.is_symlink() and not target.exists():
        raise InputError(f"{target}: is a link to nothing; remove it, or choose another --out")
    if target.exists() and not target.is_dir():
        raise InputError(f"{target}: is a file, expected a folder for the export; choose another --out")
    if target.resolve() in (source.resolve(), *source.resolve().parents):
        raise InputError(f"{target}: holds the model that is to be exported; choose another --out")
    if source.resolve() in target.resolve().parents:
        raise InputError(f"{target}: is inside the model that is to be exported; choose another --out")
    if not target.exists() or not any(target.iterdir()):
        return False
    if not (target / CARD_FACTS).is_file():
        raise InputError(f"{target}: not empty, and not an export that could be replaced; choose another --out")
    written = {*(file.relative_to(source) for file in _files(source)), Path("README.md"), Path(CARD_FACTS)}
    weights = ("*.safetensors", "*.safetensors.index.json")
    for file in _files(target):
        if file.relative_to(target) not in written and not any(file.match(pattern) for pattern in weights):
            raise InputError(f"{file}: no export wrote it; move it, or choose another --out")
    return True


def _results(test: Path, facts: dict[str, Any], model: str, is_changed: bool) -> dict[str, dict[str, float]]:
    """The metrics of a test artifact, if it is of this very model, as it is exported."""
    if is_changed:
        raise InputError(f"test {test}: results of the model before --prior changes it, expected none with --prior")
    from .fingerprints import model_fingerprint

    stage = "score" if is_translator(facts) else "test"
    artifact = artifacts.read(test, stage)
    if artifact.manifest.lineage.get("model") != model_fingerprint(model):
        raise InputError(f'{test}: predictions of another model than {model}; run "{BY_NAME[stage].line}" on it')
    results: dict[str, dict[str, float]] | None = artifact.manifest.facts.get("metrics")
    if not results or not all(results.values()):
        raise InputError(f'{test}: holds no metrics; remove it and run "{BY_NAME[stage].line}" again')
    return results
