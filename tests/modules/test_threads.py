"""A batch in parts, each in a thread, has the logits and gradients of the batch; and a fit the same weights."""

import copy
import os
import shutil
import signal
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import warm
from conftest import LABELS, Files, Stages
from lightning.pytorch import Trainer, seed_everything
from safetensors.torch import load_file, save_file
from tiny_networks import PADDING
from tiny_networks import network_of as plain_network_of
from transformers import AutoTokenizer

from labelbridge.datamodules import GoldDataModule, PoolDataModule
from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.data.sources import Source
from labelbridge.modules import EmbedderModule, TeacherModule, threads
from labelbridge.modules.cast_linear import make_castable
from labelbridge.modules.dropout import make_fast
from labelbridge.modules.heads import freeze_lower_layers, load_classifier
from labelbridge.modules.packing import PACKED_TYPES, make_packable, packed_logits
from labelbridge.modules.threads import ThreadedNetwork, by_rows, evenly, in_threads
from labelbridge.modules.trained_rows import train_rows_that_occur

TASK = Task("sentiment", ["text"], LABELS)
LENGTHS = [1, 2, 33, 7, 20, 33, 4, 30]


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(threads, "_LEAST", 1)


def network_of(kind: str, **settings: Any) -> Any:
    return prepared(plain_network_of(kind, **settings))


def prepared(network: Any) -> Any:
    make_packable(network)
    make_fast(network)
    make_castable(network)
    return network


def batch(lengths: list[int] = LENGTHS) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    places_BL = torch.arange(max(lengths)).expand(len(lengths), -1)
    mask_BL = (places_BL < torch.tensor(lengths)[:, None]).long()
    ids_BL = torch.randint(4, 60, mask_BL.shape, generator=generator).masked_fill(mask_BL == 0, PADDING)
    return {"input_ids": ids_BL, "attention_mask": mask_BL, "token_type_ids": (places_BL > 5).long() * mask_BL}


def gradients(network: Any, logits_BC: torch.Tensor) -> dict[str, torch.Tensor]:
    network.zero_grad()
    logits_BC.double().logsumexp(dim=1).sum().backward()
    return {name: weight.grad.clone() for name, weight in network.named_parameters() if weight.grad is not None}


def assert_same(network: Any, inputs: dict[str, torch.Tensor], within: float, parts: int = 3) -> None:
    padded_BC, threaded_BC = network(**inputs).logits, ThreadedNetwork(network, parts)(inputs)
    assert "InParts" in type(threaded_BC.grad_fn.next_functions[0][0]).__name__
    torch.testing.assert_close(threaded_BC, padded_BC, rtol=0, atol=within)
    of_padded, of_threaded = gradients(network, padded_BC), gradients(network, threaded_BC)
    assert set(of_threaded) == set(of_padded)
    for name, gradient in of_padded.items():
        scale = max(1.0, float(gradient.abs().max()))
        torch.testing.assert_close(of_threaded[name], gradient, rtol=0, atol=within * scale)


@pytest.mark.parametrize("kind", PACKED_TYPES)
def test_logits_and_gradients_are_those_of_the_padded_batch(kind: str):
    assert_same(network_of(kind, initializer_range=0.2), batch(), within=1e-5)
    for parts in (2, 3, 8):
        assert_same(network_of(kind).double(), batch(), within=1e-11, parts=parts)


@pytest.mark.parametrize("kind", ["bert", "xlm-roberta"])
def test_the_same_in_mixed_bfloat16(kind: str):
    with torch.autocast("cpu", torch.bfloat16):
        assert_same(network_of(kind, initializer_range=0.2), batch(), within=2e-2)


