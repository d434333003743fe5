"""`python main.py export`: a model folder ready for the Hub."""

import logging
import shutil
from pathlib import Path
from typing import Any, Literal

from ..core import artifacts
from ..core.errors import InputError
from ..stages import BY_NAME
from .average import average_weights, averaged_facts, run_models
from .card import is_translator, model_card
from .correction import write_prior
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
    source, out_folder = folders[0] if folders else Path(model), Path(out)
    if not (source / CARD_FACTS).is_file():
        maker = BY_NAME["student"].line
        raise InputError(f'{model}: no {CARD_FACTS}, expected a model folder of a fit run; make it with "{maker}"')
    if folders and test is not None:
        raise InputError(f"test {test}: results of another model than the mean, expected none with --average")
    facts: dict[str, Any] = averaged_facts(folders) if folders else read_facts(source)
    if test is not None:
        if prior is not None:
            raise InputError(f"test {test}: results of the model before --prior changes it, expected none with --prior")
        facts["results"] = _results(Path(test), facts, model)
    _check_replaceable(out_folder, source, overwrite)
    temporary = out_folder.with_name(f".{out_folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(source, temporary)
    try:
        if folders:
            average_weights(folders, temporary / WEIGHTS)
        if prior is not None:
            facts.update(write_prior(temporary, facts, prior, target, str(source)))
    except InputError:
        shutil.rmtree(temporary)
        raise
    artifacts.write_json(temporary / CARD_FACTS, facts)
    (temporary / "README.md").write_text(model_card(facts), encoding="utf-8")
    shutil.rmtree(out_folder, ignore_errors=True)
    temporary.rename(out_folder)
    log.info("%s: ready for the Hub", out)


def _check_replaceable(target: Path, source: Path, overwrite: bool) -> None:
    """Only what an earlier export wrote is ever removed, and never the model itself."""
    if target.exists() and not target.is_dir():
        raise InputError(f"{target}: is a file, expected a folder for the export; choose another --out")
    if target.resolve() in (source.resolve(), *source.resolve().parents):
        raise InputError(f"{target}: holds the model that is to be exported; choose another --out")
    if not target.exists() or not any(target.iterdir()):
        return
    if not overwrite:
        raise InputError(f"{target}: not empty; choose another --out, or replace it with --overwrite true")
    if not (target / CARD_FACTS).is_file():
        raise InputError(f"{target}: not empty, and not an export that could be replaced; choose another --out")


def _results(test: Path, facts: dict[str, Any], model: str) -> dict[str, dict[str, float]]:
    """The metrics of a test artifact, if it is of this very model."""
    from .fingerprints import model_fingerprint

    stage = "score" if is_translator(facts) else "test"
    artifact = artifacts.read(test, stage)
    if artifact.manifest.lineage.get("model") != model_fingerprint(model):
        raise InputError(f'{test}: predictions of another model than {model}; run "{BY_NAME[stage].line}" on it')
    results: dict[str, dict[str, float]] | None = artifact.manifest.facts.get("metrics")
    if not results:
        raise InputError(f'{test}: holds no metrics; remove it and run "{BY_NAME[stage].line}" again')
    return results
