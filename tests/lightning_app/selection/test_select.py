"""Which rows are kept."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from conftest import LABELS, PROJECT, Command, labelled, write_jsonl
from hypothesis import given, settings
from hypothesis import strategies as st

from labelbridge.lightning_app.core import artifacts
from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.data.sources import Source, load_rows
from labelbridge.lightning_app.selection.quotas import cut
from labelbridge.lightning_app.selection.select import select

ROWS = 60


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    return write_jsonl(tmp_path / "pool.jsonl", labelled(ROWS, 3, "prompt_label"))


def pseudolabels(pool: Path, task: Task, folder: Path, seed: int = 0) -> np.ndarray:
    """A teacher's artifact for the pool, with rounded probabilities so that ties happen."""
    probs = np.random.default_rng(seed).dirichlet([1, 1, 1], size=ROWS).round(1)
    probs /= probs.sum(axis=1, keepdims=True)
    rows = load_rows(Source(path=str(pool)), task, "prompt_label")
    table = rows.table.select(["id"]).append_column("probs", pa.array(list(probs)))
    artifacts.write(
        folder, table, stage="pseudolabel", inputs={"pool": rows.reference}, facts={"labels": task.labels}
    )  # fmt: skip
    return probs


def run(pool: Path, task: Task, out: Path, **settings: object) -> artifacts.Artifact:
    select(task, Source(path=str(pool)), out=str(out), **settings)  # type: ignore[arg-type]
    return artifacts.read(out, "select")


def test_top_k_keeps_the_highest_probabilities_of_each_class(pool: Path, task: Task, tmp_path: Path):
    probs = pseudolabels(pool, task, tmp_path / "p")
    kept = run(pool, task, tmp_path / "s", pseudolabels=str(tmp_path / "p"), strategy="top", quota=5).table
    ids = [row["id"] for row in labelled(ROWS, 3)]
    for number, label in enumerate(LABELS):
        own = [row for row in kept.to_pylist() if row["class"] == label]
        expected = np.sort(probs[probs.argmax(axis=1) == number, number])[::-1][:5]
        assert [row["probs"][number] for row in own] == pytest.approx(expected)
        assert [row["rank"] for row in own] == [1, 2, 3, 4, 5]
        assert [row["score"] for row in own] == pytest.approx(np.log(expected), rel=1e-6)
        assert all(row["probs"] == pytest.approx(probs[ids.index(row["id"])]) for row in own)


def test_kept_rows_are_whole_rows(pool: Path, task: Task, tmp_path: Path):
    pseudolabels(pool, task, tmp_path / "p")
    kept = run(pool, task, tmp_path / "s", pseudolabels=str(tmp_path / "p"), quota=2).table
    assert kept.column_names == [
        "id", "text", "prompt_label", "lang", "class", "probs", "strategy", "score", "rank", "why",
    ]  # fmt: skip
    texts = {row["id"]: row["text"] for row in labelled(ROWS, 3)}
    assert all(texts[row["id"]] == row["text"] for row in kept.to_pylist())
    assert kept["why"][0].as_py() == "top: rank 1 of negative"


@pytest.mark.parametrize("strategy", ["random", "top"])
def test_the_order_of_the_pool_changes_nothing(pool: Path, task: Task, tmp_path: Path, strategy: str):
    pseudolabels(pool, task, tmp_path / "p")
    one = run(pool, task, tmp_path / "s1", pseudolabels=str(tmp_path / "p"), strategy=strategy, quota=7, seed=3)
    probs = artifacts.read(tmp_path / "p").table
    back = write_jsonl(tmp_path / "back" / "pool.jsonl", labelled(ROWS, 3, "prompt_label")[::-1])
    rows = load_rows(Source(path=str(back)), task, "prompt_label")
    table = probs.take(list(range(ROWS))[::-1])
    artifacts.write(tmp_path / "p2", table, stage="pseudolabel", inputs={"pool": rows.reference})
    two = run(back, task, tmp_path / "s2", pseudolabels=str(tmp_path / "p2"), strategy=strategy, quota=7, seed=3)
    assert two.table["id"].to_pylist() == one.table["id"].to_pylist()


