"""Recorded passes give the logits and gradients of those that are not, whatever comes between them.

What is recorded is a CUDA graph where there is a GPU; without one, a stand-in that repeats the passes over the same
tensors shows that everything around the graphs is right.
"""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny_networks
import torch
from conftest import LABELS, Files
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import AutoTokenizer

from labelbridge.callbacks.averaging import AverageWeights
from labelbridge.datamodules import Collate, GoldDataModule
from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.data.sources import Source
from labelbridge.modules import ClassifierModule, TeacherModule
from labelbridge.modules.cuda_graphs import (
    CudaRecorder,
    GraphedNetwork,
    Recorded,
    gradients_in_place,
    leaves,
    passed_through_aliases,
)
from labelbridge.modules.packing import PACKED_TYPES, Packed, make_packable, pack, packed_logits

TASK = Task("sentiment", ["text"], LABELS)
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]


class Repeater:
    """Records passes over tensors that stay in place by computing them again each time."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, network: Any, packed: Packed) -> Recorded:
        self.shapes.append(tuple(packed.inputs["input_ids"].shape))
        inputs = {name: value.clone() for name, value in packed.tensors.items()}
        found_BC, aliases = passed_through_aliases(network, Packed.of(inputs))
        gradients = gradients_in_place(aliases)
        logits_BC, gradient_BC, held = found_BC.detach().clone(), torch.zeros_like(found_BC), []

        def forward() -> None:
            with torch.enable_grad():
                held.append(passed_through_aliases(network, Packed.of(inputs)))
            logits_BC.copy_(held[-1][0].detach())

        def backward() -> None:
            repeated_BC, again = held.pop()
            torch._foreach_add_(gradients, list(torch.autograd.grad(repeated_BC, list(again), gradient_BC)))

        return Recorded(inputs, logits_BC, gradient_BC, forward, backward)


def network_of(kind: str = "xlm-roberta", device: str = "cpu", **settings: Any) -> Any:
    network = tiny_networks.network_of(kind, **settings).to(device).double()
    make_packable(network)
    return network


def batch(lengths: list[int], seed: int, device: str = "cpu") -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    mask_BL = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    ids_BL = torch.randint(4, 60, mask_BL.shape, generator=generator).masked_fill(mask_BL == 0, 1)
    return {"input_ids": ids_BL.to(device), "attention_mask": mask_BL.to(device)}


def graphed_of(network: Any, device: str) -> tuple[GraphedNetwork, Any]:
    recorder = Repeater() if device == "cpu" else CudaRecorder()
    return GraphedNetwork(network, lambda: recorder if device == "cpu" else CudaRecorder()), recorder


def loss_of(logits_BC: Tensor) -> Tensor:
    return logits_BC.logsumexp(dim=1).sum()


def close(actual: Tensor, expected: Tensor, within: float = 1e-9) -> None:
    scale = max(1.0, float(expected.detach().abs().max()))
    torch.testing.assert_close(actual, expected, rtol=0, atol=within * scale)


@pytest.mark.parametrize("lengths", [[3, 7, 1, 5], [16, 16], [17, 30, 2], [33], [30, 2, 17, 9] * 10, [10] * 60])
def test_a_filled_batch_has_the_logits_and_gradients_of_the_padded_one(lengths: list[int]):
    network, inputs = network_of(), batch(lengths, 0)
    packed = pack(network, inputs, filled=True)
    assert packed is not None
    longest, tokens = packed.rows.token_RL.shape[1], packed.inputs["input_ids"].shape[1]
    assert tokens % longest == 0
    assert tokens - sum(lengths) in range(1, max(longest, sum(lengths) // 8) + 1)
    results = []
    for given in (packed, inputs):
        network.zero_grad()
        logits_BC = packed_logits(network, given) if given is packed else network(**given).logits
        loss_of(logits_BC).backward()
        results.append([logits_BC.detach(), *(weight.grad for weight in network.parameters())])
    for actual, expected in zip(*results, strict=True):
        close(actual, expected)


@pytest.mark.parametrize("device", DEVICES)
def test_gradients_of_windows_are_those_without_graphs(device: str):
    """Windows of two micro-batches of several shapes, seen often enough to be recorded."""
    network, plain = network_of(device=device), network_of(device=device)
    graphed, _ = graphed_of(network, device)
    for window in range(6):
        network.zero_grad(set_to_none=not graphed.holds_gradients)
        plain.zero_grad()
        for number, lengths in enumerate(([3, 7, 5], [20, 9, 11])):
            inputs = batch(lengths, 10 * window + number, device)
            packed = pack(network, inputs, filled=True)
            logits_BC, expected_BC = graphed(packed), packed_logits(plain, inputs)
            close(logits_BC, expected_BC)
            loss_of(logits_BC).backward()
            loss_of(expected_BC).backward()
        for weight, expected in zip(network.parameters(), plain.parameters(), strict=True):
            close(weight.grad, expected.grad)
        with torch.no_grad():
            for weight in [*network.parameters(), *plain.parameters()]:
                weight.sub_(weight.grad, alpha=0.01)
    assert graphed.holds_gradients


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("filled", [False, True])
@pytest.mark.parametrize("kind", PACKED_TYPES)
def test_flash_attention_gives_the_logits_and_gradients_of_padded_rows(kind: str, filled: bool):
    """In bfloat16, as near to float64 as the library's attention over padded rows."""
    inputs = batch([3, 20, 33, 1, 18], 0, "cuda")

    def results(network: Any, given: Any) -> list[Tensor]:
        found_BC = packed_logits(network, given) if isinstance(given, Packed) else network(**given).logits
        loss_of(found_BC.double()).backward()
        return [found_BC.detach().double(), *(weight.grad for weight in network.parameters())]

    exact = results(network_of(kind, "cuda"), inputs)
    network = network_of(kind, "cuda").float()
    with torch.autocast("cuda", torch.bfloat16):
        with torch.profiler.profile() as profiler:
            flash = results(network, pack(network, inputs, filled=filled))
        network.zero_grad()
        padded = results(network_of(kind, "cuda").float(), inputs)
    assert "aten::_flash_attention_backward" in [event.key for event in profiler.key_averages()]
    largest = max(float(one.norm()) for one in exact[1:] if one is not None)
    for number, (ours, theirs, true) in enumerate(zip(flash, padded, exact, strict=True)):
        if true is None:
            assert ours is None
            continue
        error, usual = (float((one.double() - true).norm()) for one in (ours, theirs))
        assert error <= 2 * usual + 1e-3 * (largest if number else float(true.norm()))