def test_weights_of_linear_layers_are_cast_once_for_all_parts(monkeypatch: pytest.MonkeyPatch):
    network = network_of("bert")
    layer = network.bert.encoder.layer[0].intermediate.dense
    of_thread, seen = threading.local(), []

    def linear(*given: torch.Tensor) -> torch.Tensor:
        of_thread.weight = given[1]
        return torch_linear(*given)

    torch_linear = torch.nn.functional.linear
    monkeypatch.setattr(torch.nn.functional, "linear", linear)
    layer.register_forward_hook(lambda of, *_: seen.append((of.weight, of_thread.weight)))
    with torch.autocast("cpu", torch.bfloat16):
        of_weights = gradients(network, ThreadedNetwork(network, 3)(batch()))
    assert len(seen) == 3
    assert all(weight is layer.weight for weight, _ in seen)
    assert all(cast is seen[0][1] for _, cast in seen)
    assert seen[0][1].dtype == torch.bfloat16
    assert of_weights["bert.encoder.layer.0.intermediate.dense.weight"].any()


def test_without_mixed_precision_nothing_is_cast(monkeypatch: pytest.MonkeyPatch):
    network, dtypes = network_of("bert"), []
    linear = torch.nn.functional.linear
    monkeypatch.setattr(torch.nn.functional, "linear", lambda *given: dtypes.append(given[1].dtype) or linear(*given))
    gradients(network, ThreadedNetwork(network, 3)(batch()))
    assert set(dtypes) == {torch.float32}


def test_a_layer_in_two_places_stays_one_layer_in_mixed_precision():
    network = network_of("bert", initializer_range=0.2)
    network.bert.encoder.layer[1] = network.bert.encoder.layer[0]
    weights = dict(network.named_parameters())
    found = []
    for logits_of in (lambda inputs: packed_logits(network, inputs), ThreadedNetwork(network, 3)):
        with torch.autocast("cpu", torch.bfloat16):
            found.append(gradients(network, logits_of(batch())))
        assert all(weight is weights[name] for name, weight in network.named_parameters())
    for name, gradient in found[0].items():
        assert (found[1][name] - gradient).norm() <= 1e-2 * gradient.norm() + 1e-6, name


def test_what_else_a_hook_computes_with_a_weight_has_its_share_of_the_gradient():
    network, dtypes = network_of("bert", initializer_range=0.2), set()
    layer = network.bert.encoder.layer[0].intermediate.dense

    def add_mean(of: Any, _: Any, output: torch.Tensor) -> torch.Tensor:
        dtypes.add(of.weight.dtype)
        return output + 5 * of.weight.mean()

    layer.register_forward_hook(add_mean)
    found = []
    for logits_of in (lambda inputs: packed_logits(network, inputs), ThreadedNetwork(network, 3)):
        with torch.autocast("cpu", torch.bfloat16):
            found.append(gradients(network, logits_of(batch())))
    assert dtypes == {torch.float32}
    for name, gradient in found[0].items():
        assert (found[1][name] - gradient).norm() <= 1e-2 * gradient.norm() + 1e-6, name


def test_gradients_are_added_up_in_float32():
    of_parts = [torch.tensor([1.0], dtype=torch.bfloat16), None, torch.tensor([2.0**-9], dtype=torch.bfloat16)]
    total = threads._sum(of_parts)
    assert total is not None
    assert total.dtype == torch.float32
    assert float(total) == 1 + 2**-9  # 1 in bfloat16
    assert threads._sum([None, None]) is None


@pytest.mark.parametrize("layers", [0, 1])
def test_the_same_with_frozen_layers(layers: int):
    network = network_of("xlm-roberta").double()
    freeze_lower_layers(network, layers, "it")
    assert_same(network, batch(), within=1e-11)


@pytest.mark.parametrize("kind", ["bert", "xlm-roberta"])
def test_the_same_where_only_embeddings_that_occur_are_trained(kind: str):
    network = network_of(kind).double()
    train_rows_that_occur(network, np.arange(29))
    inputs = batch()
    inputs["input_ids"] %= 29
    assert_same(network, inputs, within=1e-11)


