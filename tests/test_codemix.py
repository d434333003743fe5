"""Fine-tuning on sentence pairs: the loss, what is trained, what is exported, its scores, and two hops."""

import ast
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import QUIET, Command, labelled, write_jsonl
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import Callback
from seq2seq_models import pairs, save_m2m100, save_marian, save_nllb, save_t5, write_pairs
from torch.nn import functional

from labelbridge.datamodules import PairsDataModule
from labelbridge.lightning_app.core import artifacts
from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.data.sources import Source
from labelbridge.lightning_app.models.fingerprints import model_fingerprint
from labelbridge.lightning_app.models.locate import adapter_base
from labelbridge.lightning_app.models.seq2seq import load_seq2seq
from labelbridge.modules import Seq2SeqModule
from labelbridge.modules.sequence_models import Lora

pytestmark = pytest.mark.slow

PREFIX = "mix : "


@pytest.fixture(scope="session")
def tiny_t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_t5(tmp_path_factory.mktemp("models") / "t5")


@pytest.fixture(scope="session")
def letters_nllb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_nllb(tmp_path_factory.mktemp("models") / "nllb")


@pytest.fixture
def words(tiny_t5: Path, tmp_path: Path) -> list[object]:
    """The words of a fit on 37 pairs: 5 windows of 8 an epoch, the last shorter."""
    write_pairs(tmp_path / "train.jsonl", 37, 1)
    write_pairs(tmp_path / "dev.jsonl", 11, 2)
    write_pairs(tmp_path / "test.jsonl", 13, 3)
    # On the command line a prefix that ends in a colon would be read as YAML's mapping.
    (tmp_path / "prefix.yaml").write_text(f'model: {{init_args: {{prefix: "{PREFIX}"}}}}\n')
    return [
        "fit", "--config", "codemix.yaml", "--config", "prefix.yaml", f"--model.model={tiny_t5}", "--model.source_language=en",
        "--model.learning_rate=0.03", "--data.train.path=train.jsonl",
        "--data.dev.path=dev.jsonl", "--data.batch_size=4", "--trainer.accumulate_grad_batches=2",
        "--trainer.max_epochs=3", *QUIET,
    ]  # fmt: skip


def score(cli: Command, model: str, *more: object):
    tests = '--data.tests={"held out": {"path": "test.jsonl"}, "dev": {"path": "dev.jsonl"}}'
    return cli(
        "test", "--config", "codemix_test.yaml", f"--model.model={model}", "--model.source_language=en", tests,
        "--model.max_new_tokens=12", "--model.num_beams=1", *QUIET, *more,
    )  # fmt: skip


class Record(Callback):
    """Keeps each window's gradient, its logged loss, and the rows that went into it."""

    def __init__(self) -> None:
        self.gradients: list[torch.Tensor] = []
        self.rows: list[list[int]] = [[]]
        self.losses: list[float] = []

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.rows[-1] += batch["row"][batch["real"]].tolist()
        if batch["ends_window"]:
            self.rows.append([])

    def on_before_optimizer_step(self, trainer, module, optimizer):
        grads = [one.grad.flatten() for one in module.parameters() if one.grad is not None]
        self.gradients.append(torch.cat(grads).clone())

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if batch["ends_window"]:
            self.losses.append(float(trainer.callback_metrics["train/loss"]))