class NoWaiting(Callback):
    """Lets every wait for the GPU within a training step raise an error, once the first steps are over."""

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step > 10:
            torch.cuda.set_sync_debug_mode("error")

    def on_train_batch_end(self, *_: Any) -> None:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_training_step_does_not_wait_for_the_gpu(files: Files, tiny_xlmr: Path, monkeypatch: pytest.MonkeyPatch):
    fit(files, tiny_xlmr, "cuda", monkeypatch, callbacks=[NoWaiting()], cuda_graphs=True)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_dropout_is_drawn_anew_at_each_replay():
    network = network_of(device="cuda").float().train()
    graphed, _ = graphed_of(network, "cuda")
    packed = pack(network, batch([3, 7, 5], 0, "cuda"), filled=True)
    drawn = []
    with torch.autocast("cuda", torch.bfloat16):
        for _ in range(8):
            logits_BC = graphed(packed)
            loss_of(logits_BC).backward()
            drawn.append(tuple(logits_BC.flatten().tolist()))
    assert graphed.holds_gradients
    assert len(set(drawn)) == 8


def test_a_shape_is_recorded_when_it_has_been_seen_before():
    network = network_of()
    graphed, recorder = graphed_of(network, "cpu")
    for seed, lengths in enumerate([[3, 7, 5], [20, 9, 11], [3, 7, 5], [4, 6, 5], [2, 2, 2], [5, 1, 3]]):
        loss_of(graphed(pack(network, batch(lengths, seed), filled=True))).backward()
    assert recorder.shapes == [(1, 16)]