def test_rand_k_is_a_seeded_draw(pool: Path, task: Task, tmp_path: Path):
    draws = [
        run(pool, task, tmp_path / f"s{n}", strategy="random", class_from="prompt", quota=8, seed=seed).table
        for n, seed in enumerate((0, 0, 1))
    ]
    ids = [draw["id"].to_pylist() for draw in draws]
    assert ids[0] == ids[1] != ids[2]
    assert draws[0]["class"].to_pylist() == draws[0]["prompt_label"].to_pylist()
    assert "probs" not in draws[0].column_names


def test_a_quota_can_differ_by_class(pool: Path, task: Task, tmp_path: Path):
    quota = {"negative": 3, "POSITIVE": 0, "neutral": 4}
    read = run(pool, task, tmp_path / "s", strategy="random", class_from="prompt", quota=quota)
    assert [read.table["class"].to_pylist().count(label) for label in LABELS] == [3, 4, 0]


def test_a_short_class_is_reported_not_refilled(pool: Path, task: Task, tmp_path: Path):
    read = run(pool, task, tmp_path / "s", strategy="random", class_from="prompt", quota=25)
    assert read.table.num_rows == ROWS
    assert read.manifest.facts["classes"]["neutral"] == {
        "available": 20, "quota": 25, "kept": 20, "shortfall": 5, "ties_at_cut": 0,
    }  # fmt: skip


def one_class(pool: Path, task: Task, folder: Path) -> str:
    """Pseudolabels of a teacher that has collapsed."""
    rows = load_rows(Source(path=str(pool)), task, "prompt_label")
    table = rows.table.select(["id"]).append_column("probs", pa.array([[0.1, 0.7, 0.2]] * ROWS))
    artifacts.write(folder, table, stage="pseudolabel", inputs={"pool": rows.reference})
    return str(folder)


def test_a_selection_of_one_class_is_refused_and_nothing_is_written(pool: Path, task: Task, tmp_path: Path):
    labels = one_class(pool, task, tmp_path / "p")
    said = "p: only class 'neutral' .* asks for 3 classes .candidates: negative 0, neutral 60, positive 0.; train"
    with pytest.raises(InputError, match=f"{said}.*--allow_empty true"):
        run(pool, task, tmp_path / "s", pseudolabels=labels, quota=5)
    assert not (tmp_path / "s").exists()


def test_a_refused_selection_leaves_the_one_that_it_was_to_replace(pool: Path, task: Task, tmp_path: Path):
    run(pool, task, tmp_path / "s", strategy="random", class_from="prompt", quota=5)
    with pytest.raises(InputError, match="allow_empty"):
        run(pool, task, tmp_path / "s", pseudolabels=one_class(pool, task, tmp_path / "p"), overwrite=True)
    assert artifacts.read(tmp_path / "s").table.num_rows == 15


def test_a_selection_of_one_class_can_be_allowed(pool: Path, task: Task, tmp_path: Path):
    labels = one_class(pool, task, tmp_path / "p")
    read = run(pool, task, tmp_path / "s", pseudolabels=labels, quota=5, allow_empty=True)
    assert set(read.table["class"].to_pylist()) == {"neutral"}


def test_a_quota_may_ask_for_one_class_alone(pool: Path, task: Task, tmp_path: Path):
    labels, quota = one_class(pool, task, tmp_path / "p"), {"negative": 0, "neutral": 5, "positive": 0}
    assert run(pool, task, tmp_path / "s", pseudolabels=labels, quota=quota).table.num_rows == 5


