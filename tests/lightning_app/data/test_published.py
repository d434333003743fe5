"""Data sets as they are published: small files of the same names, columns and quirks, read through `configs/data`."""

import json
from pathlib import Path

import pytest
from conftest import LABELS, PROJECT

from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.data.sources import Rows, Source, load_rows

SENTIMENT = Task("sentiment", ["text"], LABELS)
NLI = Task("nli", ["premise", "hypothesis"], ["entailment", "neutral", "contradiction"])

XNLI = (
    "language\tgold_label\tsentence1_binary_parse\tsentence2_binary_parse\tsentence1_parse\tsentence2_parse\tsentence1\t"
    "sentence2\tpromptID\tpairID\tgenre\tlabel1\tlabel2\tlabel3\tlabel4\tlabel5\tsentence1_tokenized\t"
    "sentence2_tokenized\tmatch"
)


def xnli_row(language: str, label: str, premise: str, hypothesis: str, pair: int) -> str:
    votes = "\t".join([label] * 5)
    return f"{language}\t{label}\t\t\t\t\t{premise}\t{hypothesis}\t{pair}\t{pair}\tletters\t{votes}\t{premise}\t{hypothesis}\tTrue"


def snli_row(label: str, premise: str, hypothesis: str, pair: str) -> str:
    row = {
        "annotator_labels": [label], "captionID": f"{pair}.jpg#0", "gold_label": label, "pairID": f"{pair}.jpg#0r1n",
        "sentence1": premise, "sentence1_binary_parse": f"( {premise} )", "sentence1_parse": f"(ROOT (NP {premise}))",
        "sentence2": hypothesis, "sentence2_binary_parse": f"( {hypothesis} )", "sentence2_parse": f"(ROOT (NP {hypothesis}))",
    }  # fmt: skip
    return json.dumps(row)


# Name in `configs/data` -> the published file, its lines, and the texts and labels that come out.
Published = tuple[str, Task, list[str], list[tuple[str, str]]]
PUBLISHED: dict[str, Published] = {
    "sst_trees/train": (
        "data/sst/trees/train.txt", SENTIMENT,
        [
            "(3 (2 (2 A) (2 tale)) (3 (3 (4 worth) (2 telling)) (2 .)))",
            "(1 (2 It) (1 (2 -LRB-) (1 (1 (2 nearly) (1 bores)) (2 -RRB-))))",
            "(2 (2 Nothing) (2 (2 's) (2 new)))",
            r"(4 (4 Great) (2 (2 fun\/games) (2 .)))",
            "(0 Awful)",
        ],
        [
            ("A tale worth telling .", "positive"), ("It ( nearly bores )", "negative"), ("Nothing 's new", "neutral"),
            (r"Great fun\/games .", "positive"), ("Awful", "negative"),
        ],
    ),
    "snli_files/dev": (
        "data/snli_1.0/snli_1.0_dev.jsonl", NLI,
        [
            snli_row("entailment", "Two cats sleep.", "Animals rest.", "1"), snli_row("-", "A man waits.", "He is late.", "2"),
            snli_row("contradiction", "A boy runs.", "Nobody moves.", "3"),
        ],
        [("Two cats sleep.", "entailment"), ("A boy runs.", "contradiction")],
    ),
    "xnli_files/ur": (
        "data/XNLI-1.0/xnli.test.tsv", NLI,
        [
            XNLI, xnli_row("ar", "neutral", "وصل القطار.", "تأخر القطار.", 1), xnli_row("hi", "neutral", "गाड़ी आई।", "देर हुई।", 1),
            xnli_row("ur", "entailment", "گاڑی \"آج\" آئی۔", "گاڑی آئی۔", 1), xnli_row("sw", "neutral", "Treni ilifika.", "Ilichelewa.", 1),
            xnli_row("ur", "contradiction", "وہ سو گیا۔", "وہ جاگ رہا ہے۔", 2),
        ],
        [("گاڑی \"آج\" آئی۔", "entailment"), ("وہ سو گیا۔", "contradiction")],
    ),
    "afrisenti/ha": (
        "data/afrisenti/data/hau/test.tsv", SENTIMENT,
        ["tweet\tlabel", "na gode \"sosai\tpositive", "'@user babu dadi'\tnegative", "yau ne\tneutral"],
        [('na gode "sosai', "positive"), ("'@user babu dadi'", "negative"), ("yau ne", "neutral")],
    ),
    "nusax/jv": (
        "data/nusax/datasets/sentiment/javanese/test.csv", SENTIMENT,
        ["id,text,label", '237,"Enak, murah, lan ""cepet"".",positive', "101,Ora enak.,negative", "5,Bukak jam 7.,neutral"],
        [('Enak, murah, lan "cepet".', "positive"), ("Ora enak.", "negative"), ("Bukak jam 7.", "neutral")],
    ),
    "mahasent/movies": (
        "data/mahasent/MahaSent_MR/MahaSent_MR_Test.csv", SENTIMENT,
        [",marathi_sentence,label", "0,गाणी सुंदर आहेत,1", "1,शेवट फसला,-1", "2,दोन तास लांब,0"],
        [("गाणी सुंदर आहेत", "positive"), ("शेवट फसला", "negative"), ("दोन तास लांब", "neutral")],
    ),
    "mahasent/tweets": (
        "data/mahasent/MahaSent_GT/tweets-test.csv", SENTIMENT,
        ["tweet,label,political", "बस उशिरा आली,-1,0", "नवा रस्ता छान,1,1"],
        [("बस उशिरा आली", "negative"), ("नवा रस्ता छान", "positive")],
    ),
    "mahasent/subtitles": (
        "data/mahasent/MahaSent_ST/MahaSent_ST_Test.csv", SENTIMENT,
        [",marathi_text,label", "0,थांब जरा,0", "1,किती मजा,1"],
        [("थांब जरा", "neutral"), ("किती मजा", "positive")],
    ),
    "mahasent/politics": (
        "data/mahasent/MahaSent_PT/tweets-test.csv", SENTIMENT,
        ["tweet,label", "भाषण लांबले,-1", "मोर्चा निघाला,0"],
        [("भाषण लांबले", "negative"), ("मोर्चा निघाला", "neutral")],
    ),
    "gluecos/hinglish": (
        "data/gluecos/validation.tsv", SENTIMENT,
        ["text\tlabel", "kya mast gaana hai \"yaar\tpositive", "bas theek hi tha\tneutral", "time waste ho gaya\tnegative"],
        [('kya mast gaana hai "yaar', "positive"), ("bas theek hi tha", "neutral"), ("time waste ho gaya", "negative")],
    ),
}  # fmt: skip