def test_another_batch_before_the_backward_pass_is_computed_without_a_graph():
    network, plain = network_of(), network_of()
    graphed, _ = graphed_of(network, "cpu")
    for seed in range(5):
        first, second = batch([3, 7, 5], seed), batch([4, 6, 5], seed + 100)
        network.zero_grad(set_to_none=not graphed.holds_gradients)
        plain.zero_grad()
        both = [graphed(pack(network, one, filled=True)) for one in (first, second)]
        loss_of(torch.cat(both)).backward()
        loss_of(torch.cat([packed_logits(plain, one) for one in (first, second)])).backward()
        for weight, expected in zip(network.parameters(), plain.parameters(), strict=True):
            close(weight.grad, expected.grad)


@pytest.mark.parametrize("device", DEVICES)
def test_gradients_that_were_taken_away_or_replaced_are_put_back(device: str):
    network = network_of(device=device)
    graphed, _ = graphed_of(network, device)
    packed = pack(network, batch([3, 7, 5], 0, device), filled=True)
    for _ in range(3):
        loss_of(graphed(packed)).backward()
    once = [weight.grad / 3 for weight in network.parameters()]
    for weight in network.parameters():
        weight.grad = None
    loss_of(graphed(packed)).backward()
    for weight, expected in zip(network.parameters(), once, strict=True):
        close(weight.grad, expected)
        weight.grad = 2 * expected
    loss_of(graphed(packed)).backward()
    for weight, expected in zip(network.parameters(), once, strict=True):
        close(weight.grad, 3 * expected)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("when", ["before the forward pass", "between the passes"])
def test_all_shapes_add_to_the_same_gradients_whenever_they_are_taken_away(device: str, when: str):
    """As a module does whose `optimizer_zero_grad` or callback sets them to None."""
    network, plain = network_of(device=device), network_of(device=device)
    graphed, _ = graphed_of(network, device)
    for number in range(12):
        lengths = [3, 7, 5] if number % 5 < 3 else [20, 9, 11]
        inputs = batch(lengths, number, device)
        if when == "before the forward pass":
            network.zero_grad(set_to_none=True)
        loss = loss_of(graphed(pack(network, inputs, filled=True)))
        if when == "between the passes":
            network.zero_grad(set_to_none=True)
        loss.backward()
        plain.zero_grad()
        loss_of(packed_logits(plain, inputs)).backward()
        for weight, expected in zip(network.parameters(), plain.parameters(), strict=True):
            close(weight.grad, expected.grad)


def test_a_backward_pass_after_the_next_forward_pass_is_refused():
    network = network_of()
    graphed, _ = graphed_of(network, "cpu")
    packed = pack(network, batch([3, 7, 5], 0), filled=True)
    for _ in range(3):
        loss_of(graphed(packed)).backward()
    late = loss_of(graphed(packed))
    graphed.begin_batch()
    loss_of(graphed(packed)).backward()
    with pytest.raises(RuntimeError, match="after the next one's forward pass, or twice"):
        late.backward()


def test_after_a_batch_without_a_backward_pass_graphs_go_on():
    network = network_of()
    graphed, recorder = graphed_of(network, "cpu")
    packed = pack(network, batch([3, 7, 5], 0), filled=True)
    for _ in range(4):
        graphed(packed)
    graphed.begin_batch()
    logits_BC = graphed(packed)
    assert recorder.shapes == [(1, 16)]
    assert type(logits_BC.grad_fn).__name__ == "_ReplayedBackward"


