"""The report as one HTML page."""

import base64
import gzip
import json
import re
import shutil
import subprocess
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from labelbridge.lightning_app.core import artifacts
from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.evaluation import page as pages
from labelbridge.lightning_app.evaluation.entries import Results
from labelbridge.lightning_app.evaluation.pool_view import Axes, PoolView, pool_views
from labelbridge.lightning_app.evaluation.predictions import read
from labelbridge.lightning_app.evaluation.report import report

TEXTS = ["good <b>film</b>", "=dull & long", "a plain day", "पूरा पैसा वसूल"]
KEPT = {"top": [0, 1], "random": [1, 3]}


def reference(folder: Path) -> dict[str, str]:
    return artifacts.reference(folder, artifacts.read_manifest(folder))


def write_chain(folder: Path, task: Task, removed_model: bool = False) -> list[str]:
    """A pool of four rows, two selections, and a tested student of each beside a tested teacher."""
    ids = [f"movies/{n}" for n in range(4)]
    prompt_labels = ["positive", "negative", "neutral", "positive"]
    pool = {"id": ids, "text": TEXTS, "prompt_label": prompt_labels, "domain": ["film", "film", "day", "shop"]}
    artifacts.write(folder / "clean", pa.table(pool), stage="clean")
    probs = [[0.1, 0.1, 0.8], [0.7, 0.2, 0.1], [0.5, 0.3, 0.2], [0.2, 0.2, 0.6]]
    labels, to_pool = {"labels": task.labels}, {"pool": reference(folder / "clean")}
    artifacts.write(
        folder / "pseudolabel", pa.table({"id": ids, "probs": probs}), stage="pseudolabel", facts=labels, inputs=to_pool
    )
    runs = [write_test(folder / "SRC", task, "SRC", {}, 3)]
    for strategy, kept in KEPT.items():
        classes = {"negative": {"available": 2, "quota": 2, "kept": 1, "shortfall": 1, "ties_at_cut": 0}}
        artifacts.write(
            folder / strategy,
            pa.Table.from_pylist([{name: pool[name][n] for name in pool} for n in kept]),
            stage="select",
            facts={**labels, "strategy": strategy, "classes": classes, "diversity": 0.25},
            inputs={**to_pool, "pseudolabels": reference(folder / "pseudolabel")},
        )
        student = folder / f"student-{strategy}"
        (student / "model").mkdir(parents=True)
        weights = student / "model" / "model.safetensors"
        weights.write_text("weights")
        artifacts.write(
            student, None, stage="student", fingerprint_of_files="sha256:0", files=[weights],
            inputs={"selection": reference(folder / strategy)},
        )  # fmt: skip
        if removed_model:
            shutil.rmtree(student / "model")
        model = {"model": {"paths": [str(student / "model")], "fingerprint": "sha256:0"}}
        runs.append(write_test(folder / f"T-{strategy}", task, f"T-{strategy[:4]}-k", model, 8))
    return runs


def write_test(folder: Path, task: Task, method: str, inputs: dict[str, Any], right: int) -> str:
    rows = [
        {"id": f"t/{n}", "target": "hi", "label": "positive", "probs": np.eye(3)[2 if n < right else 0].tolist()}
        for n in range(10)
    ]
    facts = {"task": asdict(task), "method": method, "seed": 0, "setting": "zero-shot", "dev": {"dev/accuracy": 0.5}}
    artifacts.write(folder, pa.Table.from_pylist(rows), stage="test", facts=facts, inputs=inputs)
    return str(folder)


def written(tmp_path: Path, runs: list[str]) -> str:
    report(runs, out=str(tmp_path / "report"))
    return (tmp_path / "report" / "report.html").read_text(encoding="utf-8")


def data_of(html: str, number: int = 0) -> dict[str, Any]:
    packed = re.search(rf'id="data-{number}">([^<]*)<', html)
    assert packed is not None
    return json.loads(gzip.decompress(base64.b64decode(packed.group(1))))


