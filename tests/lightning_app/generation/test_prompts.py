"""Prompts as data."""

import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest

from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.task import Task
from labelbridge.lightning_app.data.sources import Rows
from labelbridge.lightning_app.generation.prompts import prompt_rows, read_spec, spec_files

NLI = Task("nli", ["premise", "hypothesis"], ["entailment", "neutral", "contradiction"])


def spec_of(tmp_path: Path, task: Task, text: str):
    (tmp_path / "mine.yaml").write_text(text)
    return read_spec(str(tmp_path / "mine.yaml"), task)


@pytest.mark.parametrize("file", spec_files(), ids=lambda file: file.stem)
def test_every_file_makes_prompts(file: Path, task: Task):
    own = NLI if "nli" in file.stem else task
    spec = read_spec(file.stem, own)
    premises = pa.table({"id": ["p/0"], "premise": ["A dog runs."]})
    table = prompt_rows(spec, own, 60, 0, Rows(premises, {}, [], {}))
    assert spec.name == file.stem
    assert len(set(table["id"].to_pylist())) == table.num_rows
    assert all("{" not in text for name in ("system", "user") for text in table[name].to_pylist())
    if "any" not in spec.classes:
        assert len(set(Counter(table["prompt_label"].to_pylist()).values())) == 1  # balanced


def test_the_files_of_the_paper_are_there():
    assert {file.stem for file in spec_files()} >= {
        "product_reviews", "political_tweets", "subtitles", "tweets", "movie_reviews", "nli_premises", "nli_hypotheses",
        "law", "medical", "no_domain",
    }  # fmt: skip


def test_domains_come_in_their_shares():
    table = prompt_rows(read_spec("nli_premises", NLI), NLI, 1000, 0)
    assert Counter(table["domain"].to_pylist()) == {"travel": 400, "government": 400, "fiction": 200}
    assert set(table["prompt_label"].to_pylist()) == {None}


def test_one_hypothesis_per_class_for_each_premise():
    premises = pa.table({"id": ["a", "b"], "premise": ["A dog runs.", "It rains."], "domain": ["travel", "law"]})
    table = prompt_rows(read_spec("nli_hypotheses", NLI), NLI, 1, 0, Rows(premises, {}, [], {}))
    assert table["id"].to_pylist() == [f"{one}/{label}" for one in "ab" for label in NLI.labels]
    assert table["prompt_label"].to_pylist() == NLI.labels * 2
    assert table["premise"].to_pylist() == ["A dog runs."] * 3 + ["It rains."] * 3
    assert all(row["premise"] in row["user"] for row in table.to_pylist())


def test_attributes_depend_on_the_row_and_the_seed_alone(task: Task):
    spec = read_spec("product_reviews", task)
    some, more, other = (prompt_rows(spec, task, count, seed) for count, seed in ((30, 0), (90, 0), (30, 1)))
    assert more["user"].to_pylist()[:30] == some["user"].to_pylist()
    assert other["user"].to_pylist() != some["user"].to_pylist()
    tones = Counter(json.loads(row)["tone"] for row in more["attributes"].to_pylist())
    assert len(tones) == 6


def test_language_and_examples_are_filled_in(tmp_path: Path, task: Task):
    spec = spec_of(
        tmp_path, task,
        "name: m\nsystem: Write in {language}.\nlanguage: Swahili\nclasses: {positive: 'Praise {domain}.'}\n"
        "domains: {tea: 1}\nexamples: {positive: [Chai nzuri!]}\n",
    )  # fmt: skip
    row = prompt_rows(spec, task, 1, 0).to_pylist()[0]
    assert (row["system"], row["user"]) == (
        "Write in Swahili.",
        "Praise tea.\n\nExamples, not to be repeated:\n- Chai nzuri!",
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: m\nsystem: s\nclases: {}\n", r"clases is not known, did you mean 'classes'\?; fix this file"),
        ("name: m\nsystem: s\nclasses: {happy: x}\n", r"classes \['happy'\], expected labels"),
        ("name: m\nsystem: s\nclasses: {positive: 'about {colour}'}\n", r"asks for \['colour'\]"),
        ("name: m\nsystem: s\nclasses: {positive: x}\ndomains: {}\n", "domains"),
        (
            "name: m\nsystem: s\nclasses: {positive: x}\ndomains: [tea, coffee]\n",
            "domains is .*expected a map",
        ),
        ("name: m\nsystem: s\nclasses: {positive: x}\nvary: {tone: dry}\n", "vary.tone is .*expected a list"),
        ("name: m\nsystem: s\nclasses: {positive: x}\nvary: {tone: []}\n", "has no values"),
        ("name: m\nsystem: about {domain}\nclasses: {positive: x}\n", r"system asks for \['domain'\]"),
        ("name: m\nsystem: s\nclasses: {positive: 'a { brace'}\n", "write a brace that is meant as such twice"),
        ("name: m\nsystem: s\nclasses: {positive: x}\nexamples: {negative: [y]}\n", "examples of .*negative"),
        ("name: m\n  system: s\n", "not YAML"),
        ("", "expected the keys of a prompt file"),
    ],
)
def test_mistakes_in_a_file(tmp_path: Path, task: Task, text: str, said: str):
    with pytest.raises(InputError, match=said):
        spec_of(tmp_path, task, text)


def test_hypotheses_need_premises():
    with pytest.raises(InputError, match="one prompt for each premise; give --data.source.path"):
        prompt_rows(read_spec("nli_hypotheses", NLI), NLI, 1, 0)


