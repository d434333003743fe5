"""`python main.py export`: a model folder ready for the Hub."""

import errno
import logging
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from ..core import artifacts
from ..core.errors import InputError
from ..core.pairings import With, Without, check_pairings
from ..core.runs import output_folder
from ..core.task import Task
from ..data.near_duplicates import leakage_lines
from ..data.recorded import configured_sources
from ..data.sources import Rows, Source, load_rows
from ..stages import BY_NAME
from .average import average_weights, averaged_facts, run_models
from .card import is_translator, model_card
from .correction import write_prior
from .export_data import export_rows
from .folders import check_apart, files_in, write_folder
from .lineage import lineage_of
from .loading import has_tokenizer, read_weights
from .locate import CARD_FACTS, WEIGHTS, read_facts
from .onnx_files import check_onnx, write_onnx
from .push import check_push
from .push import push as upload

log = logging.getLogger(__name__)


_OF_MODEL = Without("selection", "exports a data set and no model")


@check_pairings
def export(
    model: Annotated[str, _OF_MODEL, Without("average", "exports the mean of other models")] = "runs/student/model",
    out: str = "runs/export",
    test: Annotated[str | None, _OF_MODEL] = None,
    average: Annotated[list[str] | None, _OF_MODEL] = None,
    prior: Annotated[Literal["uniform", "em", "bbse"] | dict[str, float] | None, _OF_MODEL] = None,
    target: Annotated[str | None, _OF_MODEL] = None,
    selection: str | None = None,
    onnx: Annotated[Literal["float", "int8"] | None, _OF_MODEL] = None,
    compare_on: Annotated[Source | list[Source] | None, _OF_MODEL, With("onnx")] = None,
    license: str | None = None,  # noqa: A002 - what the Hub calls it
    languages: list[str] | None = None,
    push: str | None = None,
    overwrite: bool = False,
) -> None:
    """Make a trained model, or a selection, a folder ready for the Hub, with its card.

    Args:
        model: The model folder of a fit run.
        out: The new folder; upload it with `--push USER/NAME`, or later with `hf upload USER/NAME FOLDER`.
        test: An artifact of a test of this model, whose results go into the card.
        average: Fit runs whose weights are averaged, in the place of `model`; they must differ in seed or training
            settings alone, and start from the same head (`model.head_seed`).
        prior: A label prior to write into the head's bias: `uniform`, a map from label to share, or one estimated on
            the rows of `target`: `em` (Saerens et al., 2002) or `bbse` (Lipton et al., arXiv 1802.03916; takes the
            confusion matrix on the source dev set).
        target: What `predict` wrote when this model scored unlabelled target text (`--config pseudolabel.yaml
            --data.prompt_labels false`); for `em` and `bbse`. These are transductive: the text must not be tested on.
        selection: A selection to export as a data set, in the place of a model.
        onnx: Also write the network as ONNX: `float`, or `int8` for both; compared with the network row by row, and
            refused if a float32 probability differs by more than 1e-4.
        compare_on: Labelled rows to compare the ONNX files on; by default the targets of `test`.
        license: The licence that the card names, by the Hub's identifier: `apache-2.0`, `cc-by-4.0`.
        languages: The languages that the card names; by default those of the tested, or selected, rows.
        push: Upload the folder to USER/NAME on the Hub; a new repository is private.
        overwrite: Replace the folder.
    """
    if push is not None:
        check_push(push)
    if selection is not None:
        export_rows(selection, output_folder(out), license, languages, overwrite)
    else:
        named = {"license": license, "languages": languages}
        _export_model(model, output_folder(out), test, average, prior, target, onnx, compare_on, named, overwrite)
    log.info("%s: ready for the Hub", out)
    if push is not None:
        log.info("%s: on the Hub", upload(output_folder(out), push, "model" if selection is None else "dataset"))