def change_both(change: str, network: Any, plain: Any) -> None:
    """Change something that a recording relies on, in both to the same effect."""
    if change == "moved":
        for weight in network.parameters():
            weight.data, weight.grad = 2 * weight.data, None
        for weight in plain.parameters():
            weight.data.mul_(2)
    elif change == "frozen":
        for one in (network, plain):
            one.roberta.embeddings.requires_grad_(requires_grad=False).zero_grad()
    else:
        network.roberta.embeddings.dropout.p = 0.3  # of no effect in evaluation


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("change", ["moved", "frozen", "dropout"])
def test_what_is_no_longer_as_it_was_recorded_is_recorded_anew(change: str, device: str):
    network, plain = network_of(device=device), network_of(device=device)
    graphed, recorder = graphed_of(network, device)
    for number in range(8):
        inputs = batch([3, 7, 5], number, device)
        network.zero_grad(set_to_none=not graphed.holds_gradients)
        if number == 4:
            change_both(change, network, plain)
        logits_BC, expected_BC = graphed(pack(network, inputs, filled=True)), packed_logits(plain, inputs)
        close(logits_BC, expected_BC)
        loss_of(logits_BC).backward()
        plain.zero_grad()
        loss_of(expected_BC).backward()
        for weight, expected in zip(network.parameters(), plain.parameters(), strict=True):
            if expected.requires_grad:
                close(weight.grad, expected.grad)
    if device == "cpu":
        assert recorder.shapes == [(1, 16)] * 2


def test_a_pass_that_cannot_be_recorded_is_one_line():
    def fail(*_: Any) -> Recorded:
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore")

    graphed = GraphedNetwork(network_of(), lambda: fail)
    packed = pack(network_of(), batch([3, 7, 5], 0), filled=True)
    for _ in range(2):
        graphed(packed)
    with pytest.raises(InputError, match="model.cuda_graphs: the passes of a XLMRoberta.* cannot be recorded .CUDA"):
        graphed(packed)


def test_without_gradients_nothing_is_recorded():
    network = network_of()
    graphed, recorder = graphed_of(network, "cpu")
    packed = pack(network, batch([3, 7, 5], 0), filled=True)
    with torch.no_grad():
        for _ in range(5):
            graphed(packed)
    assert recorder.shapes == []


def test_leaves_are_the_weights_that_have_a_gradient():
    network = network_of()
    frozen = network.roberta.embeddings.word_embeddings.weight.requires_grad_(requires_grad=False)
    found = leaves(packed_logits(network, batch([3, 7, 5], 0)))
    assert {id(weight) for weight in found} == {id(weight) for weight in network.parameters() if weight is not frozen}


def module_on(device: str, model: Path, strategy: Any = None, **settings: Any) -> TeacherModule:
    module = TeacherModule(task=TASK, model=str(model), **settings)
    place = torch.device(device)
    module.trainer = SimpleNamespace(strategy=strategy or SingleDeviceStrategy(device=place))
    module._packs = True
    return module


def test_null_takes_graphs_on_one_gpu(tiny_xlmr: Path):
    assert module_on("cuda:0", tiny_xlmr)._takes_cuda_graphs()
    assert not module_on("cpu", tiny_xlmr)._takes_cuda_graphs()
    assert not module_on("cuda:0", tiny_xlmr, cuda_graphs=False)._takes_cuda_graphs()
    assert not module_on("cuda:0", tiny_xlmr, gradient_checkpointing=True)._takes_cuda_graphs()
    several = SimpleNamespace(root_device=torch.device("cuda:0"))
    assert not module_on("cuda:0", tiny_xlmr, several)._takes_cuda_graphs()


@pytest.mark.parametrize(
    ("device", "settings", "reason"),
    [("cpu", {}, "is not on one GPU"), ("cuda:0", {"gradient_checkpointing": True}, "gradient_checkpointing is true")],
)
def test_asked_for_where_they_cannot_be_they_are_refused(
    device: str, settings: dict[str, Any], reason: str, tiny_xlmr: Path
):
    with pytest.raises(InputError, match=rf"model\.cuda_graphs is true, but .*{reason}.*set it to null"):
        module_on(device, tiny_xlmr, cuda_graphs=True, **settings)._takes_cuda_graphs()


