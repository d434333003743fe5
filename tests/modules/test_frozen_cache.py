"""A fit with stored outputs of its frozen layers is the fit that computes them, and gives the same bits each time."""

import copy
import signal
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import torch
import warm
from conftest import LABELS, Stages
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModel, AutoTokenizer

from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.task import Task
from labelbridge.modules.frozen_cache import FrozenCache
from labelbridge.modules.heads import freeze_lower_layers, load_classifier

TASK = Task("sentiment", ["text"], LABELS)
TEXTS = ["the table was very cold", "it was a very very good morning with the table", "good"]
CACHED = ("--model.frozen_layers=2", "--model.frozen_cache=states/frozen.sqlite")


def three_layers(base: Path, folder: Path) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        config = AutoConfig.from_pretrained(base)
        config.num_hidden_layers = 3
        AutoModel.from_config(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory, tiny_xlmr: Path) -> Path:
    """Three layers, of which two will be frozen."""
    return three_layers(tiny_xlmr, tmp_path_factory.mktemp("models") / "three")


def network_of(encoder: Path, layers: int = 2) -> Any:
    network = load_classifier(str(encoder), TASK, new_head=True)
    freeze_lower_layers(network, layers, "three")
    return network


def batch_of(encoder: Path, texts: list[str], **settings: Any) -> dict[str, torch.Tensor]:
    return dict(AutoTokenizer.from_pretrained(encoder, **settings)(texts, padding=True, return_tensors="pt"))


