"""A fit ends at the first number that is none; a model of nan is neither exported nor saved."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import Stages
from safetensors.torch import load_file

from labelbridge.callbacks import finite
from labelbridge.lightning_app.core import artifacts
from labelbridge.lightning_app.core.errors import InputError


def refused(outcome, *said: str) -> None:
    assert outcome.code == 2, outcome.err
    lines = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, outcome.err
    assert "Traceback" not in outcome.err
    for one in said:
        assert one in lines[0]


@pytest.mark.slow
@pytest.mark.parametrize("is_late", [False, True])
def test_a_loss_of_nan_ends_the_fit_with_its_step(stages: Stages, monkeypatch: pytest.MonkeyPatch, is_late: bool):
    """Also where the loss of a step is looked at after the next one, or before the next check, as on a GPU."""
    monkeypatch.setattr(finite, "_is_computed_later", lambda loss: is_late)
    refused(
        stages.teacher("--model.learning_rate=1e30"), "step 2: the loss is ", "expected a finite number; lower model."
    )
    assert not artifacts.is_whole(Path("teacher"))
    if Path("teacher/model").exists():  # an earlier check, of numbers
        weights = load_file(Path("teacher/model/model.safetensors"))
        assert all(bool(torch.isfinite(one).all()) for one in weights.values())


@pytest.mark.parametrize("word", ["--model.adam_epsilon=0", "--model.learning_rate=nan", "--model.weight_decay=inf"])
def test_settings_that_would_make_nan_are_refused_at_once(stages: Stages, word: str):
    key = word.removeprefix("--").split("=")[0]
    refused(stages.teacher(word), key)
    assert not Path("teacher").exists()


def test_a_step_that_gives_no_loss_is_none_to_look_at():
    """As a manual optimization may do: Lightning then hands over an empty map."""
    from labelbridge.callbacks import StopAtNonFinite

    StopAtNonFinite().on_train_batch_end(None, None, {}, {"ends_window": True}, 0)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["classifier.weight", "bert.embeddings.word_embeddings.weight"])
def test_a_weight_of_nan_is_not_exported(stages: Stages, monkeypatch: pytest.MonkeyPatch, name: str):
    """Weights may be spoiled by the last step, after which no loss is computed; a rare word's, which no loss shows."""
    from labelbridge.callbacks import StopAtNonFinite

    look = StopAtNonFinite.on_validation_end

    def spoil_then_look(self, trainer, module) -> None:
        if trainer.global_step:
            with torch.no_grad():
                dict(module.network.named_parameters())[name][0] = float("nan")
        look(self, trainer, module)

    monkeypatch.setattr(StopAtNonFinite, "on_validation_end", spoil_then_look)
    refused(stages.teacher(), "1 weights hold nan or inf, the first is network." + name)
    assert not Path("teacher/model").exists()


def test_scores_of_nan_are_not_written(stages: Stages, tiny_classifier: Path, monkeypatch: pytest.MonkeyPatch):
    from labelbridge.modules import TeacherModule

    forward = TeacherModule.forward
    monkeypatch.setattr(TeacherModule, "forward", lambda self, inputs: forward(self, inputs) * float("nan"))
    outcome = stages.pseudolabel(f"--model.model={tiny_classifier}")
    refused(outcome, "row ", "the model's probs is [nan, nan, nan], expected finite numbers")
    assert not artifacts.is_whole(Path("pseudolabel"))


@pytest.mark.slow
def test_a_model_with_nan_is_refused_before_it_is_trained_or_asked(stages: Stages, tiny_classifier: Path):
    from safetensors.torch import save_file

    folder = Path(shutil.copytree(tiny_classifier, "spoilt"))
    weights = load_file(folder / "model.safetensors")
    weights["classifier.bias"][1] = float("inf")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    for outcome in (stages.pseudolabel(f"--model.model={folder}"), stages.teacher(f"--model.model={folder}")):
        refused(outcome, "1 of its weights hold nan or inf, the first is classifier.bias")


@pytest.mark.slow
def test_a_mode_that_is_none_is_refused(stages: Stages):
    """`MAX` once kept the worst check."""
    for mode in ("MAX", "maximum", "Min", ""):
        refused(stages.teacher(f"--export.mode={mode}"), "export.mode")


def test_numbers_that_are_none_are_not_written_into_an_artifact(tmp_path: Path):
    import pyarrow as pa

    for name, bad in (("probs", [0.5, float("nan")]), ("embedding", [1.0, float("inf")]), ("probs", [0.5, 0.2])):
        table = pa.table({"id": ["a", "b"], name: [[0.5, 0.5], bad]})
        with pytest.raises(InputError, match=f"a row 1: {name} .*expected"):
            artifacts.write(tmp_path / "a", table, stage="embed")
        assert not (tmp_path / "a").exists()


def test_no_json_of_ours_holds_what_json_has_no_word_for(tmp_path: Path):
    with pytest.raises(InputError, match="nan"):
        artifacts.write_json(tmp_path / "a.json", {"accuracy": float("nan")})
    assert not (tmp_path / "a.json").exists()
    artifacts.write_json(tmp_path / "a.json", {"accuracy": 0.5})
    assert json.loads((tmp_path / "a.json").read_text()) == {"accuracy": 0.5}
