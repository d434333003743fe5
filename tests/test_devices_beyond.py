"""On two processes the additions give the gradients, the mean and the temperature of one."""

import json
from pathlib import Path

import pytest
import torch
import warm
from conftest import Stages, labelled
from safetensors.torch import load_file
from view_files import write_views

pytestmark = pytest.mark.slow


def test_two_processes_give_the_fit_of_one(stages: Stages, tiny_classifier: Path, tmp_path: Path):
    """In float64 without dropout, with views that one rank may have none of in a micro-batch."""
    assert stages.pseudolabel(f"--model.model={tiny_classifier}").code == 0
    assert stages.select("--class_from=prompt").code == 0
    write_views(Path("views"), labelled(37, 1))
    words = [
        "fit", "--config", "student.yaml", *stages.fit_words, "--data.selection=select", "--model.dropout=0",
        "--trainer.precision=64-true", "--model.synthetic_labels=prompt", "--model.importance_clip=2",
        "--model.logit_adjustment=1", "--model.consistency=0.5", "--data.views=views", "--average.every=step",
        "--average.decay=0.9", "--export.temperature=true", "--export.choose=last",
    ]  # fmt: skip
    assert warm.run([*words, "--out=one", "--data.batch_size=4", "--trainer.accumulate_grad_batches=2"], tmp_path) == 0
    two = ["--out=two", "--data.batch_size=2", "--trainer.accumulate_grad_batches=2", "--trainer.devices=2"]
    assert warm.run([*words, *two, "--trainer.strategy=ddp_fork"], tmp_path) == 0, warm.said(tmp_path)
    weights = [load_file(f"{out}/model/model.safetensors") for out in ("one", "two")]
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-4, atol=1e-6)
    facts = [json.loads(Path(out, "model/labelbridge.json").read_text()) for out in ("one", "two")]
    assert facts[1]["temperature"] == pytest.approx(facts[0]["temperature"], rel=1e-4)
    assert facts[1]["dev_confusion"] == facts[0]["dev_confusion"]