def _export_model(
    model: str,
    out: Path,
    test: str | None,
    average: list[str] | None,
    prior: Any,
    target: str | None,
    onnx: Literal["float", "int8"] | None,
    compare_on: Source | list[Source] | None,
    named: dict[str, Any],
    overwrite: bool,
) -> None:
    folders = run_models(average) if average is not None else []
    source = folders[0] if folders else Path(model)
    if not (source / CARD_FACTS).is_file():
        maker = BY_NAME["student"].line
        raise InputError(f'{model}: no {CARD_FACTS}, expected a model folder of a fit run; make it with "{maker}"')
    if folders and test is not None:
        raise InputError(f"test {test}: results of another model than the mean, expected none with --average")
    check_apart(out, source, "model")
    _check_source(source, prior, target)
    for folder in folders or [source]:
        _check_loads(folder)
    facts: dict[str, Any] = averaged_facts(folders) if folders else read_facts(source)
    if test is not None:
        facts.update(_of_test(Path(test), facts, model, prior is not None))
    facts.update({name: value for name, value in named.items() if value is not None})
    facts["lineage"] = [one for folder in folders or [source] for one in lineage_of(folder)]
    compared = None if onnx is None else _rows_to_compare(compare_on, test, facts)

    def write(place: Path) -> None:
        _copy(source, place)
        if folders:
            average_weights(folders, place / WEIGHTS)
        if prior is not None:
            facts.update(write_prior(place, facts, prior, target, str(source)))
            if facts.pop("conformal", None) is not None:  # of the head before the correction
                log.warning("%s: conformal sets are left out, as they were calibrated without --prior", out)
        if onnx is not None and compared is not None:
            facts["onnx"] = write_onnx(place, onnx, compared, Task(**facts["task"]), facts.get("max_length", 128))
        artifacts.write_json(place / CARD_FACTS, facts)
        (place / "README.md").write_text(model_card(facts), encoding="utf-8")

    copied = [file.relative_to(source) for file in files_in(source)]
    write_folder(out, write, copied, overwrite, lambda there: there.get("base") == facts.get("base"))


def _check_source(source: Path, prior: str | dict[str, float] | None, target: str | None) -> None:
    """Refuse a target that nothing is estimated on, damaged weights, and a folder that lacks weights or tokenizer."""
    if target is not None and prior not in ("em", "bbse"):
        raise InputError(f"target {target}: expected none without --prior em or bbse, which are estimated on it")
    files = sorted(source.glob("*.safetensors"))
    if not files or not has_tokenizer(source):
        raise InputError(
            f"{source}: no {'tokenizer' if files else 'weights'} in it, expected a complete model folder; copy it "
            "again from its run"
        )
    for file in files:
        read_weights(file)


def _check_loads(folder: Path) -> None:
    """Refuse a model's folder that no command could load, or whose labels contradict what was trained."""
    from .complete import check_model_folder

    check_model_folder(folder, read_facts(folder))


def _rows_to_compare(rows: Source | list[Source] | None, test: str | None, facts: dict[str, Any]) -> Rows:
    """The rows on which ONNX files are compared with the network: those given, or the targets of the test.

    Raises:
        InputError: If there are none, or the packages that ONNX requires are missing.
    """
    check_onnx()
    if is_translator(facts):
        raise InputError("onnx: is given for a translator, expected null; only classifiers are exported to ONNX")
    if rows is None and test is not None:
        named = configured_sources(Path(test), "targets")
        rows = [replace(one, id_prefix=f"{name}/{one.id_prefix}") for name, one in named.items()]
    if not rows:
        raise InputError("onnx: no rows to compare it with the network on; give --compare_on FILE, or --test RUN/test")
    found = load_rows(rows, Task(**facts["task"]), "label")
    found.check_any("compare_on")
    return found


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


def _of_test(test: Path, facts: dict[str, Any], model: str, is_changed: bool) -> dict[str, Any]:
    """What a card says of a test artifact, if it is of this very model, as it is exported."""
    if is_changed:
        raise InputError(f"test {test}: results of the model before --prior changes it, expected none with --prior")
    from .fingerprints import model_fingerprint

    stage = "score" if is_translator(facts) else "test"
    artifact = artifacts.read(test, stage)
    if artifact.manifest.lineage.get("model") != model_fingerprint(model):
        raise InputError(f'{test}: predictions of another model than {model}; run "{BY_NAME[stage].line}" on it')
    results: dict[str, dict[str, float]] | None = artifact.manifest.facts.get("metrics")
    if not results or not all(scores.keys() & {"accuracy", "bleu", "chrf"} for scores in results.values()):
        raise InputError(f'{test}: holds no metrics; remove it and run "{BY_NAME[stage].line}" again')
    found: dict[str, Any] = {"results": results}
    if "lang" in artifact.table.column_names:
        found["languages"] = sorted({one for one in artifact.table["lang"].to_pylist() if one})
    if "leakage" in artifact.manifest.facts:
        found["near_duplicates"] = list(leakage_lines(artifact.manifest.facts["leakage"]))
    return found