def test_a_file_is_asked_in_another_language_from_outside(task: Task):
    row = prompt_rows(read_spec("tweets", task, "Marathi"), task, 1, 0).to_pylist()[0]
    assert "single tweets in Marathi" in row["system"]


@pytest.mark.parametrize(
    ("target", "file", "asked"),
    [
        ("product reviews", "product_reviews", {"travel", "movies", "gadgets"}),
        ("NLI", "nli_premises", {"travel", "government", "fiction"}),
        ("tweets", "tweets", {"sport", "food", "weather"}),
    ],
)
def test_the_domains_of_the_papers_targets(target: str, file: str, asked: set[str], task: Task):
    assert set(read_spec(file, NLI if "nli" in file else task).domains) >= asked


def test_the_neutral_prompt_of_product_reviews_is_the_strictest(task: Task):
    neutral = read_spec("product_reviews", task).classes["neutral"]
    assert all(word in neutral for word in ("no opinion at all", "No praise", "no complaint", "no recommendation"))


@pytest.mark.parametrize("file", spec_files(), ids=lambda file: file.stem)
def test_every_file_has_three_examples_per_class_and_domain(file: Path, task: Task):
    spec = read_spec(file.stem, NLI if "nli" in file.stem else task)
    assert set(spec.examples) == set(spec.classes)
    for label, domains in spec.examples.items():
        assert isinstance(domains, dict)
        assert spec.of_each or set(domains) == set(spec.domains)
        assert all(len(texts) == 3 for texts in domains.values()), label
    examples = spec.all_examples()
    assert len(set(examples)) == len(examples) == sum(len(d) * 3 for d in spec.examples.values())


@pytest.mark.parametrize("file", ["product_reviews", "nli_premises", "tweets"])
def test_examples_of_these_files_are_for_base_models_alone(file: str, task: Task):
    own = NLI if "nli" in file else task
    assert not any("Examples" in text for text in prompt_rows(read_spec(file, own), own, 30, 0)["user"].to_pylist())


def test_a_base_model_gets_balanced_examples_of_the_rows_domain(task: Task):
    spec = read_spec("product_reviews", task)
    for row in prompt_rows(spec, task, 30, 0).to_pylist():
        *lines, last = row["completion"].split("\n")
        assert last == f"Product review about {row['domain']} ({row['prompt_label']}):"
        begins = [line.split(":")[0] for line in lines]
        assert Counter(begins) == {f"Product review about {row['domain']} ({label})": 2 for label in task.labels}
        for line in lines:
            begin, text = line.split(": ", 1)
            assert text in spec.examples[begin.split("(")[1][:-1]][row["domain"]]


def test_examples_are_drawn_and_shuffled_by_the_rows_id_and_the_seed(task: Task):
    spec = read_spec("product_reviews", task)
    some, more, other = (
        prompt_rows(spec, task, count, seed)["completion"].to_pylist() for count, seed in ((30, 0), (90, 0), (30, 1))
    )
    assert more[:30] == some
    assert other != some
    assert len(set(more)) > 85


def test_a_list_of_examples_serves_every_domain(tmp_path: Path, task: Task):
    spec = spec_of(
        tmp_path, task,
        "name: m\nsystem: s\nclasses: {positive: x, negative: y}\ndomains: {tea: 1}\nshots: 1\n"
        "examples: {positive: [Good.], negative: {tea: [Bad tea.]}}\n",
    )  # fmt: skip
    rows = prompt_rows(spec, task, 2, 0).to_pylist()
    assert {tuple(sorted(row["completion"].split("\n")[:-1])) for row in rows} == {
        ("Text (negative): Bad tea.", "Text (positive): Good.")
    }
    assert [row["user"].split("\n")[-1] for row in rows] == ["- Good.", "- Bad tea."]


def test_a_domain_without_examples_borrows_from_the_others(task: Task):
    premises = pa.table({"id": ["a"], "premise": ["A dog runs."], "domain": ["sport"]})
    row = prompt_rows(read_spec("nli_hypotheses", NLI), NLI, 1, 0, Rows(premises, {}, [], {})).to_pylist()[0]
    *lines, last = row["completion"].split("\n")
    assert last == "Premise: A dog runs. Hypothesis (entailment):"
    assert Counter(line.split("Hypothesis (")[1].split(")")[0] for line in lines) == dict.fromkeys(NLI.labels, 2)


def test_there_is_no_completion_without_examples_in_its_language(tmp_path: Path, task: Task):
    assert prompt_rows(read_spec("tweets", task, "Marathi"), task, 1, 0)["completion"].to_pylist() == [None]
    assert prompt_rows(read_spec("tweets", task, "English"), task, 1, 0)["completion"].null_count == 0
    bare = spec_of(tmp_path, task, "name: m\nsystem: s\nclasses: {positive: x}\n")
    assert prompt_rows(bare, task, 1, 0)["completion"].to_pylist() == [None]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "domains: {tea: 1}\nexamples: {positive: {coffee: [x]}}",
            r"name the domains \['coffee'\], expected \['tea'\]",
        ),
        ("examples: {positive: {general: x}}", "expected a list"),
        ("examples: {positive: [1]}", "expected a list, a text each"),
        ("of_each: premise\nexamples: {positive: [x]}", r"expected a list, \[premise, text\] each"),
        ("shots: 0", "shots is 0, expected 1 <= shots"),
        ("completion: '{tone} {label}:'", r"completion asks for \['tone'\]"),
    ],
)
def test_mistakes_in_examples(tmp_path: Path, task: Task, text: str, said: str):
    with pytest.raises(InputError, match=said):
        spec_of(tmp_path, task, f"name: m\nsystem: s\nclasses: {{positive: x}}\n{text}\n")
