"""A Hub model is named by the commit of the revision that was asked for, wherever it is named."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import QUIET, Command, Files

from labelbridge.datamodules import PoolDataModule
from labelbridge.lightning_app.core import fingerprint
from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.data.sources import Source
from labelbridge.lightning_app.models.fingerprints import model_fingerprint, tokenizer_fingerprint
from labelbridge.lightning_app.stages import commands_of_module
from labelbridge.modules import (
    CTranslate2Translator,
    Seq2SeqModule,
    StudentModule,
    TransformersGenerator,
    TransformersTranslator,
)

HUB = "org/model"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Hub on which every revision is a commit of its own."""

    def from_pretrained(name: str, *, revision: str | None = None, **_: object) -> SimpleNamespace:
        return SimpleNamespace(_commit_hash=f"commit-of-{revision or 'main'}")

    monkeypatch.setattr("transformers.AutoConfig.from_pretrained", from_pretrained)
    monkeypatch.setattr("labelbridge.lightning_app.models.locate.has_cached", lambda _: True)


def test_a_hub_models_fingerprint_is_its_revisions_commit(hub: None):
    assert model_fingerprint(HUB) == tokenizer_fingerprint(HUB) == "hub:org/model@commit-of-main"
    assert model_fingerprint(HUB, "v2") == tokenizer_fingerprint(HUB, "v2") == "hub:org/model@commit-of-v2"


def test_an_adapters_fingerprint_names_its_bases_revision(hub: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def saved(revision: str | None) -> str:
        settings = {"base_model_name_or_path": HUB, "revision": revision}
        (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
        return model_fingerprint(str(tmp_path))

    monkeypatch.setattr("labelbridge.lightning_app.core.fingerprint.of_files", lambda *_: "own")
    assert saved(None) == fingerprint.of_value(["own", "hub:org/model@commit-of-main"])
    assert saved("v2") == fingerprint.of_value(["own", "hub:org/model@commit-of-v2"])


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (StudentModule, {"task": ...}),
        (TransformersGenerator, {"task": ...}),
        (Seq2SeqModule, {"target_language": "hi"}),
        (TransformersTranslator, {"target_language": "hi"}),
    ],
)
def test_another_revision_is_another_run(hub: None, task: Task, kind: Any, settings: dict[str, Any]):
    settings = {name: task if value is ... else value for name, value in settings.items()}
    for revision in (None, "v2"):
        made = kind(model=HUB, revision=revision, **settings)
        command = commands_of_module(kind.__mro__)[0]
        assert made.identity(command)["model"] == f"hub:org/model@commit-of-{revision or 'main'}"


def test_a_converted_models_tokenizer_has_a_revision_too(hub: None, tiny_nllb: Path):
    made = CTranslate2Translator(target_language="hi", model=str(tiny_nllb), tokenizer=HUB, revision="v2")
    assert made.identity("predict")["tokenizer"] == "hub:org/model@commit-of-v2"


def test_the_tokenizer_is_that_of_the_models_revision(
    cli: Command, files: Files, tiny_classifier: Path, task: Task, monkeypatch: pytest.MonkeyPatch
):
    def from_pretrained(name: str, *, revision: str | None = None, **_: object) -> None:
        raise OSError(f"asked for {revision}")

    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", from_pretrained)
    monkeypatch.setattr("labelbridge.lightning_app.models.locate.has_cached", lambda _: True)
    data = PoolDataModule(task=task, model=HUB, revision="v2", pool=Source(path=str(files.pool)))
    with pytest.raises(InputError, match="its tokenizer cannot be loaded .asked for v2"):
        data.tokenizer  # noqa: B018 - loads it
    words = (f"--model.model={tiny_classifier}", "--model.revision=v3", f"--data.pool.path={files.pool}")
    outcome = cli("predict", "--config", "pseudolabel.yaml", *words, "--out=out", *QUIET)
    assert outcome.code == 2
    assert "asked for v3" in outcome.err
