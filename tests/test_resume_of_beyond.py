"""A killed fit with the additions that carry state resumes to the same bits."""

import signal
from pathlib import Path

import pytest
import warm
from conftest import Stages
from test_resume_of_fit import ending, kill_at, model_of, same

pytestmark = pytest.mark.slow

SETTINGS = {
    "averaged": ["--average.every=step", "--average.decay=0.9", "--export.temperature=true"],
    "weighted": [
        "--average.every=check", "--model.synthetic_labels=prompt", "--model.importance_clip=2", "--model.schedule=shift",
        "--data.class_balanced=true",
    ],
}  # fmt: skip


@pytest.mark.parametrize("kind", SETTINGS)
def test_a_killed_fit_resumes_to_the_same_bits(stages: Stages, tiny_classifier: Path, tmp_path: Path, kind: str):
    """The mean of the weights, the mean importance weight, and the place in the schedule are in the checkpoint."""
    assert stages.pseudolabel(f"--model.model={tiny_classifier}").code == 0
    assert stages.select("--class_from=prompt").code == 0

    def words(out: str, *more: object) -> list[object]:
        return [
            "fit", "--config", "student.yaml", *stages.fit_words, "--data.selection=select", f"--out={out}",
            "--resume.every_n_steps=1", "--model.dropout=0.2", "--trainer.val_check_interval=6",
            "--trainer.check_val_every_n_epoch=null", "--trainer.callbacks+=probes.Ending",
            f"--trainer.callbacks.file={out}.pt", "--export.choose=last", *SETTINGS[kind], *more,
        ]  # fmt: skip

    assert warm.run(words("whole"), tmp_path) == 0, warm.said(tmp_path)
    for batch in (7, 13, 20):
        out = f"killed-{batch}"
        assert warm.run(words(out, *kill_at(batch)), tmp_path) == -signal.SIGKILL, warm.said(tmp_path)
        assert warm.run(words(out), tmp_path) == 0, warm.said(tmp_path)
        same(ending(f"{out}.pt"), ending("whole.pt"), out)
        assert model_of(out) == model_of("whole"), out
