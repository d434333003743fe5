"""Folders for the Hub: cards, data sets, uploads, ONNX."""

import json
import re
import shutil
import threading
from collections.abc import Iterator
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from conftest import LABELS, labelled, save_classifier, write_jsonl

from labelbridge.lightning_app.core import artifacts
from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.models.card import model_card
from labelbridge.lightning_app.models.export import export

TOKEN = "hf_" + "secret" * 5


def metadata(card: str) -> dict[str, Any]:
    return yaml.safe_load(card.split("---")[1])


@pytest.fixture
def model(tmp_path: Path, task: Task, tiny_bert: Path) -> Path:
    """A model folder as a fit leaves it."""
    folder = save_classifier(tmp_path / "student" / "model", tiny_bert, LABELS)
    facts = {
        "task": asdict(task), "method": "T-top-k", "setting": "zero-shot", "seed": 0, "max_length": 32,
        "base": "org/encoder", "gold_counts": {"negative": 3, "neutral": 4, "positive": 5},
        "inputs": {"gold": {"paths": ["gold.jsonl"], "fingerprint": "sha256:0123456789abcdef0123"}},
    }  # fmt: skip
    (folder / "labelbridge.json").write_text(json.dumps(facts))
    inputs = {"selection": artifacts.reference("select", "sha256:1")}
    artifacts.write(folder.parent, None, stage="student", fingerprint_of_files="sha256:0", facts=facts, inputs=inputs)
    return folder


@pytest.fixture
def selection(tmp_path: Path, task: Task) -> Path:
    artifacts.write(tmp_path / "clean", pa.table({"id": ["a", "b", "c"]}), stage="clean")
    rows = {
        "id": ["a", "b"], "text": ["good", "bad"], "prompt_label": ["positive", "negative"],
        "domain": ["film", "food"], "lang": ["en", "en"], "class": ["positive", "negative"],
        "probs": [[0.0, 0.1, 0.9], [1.0, 0.0, 0.0]],
    }  # fmt: skip
    pool = artifacts.reference(tmp_path / "clean", artifacts.read_manifest(tmp_path / "clean"))
    facts = {"labels": LABELS, "strategy": "top", "class_from": "teacher", "classes": {"positive": {"kept": 1}}}
    config = {"task": asdict(task)}
    artifacts.write(
        tmp_path / "select", pa.table(rows), stage="select", facts=facts, config=config, inputs={"pool": pool}
    )
    return tmp_path / "select"


def test_a_model_card_has_what_the_hub_shows(model: Path, tmp_path: Path):
    export(str(model), str(tmp_path / "hub"), license="apache-2.0", languages=["en", "hi"])
    card = (tmp_path / "hub" / "README.md").read_text()
    assert metadata(card) == {
        "library_name": "transformers", "pipeline_tag": "text-classification", "language": ["en", "hi"],
        "license": "apache-2.0", "base_model": "org/encoder", "tags": ["labelbridge", "zero-shot"],
    }  # fmt: skip
    assert "gold: `gold.jsonl` (sha256:0123456789ab…), 12 rows: negative 3, neutral 4, positive 5" in card
    assert f"| student |  | `{model.parent}`: method T-top-k, seed 0 |" in card
    assert "## Limits" in card


def test_metrics_are_in_the_form_that_the_hub_reads():
    from huggingface_hub import ModelCard

    scores = {"rows": 23.0, "accuracy": 0.61234, "macro_f1": 0.5, "ece": 0.1}
    card = model_card({"results": {"hi": scores}, "task": {"name": "sentiment", "labels": LABELS}})
    found = ModelCard(card).data.eval_results
    assert [(one.dataset_name, one.metric_type, one.metric_value) for one in found] == [
        ("hi", "accuracy", 0.6123), ("hi", "f1", 0.5), ("hi", "ece", 0.1),
    ]  # fmt: skip