def read(name: str, file: str, task: Task, lines: list[str]) -> Rows:
    path = Path(file)
    path.parent.mkdir(parents=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return load_rows(Source(f"data:{name}"), task, "label")


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_file_is_read_as_it_is(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    file, task, lines, expected = PUBLISHED[name]
    table = read(name, file, task, lines).table
    assert list(zip(table[task.columns[0]].to_pylist(), table["label"].to_pylist(), strict=True)) == expected
    assert None not in table["lang"].to_pylist()


def test_iitp_reviews_labelled_conflict_are_dropped(tmp_path: Path):
    """From a file too, with the data set's own `label_map`."""
    file = tmp_path / "hi-test.tsv"
    file.write_text("label\ttext\nconflict\tकैमरा अच्छा, बैटरी खराब\npositive\tस्क्रीन शानदार\nneutral\tडिब्बे में चार्जर है\n")
    rows = load_rows(Source(str(file), label_map={"conflict": None}, language="hi"), SENTIMENT, "label")
    assert rows.table["label"].to_pylist() == ["positive", "neutral"]


@pytest.mark.parametrize("data", ["sst_trees", "snli_files", "xnli_files", "afrisenti", "nusax", "mahasent", "gluecos"])
def test_every_local_data_set_has_a_file_here(data: str):
    assert (PROJECT / f"configs/data/{data}.yaml").is_file()
    assert any(name.startswith(f"{data}/") for name in PUBLISHED)


BROKEN = [
    "(3 (2 Good) (2 film)",
    "(3 (2 Good)) (2 film)",
    "3 Good film",
    "(x Good)",
    "(3)",
    "Good\tpositive",
    "(2 (2 a)) b",
]


@pytest.mark.parametrize("line", BROKEN)
def test_a_line_that_is_no_tree_is_named(line: str, tmp_path: Path):
    file = tmp_path / "train.txt"
    file.write_text(f"(2 (2 All) (2 right))\n\n{line}\n")
    with pytest.raises(InputError, match=r"train.txt: row 1 \(line 3\): .*expected a tree such as \(3"):
        load_rows(Source(str(file)), SENTIMENT, "label")


def test_a_label_of_a_tree_that_is_not_in_the_task_is_named_with_its_line(tmp_path: Path):
    file = tmp_path / "dev.txt"
    file.write_text("(2 (2 All) (2 right))\n(9 (2 Too) (2 much))\n")
    label_map = {"2": "neutral"}
    with pytest.raises(InputError, match="dev.txt.*9"):
        load_rows(Source(str(file), label_map=dict(label_map)), SENTIMENT, "label")


def test_a_deep_tree_is_read_without_recursion(tmp_path: Path):
    file = tmp_path / "dev.txt"
    file.write_text("(2 " * 50_000 + "deep" + ")" * 50_000 + "\n")
    rows = load_rows(Source(str(file), label_map={"2": "neutral"}), SENTIMENT, "label")
    assert rows.table["text"].to_pylist() == ["deep"]
