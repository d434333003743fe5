"""The example of serving, over loopback."""

import importlib.util
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import uvicorn
from conftest import PROJECT
from transformers import AutoModelForSequenceClassification, AutoTokenizer


@pytest.fixture(scope="module")
def server(tiny_classifier: Path) -> Iterator[str]:
    spec = importlib.util.spec_from_file_location("serve", PROJECT / "examples" / "serve.py")
    assert spec is not None
    assert spec.loader is not None
    serve = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MODEL", str(tiny_classifier))
        spec.loader.exec_module(serve)
        app = serve.app()
    running = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    while not running.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{running.servers[0].sockets[0].getsockname()[1]}/predict"
    running.should_exit = True
    thread.join()


def ask(server: str, rows: list[Any]) -> Any:
    request = urllib.request.Request(server, json.dumps({"rows": rows}).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def probabilities(folder: Path, *texts: str) -> dict[str, float]:
    """Label -> probability of one text or one pair, by the model itself."""
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        logits = model(**AutoTokenizer.from_pretrained(folder)(*texts, return_tensors="pt")).logits
    return {model.config.id2label[number]: float(prob) for number, prob in enumerate(logits.softmax(-1)[0])}


def test_a_row_has_the_probabilities_of_the_model(server: str, tiny_classifier: Path):
    text = "the film was good"
    (found,) = ask(server, [text])
    assert found == pytest.approx(probabilities(tiny_classifier, text), rel=1e-3)
    assert list(found.values()) == sorted(found.values(), reverse=True)


def test_rows_come_back_in_order_and_pairs_are_pairs(server: str, tiny_classifier: Path):
    premise, hypothesis = "the film was good", "the actors were bad and nobody laughed"
    expected = [probabilities(tiny_classifier, *texts) for texts in [(premise,), (premise, hypothesis), (hypothesis,)]]
    found = ask(server, [premise, [premise, hypothesis], hypothesis])
    assert found == [pytest.approx(probs, rel=1e-3) for probs in expected]
    # The tiny model is sure of everything: relative differences tell its answers apart.
    assert expected[1] != pytest.approx(expected[0], rel=1e-2)
    assert expected[1] != pytest.approx(expected[2], rel=1e-2)
    assert ask(server, []) == []


def test_a_long_text_is_cut_and_a_wrong_request_is_refused(server: str):
    assert len(ask(server, ["good " * 3_000])) == 1
    for rows in ([3], ["a"] * 257, [["a", "b", "c"]]):
        with pytest.raises(urllib.error.HTTPError, match="422"):
            ask(server, rows)