class Watched:
    """Says which batches of a fit were replayed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.replayed: list[bool] = []
        of_graphs = GraphedNetwork._passes

        def passes(graphs: GraphedNetwork, packed: Packed) -> Recorded | None:
            found = of_graphs(graphs, packed)
            self.replayed.append(found is not None)
            return found

        monkeypatch.setattr(GraphedNetwork, "_passes", passes)


def fit(
    files: Files,
    model: Path,
    device: str,
    monkeypatch: pytest.MonkeyPatch,
    *,
    cuda_graphs: bool,
    callbacks: Any = (),
    own_loader: bool = False,
    module: Any = None,
    data: Any = None,
    **settings: Any,
) -> Any:
    """A fit in float64 without dropout; on a CPU with the stand-in for graphs, if they are asked for."""
    if device == "cpu":
        monkeypatch.setattr(ClassifierModule, "_takes_cuda_graphs", lambda _: cuda_graphs)
        monkeypatch.setattr("labelbridge.modules.cuda_graphs.CudaRecorder", Repeater)
    seed_everything(0, verbose=False)
    data = data or GoldDataModule(
        task=TASK, model=str(model), train=Source(path=str(files.gold)), dev=Source(path=str(files.dev)), batch_size=4
    )
    module = module or TeacherModule(
        task=TASK, model=str(model), learning_rate=0.01, dropout=0.0, length_groups="packed",
        cuda_graphs=None if device == "cpu" else cuda_graphs, **settings,
    )  # fmt: skip
    trainer = Trainer(
        accelerator="cpu" if device == "cpu" else "gpu", devices=1, precision="64-true", max_epochs=6, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, accumulate_grad_batches=2,
        gradient_clip_val=1.0, use_distributed_sampler=False, limit_val_batches=0 if own_loader else None,
        callbacks=list(callbacks),
    )  # fmt: skip
    if own_loader:
        rows = [json.loads(line) for line in files.gold.read_text().splitlines()]
        collate = Collate(AutoTokenizer.from_pretrained(model), TASK)
        trainer.fit(module, DataLoader(rows, batch_size=4, collate_fn=collate))
    else:
        trainer.fit(module, datamodule=data)
    return module


def assert_same_weights(graphed: Any, plain: Any) -> None:
    for (name, weight), other in zip(
        graphed.network.state_dict().items(), plain.network.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(weight, other, rtol=1e-6, atol=1e-8, msg=name)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "settings",
    [{}, {"frozen_layers": 1}, {"lazy_embeddings": True}, {"own_loader": True}],
    ids=lambda settings: next(iter(settings), "plain"),
)
def test_a_fit_with_graphs_gives_the_weights_of_one_without(
    files: Files, tiny_xlmr: Path, device: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    watched = Watched(monkeypatch)
    plain = fit(files, tiny_xlmr, device, monkeypatch, cuda_graphs=False, **settings)
    assert not watched.replayed
    graphed = fit(files, tiny_xlmr, device, monkeypatch, cuda_graphs=True, **settings)
    assert any(watched.replayed)
    assert_same_weights(graphed, plain)


@pytest.mark.parametrize("device", DEVICES)
def test_averaged_weights_are_those_without_graphs(
    files: Files, tiny_xlmr: Path, device: str, monkeypatch: pytest.MonkeyPatch
):
    watched = Watched(monkeypatch)
    results = []
    for cuda_graphs in (False, True):
        averaging = AverageWeights(every="step")
        module = fit(files, tiny_xlmr, device, monkeypatch, cuda_graphs=cuda_graphs, callbacks=[averaging])
        results.append((module, averaging))
    assert any(watched.replayed)
    assert_same_weights(results[1][0], results[0][0])
    for name, mean in results[0][1]._mean.items():
        torch.testing.assert_close(results[1][1]._mean[name], mean, rtol=1e-6, atol=1e-8)