def logits_from(cache: FrozenCache, network: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    with cache.outputs_given(inputs):
        return network(**inputs).logits


@pytest.mark.parametrize("base", ["tiny_bert", "tiny_xlmr"])
@pytest.mark.parametrize("layers", [1, 2])
def test_logits_and_gradients_are_those_of_all_layers(base: str, layers: int, tmp_path: Path, request):
    folder = three_layers(request.getfixturevalue(base), tmp_path / "three")
    network, inputs = network_of(folder, layers).eval().double(), batch_of(folder, TEXTS)
    expected = network(**inputs).logits
    expected.square().sum().backward()
    gradients = {name: weight.grad for name, weight in network.named_parameters() if weight.grad is not None}
    cache = FrozenCache(tmp_path / "frozen.sqlite", network, layers, "three")
    for _ in range(2):  # computed, then read
        network.zero_grad(set_to_none=True)
        logits = logits_from(cache, network, inputs)
        torch.testing.assert_close(logits, expected)
        logits.square().sum().backward()
        for name, weight in network.named_parameters():
            assert (weight.grad is None) == (name not in gradients), name
            if weight.grad is not None:
                torch.testing.assert_close(weight.grad, gradients[name])
    assert torch.equal(network(**inputs).logits, expected)  # outside of it the network is what it was


def test_a_rows_output_does_not_depend_on_its_batch(encoder: Path, tmp_path: Path):
    network = network_of(encoder)
    alone = FrozenCache(tmp_path / "alone.sqlite", network, 2, "three")
    together = FrozenCache(tmp_path / "together.sqlite", network, 2, "three")
    states_BLD = together._states(batch_of(encoder, TEXTS))
    for row, text in enumerate(TEXTS):
        state_LD = alone._states(batch_of(encoder, [text]))[0]
        assert torch.equal(states_BLD[row, : len(state_LD)], state_LD)
        assert not states_BLD[row, len(state_LD) :].any()


def test_each_row_is_computed_once(encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    network, inputs = network_of(encoder).train(), batch_of(encoder, [*TEXTS, TEXTS[0]])
    computed = []
    compute = FrozenCache._compute
    monkeypatch.setattr(FrozenCache, "_compute", lambda self, alone: computed.append(1) or compute(self, alone))
    for _ in range(3):
        logits_from(FrozenCache(tmp_path / "frozen.sqlite", network, 2, "three"), network, inputs)
    assert len(computed) == 3
    assert network.training
    assert all(module.training for module in network.modules())


def test_what_another_run_computes_meanwhile_is_taken_over(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    inputs = batch_of(encoder, TEXTS)
    here, there = (FrozenCache(tmp_path / "frozen.sqlite", network_of(encoder), 2, "three") for _ in range(2))
    compute, computed = FrozenCache._compute, []

    def compute_beside_another(self: FrozenCache, alone: dict[str, torch.Tensor]) -> torch.Tensor:
        computed.append(self)
        if len(computed) == 1:
            there._states(inputs)
        return compute(self, alone)

    monkeypatch.setattr(FrozenCache, "_compute", compute_beside_another)
    states_BLD = here._states(inputs)
    assert computed == [here, *[there] * len(TEXTS)]
    assert torch.equal(states_BLD, there._states(inputs))


def test_a_file_serves_several_encoders(encoder: Path, tiny_bert: Path, tmp_path: Path):
    """Even of the same tokens: the outputs are found by the frozen weights."""
    other = three_layers(tiny_bert, tmp_path / "other")
    inputs = {"input_ids": torch.tensor([[2, 5, 6, 3]]), "attention_mask": torch.ones(1, 4, dtype=torch.int64)}
    moved = network_of(encoder)
    with torch.no_grad():
        moved.base_model.encoder.layer[0].output.dense.weight.mul_(3.0)
    for network in (network_of(encoder), network_of(other), moved, network_of(encoder, 1)):
        network.eval()
        layers = sum(not layer.output.dense.bias.requires_grad for layer in network.base_model.encoder.layer)
        cache = FrozenCache(tmp_path / "frozen.sqlite", network, layers, "three")
        torch.testing.assert_close(logits_from(cache, network, inputs), network(**inputs).logits)


def test_a_file_serves_several_precisions(encoder: Path, tmp_path: Path):
    """Also where the Trainer changes that of the weights after the file was opened."""
    inputs = batch_of(encoder, TEXTS)
    for dtype in (torch.float32, torch.float64, torch.float32):
        network = network_of(encoder).eval()
        cache = FrozenCache(tmp_path / "frozen.sqlite", network, 2, "three")
        network.to(dtype)
        torch.testing.assert_close(logits_from(cache, network, inputs), network(**inputs).logits)


def test_a_copy_of_the_network_computes_its_own(encoder: Path, tmp_path: Path):
    """Averaged weights are a deep copy."""
    network, inputs = network_of(encoder).eval(), batch_of(encoder, TEXTS)
    pair = {"network": network, "cache": FrozenCache(tmp_path / "frozen.sqlite", network, 2, "three")}
    twin = copy.deepcopy(pair)
    with torch.no_grad():
        twin["network"].base_model.encoder.layer[2].output.dense.weight.mul_(3.0)
    expected = twin["network"](**inputs).logits
    torch.testing.assert_close(logits_from(twin["cache"], twin["network"], inputs), expected)
    assert not torch.allclose(logits_from(pair["cache"], network, inputs), expected)


def test_rows_padded_at_their_start_are_refused(encoder: Path, tmp_path: Path):
    network = network_of(encoder)
    cache = FrozenCache(tmp_path / "frozen.sqlite", network, 2, "three")
    with pytest.raises(InputError, match=r"pads at the start of a row, expected at its end; set"):
        logits_from(cache, network, batch_of(encoder, TEXTS, padding_side="left"))


@pytest.mark.parametrize("layers", [0, 3])
def test_some_layers_must_be_frozen_and_some_trained(layers: int, encoder: Path, tmp_path: Path):
    with pytest.raises(InputError, match=rf"model.frozen_layers is {layers}, expected 1 to 2 \(of the 3 layers"):
        FrozenCache(tmp_path / "frozen.sqlite", network_of(encoder, layers), layers, "three")
    assert not (tmp_path / "frozen.sqlite").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["--model.frozen_cache=frozen.sqlite"],
        ["--model.frozen_cache=frozen.sqlite", "--model.frozen_layers=0"],
        [*CACHED, "--model.gradient_checkpointing=true"],
    ],
)
def test_settings_that_do_not_go_with_it(words: list[str], stages: Stages, encoder: Path):
    outcome = stages.teacher(f"--model.model={encoder}", *words)
    assert outcome.code == 2
    assert "expected at least one frozen layer and no gradient checkpointing; set these" in outcome.err
    assert not Path("teacher").exists()


def damaged(file: Path) -> None:
    file.write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 8)


