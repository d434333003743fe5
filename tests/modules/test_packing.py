"""A packed batch has the logits and gradients of the padded one, and computes tokens alone outside of attention."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import LABELS, Files
from lightning.pytorch import Trainer, seed_everything
from tiny_networks import PADDING, network_of

from labelbridge.datamodules import GoldDataModule
from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.data.sources import Source
from labelbridge.modules import TeacherModule
from labelbridge.modules.attention import Groups
from labelbridge.modules.heads import freeze_lower_layers, load_classifier
from labelbridge.modules.packing import PACKED_TYPES, _computes, make_packable, obstacle, pack_sorted, packed_logits

TASK = Task("sentiment", ["text"], LABELS)
# Logits of about 1, whose rounding is that of usual networks; the others' large weights amplify it.
MODERATE = {"initializer_range": 0.2}
LENGTHS = [1, 2, 33, 7, 0, 20, 33, 4, 30]  # 130 tokens, more than the positions that the networks know


def batch() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    places_BL = torch.arange(max(LENGTHS)).expand(len(LENGTHS), -1)
    mask_BL = (places_BL < torch.tensor(LENGTHS)[:, None]).long()
    ids_BL = torch.randint(4, 60, mask_BL.shape, generator=generator).masked_fill(mask_BL == 0, PADDING)
    return {"input_ids": ids_BL, "attention_mask": mask_BL, "token_type_ids": (places_BL > 5).long() * mask_BL}


REAL = torch.tensor(LENGTHS) > 0  # what an empty row gives plays no part in a loss


def gradients(network: Any, logits_BC: torch.Tensor) -> dict[str, torch.Tensor]:
    network.zero_grad()
    logits_BC[REAL].double().logsumexp(dim=1).sum().backward()
    return {name: weight.grad.clone() for name, weight in network.named_parameters() if weight.grad is not None}


def assert_same(network: Any, inputs: dict[str, torch.Tensor], within: float) -> None:
    make_packable(network)
    padded_BC, packed_BC = network(**inputs).logits, packed_logits(network, inputs)
    assert packed_BC.isfinite().all()
    torch.testing.assert_close(packed_BC[REAL], padded_BC[REAL], rtol=0, atol=within)
    of_padded, of_packed = gradients(network, padded_BC), gradients(network, packed_BC)
    assert set(of_packed) == set(of_padded)
    for name, gradient in of_padded.items():
        scale = max(1.0, float(gradient.abs().max()))
        torch.testing.assert_close(of_packed[name], gradient, rtol=0, atol=within * scale)


@pytest.mark.parametrize("kind", PACKED_TYPES)
def test_logits_and_gradients_are_those_of_the_padded_batch(kind: str):
    assert obstacle(network_of(kind)) is None
    assert_same(network_of(kind, **MODERATE), batch(), within=1e-5)
    assert_same(network_of(kind).double(), batch(), within=1e-11)


@pytest.mark.parametrize("kind", ["bert", "xlm-roberta"])
def test_the_same_in_mixed_bfloat16(kind: str):
    with torch.autocast("cpu", torch.bfloat16):
        assert_same(network_of(kind, **MODERATE), batch(), within=2e-2)


@pytest.mark.parametrize("kind", ["bert", "xlm-roberta"])
def test_mixed_bfloat16_rounds_about_as_much_as_with_the_padded_batch(kind: str):
    network, exact = network_of(kind), network_of(kind).double()
    make_packable(network)
    exact_BC = exact(**batch()).logits
    of_exact = gradients(exact, exact_BC)
    errors = []
    for logits_of in (network.forward, lambda **inputs: SimpleNamespace(logits=packed_logits(network, inputs))):
        with torch.autocast("cpu", torch.bfloat16):
            logits_BC = logits_of(**batch()).logits
        found = gradients(network, logits_BC)
        error = torch.cat([(found[name] - gradient).flatten() for name, gradient in of_exact.items()])
        errors.append((float((logits_BC - exact_BC)[REAL].norm()), float(error.norm())))
    padded, packed = errors
    assert 0 < packed[0] <= 1.5 * padded[0]
    assert 0 < packed[1] <= 1.5 * padded[1]


@pytest.mark.parametrize("kind", ["bert", "xlm-roberta"])
def test_the_same_without_token_types_and_with_frozen_or_recomputed_layers(kind: str):
    inputs = batch()
    del inputs["token_type_ids"]
    network = network_of(kind).double()
    freeze_lower_layers(network, 1, kind)
    assert_same(network, inputs, within=1e-11)
    recomputed = network_of(kind, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0).double().train()
    recomputed.gradient_checkpointing_enable()
    assert_same(recomputed, inputs, within=1e-11)


@pytest.mark.parametrize("base", ["tiny_bert", "tiny_xlmr"])
def test_the_same_with_mean_pooling(base: str, request: pytest.FixtureRequest):
    network = load_classifier(str(request.getfixturevalue(base)), TASK, new_head=True, pooling="mean").double().eval()
    inputs = {name: batch()[name] for name in ("input_ids", "attention_mask")}
    inputs["input_ids"] = inputs["input_ids"] % 20
    assert_same(network, inputs, within=1e-11)


@pytest.mark.parametrize(
    ("capability", "dtype", "width", "is_on", "expected"),
    [
        ((9, 0), torch.bfloat16, 64, True, True),
        ((8, 0), torch.float16, 32, True, True),
        ((7, 5), torch.float16, 64, True, False),
        ((9, 0), torch.float32, 64, True, False),
        ((9, 0), torch.bfloat16, 20, True, False),
        ((9, 0), torch.bfloat16, 512, True, False),
        ((9, 0), torch.bfloat16, 64, False, False),
    ],
)
def test_flash_attention_is_taken_where_it_runs(
    capability: tuple[int, int], dtype: torch.dtype, width: int, is_on: bool, expected: bool,
    monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    monkeypatch.setattr(torch.backends.cuda, "is_flash_attention_available", lambda: True)
    monkeypatch.setattr(torch.backends.cuda, "flash_sdp_enabled", lambda: is_on)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    query = SimpleNamespace(is_cuda=True, dtype=dtype, shape=(1, 2, 10, width), device="cuda:0")
    assert _computes(query) is expected


def test_only_attention_sees_rows():
    network = network_of("xlm-roberta")
    make_packable(network)
    shapes = []
    for layer in network.roberta.encoder.layer:
        layer.intermediate.register_forward_hook(lambda _, given, __: shapes.append(tuple(given[0].shape)))
    packed_logits(network, batch())
    tokens = sum(max(length, 1) for length in LENGTHS)
    assert tokens == 131
    assert shapes == [(1, 136, 16)] * 2  # the next multiple of 8


def test_few_numbers_of_tokens_occur():
    network = network_of("bert")
    for tokens in range(1, 600):
        lengths = [tokens // 7] * 6 + [tokens - tokens // 7 * 6]
        mask_BL = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
        packed = pack_sorted(network, {"input_ids": torch.ones_like(mask_BL), "attention_mask": mask_BL})
        assert packed is not None
        found = packed.inputs["input_ids"].shape[1]
        real = sum(max(length, 1) for length in lengths)
        assert real <= found <= real * 17 / 16
        assert found % (1 << max(0, (found // 32).bit_length() - 1)) == 0


def test_attention_has_dropout_of_the_same_distribution():
    network = network_of("bert", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.5).train()
    make_packable(network)
    rows, draws = torch.tensor([1, 3]), 2000  # of 2 and 7 tokens
    inputs = {name: value[rows, :7].repeat(draws, 1) for name, value in batch().items()}
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        packed, padded = (
            values.view(draws, len(rows), 3) for values in (packed_logits(network, inputs), network(**inputs).logits)
        )
    error = ((packed.var(dim=0) + padded.var(dim=0)) / draws).sqrt()
    assert (error > 0).all()
    assert ((packed.mean(dim=0) - padded.mean(dim=0)).abs() < 4 * error).all()
    torch.testing.assert_close(packed.std(dim=0), padded.std(dim=0), rtol=0.1, atol=0)


def test_padded_batches_and_the_saved_folder_stay_as_they_were(tmp_path: Path):
    network, inputs = network_of("xlm-roberta"), batch()
    before_BC = network(**inputs).logits
    network.save_pretrained(tmp_path / "before")
    make_packable(network)
    assert torch.equal(network(**inputs).logits, before_BC)
    network.save_pretrained(tmp_path / "after")
    settings = [json.loads((tmp_path / name / "config.json").read_text()) for name in ("before", "after")]
    assert settings[0] == settings[1]


def test_rows_that_are_padded_at_their_start_are_not_packed():
    network = network_of("bert")
    make_packable(network)
    inputs = {name: value.flip(1) for name, value in batch().items()}
    assert torch.equal(packed_logits(network, inputs)[REAL], network(**inputs).logits[REAL])


@pytest.mark.parametrize(
    ("kind", "settings", "reason"),
    [("deberta-v2", {}, "of type deberta-v2"), ("bert", {"is_decoder": True}, "causal")],
)
def test_other_networks_are_not_packed(kind: str, settings: dict[str, Any], reason: str):
    assert reason in str(obstacle(network_of(kind, **settings)))


def test_code_that_comes_with_a_model_is_not_packed():
    network = network_of("bert")
    network.__class__ = type("OfItsAuthors", (type(network),), {})
    assert "OfItsAuthors" in str(obstacle(network))


def fit(files: Files, model: Path, **settings: Any) -> tuple[TeacherModule, Trainer]:
    seed_everything(0, verbose=False)
    data = GoldDataModule(
        task=TASK, model=str(model), train=Source(path=str(files.gold)), dev=Source(path=str(files.dev)), batch_size=4
    )
    module = TeacherModule(task=TASK, model=str(model), learning_rate=0.01, dropout=0.0, **settings)
    trainer = Trainer(
        accelerator="cpu", precision="64-true", max_epochs=2, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    return module, trainer


def test_a_packed_fit_gives_the_weights_of_a_padded_one(files: Files, tiny_xlmr: Path):
    packed, trainer = fit(files, tiny_xlmr, length_groups="packed")
    padded, padded_trainer = fit(files, tiny_xlmr, length_groups=False)
    assert packed._packs
    assert not padded._packs
    for (name, weight), other in zip(
        packed.network.state_dict().items(), padded.network.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(weight, other, rtol=1e-6, atol=1e-8, msg=name)
    assert float(trainer.callback_metrics["dev/loss"]) == pytest.approx(
        float(padded_trainer.callback_metrics["dev/loss"]), abs=1e-8
    )


def test_batches_are_packed_before_they_go_to_the_device(
    files: Files, tiny_xlmr: Path, monkeypatch: pytest.MonkeyPatch
):
    batches = []
    logits = TeacherModule._batch_logits
    monkeypatch.setattr(TeacherModule, "_batch_logits", lambda *given: batches.append(given[1]) or logits(*given))
    fit(files, tiny_xlmr, length_groups="packed")
    assert batches
    for batch in batches:
        assert isinstance(batch["packed"].rows, Groups)
        token_BL = batch["inputs"]["attention_mask"] > 0
        ids = batch["inputs"]["input_ids"][token_BL]
        packed = batch["packed"].inputs["input_ids"][0]
        assert torch.equal(packed[: len(ids)].sort().values, ids.sort().values)
        assert token_BL.sum(dim=1).min() > 2
        for place in (0, 1, 2):  # a row's first tokens
            assert torch.equal(packed[batch["packed"].first_B + place], batch["inputs"]["input_ids"][:, place])


def test_a_fit_that_keeps_outputs_of_frozen_layers_says_that_it_does_not_pack(
    files: Files, tiny_xlmr: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO")
    module, _ = fit(
        files, tiny_xlmr, length_groups="packed", pooling="mean", frozen_layers=1,
        frozen_cache=str(tmp_path / "outputs.sqlite"),
    )  # fmt: skip
    assert not module._packs
    assert caplog.text.count("batches are not packed (model.frozen_cache keeps outputs of padded rows)") == 1


@pytest.mark.parametrize(
    ("device", "setting", "packs"),
    [
        ("cuda", None, True),
        ("cuda", True, False),
        ("cuda", False, False),
        ("cpu", None, True),
        ("cpu", "packed", True),
        ("cpu", True, False),
    ],
)
def test_null_packs(device: str, setting: Any, packs: bool, tiny_xlmr: Path):
    module = TeacherModule(task=TASK, model=str(tiny_xlmr), length_groups=setting)
    module.trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device(device)))
    assert module._prepared_to_pack(network_of("xlm-roberta")) is packs


def test_a_network_that_cannot_be_packed_is_padded_with_one_line(tiny_xlmr: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO")
    module = TeacherModule(task=TASK, model=str(tiny_xlmr))
    module.trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("cuda")))
    assert not module._prepared_to_pack(network_of("deberta-v2"))
    assert len(caplog.records) == 1
    assert "batches are not packed (a DebertaV2ForSequenceClassification" in caplog.text