def train(model: Path, batch_size: int, accumulate: int, lora: Lora | None, **languages: str):
    """One epoch in float64, without dropout and at a learning rate of zero."""
    seed_everything(0, verbose=False)
    languages = {"source_language": "en", "target_language": "hi", "prefix": PREFIX, **languages}
    write_pairs(Path("train.jsonl"), 29, 1)
    write_pairs(Path("dev.jsonl"), 5, 2)
    module = Seq2SeqModule(model=str(model), lora=lora, learning_rate=0.0, dropout=0.0, **languages)
    data = PairsDataModule(
        model=str(model), train=Source("train.jsonl"), dev=Source("dev.jsonl"), batch_size=batch_size, **languages
    )
    record = Record()
    trainer = Trainer(
        accelerator="cpu", precision="64-true", max_epochs=1, accumulate_grad_batches=accumulate, callbacks=[record],
        logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        use_distributed_sampler=False, limit_val_batches=0,
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    record.rows.pop()
    return record, module, data


@pytest.mark.parametrize("lora", [None, Lora(r=2, dropout=0.0)], ids=["all weights", "LoRA"])
def test_a_windows_gradient_does_not_depend_on_how_it_is_cut(tmp_path, monkeypatch, tiny_t5, lora):
    monkeypatch.chdir(tmp_path)
    whole, *cuts = (train(tiny_t5, size, steps, lora)[0] for size, steps in ((12, 1), (4, 3), (1, 12)))
    assert len(whole.gradients) == 3
    for cut in cuts:
        assert [sorted(rows) for rows in cut.rows] == [sorted(rows) for rows in whole.rows]
        assert cut.losses == pytest.approx(whole.losses, rel=1e-6)
        for one, other in zip(whole.gradients, cut.gradients, strict=True):
            assert float((one - other).norm() / one.norm()) < 1e-6


@pytest.mark.parametrize("family", ["t5", "nllb"])
def test_a_windows_loss_is_the_mean_over_its_target_tokens(tmp_path, monkeypatch, tiny_t5, letters_nllb, family):
    """Written out anew, row by row, without padding, with the library's own shift of the labels."""
    monkeypatch.chdir(tmp_path)
    record, module, data = train(tiny_t5 if family == "t5" else letters_nllb, 5, 2, None)
    network, tokenizer = module.network.eval(), data.tokenizer
    rows = pairs(29, 1)
    for window, loss, gradient in zip(record.rows, record.losses, record.gradients, strict=True):
        network.zero_grad()
        total, count = 0.0, 0
        for row in window:
            source = tokenizer(PREFIX + rows[row]["source"], return_tensors="pt")
            label = tokenizer(text_target=rows[row]["target"], return_tensors="pt")["input_ids"]
            if family == "nllb":
                assert tokenizer.convert_ids_to_tokens(label[0])[0] == "hin_Deva"
                assert tokenizer.convert_ids_to_tokens(source["input_ids"][0])[0] == "eng_Latn"
            logits = network(**source, labels=label).logits
            total = total + functional.cross_entropy(logits[0], label[0], reduction="sum")
            count += label.numel()
        (total / count).backward()
        expected = torch.cat([one.grad.flatten() for one in network.parameters() if one.grad is not None])
        assert loss == pytest.approx(float(total.detach() / count), rel=1e-6)
        assert float((gradient - expected).norm() / expected.norm()) < 1e-6


def test_lora_trains_adapters_alone_and_its_export_translates_as_it_did(cli: Command, words, tiny_t5: Path):
    outcome = cli(*words, "--out=fit", "--trainer.callbacks+=probes.Ending", "--trainer.callbacks.file=ending.pt")
    assert outcome.code == 0, outcome.err
    assert not list(Path("fit/model").glob("model*.safetensors"))
    assert Path("fit/model/adapter_model.safetensors").stat().st_size < (tiny_t5 / "model.safetensors").stat().st_size
    ending = torch.load("ending.pt", weights_only=True)
    before = {name: one.data for name, one in load_seq2seq(str(tiny_t5)).named_parameters()}
    frozen = {
        name.removeprefix("network.base_model.model.").replace(".base_layer", ""): one
        for name, one in ending["weights"].items() if "lora_" not in name
    }  # fmt: skip
    assert all(torch.equal(one, before[name]) for name, one in frozen.items() if name in before)
    moved = [name for name, one in ending["weights"].items() if "lora_B" in name and one.abs().sum() > 0]
    assert len(moved) == 9  # q, k, v of the encoder, of the decoder, and of what the decoder reads of the encoder
    facts = json.loads(Path("fit/model/labelbridge.json").read_text())
    assert facts["prefix"] == PREFIX
    assert facts["step"] == 15, "the last check is the best here, so that the ending is what was exported"
    merged = load_seq2seq("fit/model").eval()
    for name, one in merged.named_parameters():
        path = f"network.base_model.model.{name.removesuffix('.weight')}"
        if f"{path}.lora_A.default.weight" in ending["weights"]:
            a, b = (ending["weights"][f"{path}.lora_{side}.default.weight"] for side in "AB")
            torch.testing.assert_close(one.data, before[name] + 2.0 * b @ a)


@pytest.mark.parametrize("save", [save_m2m100, save_marian], ids=["M2M100", "OPUS-MT"])
def test_a_model_whose_tokenizer_is_in_plain_python_is_fine_tuned_and_scored(
    cli: Command, words, tmp_path: Path, save: Callable[[Path], Path]
):
    pytest.importorskip("sentencepiece")
    base = save(tmp_path / "base")
    layers = ("--model.lora.targets=[q_proj, k_proj, v_proj]", "--model.target_language=hi", "--trainer.max_epochs=1")
    outcome = cli(*words, f"--model.model={base}", *layers, "--out=fit")
    assert outcome.code == 0, outcome.err
    assert artifacts.read_manifest(Path("fit")).facts["dev"]["dev/loss"] > 0
    outcome = score(cli, "fit/model", "--model.target_language=hi", "--out=score")
    assert outcome.code == 0, outcome.err
    rows = artifacts.read(Path("score"), "score").table.to_pylist()
    assert {row["error"] for row in rows} == {None}
    assert not any(mark in row["translation"] for row in rows for mark in ("__hi__", "<pad>", "</s>"))


def test_predict_puts_the_prefix_that_fit_put(cli: Command, words, monkeypatch):
    assert cli(*words, "--out=fit", "--trainer.max_epochs=1").code == 0
    from labelbridge.modules import TransformersTranslator

    translator = TransformersTranslator(model="fit/model", source_language="en", target_language="hi-Latn")
    data = PairsDataModule(
        model="fit/model", source_language="en", target_language="hi-Latn", prefix=translator.source_prefix,
        train=Source("train.jsonl"), dev=Source("dev.jsonl"),
    )  # fmt: skip
    data.trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    data.setup("fit")
    sources, _ = data.encoded["train"]
    translator.configure_model()
    seen = []
    generate = translator.network.generate
    monkeypatch.setattr(translator.network, "generate", lambda **given: seen.append(given) or generate(**given))
    translator.translate([data.train_rows.table["source"][0].as_py()])
    ids = seen[0]["input_ids"][0].tolist()
    assert ids == sources.features["input_ids"][: sources.lengths[0]].tolist()
    assert translator.tokenizer.decode(ids).startswith("mix :")


def test_the_check_with_the_least_loss_is_exported(cli: Command, words):
    """A learning rate far too high makes later checks worse."""
    checks = ["--trainer.callbacks+=probes.Ending", "--trainer.callbacks.file=ending.pt", "--model.warmup_ratio=0"]
    assert cli(*words, "--out=fit", "--model.learning_rate=3", *checks).code == 0
    losses = {}
    for line in Path("ending.checks").read_text().splitlines():
        step, dev = line.split(" ", 1)
        losses[int(step)] = dict(ast.literal_eval(dev))["dev/loss"]
    facts = json.loads(Path("fit/model/labelbridge.json").read_text())
    assert len(losses) == 3
    assert facts["step"] == min(losses, key=losses.get)
    assert facts["dev"]["dev/loss"] == min(losses.values())


def test_dev_loss_is_the_mean_over_all_dev_tokens(cli: Command, words, tiny_t5: Path):
    assert cli(*words, "--out=fit", "--model.learning_rate=0", "--data.tokens_per_batch=30").code == 0
    from transformers import AutoTokenizer

    network, tokenizer = load_seq2seq(str(tiny_t5)).eval(), AutoTokenizer.from_pretrained(tiny_t5)
    total, count = 0.0, 0
    for row in pairs(11, 2):
        label = tokenizer(text_target=row["target"], return_tensors="pt")["input_ids"]
        loss = network(**tokenizer(PREFIX + row["source"], return_tensors="pt"), labels=label).loss
        total, count = total + float(loss) * label.numel(), count + label.numel()
    facts = json.loads(Path("fit/model/labelbridge.json").read_text())
    assert facts["dev"]["dev/loss"] == pytest.approx(total / count, rel=1e-5)


def test_bleu_and_chrf_are_those_of_sacrebleu(cli: Command, words):
    import sacrebleu

    assert cli(*words, "--out=fit", "--model.lora=null", "--model.learning_rate=0.01").code == 0
    outcome = score(cli, "fit/model", "--out=score")
    assert outcome.code == 0, outcome.err
    read = artifacts.read(Path("score"), "score")
    assert read.table.column_names[:4] == ["id", "set", "source", "reference"]
    assert read.table["set"].to_pylist() == ["held out"] * 13 + ["dev"] * 11
    rows = [row for row in read.table.to_pylist() if row["set"] == "held out"]
    metrics = json.loads(Path("score/_metrics.json").read_text())
    assert metrics == read.manifest.facts["metrics"]
    written, truth = [row["translation"] for row in rows], [row["target"] for row in pairs(13, 3)]
    assert metrics["held out"]["bleu"] == sacrebleu.corpus_bleu(written, [truth]).score
    assert metrics["held out"]["chrf"] == sacrebleu.corpus_chrf(written, [truth]).score
    assert 0 < metrics["held out"]["chrf"] < 100
    assert metrics["held out"]["bleu_signature"].startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert cli("export", "--model=fit/model", "--test=score", "--out=hub").code == 0
    card = Path("hub/README.md").read_text()
    assert f"| held out | 13 | {metrics['held out']['bleu']:.2f} | {metrics['held out']['chrf']:.2f} |" in card
    assert "pipeline_tag: translation" in card


def test_any_translator_can_be_scored(cli: Command, tmp_path: Path):
    rows = [{"id": "1", "en": "The book is good.", "hi": "किताब अच्छी है।"}]
    write_jsonl(tmp_path / "test.jsonl", rows)
    tests = '--data.tests={"mine": {"path": "test.jsonl", "columns": {"source": "en", "target": "hi"}}}'
    engine = ["--model=LexiconTranslator", "--model.lexicon=[{path: samples/lexicons/en-hi.tsv}]"]
    outcome = cli("test", "--config", "codemix_test.yaml", *engine, "--model.source_language=en",
                  "--model.target_language=hi", tests, "--out=score", *QUIET)  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert json.loads(Path("score/_metrics.json").read_text())["mine"]["chrf"] > 0


def test_a_language_whose_words_nothing_cuts_is_refused_before_any_is_translated(
    cli: Command, words, monkeypatch: pytest.MonkeyPatch, tiny_t5: Path
):
    from sacrebleu.metrics import bleu

    def lacking(name: str) -> None:
        raise RuntimeError(f"{name} requires extra dependencies")

    monkeypatch.setattr(bleu, "_get_tokenizer", lacking)
    outcome = score(cli, tiny_t5, "--out=score", "--model.target_language=ja")
    assert outcome.code == 2
    assert "BLEU: sacrebleu lacks what cuts 'ja' into words; pip install 'sacrebleu[ja]'" in outcome.err
    assert not list(Path("score").glob("**/*.parquet"))


def test_two_hops_keep_ids_labels_and_lineage(cli: Command, words, tmp_path: Path):
    """English to Hindi by the dictionary, on by an adapter; whatever that writes is kept, with its reason."""
    assert cli(*words, "--out=fit", "--trainer.max_epochs=1").code == 0
    rows = labelled(14, 1)
    write_jsonl(tmp_path / "gold.jsonl", rows)
    assert cli("predict", "--config", "translate.yaml", "--data.rows.path=gold.jsonl", "--data.failing=keep",
               "--out=hi", *QUIET).code == 0  # fmt: skip
    outcome = cli(
        "predict", "--config", "codemix_translate.yaml", "--model.model=fit/model", "--data.rows.path=hi", "--out=mixed",
        "--data.failing=keep", "--data.allow_empty=true", "--model.max_new_tokens=12", "--model.num_beams=1", *QUIET,
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    hindi, mixed = artifacts.read(Path("hi"), "translate"), artifacts.read(Path("mixed"), "translate")
    for column in ("id", "label"):
        assert mixed.table[column].to_pylist() == [row[column] for row in rows]
    assert set(mixed.table["lang"].to_pylist()) == {"hi-Latn"}
    assert mixed.table["source_lang"].to_pylist() == ["hi"] * 14
    assert mixed.table["source_text"].to_pylist() == hindi.table["text"].to_pylist()
    assert mixed.manifest.inputs["rows"]["artifacts"] == [hindi.manifest.fingerprint]
    assert mixed.manifest.lineage["model"] == model_fingerprint("fit/model")


def test_an_adapter_finds_its_base_where_both_have_moved(
    words, cli: Command, tiny_t5: Path, tmp_path: Path, monkeypatch
):
    import shutil

    shutil.copytree(tiny_t5, "runs/base/model")
    assert cli(*words, "--model.model=runs/base/model", "--out=runs/fit", "--trainer.max_epochs=1").code == 0
    before = model_fingerprint("runs/fit/model")
    assert adapter_base("runs/fit/model") == "runs/base/model"
    shutil.move("runs", "elsewhere")
    Path("away/runs").parent.mkdir()
    shutil.move("elsewhere", "away/runs")
    found = adapter_base("away/runs/fit/model")
    assert found is not None
    assert Path(found).resolve() == (tmp_path / "away/runs/base/model").resolve()
    assert model_fingerprint("away/runs/fit/model") == before
    shutil.move("away/runs/base", "gone")
    with pytest.raises(InputError, match="its base model runs/base/model is not there; put it back"):
        load_seq2seq("away/runs/fit/model")


def test_an_adapter_of_another_base_is_refused(words, cli: Command, tmp_path: Path):
    save_t5(tmp_path / "own")
    assert cli(*words, "--model.model=own", "--out=fit", "--trainer.max_epochs=1").code == 0
    save_t5(tmp_path / "own", num_heads=4, d_kv=4)
    outcome = score(cli, "fit/model", "--out=score")
    assert outcome.code == 2
    assert "fit/model: its base model own is another one than it was trained on" in outcome.err.splitlines()[-1]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--model.lora.targets=[q_proj, v]"], r"model.lora.targets ['q_proj']: not in "),
        (["--model.lora.r=0"], "model.lora.r is 0, expected 1 <= r"),
        (["--model.lora=null", "--model.dtype=bfloat16"], "model.dtype bfloat16: too coarse"),
        (["--data.train.columns={target: tgt}"], "no column 'tgt' among ['id', 'source', 'target']"),
        (["--data.train=null"], "data.train: not given, expected a source of sentence pairs"),
        (["--model.target_language=xx1"], "model.target_language 'xx1'"),
    ],
    ids=["targets", "rank", "dtype", "column", "no pairs", "language"],
)
def test_mistakes_are_one_line(cli: Command, words, more: list[str], said: str):
    outcome = cli(*words, "--out=fit", *more)
    assert outcome.code == 2
    assert said in outcome.err.splitlines()[-1]
    assert not Path("fit/model").exists()