def test_filters_that_empty_a_class_are_named(pool: Path, task: Task, tmp_path: Path):
    with pytest.raises(InputError, match="pool.jsonl: no class .*60 dropped by min_words.; relax the filters"):
        run(pool, task, tmp_path / "s", strategy="random", class_from="prompt", quota=5, min_words=100)


def test_a_strategy_that_keeps_one_class_is_refused(
    pool: Path, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "picky.py").write_text(
        "import numpy as np\n"
        "from labelbridge.lightning_app.selection.strategies import Choice\n\n"
        "def neutral(candidates):\n"
        "    return Choice(np.arange(candidates.label == 1), np.zeros(len(candidates.ids)))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match="strategy 'picky.neutral': only class 'neutral'.*negative 20, neutral 20"):
        run(pool, task, tmp_path / "s", strategy="picky.neutral", class_from="prompt", quota=5)
    assert not (tmp_path / "s" / "_identity.json").exists()


def test_agreement_with_the_prompt_is_counted(pool: Path, task: Task, tmp_path: Path):
    pseudolabels(pool, task, tmp_path / "p")
    read = run(pool, task, tmp_path / "s", pseudolabels=str(tmp_path / "p"), quota=9)
    same = [row["class"] == row["prompt_label"] for row in read.table.to_pylist()]
    assert read.manifest.facts["agreement_with_prompt"] == pytest.approx(sum(same) / len(same))


def test_a_strategy_of_ones_own_is_ten_lines(cli: Command, pool: Path, tmp_path: Path):
    Path("mine.py").write_text(
        "import numpy as np\n\n"
        "def shortest_id(candidates):\n"
        "    return np.array([-len(one) for one in candidates.ids])\n"
    )
    words = ("--strategy=mine.shortest_id", "--class_from=prompt", "--pseudolabels=null", "--quota=3", "--out=s")
    outcome = cli("select", "--config", "select.yaml", f"--pool.path={pool}", *words)
    assert outcome.code == 0, outcome.err
    assert max(len(one) for one in artifacts.read(Path("s")).table["id"].to_pylist()) == len("3/0")


def test_options_of_ones_own_are_parameters(pool: Path, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "weighing.py").write_text(
        "def by_length(candidates, *, sign: int = 1):\n    return [sign * len(one) for one in candidates.ids]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    settings = {"strategy": "weighing.by_length", "class_from": "prompt", "quota": 2}
    longest = run(pool, task, tmp_path / "long", **settings)
    shortest = run(pool, task, tmp_path / "short", **settings, options={"sign": -1})
    assert min(map(len, longest.table["id"].to_pylist())) == max(map(len, shortest.table["id"].to_pylist())) + 1
    with pytest.raises(InputError, match="'signs' is not known, did you mean 'sign'"):
        run(pool, task, tmp_path / "typo", **settings, options={"signs": -1})


@pytest.mark.parametrize("kind", ["np.uint8", "bool", "int"])
def test_scores_may_be_of_any_kind(pool: Path, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str):
    """Unsigned numbers cannot be negated, and a mask not at all: the row with the highest one still wins."""
    code = f"import numpy as np\ndef score(candidates):\n    found = np.zeros(len(candidates.ids), {kind})\n"
    (tmp_path / "kinds.py").write_text(f"{code}    found[3] = 1\n    return found")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "kinds", raising=False)
    read = run(pool, task, tmp_path / "s", strategy="kinds.score", class_from="prompt", quota=1)
    assert read.table["score"].to_pylist() == [1.0] * len(task.labels)


CHOICE = (
    "import numpy as np\nfrom labelbridge.lightning_app.selection.strategies import Choice\n"
    "def score(candidates):\n    zeros = np.zeros(len(candidates.ids))\n"
)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("def score(candidates):\n    return candidates.log_prob(\n", "strategy 'broken.score', .*broken.py line .: SyntaxError: .*; fix this code"),
        ("score = 3", "strategy 'broken.score': broken.py has 3 under this name, expected a function"),
        ("import no_such_module", "broken.py line 1: ModuleNotFoundError: No module named 'no_such_module'"),
        ("x = 1\nraise SystemExit(5)", "broken.py line 2: it ends the program .SystemExit.: 5"),
        ("def score(candidates):\n    x = 1\n    return x / 0", "broken.py line 3: ZeroDivisionError: division by zero"),
        ("def score(candidates):\n    import sys\n    sys.exit()", "broken.py line 3: it ends the program"),
        ("class score:\n    pass", "too many positional arguments"),
        ("def score(candidates):\n    return None", "None, expected one number for each of"),
        ("def score(candidates):\n    return ['2'] * len(candidates.ids)", "expected one number for each of"),
        ("def score(candidates):\n    return [1j] * len(candidates.ids)", "expected one number for each of"),
        (f"{CHOICE}    return Choice(np.array([0.0, 1.5]), zeros)", "kept is array.*expected positions"),
        (f"{CHOICE}    return Choice([-1], zeros)", "kept row -1 of a class with 20 rows, expected 0 to 19"),
        (f"{CHOICE}    return Choice([20], zeros)", "kept row 20 of a class with 20 rows"),
        (f"{CHOICE}    return Choice([1, 1], zeros)", "kept 2 rows, expected up to 2 different ones"),
        (f"{CHOICE}    return Choice([[0], [1]], zeros)", "kept is .*expected positions"),
        (f"{CHOICE}    return Choice(zeros == 0, zeros)", "kept is .*expected positions"),
        (f"{CHOICE}    return Choice([0], zeros[:3])", "expected one number for each of"),
        (f"{CHOICE}    return Choice([0], zeros, cluster=zeros)", "cluster is .*expected a whole number for each of 20"),
        (f"{CHOICE}    return Choice([0], zeros, cluster=[1])", "cluster is .*expected a whole number"),
        ("def score(candidates):\n    return [float('nan')] * len(candidates.ids)", "the score of row '.*' is nan"),
        ("def score(candidates):\n    return [1.0]", "expected one number for each of"),
        ("def score(candidates):\n    return ['a'] * len(candidates.ids)", "expected one number for each of"),
        (
            "import numpy as np\nfrom labelbridge.lightning_app.selection.strategies import Choice\n"
            "def score(candidates):\n    return Choice(np.array([0]), np.full(len(candidates.ids), np.nan))",
            "the score of row '.*' is nan",
        ),
    ],
)  # fmt: skip
def test_a_strategy_that_is_broken(pool: Path, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code, said):
    (tmp_path / "broken.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "broken", raising=False)
    with pytest.raises(InputError, match=said):
        run(pool, task, tmp_path / "s", strategy="broken.score", class_from="prompt", quota=2)


@pytest.mark.parametrize("name", ["os.system", "builtins.eval", "numpy.random.rand", "sys.exit", "a..b", "/x.y"])
def test_a_strategy_is_a_file_of_the_users(pool: Path, task: Task, tmp_path: Path, name: str):
    with pytest.raises(InputError, match=f"strategy '{name}': not one of .*there is no .*py here"):
        run(pool, task, tmp_path / "s", strategy=name, class_from="prompt", quota=2)


@pytest.mark.slow
def test_a_file_beside_the_data_takes_no_librarys_place(cli: Command, pool: Path, tmp_path: Path):
    for name in ("datasets", "lingua", "rensa", "yaml", "numpy", "jsonargparse"):
        Path(f"{name}.py").write_text("from pathlib import Path\nPath('was-run').touch()\n")
    words = ("select", f"--pool.path={pool}", "--config=select.yaml", "--strategy=random", "--class_from=prompt",
             "--pseudolabels=null", "--quota=2", "--out=s")  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-m", "labelbridge", *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not Path("was-run").exists()
    assert artifacts.is_whole(Path("s"))


def test_after_a_mistake_the_corrected_command_may_take_the_folder(pool: Path, task: Task, tmp_path: Path):
    pseudolabels(pool, task, tmp_path / "p")
    with pytest.raises(InputError, match="this strategy needs embeddings"):
        run(pool, task, tmp_path / "s", strategy="diverse", pseudolabels=str(tmp_path / "p"))
    assert (
        run(pool, task, tmp_path / "s", strategy="top", pseudolabels=str(tmp_path / "p"), quota=2).table.num_rows == 6
    )


def test_a_misspelt_strategy(pool: Path, task: Task, tmp_path: Path):
    with pytest.raises(InputError, match="strategy 'topp': not one of .*; did you mean 'top'"):
        run(pool, task, tmp_path / "s", strategy="topp")


def test_a_changed_strategy_is_another_method(pool: Path, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(tmp_path)
    for sign, said in (("-", None), ("+", "holds another run .code: ")):
        (tmp_path / "changing.py").write_text(
            f"def score(candidates):\n    return [{sign}len(one) for one in candidates.ids]\n"
        )
        monkeypatch.delitem(sys.modules, "changing", raising=False)
        settings = {"strategy": "changing.score", "class_from": "prompt", "quota": 2}
        if said is None:
            run(pool, task, tmp_path / "s", **settings)
        else:
            with pytest.raises(InputError, match=said):
                run(pool, task, tmp_path / "s", **settings)


def test_agreement_is_the_teachers_also_where_the_class_is_the_prompts(pool: Path, task: Task, tmp_path: Path):
    probs = pseudolabels(pool, task, tmp_path / "p")
    settings = {"strategy": "random", "class_from": "prompt", "quota": 99}
    agreeing = {
        row["id"]
        for row, best in zip(labelled(ROWS, 3), probs.argmax(axis=1), strict=True)
        if row["label"] == LABELS[best]
    }
    assert 0 < len(agreeing) < ROWS
    both = {"pseudolabels": str(tmp_path / "p"), **settings}
    assert set(run(pool, task, tmp_path / "s", **both, agreement=True).table["id"].to_pylist()) == agreeing
    facts = run(pool, task, tmp_path / "all", **both).manifest.facts
    assert facts["agreement_with_prompt"] == pytest.approx(len(agreeing) / ROWS)
    assert run(pool, task, tmp_path / "alone", **settings).manifest.facts["agreement_with_prompt"] is None
    with pytest.raises(InputError, match="agreement: needs the teacher's probabilities"):
        run(pool, task, tmp_path / "none", **settings, agreement=True)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 5), max_size=40), st.integers(0, 50), st.integers(0, 3), st.randoms())
