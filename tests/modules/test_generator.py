"""The two engines of generation, on a tiny random model and on servers that misbehave."""

import contextlib
import gzip
import hashlib
import itertools
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
import zlib
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import warm
from conftest import QUIET, Command, write_jsonl

from labelbridge.lightning_app.core import artifacts
from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.models.chat_templates import render_chat
from labelbridge.modules import TransformersGenerator
from labelbridge.modules.sampling import BigramBlock, DrawPerRow

COUNT = 24


def words(model: object, out: str, *more: object) -> list[object]:
    return [
        "predict", "--config", "generate.yaml", f"--model.model={model}", f"--data.count={COUNT}",
        "--model.max_new_tokens=10", "--data.tokens_per_batch=1500", f"--out={out}", *QUIET, *more,
    ]  # fmt: skip


def table_of(folder: str) -> list[dict]:
    return artifacts.read(Path(folder), "generate").table.to_pylist()


@pytest.mark.slow
def test_every_prompt_gets_its_answer_and_keeps_its_label(
    cli: Command, tiny_llama: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO")
    outcome = cli(*words(tiny_llama, "raw", "--model.dtype=float32"))
    assert outcome.code == 0, outcome.err
    assert "24 of 24 rows" in caplog.text
    assert "negative 8, neutral 8, positive 8" in caplog.text
    rows = table_of("raw")
    assert [row["id"] for row in rows] == [f"product_reviews/{number}" for number in range(COUNT)]
    assert Counter(row["prompt_label"] for row in rows) == {"negative": 8, "neutral": 8, "positive": 8}
    for row in rows:  # the label is the one whose instruction the row carries
        wanted = {"negative": "disappointed", "neutral": "no opinion", "positive": "delighted"}[row["prompt_label"]]
        assert wanted in row["user"]
        assert row["finish"] in ("stop", "length")
        assert row["error"] is None
        assert row["n_tokens"] <= 10


@pytest.mark.slow
def test_the_batches_change_nothing_in_a_rows_text(cli: Command, tiny_llama: Path):
    """Each row draws from random numbers of its own."""
    for out, budget in (("small", 400), ("large", 6000)):
        assert cli(*words(tiny_llama, out, "--model.dtype=float32", f"--data.tokens_per_batch={budget}")).code == 0
    small, large = (Counter((row["id"], row["text"]) for row in table_of(out)) for out in ("small", "large"))
    assert sum((small & large).values()) >= COUNT - 2  # a near tie may fall the other way in another batch
    assert cli(*words(tiny_llama, "other", "--model.dtype=float32", "--seed_everything=1")).code == 0
    assert [row["text"] for row in table_of("other")] != [row["text"] for row in table_of("small")]


@pytest.mark.slow
def test_it_runs_in_four_bits(cli: Command, tiny_llama: Path):
    pytest.importorskip("bitsandbytes")
    outcome = cli(*words(tiny_llama, "raw", "--model.quantization=nf4"))
    assert outcome.code == 0, outcome.err
    assert all(row["error"] is None for row in table_of("raw"))


def engine(tiny_llama: Path, **settings: object) -> TransformersGenerator:
    task = Task("sentiment", ["text"], ["negative", "neutral", "positive"])
    return TransformersGenerator(task=task, model=str(tiny_llama), **settings)  # type: ignore[arg-type]


def test_prompts_are_padded_on_the_left(tiny_llama: Path):
    inputs = engine(tiny_llama).encode(["Rules.", "Rules."], ["a very long request of many words", "short"])
    assert inputs["attention_mask"][1].tolist() == sorted(inputs["attention_mask"][1].tolist())
    assert inputs["attention_mask"][:, -1].tolist() == [1, 1]


def test_a_template_without_a_system_role_gets_the_rules_first(tiny_llama: Path):
    one = engine(tiny_llama)
    one.tokenizer.chat_template = (
        "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "{{ m['content'] }}{% endfor %}"
    )
    assert render_chat(one.tokenizer, "Rules.", "Request.") == "Rules.\n\nRequest."


def test_a_template_that_leaves_the_system_role_out_gets_the_rules_too(tiny_llama: Path):
    one = engine(tiny_llama)
    one.tokenizer.chat_template = (
        "{% for m in messages %}{% if m['role'] == 'user' %}{{ m['content'] }}{% endif %}{% endfor %}"
    )
    assert render_chat(one.tokenizer, "Rules.", "Request.") == "Rules.\n\nRequest."


def test_the_models_own_top_k_does_not_apply(tiny_llama: Path):
    """A true nucleus: with top_p 1 and no top_k every token can be drawn."""
    chain = engine(tiny_llama, top_p=1.0, temperature=1.0).processors(["a"], 0)
    assert [type(processor).__name__ for processor in chain] == ["BigramBlock", "DrawPerRow"]
    assert (chain[-1].top_k, chain[-1].top_p) == (0, 1.0)


def test_a_bigram_of_the_prompt_may_come_in_the_answer():
    """Only what was generated counts: prompt 1 2, answer 3 1; then 2 may follow, and with the prompt it may not."""
    ids = torch.tensor([[1, 2, 3, 1]])
    assert torch.isfinite(BigramBlock(2)(ids, torch.zeros(1, 5))).all()
    assert torch.isinf(BigramBlock(0)(ids, torch.zeros(1, 5))).nonzero().tolist() == [[0, 2]]


@pytest.mark.parametrize("seed", range(5))
def test_the_bigram_block_is_the_librarys_from_the_start(seed: int):
    from transformers import NoRepeatNGramLogitsProcessor

    ids = torch.randint(6, (8, 12), generator=torch.Generator().manual_seed(seed))
    scores = torch.zeros(8, 6)
    assert torch.equal(BigramBlock(0)(ids, scores.clone()), NoRepeatNGramLogitsProcessor(2)(ids, scores))


def test_draws_follow_the_probabilities():
    scores = torch.log(torch.tensor([0.5, 0.3, 0.2])).repeat(6000, 1)
    drawn = DrawPerRow([str(row) for row in range(6000)], 0, 4)(scores, scores).argmax(dim=1)
    shares = torch.bincount(drawn, minlength=3) / 6000
    assert shares.tolist() == pytest.approx([0.5, 0.3, 0.2], abs=0.03)


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A one-layer Llama with random weights as a GGUF file: a base model, without a chat template.

    Its vocabulary is single characters and, for the others, bytes, so that a line break is the token `<0x0A>`.
    """
    gguf = pytest.importorskip("gguf")
    file = tmp_path_factory.mktemp("models") / "tiny.gguf"
    characters = [chr(code) for code in range(33, 127)]
    vocabulary = ["<unk>", "<s>", "</s>", "\u2581", *(f"<0x{byte:02X}>" for byte in range(256)), *characters]
    size, hidden, width, heads = len(vocabulary), 32, 64, 4
    writer = gguf.GGUFWriter(str(file), "llama")
    writer.add_context_length(2048)
    writer.add_embedding_length(hidden)
    writer.add_block_count(1)
    writer.add_feed_forward_length(width)
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(hidden // heads)
    writer.add_vocab_size(size)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(vocabulary)
    writer.add_token_scores([0.0] * size)
    writer.add_token_types([2, 3, 3, 1] + [6] * 256 + [1] * len(characters))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    shapes = {
        "token_embd": (size, hidden), "output": (size, hidden), "blk.0.attn_q": (hidden, hidden),
        "blk.0.attn_k": (hidden, hidden), "blk.0.attn_v": (hidden, hidden), "blk.0.attn_output": (hidden, hidden),
        "blk.0.ffn_gate": (width, hidden), "blk.0.ffn_up": (width, hidden), "blk.0.ffn_down": (hidden, width),
    }  # fmt: skip
    rng = np.random.default_rng(0)
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", (0.3 * rng.standard_normal(shape)).astype(np.float32))
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(hidden, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


@pytest.mark.slow
def test_a_gguf_file_is_a_model(cli: Command, tiny_gguf: Path):
    """Without a chat template it continues labelled examples, up to the first line break."""
    outcome = cli(*words(tiny_gguf, "raw", "--model.dtype=float32"))
    assert outcome.code == 0, outcome.err
    manifest = artifacts.read_manifest(Path("raw"))
    digest = hashlib.sha256(tiny_gguf.read_bytes()).hexdigest()
    assert manifest.inputs["model"] == {"paths": [str(tiny_gguf)], "fingerprint": f"sha256:{digest}"}
    rows = table_of("raw")
    assert len(rows) == COUNT
    for row in rows:
        assert row["completion"].endswith(f"Product review about {row['domain']} ({row['prompt_label']}):")
        assert "\n" not in row["text"]
        assert row["finish"] in ("stop", "length")


def test_a_text_ends_at_the_first_line_break(tiny_gguf: Path):
    """What is cut at the token limit is marked; a token with a line break in it may begin with text."""
    generator = engine(tiny_gguf, max_new_tokens=4)
    first, line_break, second = (generator.tokenizer.convert_tokens_to_ids(token) for token in ("A", "<0x0A>", "B"))
    assert generator.line_breaks == {line_break}
    written = torch.tensor([[first, line_break, second, 0], [first, second, first, second], [line_break, 0, 0, 0]])
    generator.network = SimpleNamespace(
        generate=lambda input_ids, **_: SimpleNamespace(sequences=torch.cat([input_ids, written], dim=1), cache=None),
        generation_config=SimpleNamespace(eos_token_id=2, bos_token_id=1),
    )
    answers = generator.answer(["a", "b", "c"], [""] * 3, [""] * 3, ["Text:", "Text:", "Text:"])
    assert answers["text"] == ["A", "ABAB", ""]
    assert answers["finish"] == ["stop", "length", "stop"]
    assert answers["n_tokens"] == [1, 4, 0]


def test_a_line_break_inside_a_token_keeps_the_text_before_it(tiny_gguf: Path):
    generator = engine(tiny_gguf, max_new_tokens=2)
    generator.tokenizer.add_tokens([".\n"])
    token = generator.tokenizer.convert_tokens_to_ids(".\n")
    assert token in generator.line_breaks
    generator.network = SimpleNamespace(
        generate=lambda input_ids, **_: SimpleNamespace(
            sequences=torch.cat([input_ids, torch.tensor([[token, 0]])], dim=1), cache=None
        ),
        generation_config=SimpleNamespace(eos_token_id=2, bos_token_id=1),
    )
    assert generator.answer(["a"], [""], [""], ["Text:"])["text"] == ["."]


def test_a_base_model_begins_with_the_tokenizers_start_token(tiny_gguf: Path):
    generator = engine(tiny_gguf)
    inputs = generator.encode_completions(["Text (positive):", "A longer text (positive):"])
    starts = inputs["attention_mask"].argmax(dim=1)
    assert inputs["input_ids"].gather(1, starts[:, None])[:, 0].tolist() == [1, 1]
    assert inputs["attention_mask"][:, -1].tolist() == [1, 1]


def test_the_template_decides_the_format_unless_it_is_named(tiny_llama: Path, tiny_gguf: Path):
    assert not engine(tiny_llama).is_completion
    assert engine(tiny_llama, prompt_format="completion").is_completion
    assert engine(tiny_gguf).is_completion


def test_format_and_dtype_are_part_of_the_identity(tiny_llama: Path):
    plain = engine(tiny_llama).identity("predict")
    assert engine(tiny_llama, prompt_format="completion").identity("predict") != plain
    assert engine(tiny_llama, dtype="float32").identity("predict") != plain


def test_a_base_model_has_no_chat_format(cli: Command, tiny_bert: Path):
    outcome = cli(*words(tiny_bert, "raw", "--model.prompt_format=chat"))
    assert outcome.code == 2
    assert "its tokenizer has no chat template; use a chat or instruct model, or --model.prompt_format completion" in (
        outcome.err
    )


def test_a_base_model_requires_examples(cli: Command, tiny_llama: Path):
    Path("bare.yaml").write_text("name: m\nsystem: s\nclasses: {positive: x, neutral: y, negative: z}\n")
    outcome = cli(*words(tiny_llama, "raw", "--model.prompt_format=completion", "--data.prompts=bare.yaml"))
    assert outcome.code == 2
    assert "no examples in the language to write in, which a base model requires" in outcome.err


@pytest.mark.slow
def test_examples_in_english_do_not_make_a_base_model_write_hindi(cli: Command, tiny_gguf: Path):
    outcome = cli(*words(tiny_gguf, "raw", "--data.language=Hindi"))
    assert outcome.code == 2
    assert "no examples in the language to write in" in outcome.err


def test_a_gguf_file_is_not_quantised_again(cli: Command, tiny_gguf: Path):
    outcome = cli(*words(tiny_gguf, "raw", "--model.quantization=nf4"))
    assert outcome.code == 2
    assert "quantization nf4 does not apply to a GGUF file" in outcome.err


def test_a_gguf_file_that_is_not_there(cli: Command):
    outcome = cli(*words("missing.gguf", "raw"))
    assert outcome.code == 2
    assert "missing.gguf: no such file, expected a GGUF file" in outcome.err


def test_gguf_files_name_the_extra(tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(InputError, match=r"gguf is not installed; pip install 'labelbridge\[llm\]'"):
        engine(tiny_gguf).identity("predict")


@pytest.mark.slow
def test_premises_and_hypotheses_from_a_base_model(cli: Command, tiny_gguf: Path):
    write_jsonl(Path("premises.jsonl"), [{"id": "p0", "text": "A dog\nruns."}, {"id": "p1", "text": "It rains."}])
    more = ["--config", "tasks/nli.yaml", "--data.prompts=nli_hypotheses", "--data.source.path=premises.jsonl",
            '--data.source.columns={"premise": "text"}', "--model.dtype=float32"]  # fmt: skip
    outcome = cli(*words(tiny_gguf, "raw"), *more)
    assert outcome.code == 0, outcome.err
    lines = [row["completion"].splitlines()[-1] for row in table_of("raw")[:3]]
    labels = ("entailment", "neutral", "contradiction")
    assert lines == [f"Premise: A dog runs. Hypothesis ({label}):" for label in labels]


@pytest.mark.slow
def test_two_steps_from_premises_to_hypotheses(cli: Command, tiny_llama: Path):
    write_jsonl(Path("premises.jsonl"), [{"id": "p0", "text": "A dog runs."}, {"id": "p1", "text": "It rains."}])
    more = ["--config", "tasks/nli.yaml", "--data.prompts=nli_hypotheses", "--data.source.path=premises.jsonl",
            '--data.source.columns={"premise": "text"}', "--model.dtype=float32"]  # fmt: skip
    outcome = cli(*words(tiny_llama, "raw"), *more)
    assert outcome.code == 0, outcome.err
    rows = table_of("raw")
    assert [(row["id"], row["premise"]) for row in rows[:3]] == [
        (f"p0/{label}", "A dog runs.") for label in ("entailment", "neutral", "contradiction")
    ]


@pytest.mark.slow
def test_a_second_step_without_premises_is_refused(cli: Command, tmp_path: Path):
    write_jsonl(tmp_path / "premises.jsonl", [{"id": "p0", "premise": "A dog runs."}])
    more = (
        "--config",
        "tasks/nli.yaml",
        "--data.prompts=nli_hypotheses",
        "--data.source={path: premises.jsonl, start: 1}",
    )
    outcome = cli("predict", "--config", "generate.yaml", "--model=OpenAIGenerator", "--model.model=m",
                  "--model.base_url=http://127.0.0.1:9/v1", "--out=raw", *QUIET, *more)  # fmt: skip
    assert outcome.code == 2
    assert "premises.jsonl: no rows, expected one at least" in outcome.err


@pytest.mark.slow
def test_a_killed_generation_resumes_to_the_same_bits(tiny_llama: Path, tmp_path: Path):
    """20 kills after random batches, each of a run of its own, and up to 4 at random moments, two a run (a fast machine may be done before)."""
    every = [
        *words(tiny_llama, "OUT", "--model.dtype=float32", "--rows.flush_seconds=0"),
        "--data.tokens_per_batch=200",
    ]

    def command(out: str, *more: str) -> list[object]:
        return [str(one).replace("--out=OUT", f"--out={out}") for one in every] + list(more)

    assert warm.run(command("whole"), tmp_path) == 0, warm.said(tmp_path)
    expected = artifacts.read_manifest(tmp_path / "whole").fingerprint
    rng = random.Random(0)
    for batch in rng.sample(range(1, COUNT), 20):
        kill = warm.probe("KillAt", batch=batch, hook="on_predict_batch_end")
        assert warm.run(command(f"killed-{batch}", *kill), tmp_path) == -signal.SIGKILL, warm.said(tmp_path)
        assert not artifacts.is_whole(tmp_path / f"killed-{batch}")
        assert warm.run(command(f"killed-{batch}"), tmp_path) == 0, warm.said(tmp_path)
        assert artifacts.read_manifest(tmp_path / f"killed-{batch}").fingerprint == expected
    timed = 0
    for run in range(2):
        timed += sum(
            warm.kill_after(warm.start(command(f"timed-{run}"), tmp_path), rng.uniform(0.2, 1.2)) for _ in range(2)
        )
        assert warm.run(command(f"timed-{run}"), tmp_path) == 0, warm.said(tmp_path)
        assert artifacts.read_manifest(tmp_path / f"timed-{run}").fingerprint == expected
    print(f"20 kills after a batch, {timed} timed kills")


class Server(ThreadingHTTPServer):
    """Speaks enough of OpenAI's protocol, badly: what it does depends on how often it was asked.

    Args:
        faults: What happens to a prompt's first, second, ... request.
        only: Prompts without these words have no faults.
    """

    daemon_threads = True

    def __init__(self, faults: list[str], only: str = "") -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.faults = faults
        self.only = only
        self.times: list[float] = []
        self.asked: Counter[str] = Counter()
        self.under_way = self.most_under_way = 0
        self.lock = threading.Lock()
        self.keys: set[str | None] = set()
        self.finish = "stop"
        self.spared = 0  # so many requests have no fault
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = asked["messages"][-1]["content"]
        with self.server.lock:
            self.server.asked[prompt] += 1
            time_asked = self.server.asked[prompt]
            asked_before = self.server.asked.total() - 1
            self.server.under_way += 1
            self.server.most_under_way = max(self.server.most_under_way, self.server.under_way)
            self.server.keys.add(self.headers["Authorization"])
            self.server.times.append(time.monotonic())
        time.sleep(0.01)
        is_faulty = time_asked <= len(self.server.faults) and self.server.only in prompt
        is_faulty = is_faulty and asked_before >= self.server.spared
        fault = self.server.faults[time_asked - 1] if is_faulty else "none"
        with self.server.lock:
            self.server.under_way -= 1
        if fault == "hang":
            time.sleep(1.5)
        if fault == "stuck":
            time.sleep(60)
        if fault == "drop":
            self.connection.close()
            return
        status = {"wait": 429, "key": 401}.get(fault, int(fault) if fault.isdigit() else 200)
        answer = {"id": "x", "object": "chat.completion", "created": 0, "model": asked["model"], "choices": [
            {"index": 0, "finish_reason": self.server.finish, "message": {"role": "assistant", "content": f"Echo {prompt[-20:]}"}}
        ], "usage": {"prompt_tokens": 1, "completion_tokens": 3, "total_tokens": 4}}  # fmt: skip
        if fault == "empty":
            answer["choices"] = []
        if fault == "surrogate":
            answer["choices"][0]["message"]["content"] += " \ud83d"
        if fault == "error in 200":
            answer = {"error": {"message": "the model is overloaded", "code": 503}}
        if fault == "key":  # a server that is so careless as to repeat the key
            answer = {"error": {"message": f"Incorrect key: {self.headers['Authorization']}"}}
        body = {"malformed": b'{"half": ', "page": b"<html>busy</html>"}.get(fault, json.dumps(answer).encode())
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header(*(("Retry-After", "1") if fault == "wait" else ("retry-after-ms", "10")))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def served(server: Server, out: str, *more: object) -> list[object]:
    count = [f"--data.count={COUNT}", "--model.max_new_tokens=10", "--data.tokens_per_batch=3000"]
    return [
        "predict", "--config", "generate.yaml", "--model=OpenAIGenerator", "--model.model=tiny",
        f"--model.base_url={server.url}", "--model.timeout=30", "--model.concurrency=4", f"--out={out}", *count, *QUIET, *more,
    ]  # fmt: skip


def patience(*faults: str) -> list[str]:
    """A second where the server never answers; elsewhere a busy machine may take its time."""
    return ["--model.timeout=1"] if "hang" in faults else []


@pytest.mark.slow
@pytest.mark.parametrize(
    "faults",
    [[], ["429", "429"], ["500"], ["503"], ["drop"], ["malformed"], ["page"], ["empty"], ["hang"]],
    ids=lambda f: "+".join(f) or "none",
)
def test_a_server_that_stumbles_loses_no_row(cli: Command, monkeypatch: pytest.MonkeyPatch, faults: list[str]):
    monkeypatch.setenv("OPENAI_API_KEY", "secret-of-the-test")
    server = Server(faults)
    outcome = cli(*served(server, "raw", *patience(*faults)))
    assert outcome.code == 0, outcome.err
    rows = table_of("raw")
    assert len({row["id"] for row in rows}) == len(rows) == COUNT
    assert all(row["error"] is None and row["text"] == f"Echo {row['user'][-20:]}" for row in rows)
    assert server.most_under_way <= 4
    assert server.keys == {"Bearer secret-of-the-test"}
    assert not holds(Path("raw"), "secret-of-the-test")
    server.shutdown()


def holds(folder: Path, secret: str) -> bool:
    """Whether a file of the folder has the secret in it, as it is or inside a Parquet column."""
    tables = [str(artifacts.read(path.parent).table.to_pylist()) for path in folder.rglob("_manifest.json")]
    files = [path.read_bytes().decode(errors="replace") for path in folder.rglob("*") if path.is_file()]
    return any(secret in text for text in [*tables, *files])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("400", "BadRequestError 400"),
        ("429", "RateLimitError 429"),
        ("500", "InternalServerError 500"),
        ("malformed", "malformed|JSON"),
        ("empty", "malformed answer: no answer in it"),
        ("error in 200", "malformed answer: the model is overloaded"),
        ("page", "malformed|JSON"),
        ("drop", "APIConnectionError"),
        ("hang", "APITimeoutError"),
    ],
)
def test_what_still_fails_is_a_row_with_its_reason(
    cli: Command, fault: str, reason: str, caplog: pytest.LogCaptureFixture
):
    server = Server([fault] * 50, only="delighted")
    outcome = cli(*served(server, "raw", "--model.retries=1", "--data.count=6", *patience(fault)))
    assert outcome.code == 0, outcome.err
    failed = [row for row in table_of("raw") if row["error"] is not None]
    assert len(failed) == 2
    assert all(row["text"] is None and row["finish"] == "error" and re.search(reason, row["error"]) for row in failed)
    assert "2 of 6 rows failed, most often (2) with: " in caplog.text
    server.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "rows", "said"),
    [
        ("402", 3, "the first row failed with: APIStatusError 402.*no credit is left"),
        ("404", 40, "the first row failed with: NotFoundError 404.*no such address or model"),
        ("400", 3, "all 3 rows failed, most often with: BadRequestError 400"),
        ("400", 40, "8 rows in a row failed, the last with: BadRequestError 400"),
        ("error in 200", 40, "8 rows in a row failed, the last with: malformed answer: the model is overloaded"),
        ("drop", 40, "8 rows in a row failed, the last with: APIConnectionError"),
    ],
)
def test_where_every_row_fails_the_run_stops_and_asks_again_later(cli: Command, fault: str, rows: int, said: str):
    server = Server([fault] * 99)
    words = served(server, "raw", "--model.retries=0", f"--data.count={rows}")
    outcome = cli(*words)
    assert outcome.code == 2, outcome.err
    assert re.search(f"error: {server.url}: {said}.*resumes", outcome.err)
    assert server.asked.total() <= 8 + 4 + 1  # a few, and those under way
    assert not artifacts.is_whole(Path("raw"))
    server.faults = []
    assert cli(*words).code == 0
    assert [row["error"] for row in table_of("raw")] == [None] * rows
    server.shutdown()


@pytest.mark.slow
def test_rows_that_failed_are_asked_again_when_a_run_resumes(cli: Command):
    """The credit ends after a dozen rows; those are not asked again, and what fails for good is written down."""
    server = Server(["402"] * 99)
    server.spared = 12
    words = served(server, "raw", "--model.retries=0", "--data.count=30", "--data.tokens_per_batch=600")
    outcome = cli(*words)
    assert outcome.code == 2
    assert "8 rows in a row failed, the last with: APIStatusError 402" in outcome.err
    answered = sum(pq.read_metadata(part).num_rows for part in Path("raw/.parts").glob("*.parquet"))
    assert answered == 12
    server.faults, server.only = ["400"] * 99, "delighted"
    asked = server.asked.total()
    server.spared = 0
    assert cli(*words).code == 0
    assert server.asked.total() - asked == 18
    rows = table_of("raw")
    assert len(rows) == 30
    assert {row["error"] is None for row in rows if "delighted" not in row["user"]} == {True}
    server.shutdown()


@pytest.mark.parametrize(
    "url",
    ["http://nowhere.invalid/v1", "http://127.0.0.1:9/v1"],
    ids=["no such host", "refused port"],
)
def test_a_server_that_is_not_there_is_one_line(cli: Command, url: str):
    words = ["--model.model=m", f"--model.base_url={url}", "--model.retries=0", "--data.count=6", "--out=raw"]
    outcome = cli("predict", "--config", "generate.yaml", "--model=OpenAIGenerator", *words, *QUIET)
    assert outcome.code == 2, outcome.err
    assert re.search(
        f"error: {url}: all 6 rows failed, most often with: APIConnectionError: .*--model.base_url", outcome.err
    )
    assert not artifacts.is_whole(Path("raw"))


def test_an_answer_with_half_an_emoji_or_no_clean_end_is_a_row(cli: Command):
    server = Server(["surrogate", "none"])
    server.finish = "content_filter"
    assert cli(*served(server, "raw", "--data.count=3")).code == 0
    rows = table_of("raw")
    assert all(row["text"].startswith("Echo") and "\ufffd" in row["text"] for row in rows)
    assert {row["finish"] for row in rows} == {"content_filter"}
    outcome = cli(
        "clean", "--config", "clean.yaml", "--raw.path=raw", "--exclude=[]", "--out=pool", "--near_duplicates=null"
    )
    assert outcome.code == 2
    assert "pool: no row is left of 3, rejected as filtered (3)" in outcome.err
    server.shutdown()


def test_requests_keep_to_the_rate_over_all_batches_and_repetitions(cli: Command):
    server = Server(["500"])
    words = ("--data.count=4", "--data.tokens_per_batch=1", "--model.requests_per_minute=600")
    assert cli(*served(server, "raw", *words)).code == 0
    assert len(server.times) == 8
    pauses = [later - earlier for earlier, later in itertools.pairwise(sorted(server.times))]
    assert min(pauses) > 0.06  # a tenth of a second, less what the threads jitter
    server.shutdown()


def test_a_server_that_says_how_long_to_wait_is_heeded(cli: Command):
    server = Server(["wait"])
    assert cli(*served(server, "raw", "--data.count=1")).code == 0
    assert server.times[1] - server.times[0] >= 1
    server.shutdown()


@pytest.mark.slow
def test_a_wrong_key_stops_the_run_and_stands_nowhere(
    cli: Command, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setenv("OPENAI_API_KEY", "secret-of-the-test")
    caplog.set_level("DEBUG")
    server = Server(["key"])
    outcome = cli(*served(server, "raw"))
    assert outcome.code == 2
    assert "the key is refused" in outcome.err
    assert "check OPENAI_API_KEY" in outcome.err
    assert "secret-of-the-test" not in outcome.err + outcome.out + caplog.text
    assert not holds(Path("raw"), "secret-of-the-test")
    server.faults = []
    assert cli(*served(server, "raw")).code == 0
    assert all(row["error"] is None for row in table_of("raw"))
    server.shutdown()


@pytest.mark.slow
def test_a_request_that_hangs_holds_up_neither_other_batches_nor_the_disk(tmp_path: Path):
    """One of three classes never comes back: all rows of the others are on the disk all the same."""
    server = Server(["stuck"] * 9, only="delighted")
    words = served(server, "raw", "--model.timeout=50", "--model.concurrency=12", "--data.tokens_per_batch=600")
    process = warm.start([*words, "--rows.flush_seconds=1"], tmp_path)
    parts, began = tmp_path / "raw/.parts", time.monotonic()
    while time.monotonic() - began < 60:
        finished = sum(pq.read_metadata(part).num_rows for part in parts.glob("*.parquet"))
        if finished == 2 * COUNT // 3:
            break
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGTERM)  # a waiting run can be stopped at once, too
    process.join(15)
    assert finished == 2 * COUNT // 3, warm.said(tmp_path)
    assert process.exitcode == 128 + signal.SIGTERM, warm.said(tmp_path)
    server.faults = []
    asked = server.asked.total()
    assert warm.run(words, tmp_path) == 0, warm.said(tmp_path)
    assert server.asked.total() - asked == COUNT // 3  # what had been answered is not asked again
    assert len(artifacts.read(tmp_path / "raw").table) == COUNT
    server.shutdown()


@pytest.mark.parametrize("slow", ["head", "body"])
def test_an_answer_that_comes_byte_by_byte_is_given_up_in_time(slow: str):
    """Each byte comes in time; the answer does not. Waiting for the rate does not count."""
    from labelbridge.modules import OpenAIGenerator

    class Dripping(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            if slow == "body":
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 999\r\n\r\n")
            with contextlib.suppress(OSError):
                for _ in range(300):
                    self.wfile.write(b" " if slow == "body" else b"H")
                    time.sleep(0.1)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Dripping)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    one = OpenAIGenerator(
        base_url=f"http://127.0.0.1:{server.server_address[1]}/v1", task=Task("s", ["text"], ["a", "b"]), model="m",
        timeout=0.5, retries=0, requests_per_minute=60, concurrency=3,
    )  # fmt: skip
    began = time.monotonic()
    answers = one.answer(["a", "b"], ["", ""], ["Hello", "Hello"], [None, None])
    one._close()
    assert 1 <= time.monotonic() - began < 10
    assert answers["error"] == ["APITimeoutError: Request timed out. (its answer was not complete in time)"] * 2
    server.shutdown()


@pytest.mark.parametrize("kind", ["endless", "endless chunks", "compressed"])
def test_an_answer_without_end_is_not_kept_in_memory(kind: str):
    from labelbridge.modules import OpenAIGenerator
    from labelbridge.modules.entire_answers import MOST_BYTES

    sent: list[int] = []

    class Bomb(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.headers["Accept-Encoding"] == "identity"
            head = {
                "endless": "Content-Length: 99999999999", "endless chunks": "Transfer-Encoding: chunked",
                "compressed": "Content-Encoding: gzip\r\nContent-Length: 99999999999",
            }[kind]  # fmt: skip
            self.wfile.write(f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{head}\r\n\r\n".encode())
            part = b" " * 2**16
            if kind == "compressed":
                part = gzip.compress(b" " * 2**20)
            elif kind == "endless chunks":
                part = b"10000\r\n" + part + b"\r\n"
            with contextlib.suppress(OSError):
                while True:
                    sent.append(self.wfile.write(part))

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Bomb)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    one = OpenAIGenerator(
        base_url=f"http://127.0.0.1:{server.server_address[1]}/v1", task=Task("s", ["text"], ["a", "b"]), model="m",
        timeout=60, retries=0,
    )  # fmt: skip
    answers = one.answer(["a"], [""], ["Hello"], [None])
    one._close()
    server.shutdown()
    assert answers["error"] == [f"malformed answer: its answer is longer than {MOST_BYTES // 2**20} MB"]
    assert sum(sent) < 2 * MOST_BYTES


ANSWER = json.dumps({"choices": [{"index": 0, "finish_reason": "stop", "message": {"content": "Good."}}]}).encode()
NO_CREDIT = json.dumps({"error": {"message": "pay first"}}).encode()


def raw_deflate(content: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(content) + packer.flush()


# Status, what `Content-Encoding` says, the content -> the row's text, or its error.
PACKED: dict[str, tuple[int, str, bytes, str]] = {
    "gzip": (200, "gzip", gzip.compress(ANSWER), "Good."),
    "gzip in two": (200, "GZip", gzip.compress(ANSWER[:9]) + gzip.compress(ANSWER[9:]), "Good."),
    "deflate": (200, "deflate", zlib.compress(ANSWER), "Good."),
    "deflate without a head": (200, "deflate", raw_deflate(ANSWER), "Good."),
    "identity": (200, "identity", ANSWER, "Good."),
    "br": (200, "br", b"\x0b\x02\x80", "malformed answer: its answer is packed with 'br', though not asked for"),
    "not gzip": (200, "gzip", ANSWER, "malformed answer: its answer is not gzip, as its header says"),
    "gzip, cut": (200, "gzip", gzip.compress(ANSWER)[:-9], "malformed answer: its answer, packed with gzip, is cut off"),
    "a key twice": (
        200, "identity", ANSWER[:-1] + b', "choices": []}',
        "malformed answer: its answer is not JSON (duplicate key 'choices')",
    ),
    "an error with a key twice": (
        402, "identity", NO_CREDIT[:-1] + b', "a": 1, "a": 2}', "APIStatusError 402: Error code: 402 - pay first",
    ),
    "an error": (402, "gzip", gzip.compress(NO_CREDIT), "APIStatusError 402: Error code: 402 - pay first"),
    "an error in a page": (402, "", b"<p>pay\n</p>", "APIStatusError 402: Error code: 402 - <p>pay </p>"),
    "errors": (400, "", b"[" + NO_CREDIT + b"]", "BadRequestError 400: Error code: 400 - pay first"),
    "an error in br": (
        402, "br", b"x", "APIStatusError 402: Error code: 402 - its answer is packed with 'br', though not asked for",
    ),
    "an error too long": (
        402, "gzip", gzip.compress(b" " * 2**25),
        "APIStatusError 402: Error code: 402 - its answer is longer than 16 MB",
    ),
}  # fmt: skip


def test_packed_answers_are_read_and_no_error_loses_its_words():
    from labelbridge.modules import OpenAIGenerator

    class Packing(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, encoding, content, _ = PACKED[asked["messages"][0]["content"]]
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            if encoding:
                self.send_header("Content-Encoding", encoding)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Packing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    engine = OpenAIGenerator(
        base_url=f"http://127.0.0.1:{server.server_address[1]}/v1", task=Task("s", ["text"], ["a", "b"]), model="m",
        retries=0, concurrency=1,
    )  # fmt: skip
    answers = engine.answer(list(PACKED), [""] * len(PACKED), list(PACKED), [None] * len(PACKED))
    engine._close()
    server.shutdown()
    found = {name: answers["text"][row] or answers["error"][row] for row, name in enumerate(PACKED)}
    assert found == {name: said for name, (*_, said) in PACKED.items()}


def test_further_fields_of_a_request(tiny_llama: Path, monkeypatch: pytest.MonkeyPatch):
    from labelbridge.modules import OpenAIGenerator

    sent: dict[str, object] = {}
    one = OpenAIGenerator(
        base_url="http://127.0.0.1:9/v1", task=Task("s", ["text"], ["a", "b"]), model="m",
        extra={"top_k": -1, "max_tokens": None, "max_completion_tokens": 7},
    )  # fmt: skip
    monkeypatch.setattr(
        "labelbridge.modules.openai_generator._Server.send", lambda self, **request: sent.update(request)
    )
    one._send("id", "", "Hello")
    assert sent["messages"] == [{"role": "user", "content": "Hello"}]
    assert {"top_k": -1, "max_completion_tokens": 7}.items() <= sent["extra_body"].items()
    assert "max_tokens" not in sent["extra_body"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model.base_url=localhost:8000"], "base_url 'localhost:8000', expected an address such as http"),
        (["--model.base_url=http://[::1"], "expected an address such as http"),
        (["--model.base_url=http://:80/v1"], "expected an address such as http"),
        (["--model.base_url=http://h:99999/v1"], "expected an address such as http"),
        (["--model.base_url=http://a b/v1"], "expected an address such as http"),
        (["--model.requests_per_minute=0"], "model.requests_per_minute is 0, expected 0 < requests_per_minute"),
        (["--model.concurrency=0"], "model.concurrency is 0, expected 1 <= concurrency"),
    ],
)
def test_settings_of_a_server_that_cannot_be(cli: Command, words: list[str], said: str):
    outcome = cli("predict", "--config", "generate.yaml", "--model=OpenAIGenerator", "--model.model=m",
                  "--model.base_url=http://127.0.0.1:9/v1", "--out=raw", *QUIET, *words)  # fmt: skip
    assert outcome.code == 2
    assert said in outcome.err


@pytest.mark.slow
def test_it_speaks_with_transformers_own_server(cli: Command, tiny_llama: Path):
    """`transformers serve` on loopback, serving the tiny model."""
    pytest.importorskip("fastapi")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = str(Path(sys.executable).with_name("transformers"))
    server = subprocess.Popen(
        [program, "serve", str(tiny_llama), "--host", "127.0.0.1", "--port", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).close()
                break
            except OSError:
                time.sleep(0.5)
        more = [f"--model.base_url=http://127.0.0.1:{port}/v1", f"--model.model={tiny_llama}", "--model.timeout=60"]
        outcome = cli(
            "predict", "--config", "generate.yaml", "--model=OpenAIGenerator", "--data.count=9",
            "--model.max_new_tokens=8", "--out=raw", *more, *QUIET,
        )  # fmt: skip
        assert outcome.code == 0, outcome.err
        rows = table_of("raw")
        assert len(rows) == 9
        assert all(row["error"] is None and 0 < row["n_tokens"] <= 8 for row in rows)
    finally:
        server.kill()
        server.wait()


def test_keys_in_an_address_or_in_further_fields_stand_nowhere(cli: Command, caplog: pytest.LogCaptureFixture):
    server = Server([])
    words = served(server, "raw", "--data.count=3", '--model.extra={"api_key": "sesame", "top_k": 3}')
    address = server.url.replace("http://", "http://me:sesame@")
    words = [f"--model.base_url={address}" if str(word).startswith("--model.base_url") else word for word in words]
    outcome = cli(*words)
    assert outcome.code == 0, outcome.err
    assert not holds(Path("raw"), "sesame")
    assert "sesame" not in outcome.err + outcome.out + caplog.text
    server.shutdown()


@pytest.mark.parametrize(
    ("field", "value"), [("n", 2), ("n", "1"), ("stream", True), ("model", "other"), ("messages", [])]
)
def test_what_a_row_is_cannot_be_changed_by_further_fields(field: str, value: object):
    from labelbridge.modules import OpenAIGenerator

    task = Task("sentiment", ["text"], ["a", "b"])
    with pytest.raises(InputError, match=f"model.extra: {field} is .*, expected none"):
        OpenAIGenerator(base_url="http://localhost/v1", task=task, model="m", extra={field: value})
    OpenAIGenerator(base_url="http://localhost/v1", task=task, model="m", extra={"n": 1, "stream": None})
