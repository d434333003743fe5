"""The pool for predict."""

from pathlib import Path

import numpy as np
import pytest
from conftest import labelled, write_jsonl
from lightning.pytorch import Trainer

from labelbridge.datamodules import GoldDataModule, PoolDataModule
from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.data.sources import Source


@pytest.mark.parametrize("stage", ["predict", "test"])
def test_the_tokenizer_is_freed_before_the_weights_are_loaded(stage: str, tiny_bert: Path, task: Task, tmp_path: Path):
    source = Source(path=str(write_jsonl(tmp_path / "rows.jsonl", labelled(9))))
    data = (
        PoolDataModule(task=task, model=str(tiny_bert), pool=source, prompt_labels=False)
        if stage == "predict"
        else GoldDataModule(task=task, model=str(tiny_bert), targets={"en": source})
    )
    data.trainer = Trainer(accelerator="cpu", logger=False)
    data.setup(stage)
    assert data._tokenizer is None
    batches = list(data.predict_dataloader() if stage == "predict" else data.test_dataloader())
    assert sorted(np.concatenate([batch["row"] for batch in batches])) == list(range(9))
    assert data._tokenizer is None
    assert data.tokenizer.pad_token_id == data.padding.pad_token_id  # loaded anew where it is asked for
