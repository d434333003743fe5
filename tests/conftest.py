"""What tests share: tiny models with tokenizers made here, small labelled sets, and commands run in this process."""

import io
import json
import os
import platform
import random
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny models gain nothing from more, and test workers share the cores
if platform.machine() in ("x86_64", "AMD64"):
    # Precision is chosen by the CPU: without its bfloat16 units the same tests see the same numbers on every machine.
    os.environ.setdefault("ATEN_CPU_CAPABILITY", "avx2")
    os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")  # torch's attention in bfloat16 asks oneDNN what the CPU has
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test that needs the network fails at once
# Tests look at every file that a command leaves; what Python caches beside a user's module is none of a command's.
os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
sys.dont_write_bytecode = True

PROJECT = Path(__file__).resolve().parents[1]
LABELS = ["negative", "neutral", "positive"]
WORDS = {
    "negative": ["awful", "bad", "broken", "cold", "dull", "grim", "late", "poor", "sad", "slow"],
    "neutral": ["blue", "box", "chair", "door", "hour", "long", "paper", "room", "table", "white"],
    "positive": ["bright", "calm", "clean", "fine", "fresh", "good", "great", "kind", "lovely", "warm"],
}
FILLERS = ["a", "and", "but", "it", "of", "the", "this", "very", "was", "with"]
# What every Trainer command of a test says: no accelerator, no bar, no logger.
QUIET = ("--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.logger=false")


@dataclass(frozen=True)
class Outcome:
    """What a command left: exit status, and what it printed."""

    code: int
    out: str
    err: str


def sentence(label: str, rng: random.Random) -> str:
    """A few words, of which some carry the label."""
    words = rng.choices(WORDS[label], k=rng.randint(1, 3)) + rng.choices(FILLERS, k=rng.randint(1, 6))
    rng.shuffle(words)
    return " ".join(words)