def test_a_model_that_writes_no_text_is_refused(cli: Command, words, tiny_bert: Path):
    outcome = cli(*words, f"--model.model={tiny_bert}", "--out=fit")
    assert outcome.code == 2
    assert "a bert model, expected one that writes text from text" in outcome.err.splitlines()[-1]


def test_two_runs_export_the_same_bytes(cli: Command, words):
    for name in ("one", "two"):
        assert cli(*words, f"--out={name}", "--trainer.max_epochs=1").code == 0
    assert model_fingerprint("one/model") == model_fingerprint("two/model")


def test_targets_are_padded_with_what_the_loss_leaves_out(tiny_t5: Path, tmp_path: Path, monkeypatch):
    from labelbridge.datamodules.pairs import PairBatches
    from labelbridge.datamodules.windows import MicroBatch

    monkeypatch.chdir(tmp_path)
    _, _, data = train(tiny_t5, 4, 1, None)
    batches = PairBatches(*data.encoded["train"], data.padding)
    order = np.argsort(batches.targets.encoded.lengths)
    rows = order[[0, -1]]
    batch = batches[MicroBatch(rows, order[:10], False)]
    lengths = batches.targets.encoded.lengths
    assert (batch["label"] != -100).sum(dim=1).tolist() == lengths[rows].tolist()
    assert batch["window_tokens"] == lengths[order[:10]].sum()
    assert batch["n_target_tokens"] == lengths[rows].sum()
    empty = batches[MicroBatch(rows[:0], order[:10], True)]
    assert set(empty["label"].flatten().tolist()) == {-100}
    assert (empty["n_rows"], empty["n_target_tokens"], empty["real"].tolist()) == (0, 0, [False])