def test_a_cut_keeps_the_best_and_breaks_ties_by_id(scores: list[int], quota: int, seed: int, rng: object):
    ids = [f"row{number}" for number in range(len(scores))]
    kept = cut(np.array(scores, dtype=np.float32), ids, quota, seed)
    assert len(kept.kept) == len(set(kept.kept.tolist())) == min(quota, len(scores))
    best = [scores[position] for position in kept.kept]
    assert best == sorted(scores, reverse=True)[: len(best)]
    left = [scores[position] for position in set(range(len(scores))) - set(kept.kept.tolist())]
    assert kept.ties == (left.count(best[-1]) if best else 0)
    shuffled = list(range(len(scores)))
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    again = cut(np.array([scores[n] for n in shuffled], dtype=np.float32), [ids[n] for n in shuffled], quota, seed)
    assert [ids[shuffled[position]] for position in again.kept] == [ids[position] for position in kept.kept]


def test_the_summary_is_in_the_manifest_as_json(pool: Path, task: Task, tmp_path: Path):
    run(pool, task, tmp_path / "s", strategy="random", class_from="prompt", quota=2)
    facts = json.loads((tmp_path / "s" / "_manifest.json").read_text())["facts"]
    assert facts["labels"] == LABELS
    assert facts["quota"] == {"negative": 2, "neutral": 2, "positive": 2}