def test_the_same_with_mean_pooling(tiny_xlmr: Path):
    network = prepared(load_classifier(str(tiny_xlmr), TASK, new_head=True, pooling="mean").double().eval())
    inputs = {name: batch()[name] for name in ("input_ids", "attention_mask")}
    inputs["input_ids"] %= 20
    assert_same(network, inputs, within=1e-11)


def test_gradients_of_two_batches_add_up_whatever_the_order_of_their_passes():
    network = network_of("bert").double()
    first, second = batch(), batch(LENGTHS[::-1])
    expected = gradients(network, torch.cat([network(**one).logits for one in (first, second)]))
    threaded = ThreadedNetwork(network, 2)
    found = gradients(network, torch.cat([threaded(first), threaded(second)]))
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient)


def test_dropout_has_the_same_bits_with_the_same_seed_and_differs_between_parts():
    network = network_of("bert", hidden_dropout_prob=0.5, attention_probs_dropout_prob=0.5).train()
    inputs = {name: value[[3] * 4, :7] for name, value in batch().items()}  # one row, four times

    def drawn() -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        torch.manual_seed(5)
        logits_BC = ThreadedNetwork(network, 4)(inputs)
        return logits_BC.detach(), gradients(network, logits_BC)

    with torch.random.fork_rng():
        logits_BC, found = drawn()
        again_BC, found_again = drawn()
        torch.manual_seed(6)
        other_BC = ThreadedNetwork(network, 4)(inputs)
    assert torch.equal(logits_BC, again_BC)
    assert all(torch.equal(found[name], found_again[name]) for name in found)
    assert not torch.equal(logits_BC, other_BC)
    assert len({tuple(row.tolist()) for row in logits_BC}) == 4


@pytest.mark.parametrize("parts", [1, 3])
def test_gradients_under_dropout_are_the_slopes_of_the_loss(parts: int):
    network = network_of("bert", hidden_dropout_prob=0.3, attention_probs_dropout_prob=0.3).double().train()
    weights = list(network.parameters())

    def loss() -> torch.Tensor:
        with torch.random.fork_rng():
            torch.manual_seed(5)
            return ThreadedNetwork(network, parts)(batch()).logsumexp(dim=1).sum()

    loss().backward()
    ways = [torch.randn(weight.shape, dtype=weight.dtype) for weight in weights]
    slope = sum(float((weight.grad * way).sum()) for weight, way in zip(weights, ways, strict=True))
    losses = []
    for step in (1e-6, -2e-6):
        with torch.no_grad():  # without gradients a batch would not be cut, and have other dropout
            torch._foreach_add_(weights, ways, alpha=step)
        losses.append(loss().item())
    assert (losses[0] - losses[1]) / 2e-6 == pytest.approx(slope, rel=1e-5)


def test_dropout_is_of_the_distribution_of_torch():
    network = network_of("bert", hidden_dropout_prob=0.3, attention_probs_dropout_prob=0.5).train()
    plain = plain_network_of("bert", hidden_dropout_prob=0.3, attention_probs_dropout_prob=0.5)
    draws, rows = 2000, torch.tensor([1, 3])
    inputs = {name: value[rows, :7].repeat(draws, 1) for name, value in batch().items()}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = ThreadedNetwork(network, 2)(inputs).detach().view(draws, 2, 3)
        expected = plain.train()(**inputs).logits.detach().view(draws, 2, 3)
    error = ((found.var(dim=0) + expected.var(dim=0)) / draws).sqrt()
    assert (error > 0).all()
    assert ((found.mean(dim=0) - expected.mean(dim=0)).abs() < 4 * error).all()
    torch.testing.assert_close(found.std(dim=0), expected.std(dim=0), rtol=0.1, atol=0)