def numbers(text: str, dtype: str = "u1") -> list[int]:
    return np.frombuffer(base64.b64decode(text), dtype).tolist()


class Tags(HTMLParser):
    """Checks that tags are closed in order, and collects attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in ("meta", "input", "br", "circle", "line", "polyline", "rect"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("circle", "line", "polyline", "rect"):
            assert self.open.pop() == tag


def test_the_page_is_well_formed_and_asks_no_server(tmp_path: Path, task: Task):
    html = written(tmp_path, write_chain(tmp_path, task))
    tags = Tags()
    tags.feed(html)
    assert tags.open == []
    loads = [(tag, name, value) for tag, name, value in tags.attributes if name in ("src", "href") and value]
    assert [one for one in loads if not one[2].startswith("#")] == []
    assert set(re.findall(r"https?://[\w./]+", html)) <= {"http://www.w3.org/2000/svg"}
    assert "default-src &#39;none&#39;" in html or "default-src 'none'" in html


def test_every_control_has_a_label_and_every_link_a_place(tmp_path: Path, task: Task):
    html = written(tmp_path, write_chain(tmp_path, task))
    tags = Tags()
    tags.feed(html)
    places = {value for _, name, value in tags.attributes if name == "id"}
    assert {value[1:] for tag, name, value in tags.attributes if (tag, name) == ("a", "href")} <= places
    labelled = set(re.findall(r'<label>[^<]+<(?:select|input) id="([\w-]+)"', html))
    assert {value for tag, name, value in tags.attributes if tag in ("select", "input") and name == "id"} == labelled
    assert all(f'id="{name}"' in html for name in re.findall(r'\$\("([\w-]+)"\)', html))


def test_the_page_has_the_rows_of_the_pool_as_they_are(tmp_path: Path, task: Task):
    data = data_of(written(tmp_path, write_chain(tmp_path, task)))
    assert data["texts"].split("\n") == TEXTS
    assert data["ids"].split("\n") == [f"movies/{n}" for n in range(4)]
    assert [task.labels[n] for n in numbers(data["prompt"])] == ["positive", "negative", "neutral", "positive"]
    assert [data["domains"][n] for n in numbers(data["domain"])] == ["film", "film", "day", "shop"]
    assert numbers(data["probs"], "<u2")[2] == round(0.8 * 65535)
    for one in data["selections"]:
        bits = numbers(one["kept"])[0]
        assert [n for n in range(4) if bits >> n & 1] == KEPT[one["name"]]


def test_selections_show_shortfalls_methods_and_what_they_share(tmp_path: Path, task: Task):
    html = written(tmp_path, write_chain(tmp_path, task))
    assert "1 of 2" in html
    assert "1 short" in html
    (view,) = pool_views([read(Path(run)) for run in [str(tmp_path / "T-top"), str(tmp_path / "T-random")]])
    shown = pages._pool(view)
    assert shown["overlap"] == [[None, 0.5], [0.5, None]]
    assert [one["methods"] for one in shown["selections"]] == [["T-top-k"], ["T-rand-k"]]
    assert [one["agreement"] for one in shown["selections"]] == [1.0, 1.0]


def test_a_removed_model_hides_no_selection(tmp_path: Path, task: Task):
    """Grids remove the weights of later seeds; what they were trained on is still known."""
    html = written(tmp_path, write_chain(tmp_path, task, removed_model=True))
    assert len(data_of(html)["selections"]) == 2


def test_the_summary_says_whether_it_helped(tmp_path: Path, task: Task):
    html = written(tmp_path, write_chain(tmp_path, task))
    assert "The source dev set chooses <b>SRC</b>" in html
    assert "The largest difference is that of <b>T-top-k</b> on hi: +50.0" in html
    assert "Trained on gold only; this model is the teacher." in html


def test_a_smaller_calibration_error_is_the_better_one(tmp_path: Path, task: Task):
    """SRC answers 3 of 10 rows rightly, T-top-k 8, T-rand-k 1, and all are sure of it."""
    runs = [
        write_test(tmp_path / method, task, method, {}, right)
        for method, right in (("SRC", 3), ("T-top-k", 8), ("T-rand-k", 1))
    ]
    report(runs, out=str(tmp_path / "report"), metric="ece", baseline="SRC")
    html = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "The largest difference is that of <b>T-top-k</b> on hi: −50.0" in html.replace("-50.0", "−50.0")


def test_names_are_shown_as_they_are(tmp_path: Path, task: Task):
    name = "<script>alert(1)</script>"
    html = written(
        tmp_path, [write_test(tmp_path / "a", task, name, {}, 3), write_test(tmp_path / "b", task, "B", {}, 8)]
    )
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert(1)" in html


def test_runs_without_a_pool_have_a_page_without_a_map(tmp_path: Path, task: Task):
    html = written(tmp_path, [write_test(tmp_path / "a", task, "SRC", {}, 3)])
    assert 'id="map"' not in html
    assert "There is nothing to compare with" in html


def test_texts_are_cut_until_the_page_is_small_enough(task: Task, monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("abcdefghij"), 1000)) for _ in range(400)]
    rows = np.arange(400.0)
    view = PoolView(
        "pool", task, [str(n) for n in range(400)], list(texts), [None] * 400, [None] * 400, [None] * 400, None,
        [Axes("any", "x", "y", rows, rows)], [],
    )  # fmt: skip
    monkeypatch.setattr(pages, "MOST_BYTES", 130_000)
    html = pages.page(Results(), [], [], [], [view])
    assert len(html.encode()) <= 130_000
    assert "Texts are cut to" in html
    assert data_of(html)["texts"].split("\n")[0].endswith("…")


def test_a_large_pool_is_sampled_and_keeps_what_was_selected(
    tmp_path: Path, task: Task, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(pages, "MOST_ROWS", 3)
    data = data_of(written(tmp_path, write_chain(tmp_path, task)))
    assert data["rows"] == 3
    assert data["ids"].split("\n") == ["movies/0", "movies/1", "movies/3"]  # row 2 is in no selection


def test_a_report_without_a_page(tmp_path: Path, task: Task):
    report([write_test(tmp_path / "a", task, "SRC", {}, 3)], out=str(tmp_path / "report"), html=False)
    assert not (tmp_path / "report" / "report.html").exists()
    assert artifacts.is_whole(tmp_path / "report")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs a browser")
def test_a_browser_shows_the_rows(tmp_path: Path, task: Task):
    written(tmp_path, write_chain(tmp_path, task))
    shown = subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--virtual-time-budget=20000", "--dump-dom",
         (tmp_path / "report" / "report.html").as_uri()],
        capture_output=True, text=True, timeout=120,
    ).stdout  # fmt: skip
    assert "4 of 4 rows" in shown
    assert "good &lt;b&gt;film&lt;/b&gt;" in shown  # in the table that the script fills
    assert re.search(r"<option value=\"0\">top</option>", shown)


def test_every_selection_has_its_diversity_where_the_pool_has_embeddings(tmp_path: Path, task: Task):
    """Two rows at a right angle have 1; what a strategy has recorded itself is kept."""
    write_chain(tmp_path, task)
    embedded = {"id": [f"movies/{n}" for n in range(4)], "embedding": [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]]}
    artifacts.write(
        tmp_path / "embed", pa.table(embedded), stage="embed", inputs={"pool": reference(tmp_path / "clean")}
    )
    for strategy, facts in (("top", {}), ("random", {"diversity": 0.25})):
        old = artifacts.read(tmp_path / strategy)
        inputs = {**old.manifest.inputs, "embeddings": reference(tmp_path / "embed")}
        kept = {name: value for name, value in old.manifest.facts.items() if name != "diversity"}
        artifacts.write(tmp_path / strategy, old.table, stage="select", facts={**kept, **facts}, inputs=inputs)
    (view,) = pool_views([read(tmp_path / "T-top"), read(tmp_path / "T-random")])
    assert {one.name: one.diversity for one in view.selections} == {"top": pytest.approx(1.0), "random": 0.25}