def test_a_selection_becomes_a_data_set_that_datasets_loads(selection: Path, tmp_path: Path):
    import datasets

    hub = tmp_path / "hub"
    export(selection=str(selection), out=str(hub), license="cc-by-4.0")
    rows = datasets.load_dataset(str(hub), split="train", cache_dir=str(tmp_path / "cache"))
    assert rows["text"] == ["good", "bad"]
    card = (hub / "README.md").read_text()
    assert {"language": ["en"], "license": "cc-by-4.0", "size_categories": ["n<1K"]}.items() <= metadata(card).items()
    assert "| positive | 1 | 1 | 0 |" in card
    assert "strategy top, classes from the teacher; positive 1" in card
    assert "| clean | 3 |" in card
    export(selection=str(selection), out=str(hub), license="cc-by-4.0")  # the same again
    with pytest.raises(InputError, match="not empty"):
        export(selection=str(selection), out=str(hub), license="mit")


def test_only_a_selection_becomes_a_data_set(selection: Path, tmp_path: Path):
    with pytest.raises(InputError, match="written by stage 'clean', expected a selection"):
        export(selection=str(tmp_path / "clean"), out=str(tmp_path / "hub"))
    with pytest.raises(InputError, match="prior is 'uniform' with selection, which exports a data set"):
        export(selection=str(selection), out=str(tmp_path / "hub"), prior="uniform")
    assert not (tmp_path / "hub").exists()