def test_without_gradients_or_with_another_kind_of_padding_nothing_is_cut(monkeypatch: pytest.MonkeyPatch):
    network = network_of("bert")
    monkeypatch.setattr(threads, "in_threads", lambda *_: pytest.fail("cut"))
    with torch.no_grad():
        found_BC = ThreadedNetwork(network, 3)(batch())
    torch.testing.assert_close(found_BC, network(**batch()).logits)
    flipped = {name: value.flip(1) for name, value in batch().items()}
    assert torch.equal(ThreadedNetwork(network, 3)(flipped), network(**flipped).logits)
    one = {name: value[:1] for name, value in batch().items()}
    torch.testing.assert_close(ThreadedNetwork(network, 3)(one), network(**one).logits)


def test_a_copy_of_the_network_has_its_own_weights():
    network = network_of("bert").double()
    both = {"network": network, "threaded": ThreadedNetwork(network, 2)}
    copied = copy.deepcopy(both)
    with torch.no_grad():
        for weight in copied["network"].parameters():
            weight.mul_(0.5)
    torch.testing.assert_close(copied["threaded"](batch()), copied["network"](**batch()).logits)
    torch.testing.assert_close(both["threaded"](batch()), network(**batch()).logits)


@pytest.mark.parametrize("kind", PACKED_TYPES)
def test_rows_are_scored_in_threads(kind: str, monkeypatch: pytest.MonkeyPatch):
    network, cut = network_of(kind).double(), []
    monkeypatch.setattr(
        threads, "in_threads", lambda work, items, n: cut.append(len(items)) or in_threads(work, items, n)
    )
    with torch.inference_mode():
        found_BC, same_BC = (by_rows(lambda inputs: network(**inputs).logits, batch(), number) for number in (3, 1))
        assert found_BC.is_inference()
        assert torch.equal(found_BC, same_BC)
        torch.testing.assert_close(found_BC, network(**batch()).logits, rtol=0, atol=1e-12)
    assert cut == [4, 4]


