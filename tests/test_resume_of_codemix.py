"""A fit on sentence pairs that was killed resumes to the very bits of one that was not, adapters and all weights."""

import signal
from pathlib import Path

import pytest
import torch
import warm
from conftest import QUIET
from seq2seq_models import save_t5, write_pairs
from test_resume_of_fit import ending, same

pytestmark = pytest.mark.slow


@pytest.fixture
def fit(tmp_path: Path):
    """37 pairs in windows of 8: 5 windows and 10 micro-batches an epoch, two epochs, with dropout."""
    save_t5(tmp_path / "t5")
    write_pairs(tmp_path / "train.jsonl", 37, 1)
    write_pairs(tmp_path / "dev.jsonl", 11, 2)

    def words(out: str, *more: object) -> list[object]:
        return [
            "fit", "--config", "codemix.yaml", "--model.model=t5", "--model.source_language=en",
            "--model.learning_rate=0.03", "--data.train.path=train.jsonl", "--data.dev.path=dev.jsonl",
            "--data.batch_size=4", "--trainer.accumulate_grad_batches=2", "--trainer.max_epochs=2", *QUIET,
            f"--out={out}", "--resume.every_n_steps=1", "--trainer.callbacks+=probes.Ending",
            f"--trainer.callbacks.file={out}.pt", *more,
        ]  # fmt: skip

    return words


@pytest.mark.parametrize("trained", [[], ["--model.lora=null"]], ids=["LoRA", "all weights"])
def test_a_killed_fit_resumes_to_the_same_bits(
    fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: list[str]
):
    monkeypatch.chdir(tmp_path)
    assert warm.run(fit("whole", *trained), tmp_path) == 0, warm.said(tmp_path)
    expected = ending("whole.pt")
    files = {path.name: path.read_bytes() for path in Path(tmp_path, "whole/model").iterdir()}
    ended, inside = "on_train_batch_end", "on_after_backward"
    for batch, hook in ((3, ended), (8, inside), (10, ended), (17, ended)):
        out = f"killed-{batch}"
        kill = warm.probe("KillAt", batch=batch, hook=hook)
        assert warm.run(fit(out, *trained, *kill), tmp_path) == -signal.SIGKILL, warm.said(tmp_path)
        if not trained:
            saved = torch.load(f"{out}/checkpoints/last.ckpt", weights_only=True)["state_dict"]
            assert saved
            assert all("lora_" in name for name in saved)  # the frozen weights stay in their own folder
        assert warm.run(fit(out, *trained), tmp_path) == 0, warm.said(tmp_path)
        same(ending(f"{out}.pt"), expected, out)
        for name, content in files.items():
            assert Path(out, "model", name).read_bytes() == content, (out, name)