def labelled(count: int, seed: int = 0, column: str = "label") -> list[dict[str, Any]]:
    """Rows with labels in turn."""
    rng = random.Random(seed)
    return [
        {"id": f"{seed}/{row}", "text": sentence(LABELS[row % 3], rng), column: LABELS[row % 3], "lang": "en"}
        for row in range(count)
    ]


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    """Write rows as JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def _save_bert(folder: Path, **config: Any) -> Path:
    """A one-layer BERT with random weights and a word-level tokenizer."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    vocab = [*special, *FILLERS, *(word for words in WORDS.values() for word in words)]
    inner = Tokenizer(models.WordLevel({word: number for number, word in enumerate(vocab)}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", [("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=64,
    ).save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        settings = {
            "vocab_size": len(vocab),
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "max_position_embeddings": 64,
            "initializer_range": 1.0,  # so that it learns all three classes in a dozen steps
            **config,
        }
        BertModel(BertConfig(**settings)).save_pretrained(folder)
    return folder


def _save_xlmr(folder: Path) -> Path:
    """A one-layer XLM-RoBERTa with random weights and a unigram tokenizer."""
    import torch
    from tokenizers import SentencePieceUnigramTokenizer, processors
    from transformers import PreTrainedTokenizerFast, XLMRobertaConfig, XLMRobertaModel

    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    inner = SentencePieceUnigramTokenizer()
    texts = [row["text"] for row in labelled(300, seed=9)] + ["यह बहुत अच्छा है", "यह खराब है"]
    inner.train_from_iterator(texts, vocab_size=120, special_tokens=special, unk_token="<unk>", show_progress=False)
    inner._tokenizer.post_processor = processors.TemplateProcessing(
        "<s> $A </s>", "<s> $A </s> </s> $B </s>", [("<s>", 0), ("</s>", 2)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=inner._tokenizer,
        bos_token="<s>",
        cls_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        sep_token="</s>",
        unk_token="<unk>",
        mask_token="<mask>",
        model_max_length=64,
        model_input_names=["input_ids", "attention_mask"],
    ).save_pretrained(folder)
    config = XLMRobertaConfig(
        vocab_size=inner.get_vocab_size(),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=66,
        type_vocab_size=1,
        initializer_range=1.0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        XLMRobertaModel(config).save_pretrained(folder)
    return folder


def save_classifier(folder: Path, base: Path, labels: list[str]) -> Path:
    """A classifier with random weights over a tiny encoder."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = AutoModelForSequenceClassification.from_pretrained(
            base,
            num_labels=len(labels),
            id2label=dict(enumerate(labels)),
            label2id={label: number for number, label in enumerate(labels)},
        )
        torch.nn.init.normal_(
            model.classifier.weight if hasattr(model.classifier, "weight") else model.classifier.out_proj.weight
        )
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bare encoder."""
    return _save_bert(tmp_path_factory.mktemp("models") / "bert")


@pytest.fixture(scope="session")
def tiny_xlmr(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bare multilingual encoder."""
    return _save_xlmr(tmp_path_factory.mktemp("models") / "xlmr")


@pytest.fixture(scope="session")
def tiny_classifier(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> Path:
    """A classifier that covers the task, with its labels in another order and spelling."""
    labels = ["POSITIVE", "NEGATIVE", "NEUTRAL"]
    return save_classifier(tmp_path_factory.mktemp("models") / "classifier", tiny_bert, labels)


@pytest.fixture(scope="session")
def tiny_nllb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A translation model with random weights, one token a letter, that knows English, Hindi and Marathi."""
    from seq2seq_models import save_nllb

    return save_nllb(tmp_path_factory.mktemp("models") / "nllb")


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-layer Llama with random weights and a chat template, whose defaults ask for top_k 50."""
    import torch
    from tokenizers import SentencePieceUnigramTokenizer
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("models") / "llama"
    inner = SentencePieceUnigramTokenizer()
    texts = [row["text"] for row in labelled(300, 9)] + ["Write a review about travel. Tone: plain, dry"]
    special = ["<s>", "</s>", "<unk>", "<pad>"]
    inner.train_from_iterator(texts, vocab_size=120, special_tokens=special, unk_token="<unk>", show_progress=False)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner._tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>"
    )
    tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}"
        "{% if add_generation_prompt %}[assistant] {% endif %}"
    )
    tokenizer.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=inner.get_vocab_size(), hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=128, max_position_embeddings=1024, bos_token_id=0, eos_token_id=1, pad_token_id=3,
        initializer_range=0.3,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(do_sample=True, top_k=50, bos_token_id=0, eos_token_id=1, pad_token_id=3)
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def task() -> Any:
    """Three-way sentiment."""
    from labelbridge.lightning_app.core.task import Task

    return Task("sentiment", ["text"], LABELS)


@dataclass(frozen=True)
class Files:
    """Small sets on the disk, and a config that lays them over any stage's own."""

    folder: Path
    gold: Path
    dev: Path
    pool: Path
    target: Path


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Gold 37 rows, dev 15, pool 50, one target of 23."""
    return write_files(tmp_path)


def write_files(folder: Path) -> Files:
    return Files(
        folder,
        write_jsonl(folder / "data/gold.jsonl", labelled(37, 1)),
        write_jsonl(folder / "data/dev.jsonl", labelled(15, 2)),
        write_jsonl(folder / "data/pool.jsonl", labelled(50, 3, "prompt_label")),
        write_jsonl(folder / "data/target.jsonl", labelled(23, 4)),
    )


Command = Callable[..., Outcome]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """Runs a command in this process, in an empty folder: `cli("select", "--quota", 3)`."""
    from labelbridge.__main__ import main

    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> Outcome:
        options = [str(word) for word in words]
        monkeypatch.setattr("sys.argv", ["main.py", *options])
        capsys.readouterr()
        code = main(options)
        said = capsys.readouterr()
        return Outcome(code, said.out, said.err)

    return run


@pytest.fixture
def stages(cli: Command, files: Files, tiny_bert: Path) -> "Stages":
    """The stages of the loop on the small sets."""
    return Stages(cli, files, tiny_bert)


class Stages:
    """The stages of the loop on small sets with a tiny encoder; each returns what its command left.

    Every method takes further command-line words. The outputs are `teacher`, `pseudolabel`, `select`, `student`,
    `test` and `report` in the test's own folder.
    """

    def __init__(self, cli: Command, files: Files, encoder: Path) -> None:
        self.cli = cli
        self.files = files
        self.encoder = encoder
        self.fit_words = (
            f"--model.model={encoder}",
            f"--data.train.path={files.gold}",
            f"--data.dev.path={files.dev}",
            "--data.batch_size=4",
            "--trainer.accumulate_grad_batches=2",
            "--trainer.max_epochs=2",
            "--model.learning_rate=0.01",
            *QUIET,
        )

    def teacher(self, *words: object) -> Outcome:
        return self.cli("fit", "--config", "teacher.yaml", "--out=teacher", *self.fit_words, *words)

    def pseudolabel(self, *words: object) -> Outcome:
        model = ("--model.model=teacher/model", f"--data.pool.path={self.files.pool}", "--out=pseudolabel")
        return self.cli("predict", "--config", "pseudolabel.yaml", *model, *QUIET, *words)

    def select(self, *words: object) -> Outcome:
        pool = (f"--pool.path={self.files.pool}", "--pseudolabels=pseudolabel", "--quota=6", "--out=select")
        return self.cli("select", "--config", "select.yaml", *pool, *words)

    def student(self, *words: object) -> Outcome:
        data = ("--data.selection=select", "--out=student")
        return self.cli("fit", "--config", "student.yaml", *self.fit_words, *data, *words)

    def test(self, *words: object) -> Outcome:
        targets = f'--data.targets={{"en": {{"path": "{self.files.target}"}}}}'
        model = ("--model.model=student/model", "--out=test")
        return self.cli("test", "--config", "test.yaml", targets, *model, *QUIET, *words)

    def report(self, *words: object) -> Outcome:
        return self.cli("report", "--config", "report.yaml", "--runs=[test]", "--out=report", *words)


@contextmanager
def commands_in(folder: Path) -> Iterator[Command]:
    """Commands as in a terminal whose current folder is this one, for what is made once for many tests."""
    from labelbridge.__main__ import main

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)

        def run(*words: object) -> Outcome:
            options = [str(word) for word in words]
            patch.setattr("sys.argv", ["main.py", *options])
            with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
                return Outcome(main(options), out.getvalue(), err.getvalue())

        yield run


@pytest.fixture(scope="session")
def loop_once(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> Path:
    """The whole loop, run once by each test process."""
    folder = tmp_path_factory.mktemp("loop")
    with commands_in(folder) as run:
        stages = Stages(run, write_files(folder), tiny_bert)
        for stage in (stages.teacher, stages.pseudolabel, stages.select, stages.student, stages.test, stages.report):
            outcome = stage()
            assert outcome.code == 0, outcome.err
    return folder


@pytest.fixture
def loop(stages: Stages, loop_once: Path, tmp_path: Path) -> Stages:
    """The stages, with all of the loop's outputs in the test's own folder."""
    shutil.copytree(loop_once, tmp_path, dirs_exist_ok=True)
    return stages


@pytest.fixture(scope="session")
def world_once(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> Path:
    """An artifact of each kind, made once: a teacher with training dynamics, what was predicted with it, and texts."""
    import pyarrow as pa

    from labelbridge.lightning_app.core import artifacts
    from labelbridge.lightning_app.core.task import Task
    from labelbridge.lightning_app.data.sources import Source, load_rows

    folder = tmp_path_factory.mktemp("world")
    with commands_in(folder) as run:
        write_files(folder)
        files = Files(folder, *(Path(f"data/{name}.jsonl") for name in ("gold", "dev", "pool", "target")))
        stages = Stages(run, files, tiny_bert)
        tested = ("--model.model=teacher/model",)
        for outcome in (
            stages.teacher(f"--data.pool.path={files.pool}"), stages.pseudolabel(), stages.select(), stages.test(*tested),
            stages.report(),
        ):  # fmt: skip
            assert outcome.code == 0, outcome.err
        rows = load_rows(Source(str(files.pool)), Task("sentiment", ["text"], LABELS), "prompt_label")
        rng = random.Random(0)
        vectors = [[rng.random() for _ in range(4)] for _ in rows.ids]
        embedded = rows.table.select(["id", "text"]).append_column("embedding", pa.array(vectors))
        inputs = {"pool": rows.reference, "model": {"paths": ["encoder"], "fingerprint": "sha256:0"}}
        artifacts.write(Path("embed"), embedded, stage="embed", inputs=inputs)
        wanted = {**inputs, "pool": {"paths": ["elsewhere"], "fingerprint": "sha256:1"}}
        artifacts.write(Path("wanted"), embedded.slice(0, 9), stage="embed", inputs=wanted)
        raw = pa.table(
            {
                "id": rows.ids, "text": rows.table["text"], "prompt_label": rows.table["prompt_label"],
                "finish": ["stop"] * len(rows.ids),
            }
        )  # fmt: skip
        artifacts.write(Path("raw"), raw, stage="generate")
    return folder


@pytest.fixture
def world(world_once: Path, tmp_path: Path) -> Path:
    """The test's own copy of `world_once`, in its own folder."""
    shutil.copytree(world_once, tmp_path, dirs_exist_ok=True)
    return tmp_path