@pytest.mark.parametrize("settings", [{}, {"ensemble": True}, {"dropout_passes": 2}])
def test_predictions_in_threads_are_those_of_one_thread(
    settings: dict[str, Any], files: Files, tiny_xlmr: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    cut = []
    monkeypatch.setattr(
        threads, "in_threads", lambda work, items, n: cut.append(len(items)) or in_threads(work, items, n)
    )
    load_classifier(str(tiny_xlmr), TASK, new_head=True).save_pretrained(tmp_path / "model")
    AutoTokenizer.from_pretrained(tiny_xlmr).save_pretrained(tmp_path / "model")
    if "ensemble" in settings:
        settings = {"ensemble": [str(shutil.copytree(tmp_path / "model", tmp_path / "other"))]}
        weights = load_file(tmp_path / "other/model.safetensors")
        save_file({name: weight * 0.9 for name, weight in weights.items()}, tmp_path / "other/model.safetensors")
    found = []
    for number in (1, 3):
        data = PoolDataModule(task=TASK, model=str(tmp_path / "model"), pool=Source(path=str(files.pool)))
        module = TeacherModule(task=TASK, model=str(tmp_path / "model"), threads=number, **settings)
        trainer = Trainer(accelerator="cpu", precision="64-true", logger=False, enable_progress_bar=False)
        batches = trainer.predict(module, datamodule=data)
        found.append(
            {name: np.concatenate([rows["columns"][name] for rows in batches]) for name in batches[0]["columns"]}
        )
    assert set(cut) == {4}
    assert found[0].keys() == found[1].keys()
    np.testing.assert_array_equal(found[0].pop("prediction"), found[1].pop("prediction"))
    for name, values in found[0].items():
        np.testing.assert_array_equal(found[1][name], values, err_msg=name)


def test_embeddings_in_threads_are_those_of_one_thread(tiny_xlmr: Path, monkeypatch: pytest.MonkeyPatch):
    module = EmbedderModule(task=TASK, model=str(tiny_xlmr))
    module.configure_model()
    inputs = {name: batch()[name] for name in ("input_ids", "attention_mask")}
    inputs["input_ids"] %= 20
    with torch.inference_mode():
        cut = []
        monkeypatch.setattr(
            threads, "in_threads", lambda work, items, n: cut.append(len(items)) or in_threads(work, items, n)
        )
        monkeypatch.setattr("labelbridge.modules.embedder.default_threads", lambda: 1)
        one_BD = module(inputs)
        monkeypatch.setattr("labelbridge.modules.embedder.default_threads", lambda: 3)
        several_BD = module(inputs)
        plain_BD = torch.nn.functional.normalize(module._embeddings(inputs), dim=1)
    assert cut == [4, 4]
    assert torch.equal(several_BD, one_BD)
    torch.testing.assert_close(plain_BD, one_BD, rtol=0, atol=1e-5)


def test_threads_record_gradients_as_the_caller_does():
    weight = torch.ones(2, requires_grad=True)

    def recorded(_: int) -> bool:
        return (weight * 2).requires_grad

    assert in_threads(recorded, [1, 2], 2) == [True, True]
    with torch.no_grad():
        assert in_threads(recorded, [1, 2], 2) == [False, False]
    with torch.inference_mode():
        assert in_threads(recorded, [1, 2], 2) == [False, False]


@pytest.mark.parametrize(
    ("lengths", "parts", "expected"),
    [
        ([10, 10, 10, 10], 2, [2, 2]),
        ([1, 2, 3, 6], 2, [3, 1]),
        ([5, 5, 5], 2, [2, 1]),
        ([1, 1, 1, 97], 3, [3, 1]),
        ([97, 1, 1, 1], 3, [1, 1, 2]),
        ([4], 3, [1]),
        ([0, 0], 2, [2]),
        ([1, 1, 1], 8, [1, 1, 1]),
    ],
)
def test_parts_have_about_as_many_tokens(lengths: list[int], parts: int, expected: list[int]):
    slices = evenly(lengths, parts)
    assert [one.stop - one.start for one in slices] == expected
    assert [row for one in slices for row in range(one.start, one.stop)] == list(range(len(lengths)))


def test_few_tokens_are_not_cut(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(threads, "_LEAST", 64)
    assert len(evenly([30] * 4, 4)) == 1
    assert len(evenly([32] * 4, 4)) == 2
    assert len(evenly([32] * 32, 4)) == 4


def test_threads_share_those_of_torch_and_leave_the_number_as_it_was():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        assert in_threads(lambda _: torch.get_num_threads(), [1, 2], 2) == [2, 2]
        assert in_threads(lambda _: torch.get_num_threads(), [1, 2, 3], 3) == [1, 1, 1]
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)


def test_threads_compute_in_the_precision_of_the_caller():
    def product(_: int) -> torch.dtype:
        return (torch.ones(2, 2) @ torch.ones(2, 2)).dtype

    with torch.autocast("cpu", torch.bfloat16):
        assert in_threads(product, [1, 2], 2) == [torch.bfloat16] * 2
    assert in_threads(product, [1, 2], 2) == [torch.float32] * 2


def test_an_error_in_a_thread_is_one_of_the_caller():
    network = network_of("bert")
    train_rows_that_occur(network, np.arange(20))
    with pytest.raises(InputError, match="is in a training batch, but not in the DataModule's training_tokens"):
        ThreadedNetwork(network.train(), 2)(batch())

    def fails(number: int) -> None:
        raise ValueError(number)

    with pytest.raises(ValueError, match="1"):
        in_threads(fails, [1, 2], 2)


def fit(
    files: Files, model: Path, precision: str = "64-true", kind: Any = TeacherModule, **settings: Any
) -> tuple[TeacherModule, Trainer]:
    seed_everything(0, verbose=False)
    data = GoldDataModule(
        task=TASK, model=str(model), train=Source(path=str(files.gold)), dev=Source(path=str(files.dev)), batch_size=4
    )
    module = kind(task=TASK, model=str(model), **{"learning_rate": 0.01, "dropout": 0.0, **settings})
    trainer = Trainer(
        accelerator="cpu", precision=precision, max_epochs=2, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
        accumulate_grad_batches=2, gradient_clip_val=1.0,
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    return module, trainer


@pytest.mark.parametrize("settings", [{}, {"weight_decay": 0.01}, {"frozen_layers": 1}, {"lazy_embeddings": True}])
def test_a_fit_in_threads_gives_the_weights_of_one_without(
    settings: dict[str, Any], files: Files, tiny_xlmr: Path, monkeypatch: pytest.MonkeyPatch
):
    cut = []
    monkeypatch.setattr(
        threads, "in_threads", lambda work, items, n: cut.append(len(items)) or in_threads(work, items, n)
    )
    threaded, trainer = fit(files, tiny_xlmr, threads=3, **settings)
    assert 3 in cut
    cut.clear()
    plain, plain_trainer = fit(files, tiny_xlmr, length_groups=False, **settings)
    assert set(cut) <= {4}  # dev checks, which are cut without gradients
    of_plain = plain.network.state_dict()
    for name, weight in threaded.network.state_dict().items():
        torch.testing.assert_close(weight, of_plain[name], rtol=1e-6, atol=1e-8, msg=name)
    assert float(trainer.callback_metrics["dev/loss"]) == pytest.approx(
        float(plain_trainer.callback_metrics["dev/loss"]), abs=1e-8
    )


def test_a_fit_with_dropout_in_threads_has_the_same_bits_again(files: Files, tiny_xlmr: Path):
    first, second = (fit(files, tiny_xlmr, "bf16-mixed", threads=2, dropout=0.2)[0] for _ in range(2))
    other, _ = fit(files, tiny_xlmr, "bf16-mixed", threads=2, dropout=0.2, seed=1)
    of_second, of_other = second.network.state_dict(), other.network.state_dict()
    weights = first.network.state_dict()
    assert all(torch.equal(weight, of_second[name]) for name, weight in weights.items())
    assert not all(torch.equal(weight, of_other[name]) for name, weight in weights.items())


@pytest.mark.parametrize("change", ["replaced", "checkpointing", "dropout", "hook"])
def test_what_a_users_own_module_does_to_the_network_counts(
    change: str, files: Files, tiny_xlmr: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO")

    class Mine(TeacherModule):
        def configure_model(self) -> None:
            if self.network is not None:
                return
            super().configure_model()
            if change == "replaced":
                self.network = copy.deepcopy(self.network)
            elif change == "checkpointing":
                self.network.gradient_checkpointing_enable()
            elif change == "dropout":
                self.network.dropout = torch.nn.AlphaDropout(0.5)
            else:
                self.network.classifier.out_proj.weight.register_hook(lambda gradient: gradient * 0.5)

    one, several = (fit(files, tiny_xlmr, kind=Mine, threads=number)[0] for number in (1, 3))
    before = fit(files, tiny_xlmr, kind=Mine, threads=1, learning_rate=0.0)[0].network.state_dict()
    of_one = one.network.state_dict()
    moved = 0.0
    for name, weight in several.network.state_dict().items():
        if change != "dropout":
            torch.testing.assert_close(weight, of_one[name], rtol=1e-6, atol=1e-8, msg=name)
        moved = max(moved, float((weight - before[name]).abs().max()))
    assert moved > 0.001
    reasons = {"checkpointing": "(gradient checkpointing)", "dropout": "(dropout layers of another kind: AlphaDropout)"}
    assert reasons.get(change, "3 threads compute the parts of a training batch") in caplog.text


def test_dropout_that_is_put_in_later_is_drawn_by_each_part(files: Files, tiny_xlmr: Path):
    class Mine(TeacherModule):
        def configure_model(self) -> None:
            if self.network is not None:
                return
            super().configure_model()
            self.network.classifier.dense = torch.nn.Sequential(self.network.classifier.dense, torch.nn.Dropout(0.5))

    first, second = (fit(files, tiny_xlmr, kind=Mine, threads=3)[0].network.state_dict() for _ in range(2))
    assert all(torch.equal(weight, second[name]) for name, weight in first.items())


def test_every_fit_of_a_module_has_threads(files: Files, tiny_xlmr: Path, monkeypatch: pytest.MonkeyPatch):
    cut = []
    monkeypatch.setattr(threads, "in_threads", lambda work, items, n: cut.append(n) or in_threads(work, items, n))
    module, trainer = fit(files, tiny_xlmr, threads=3)
    cut.clear()
    trainer.fit_loop.max_epochs = 3
    trainer.fit(module, datamodule=trainer.datamodule)
    assert 3 in cut


@pytest.mark.parametrize("skipped", [7, 50])  # tokens of the first part, and of the second
def test_a_weight_without_a_gradient_in_some_part_has_that_of_the_others(skipped: int, monkeypatch: pytest.MonkeyPatch):
    network, lengths = network_of("bert").double(), [3, 4, 20, 30]
    network.bert.encoder.layer[1].register_forward_hook(
        lambda _, given, output: given[0] if given[0].shape[1] == skipped else output
    )
    expected = []
    for rows in ([0, 1], [2, 3]):
        inputs = {name: value[rows, : max(lengths[row] for row in rows)] for name, value in batch(lengths).items()}
        expected.append(gradients(network, packed_logits(network, inputs)))
    assert len(expected[0]) != len(expected[1])
    monkeypatch.setattr(threads, "evenly", lambda *_: [slice(0, 2), slice(2, 4)])
    found = gradients(network, ThreadedNetwork(network, 2)(batch(lengths)))
    assert set(found) == {*expected[0], *expected[1]}
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, sum(one[name] for one in expected if name in one), msg=name)


def test_two_weights_with_one_gradient_have_it_once():
    network = network_of("bert").double()

    class WithDelta(torch.nn.Module):
        def __init__(self, weight: torch.Tensor) -> None:
            super().__init__()
            self.delta = torch.nn.Parameter(torch.zeros_like(weight))

        def forward(self, weight: torch.Tensor) -> torch.Tensor:
            return weight + self.delta

    torch.nn.utils.parametrize.register_parametrization(
        network.classifier, "weight", WithDelta(network.classifier.weight)
    )
    assert_same(network, batch(), within=1e-11)


def test_a_part_that_is_cut_again_does_not_wait_for_itself():
    assert in_threads(lambda _: in_threads(lambda _: 1, [1, 2], 2), [1, 2], 2) == [[1, 1], [1, 1]]


def test_a_forked_process_has_threads_of_its_own():
    assert in_threads(lambda item: item, [1, 2], 2) == [1, 2]
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # a deadlock ends by a signal
        os._exit(in_threads(lambda item: item, [1, 2], 2) != [1, 2])
    assert os.waitpid(child, 0)[1] == 0


def test_a_second_backward_pass_is_refused():
    network = network_of("bert")
    logits_BC = ThreadedNetwork(network, 2)(batch())
    logits_BC.sum().backward(retain_graph=True)
    with pytest.raises(RuntimeError, match=r"asked for twice; set model\.threads to 1"):
        logits_BC.sum().backward()


def module_on(device: str, model: Path, **settings: Any) -> TeacherModule:
    module = TeacherModule(task=TASK, model=str(model), **settings)
    module.trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device(device)))
    return module