def of_another_program(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE outputs (name TEXT)")


def a_folder(file: Path) -> None:
    file.mkdir()


@pytest.mark.slow
@pytest.mark.parametrize("harm", [damaged, of_another_program, a_folder])
def test_a_file_that_cannot_be_used(harm: Any, stages: Stages, encoder: Path):
    Path("states").mkdir()
    harm(Path("states/frozen.sqlite"))
    outcome = stages.teacher(f"--model.model={encoder}", *CACHED)
    assert outcome.code == 2
    assert "error: model.frozen_cache states/frozen.sqlite: " in outcome.err
    assert "remove it, for it holds only what can be computed anew" in outcome.err


@pytest.mark.slow
def test_the_loop_with_it_is_the_loop_without(stages: Stages, encoder: Path):
    """Dropout aside, which the frozen layers do not have with it. In float64, as Adam enlarges what rounding leaves."""
    words = (f"--model.model={encoder}", "--model.frozen_layers=2", "--model.dropout=0", "--trainer.precision=64-true")
    assert stages.teacher(*words).code == 0
    assert stages.teacher(*words, CACHED[1], "--out=cached").code == 0
    for name, weight in load_file("teacher/model/model.safetensors").items():
        torch.testing.assert_close(load_file("cached/model/model.safetensors")[name], weight, rtol=1e-5, atol=1e-6)
    assert stages.test("--model.model=teacher/model").code == 0
    assert stages.test("--model.model=teacher/model", *CACHED, "--out=tested").code == 0
    rows, others = (pytest.importorskip("pandas").read_parquet(folder) for folder in ("test", "tested"))
    assert list(rows["id"]) == list(others["id"])
    for probs, other in zip(rows["probs"], others["probs"], strict=True):
        assert list(other) == pytest.approx(list(probs), abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["--average.every=step"]])
def test_a_warm_file_or_a_kill_changes_no_bit(more: list[str], stages: Stages, encoder: Path, tmp_path: Path):
    words = ["fit", "--config", "teacher.yaml", *stages.fit_words, f"--model.model={encoder}", *CACHED, *more]
    words.append("--resume.every_n_steps=1")
    assert warm.run([*words, "--out=cold"], tmp_path) == 0, warm.said(tmp_path)
    assert warm.run([*words, "--out=warm"], tmp_path) == 0, warm.said(tmp_path)
    kill = warm.probe("KillAt", batch=13, number=int(signal.SIGKILL))
    other = ["--model.frozen_cache=other.sqlite", "--out=killed"]
    assert warm.run([*words, *kill, *other], tmp_path) == -signal.SIGKILL
    assert warm.run([*words, *other], tmp_path) == 0, warm.said(tmp_path)
    weights = [load_file(f"{out}/model/model.safetensors") for out in ("cold", "warm", "killed")]
    assert all(torch.equal(weights[0][name], again[name]) for again in weights[1:] for name in again)


@pytest.mark.slow
def test_two_processes_share_a_file(stages: Stages, encoder: Path, tmp_path: Path):
    words = [
        "fit",
        "--config",
        "teacher.yaml",
        *stages.fit_words,
        f"--model.model={encoder}",
        "--model.dropout=0",
        *CACHED,
    ]
    assert warm.run([*words, "--out=one", "--model.frozen_cache=one.sqlite"], tmp_path) == 0, warm.said(tmp_path)
    two = ["--trainer.devices=2", "--trainer.strategy=ddp_fork", "--trainer.accumulate_grad_batches=1", "--out=two"]
    assert warm.run([*words, *two], tmp_path) == 0, warm.said(tmp_path)
    weights, others = (load_file(f"{out}/model/model.safetensors") for out in ("one", "two"))
    for name, weight in weights.items():
        torch.testing.assert_close(others[name], weight, rtol=1e-3, atol=1e-4)
