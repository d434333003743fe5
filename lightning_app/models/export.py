"""`python main.py export`: a model folder ready for the Hub."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

from ..core import artifacts
from ..core.errors import InputError
from .card import is_translator, model_card
from .locate import CARD_FACTS

log = logging.getLogger(__name__)


def export(
    model: str = "runs/student/model", out: str = "runs/export", test: str | None = None, overwrite: bool = False
) -> None:
    """Copy a trained model to a folder ready for the Hub, with its card.

    Args:
        model: The model folder of a fit run.
        out: The new folder; upload it with `hf upload USER/NAME FOLDER`.
        test: An artifact of a test of this model, whose results go into the card.
        overwrite: Replace the folder.
    """
    source, target = Path(model), Path(out)
    if not (source / CARD_FACTS).is_file():
        maker = artifacts.MAKERS["student"]
        raise InputError(f'{model}: no {CARD_FACTS}, expected a model folder of a fit run; make it with "{maker}"')
    facts: dict[str, Any] = json.loads((source / CARD_FACTS).read_text(encoding="utf-8"))
    if test is not None:
        facts["results"] = _results(Path(test), facts, model)
    _check_replaceable(target, source, overwrite)
    temporary = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(source, temporary)
    artifacts.write_json(temporary / CARD_FACTS, facts)
    (temporary / "README.md").write_text(model_card(facts), encoding="utf-8")
    shutil.rmtree(target, ignore_errors=True)
    temporary.rename(target)
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
        raise InputError(f'{test}: predictions of another model than {model}; run "{artifacts.MAKERS[stage]}" on it')
    results: dict[str, dict[str, float]] = artifact.manifest.facts["metrics"]
    return results