@pytest.mark.parametrize(
    ("torch_threads", "settings", "expected"),
    [
        (1, {}, 1),
        (2, {}, 2),
        (16, {}, 4),
        (2, {"threads": 1}, 1),
        (1, {"threads": 6}, 6),
        (2, {"length_groups": "packed"}, 2),
        (2, {"length_groups": True}, 1),
        (2, {"gradient_checkpointing": True}, 1),
        (2, {"torch_compile": "eager"}, 1),
    ],
)
def test_null_takes_as_many_parts_as_torch_has_threads(
    torch_threads: int, settings: dict[str, Any], expected: int, tiny_xlmr: Path,
    monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    monkeypatch.setattr(torch, "get_num_threads", lambda: torch_threads)
    module = module_on("cpu", tiny_xlmr, **settings)
    module._prepare_batches(plain_network_of("xlm-roberta"))
    assert module._parts == expected


@pytest.mark.parametrize(
    ("device", "settings", "reason"),
    [
        ("cuda", {}, "the fit is not on a CPU"),
        ("cpu", {"length_groups": False}, "batches are not packed"),
        ("cpu", {"torch_compile": "eager"}, "batches are not packed"),
        ("cpu", {"gradient_checkpointing": True}, "draws dropout anew"),
    ],
)
def test_threads_that_there_cannot_be_are_refused(device: str, settings: dict[str, Any], reason: str, tiny_xlmr: Path):
    module = module_on(device, tiny_xlmr, threads=2, **settings)
    with pytest.raises(InputError, match=rf"model\.threads is 2, but .*{reason}.*; set it to null"):
        module._prepare_batches(plain_network_of("xlm-roberta"))


THREADED = [
    "--model.threads=2",
    "--data.batch_size=32",
    "--trainer.accumulate_grad_batches=1",
    "--trainer.max_epochs=8",
]


@pytest.mark.slow
def test_a_killed_fit_in_threads_resumes_to_the_same_bits(stages: Stages, tiny_xlmr: Path, tmp_path: Path):
    words = ["fit", "--config", "teacher.yaml", *stages.fit_words, f"--model.model={tiny_xlmr}", *THREADED]
    words += ["--resume.every_n_steps=1", "--model.dropout=0.2"]
    assert warm.run([*words, "--out=whole"], tmp_path) == 0, warm.said(tmp_path)
    kill = warm.probe("KillAt", batch=7, number=int(signal.SIGKILL))
    assert warm.run([*words, *kill, "--out=killed"], tmp_path) == -signal.SIGKILL
    assert warm.run([*words, "--out=killed"], tmp_path) == 0, warm.said(tmp_path)
    one, other = (load_file(f"{out}/model/model.safetensors") for out in ("whole", "killed"))
    assert all(torch.equal(weight, other[name]) for name, weight in one.items())
    words[words.index("--model.threads=2")] = "--model.threads=1"
    assert warm.run([*words, "--out=uncut"], tmp_path) == 0, warm.said(tmp_path)
    uncut = load_file("uncut/model/model.safetensors")
    assert not all(torch.equal(weight, uncut[name]) for name, weight in one.items()), "batches were not cut"


@pytest.mark.slow
def test_two_processes_with_threads_give_the_same_fit(stages: Stages, tiny_xlmr: Path, tmp_path: Path):
    words = ["fit", "--config", "teacher.yaml", *stages.fit_words, f"--model.model={tiny_xlmr}", *THREADED]
    words += ["--model.dropout=0", "--trainer.max_epochs=2"]
    assert warm.run([*words, "--out=one"], tmp_path) == 0, warm.said(tmp_path)
    two = ["--trainer.devices=2", "--trainer.strategy=ddp_fork", "--data.batch_size=16", "--out=two"]
    assert warm.run([*words, *two], tmp_path) == 0, warm.said(tmp_path)
    weights, others = (load_file(f"{out}/model/model.safetensors") for out in ("one", "two"))
    for name, weight in weights.items():
        if "key.bias" not in name:  # whose gradient is 0 but for rounding, which Adam scales up
            torch.testing.assert_close(others[name], weight, rtol=1e-3, atol=1e-4, msg=name)
