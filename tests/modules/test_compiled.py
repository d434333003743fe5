"""torch.compile changes neither logits nor names, and traces few graphs however batches differ."""

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import LABELS, Files
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import Callback
from torch._dynamo.utils import counters

from labelbridge.datamodules import GoldDataModule
from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.data.sources import Source
from labelbridge.modules import TeacherModule
from labelbridge.modules.compiled import compile_networks
from labelbridge.modules.heads import load_classifier

TASK = Task("sentiment", ["text"], LABELS)
MOST = 8  # graphs; torch's own limit for a function


@pytest.fixture(autouse=True)
def nothing_traced() -> Any:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def graphs() -> int:
    return counters["stats"]["unique_graphs"]


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_network_gives_the_same_logits_under_the_same_names_by_one_graph(tiny_xlmr: Path, backend: Any):
    plain, compiled = (load_classifier(str(tiny_xlmr), TASK, new_head=True).eval() for _ in range(2))
    compile_networks([compiled], backend, "tiny")
    assert list(compiled.state_dict()) == list(plain.state_dict())
    draw = torch.Generator().manual_seed(0)
    for rows, width in ((4, 9), (7, 12), (3, 30), (12, 5), (5, 41)):
        ids = torch.randint(5, 60, (rows, width), generator=draw)
        mask = torch.ones_like(ids)
        mask[0, width // 2 :] = 0
        with torch.no_grad():
            logits = [network(input_ids=ids, attention_mask=mask).logits for network in (plain, compiled)]
        torch.testing.assert_close(*logits)
    assert graphs() == 1


class Kept(Callback):
    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.names = list(pl_module.state_dict())


def fit(files: Files, model: Path, **settings: Any) -> tuple[TeacherModule, list[str]]:
    seed_everything(0, verbose=False)
    data = GoldDataModule(
        task=TASK, model=str(model), train=Source(path=str(files.gold)), dev=Source(path=str(files.dev)), batch_size=5
    )
    module, kept = TeacherModule(task=TASK, model=str(model), learning_rate=0.01, dropout=0.0, **settings), Kept()
    Trainer(
        accelerator="cpu", max_epochs=1, gradient_clip_val=1.0, callbacks=[kept], logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        use_distributed_sampler=False,
    ).fit(module, datamodule=data)  # fmt: skip
    return module, kept.names


def test_a_compiled_fit_has_the_weights_names_and_export_of_one_that_is_not(
    files: Files, tiny_xlmr: Path, tmp_path: Path
):
    plain, names = fit(files, tiny_xlmr)
    assert graphs() == 0
    compiled, compiled_names = fit(files, tiny_xlmr, torch_compile="eager", length_groups="packed")
    assert 0 < graphs() <= MOST
    assert compiled_names == names
    for name, weight in plain.network.state_dict().items():
        if "key.bias" not in name:  # whose gradient is rounding alone
            torch.testing.assert_close(compiled.network.state_dict()[name], weight, rtol=1e-3, atol=1e-4)
    for module, folder in ((plain, "plain"), (compiled, "compiled")):
        module.save(tmp_path / folder)
    exported = [load_classifier(str(tmp_path / folder), TASK, new_head=False) for folder in ("plain", "compiled")]
    assert list(exported[0].state_dict()) == list(exported[1].state_dict())


@pytest.mark.parametrize(
    "settings",
    [{"frozen_cache": "states", "frozen_layers": 1}, {"gradient_checkpointing": True}, {"dropout_passes": 3}],
)
def test_what_reaches_into_the_network_is_refused(tiny_xlmr: Path, settings: dict[str, Any]):
    module = TeacherModule(task=TASK, model=str(tiny_xlmr), torch_compile="eager", **settings)
    with pytest.raises(InputError, match=f"model.torch_compile is eager and model.{next(iter(settings))} is given"):
        module.check("fit")


def test_without_a_compiler_inductor_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(InputError, match=r"no C\+\+ compiler \(g\+\+ or clang\+\+\), expected one"):
        compile_networks([torch.nn.Linear(1, 1)], "inductor", "tiny")
