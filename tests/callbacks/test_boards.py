"""A run's board shows its settings with what they came to, what is confused, and what was selected."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from conftest import Stages
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

LOGGED = "--trainer.logger=true"


def events_of(out: str) -> EventAccumulator:
    events = EventAccumulator(f"{out}/_logs", size_guidance={"tensors": 0, "images": 0})
    events.Reload()
    return events


def settings(events: EventAccumulator) -> dict[str, object]:
    content = HParamsPluginData()
    content.ParseFromString(events.summary_metadata["_hparams_/session_start_info"].plugin_data.content)
    shown = content.session_start_info.hparams
    return {name: getattr(value, value.WhichOneof("kind")) for name, value in shown.items()}


@pytest.mark.slow
def test_a_fit_shows_its_checks_its_selection_and_its_outcome(stages: Stages):
    assert stages.teacher("--trainer.max_epochs=1").code == 0
    assert stages.pseudolabel().code == 0
    assert stages.select().code == 0
    outcome = stages.student(LOGGED, "--trainer.max_epochs=2", "--boards.samples=2")
    assert outcome.code == 0, outcome.err
    events = events_of("student")
    tags = events.Tags()
    assert len(events.Images("figures/confusion/dev")) == 2  # one a check
    curves = {f"dev/{label}" for label in ("negative", "neutral", "positive")}
    assert curves <= set(tags["tensors"])
    assert "selection/text_summary" in tags["tensors"]
    table = events.Tensors("selection/text_summary")[0].tensor_proto.string_val[0].decode()
    assert table.startswith("| class | rank | prompt label | teacher | text |\n| --- |")
    shown = settings(events)
    assert shown["method"] == "T-top-k"
    assert shown["stage"] == "student"
    assert shown["gold_rows"] == 37
    assert shown["learning_rate"] > 0
    assert (shown["selection"], shown["k"], shown["class_from"]) == ("top", 6, "teacher")
    assert set(shown) <= {
        "base", "class_from", "epochs", "frozen_layers", "gold_rows", "k", "kl_weight", "learning_rate", "method",
        "objective", "rows_per_step", "seed", "selection", "setting", "stage", "synthetic_labels", "synthetic_rows",
        "task", "teacher_temperature", "temperature",
    }  # fmt: skip
    assert [one.value for one in events.Scalars("values/dev/accuracy")] == [
        max(one.value for one in events.Scalars("dev/accuracy"))
    ]
    assert {tag.split("/")[0] for tag in tags["scalars"]} == {"dev", "epoch", "throughput", "train", "values"}
    assert stages.test(LOGGED).code == 0
    events = events_of("test")
    target = next(tag.split("/")[2] for tag in events.Tags()["images"] if tag.startswith("figures/confusion/"))
    assert settings(events) == {**shown, "stage": "test"}
    assert f"values/{target}/macro_f1" in events.Tags()["scalars"]
    assert stages.student(LOGGED, "--boards.figures=false", "--boards.samples=0", "--out=plain").code == 0
    assert "selection/text_summary" not in events_of("plain").Tags()["tensors"]
    assert not events_of("plain").Tags()["images"]


@pytest.mark.slow
def test_mlflow_is_a_matter_of_configuration(stages: Stages, monkeypatch: pytest.MonkeyPatch):
    """In a folder: its own default, a database, requires more packages than its small edition brings."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow = pytest.importorskip("mlflow")
    assert stages.teacher("--trainer.max_epochs=1").code == 0
    assert stages.pseudolabel().code == 0
    assert stages.select().code == 0
    logger = {
        "class_path": "lightning.pytorch.loggers.MLFlowLogger",
        "init_args": {"experiment_name": "mine", "tracking_uri": "file:mlruns"},
    }
    outcome = stages.student(f"--trainer.logger={json.dumps(logger)}")
    assert outcome.code == 0, outcome.err
    client = mlflow.MlflowClient("file:mlruns")
    [run] = client.search_runs([client.get_experiment_by_name("mine").experiment_id])
    assert run.data.params["method"] == "T-top-k"
    assert run.data.metrics["values/dev/accuracy"] >= run.data.metrics["dev/accuracy"]
    shown = {
        file.path
        for folder in ("figures/confusion/dev", "selection")
        for file in client.list_artifacts(run.info.run_id, folder)
    }
    assert "selection/0000000.md" in shown
    assert len(shown) == 3  # with a confusion matrix of each check


@pytest.mark.slow
def test_wandb_is_a_matter_of_configuration(stages: Stages, monkeypatch: pytest.MonkeyPatch):
    """Without an account: what it writes offline."""
    wandb = pytest.importorskip("wandb")
    assert stages.teacher("--trainer.max_epochs=1").code == 0
    assert stages.pseudolabel().code == 0
    assert stages.select().code == 0
    logger = {
        "class_path": "lightning.pytorch.loggers.WandbLogger",
        "init_args": {"project": "mine", "save_dir": "board", "offline": True},
    }
    outcome = stages.student(f"--trainer.logger={json.dumps(logger)}", "--boards.samples=2")
    assert outcome.code == 0, outcome.err
    wandb.finish()  # as at the end of a process
    [run] = Path("board/wandb").glob("offline-run-*")
    [table] = (run / "files/media/table").glob("selection_*.table.json")
    assert json.loads(table.read_text())["columns"] == ["class", "rank", "prompt label", "teacher", "text"]
    assert len(list((run / "files/media/images/figures/confusion").glob("dev_*.png"))) == 2  # one a check
    [log] = run.glob("*.wandb")
    written = log.read_bytes()
    for name in (b"values/dev/accuracy", b"throughput/tokens_per_s", b"T-top-k"):
        assert name in written


@pytest.mark.slow
def test_trackio_is_a_matter_of_configuration(stages: Stages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    trackio = pytest.importorskip("trackio")
    logger = {
        "class_path": "labelbridge.lightning_app.boards.trackio_logger.TrackioLogger",
        "init_args": {"project": "mine"},
    }
    outcome = stages.teacher(f"--trainer.logger={json.dumps(logger)}", "--trainer.max_epochs=1")
    assert outcome.code == 0, outcome.err
    trackio.finish()  # as at the end of a process
    with closing(sqlite3.connect(tmp_path / "trackio/mine.db")) as database:
        metrics = [json.loads(row) for (row,) in database.execute("SELECT metrics FROM metrics")]
        [(config,)] = database.execute("SELECT config FROM configs")
    assert {"dev/accuracy", "values/dev/accuracy", "figures/confusion/dev"} <= set().union(*metrics)
    assert json.loads(config)["stage"] == "teacher"