def test_an_exchange_that_was_cut_short_goes_on(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    hub, rename = tmp_path / "hub", Path.rename
    export(str(model), str(hub))
    before = {path: path.read_bytes() for path in hub.rglob("*") if path.is_file()}

    def killed(path: Path, target: Path) -> Path:
        if Path(target).name == "hub":
            raise SystemExit(137)
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", killed)
    with pytest.raises(SystemExit):
        export(str(model), str(hub), overwrite=True)
    monkeypatch.setattr(Path, "rename", rename)
    assert not hub.exists()
    export(str(model), str(hub))
    assert {path: path.read_bytes() for path in hub.rglob("*") if path.is_file()} == before


def test_only_exports_are_replaced(model: Path, tmp_path: Path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("x")
    for out, said in (
        (mine, "not an export"),
        (tmp_path, "holds the model"),
        (model, "holds the model"),
        (model / "onnx", "is inside the model"),
    ):
        with pytest.raises(InputError, match=said):
            export(str(model), str(out), overwrite=True)
    assert (mine / "thesis.txt").exists()
    assert (model / "model.safetensors").exists()


class FakeHub(BaseHTTPRequestHandler):
    """As much of the Hub as an upload asks for."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append((self.path, body, self.headers.get("authorization")))
        if self.server.refuses:
            self._answer(403, {"error": f"no rights for {TOKEN}"})
        elif self.path == "/api/repos/create":
            self._answer(200, {"url": f"{self.server.address}/me/reviews", "name": "me/reviews"})
        elif "/preupload/" in self.path:
            files = json.loads(body)["files"]
            self._answer(
                200, {"files": [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False} for one in files]}
            )
        elif "/commit/" in self.path:
            self._answer(
                200,
                {
                    "commitUrl": f"{self.server.address}/datasets/me/reviews/commit/0",
                    "commitOid": "0" * 40,
                    "pullRequestUrl": None,
                },
            )
        else:
            self._answer(200, {})

    def do_GET(self) -> None:
        self._answer(200, {"id": "me/reviews", "sha": "0" * 40, "siblings": []} if "/tree/" not in self.path else [])

    def _answer(self, status: int, value: Any) -> None:
        text = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    from huggingface_hub import constants

    server = ThreadingHTTPServer(("127.0.0.1", 0), FakeHub)
    server.seen, server.refuses, server.address = [], False, f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", server.address)  # HF_ENDPOINT, which is read when it is imported
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join()


def test_one_flag_uploads_the_folder(
    hub: ThreadingHTTPServer, selection: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level("DEBUG"):
        export(selection=str(selection), out=str(tmp_path / "out"), push="me/reviews")
    paths = [path for path, _, _ in hub.seen]
    assert paths[0] == "/api/repos/create"
    created = json.loads(hub.seen[0][1])
    assert created["type"] == "dataset"
    assert created["visibility"] == "private"
    committed = next(body for path, body, _ in hub.seen if "/commit/main" in path)
    files = {json.loads(line)["value"].get("path") for line in committed.splitlines()}
    assert {"README.md", "data/train-00000-of-00001.parquet", "labelbridge.json"} <= files
    assert all(who == f"Bearer {TOKEN}" for _, _, who in hub.seen)
    assert TOKEN not in caplog.text
    assert "on the Hub" in caplog.text


def test_a_refused_upload_is_one_line_without_the_token(hub: ThreadingHTTPServer, selection: Path, tmp_path: Path):
    hub.refuses = True
    with pytest.raises(InputError, match="the Hub did not take it") as refused:
        export(selection=str(selection), out=str(tmp_path / "out"), push="me/reviews")
    assert TOKEN not in str(refused.value)
    assert "\n" not in str(refused.value)
    assert (tmp_path / "out" / "README.md").exists()


@pytest.mark.parametrize(
    ("repo", "token", "said"), [("reviews", TOKEN, "expected USER/NAME"), ("me/x", "", "logged in")]
)
def test_an_upload_that_cannot_be_is_refused_first(
    hub: ThreadingHTTPServer, selection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repo: str, token: str,
    said: str,
):  # fmt: skip
    monkeypatch.setenv("HF_TOKEN", token)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: token or None)
    with pytest.raises(InputError, match=said):
        export(selection=str(selection), out=str(tmp_path / "out"), push=repo)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["tiny_bert", "tiny_xlmr"])
def test_onnx_files_say_what_the_network_says(
    model: Path, tmp_path: Path, encoder: str, request: pytest.FixtureRequest
):
    facts = (model / "labelbridge.json").read_text()
    shutil.rmtree(model)
    save_classifier(model, request.getfixturevalue(encoder), LABELS)
    (model / "labelbridge.json").write_text(facts)
    rows = write_jsonl(
        tmp_path / "rows.jsonl", [*labelled(70, 5), {"id": "x", "text": "good " * 90, "label": "neutral"}]
    )
    from labelbridge.lightning_app.data.sources import Source

    export(str(model), str(tmp_path / "hub"), onnx="int8", compare_on=Source(str(rows)))
    measured = json.loads((tmp_path / "hub" / "labelbridge.json").read_text())["onnx"]
    assert set(measured) == {"onnx/model.onnx", "onnx/model_int8.onnx"}
    assert measured["onnx/model.onnx"]["rows"] == 71
    assert measured["onnx/model.onnx"]["largest_difference"] < 1e-4
    assert measured["onnx/model.onnx"]["accuracy"] == measured["onnx/model.onnx"]["accuracy_of_network"]
    assert (tmp_path / "hub" / "onnx" / "model_int8.onnx").stat().st_size > 0
    card = (tmp_path / "hub" / "README.md").read_text()
    assert re.search(r"\| `onnx/model_int8.onnx` \| 71 \| ", card)


@pytest.mark.slow
def test_an_onnx_file_that_says_something_else_is_refused(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from labelbridge.lightning_app.data.sources import Source

    monkeypatch.setattr("labelbridge.lightning_app.models.onnx_files.MOST_DIFFERENT", -1.0)
    rows = write_jsonl(tmp_path / "rows.jsonl", labelled(5, 5))
    with pytest.raises(InputError, match=r"onnx: row '5/\d' has probabilities .* cannot be exported faithfully"):
        export(str(model), str(tmp_path / "hub"), onnx="float", compare_on=Source(str(rows)))
    assert not (tmp_path / "hub").exists()


def test_onnx_requires_rows(model: Path, tmp_path: Path):
    with pytest.raises(InputError, match="no rows to compare it with"):
        export(str(model), str(tmp_path / "hub"), onnx="float")
