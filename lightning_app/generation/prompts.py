"""Prompts as data: a YAML file of rules, one instruction per class, domains and attributes becomes prompt rows."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import pyarrow as pa

from ..core.documents import checked, filled
from ..core.errors import InputError, shorten
from ..core.hashing import seeded_hash
from ..core.paths import find
from ..core.ranges import PositiveInt, check_fields
from ..core.task import Task, fold, is_blank
from ..core.yaml_files import load_mapping
from ..data.sources import Rows
from .fields import fill, names_in

NO_CLASS = "any"
Example = str | tuple[str, str]
"""A text, or with `of_each` a source text and the text written for it."""
Filled = Annotated[str, filled()]
Examples = list[Any] | dict[str, list[Any]]


FIELDS = ("domain", "language", "text")  # what braces stand for, but for the names of `vary`
ANSWERED = ("finish", "error", "n_tokens")  # what an answer comes with
COLUMNS = ("id", "system", "user", "completion", "prompt_label", "domain", "attributes")


@dataclass(frozen=True)
class PromptSpec:
    """A file of `configs/prompts`.

    Args:
        name: First part of every prompt's id.
        system: Rules for all prompts.
        classes: Label -> instruction; `{domain}`, `{language}`, `{text}` and the names of `vary` are filled in. The one
            label `any` writes rows without a prompt label (NLI premises).
        domains: Domain -> share; shares need not add up to 1.
        language: What the model is to write in.
        vary: Attribute -> values, of which each prompt gets one (arXiv 2306.15895 shows why).
        examples: Label -> texts shown as few-shot examples, or label -> domain -> texts. With `of_each` an example is a
            pair: the source text, and what is written for it.
        of_each: The column of a source row that `{text}` stands for: one prompt per class for each such row (the second
            step of NLI, from premises to hypotheses).
        completion: What comes before a text in the prompt of a base model, which continues a list of examples. It may
            use `{label}`, `{domain}`, `{language}` and, with `of_each`, `{text}`.
        shots: Examples per class in the prompt of a base model.
        chat_examples: Whether a chat's request shows the examples of its class too.
        examples_language: What the examples are written in; the file's `language` by default. A base model continues
            in it, so it gets no prompt in another language.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    name: Filled
    system: str
    classes: dict[str, Filled]
    domains: dict[Filled, float] = field(default_factory=lambda: {"general": 1.0})
    language: Filled = "English"
    vary: dict[str, list[str]] = field(default_factory=dict)
    examples: dict[str, Examples] = field(default_factory=dict)
    of_each: str | None = None
    completion: str = "Text ({label}):"
    shots: PositiveInt = 2
    chat_examples: bool = True
    examples_language: Filled | None = None

    def examples_of(self, label: str, domain: str | None = None) -> list[Example]:
        """The examples of a class: those of the domain if it has any, or else those of every domain."""
        listed = self.examples.get(label, [])
        if isinstance(listed, dict):
            listed = listed.get(domain or "") or [example for texts in listed.values() for example in texts]
        return [example if isinstance(example, str) else (example[0], example[1]) for example in listed]

    def all_examples(self) -> list[str]:
        """Every example's text; of a pair, the text that was written."""
        examples = [example for label in self.examples for example in self.examples_of(label)]
        return [example if isinstance(example, str) else example[1] for example in examples]


def read_spec(path: str, task: Task, language: str | None = None) -> PromptSpec:
    """Read a prompt file, looked up here and in `configs/prompts`.

    Args:
        path: The file, `.yaml` optional.
        task: The labels that its classes must have.
        language: Takes the place of the file's own `language`.

    Raises:
        InputError: If it is missing, has an unknown key, names a label that the task does not have, or an instruction
            asks for something that is not there.
    """
    found = find(path, "configs/prompts", "configs") or find(f"{path}.yaml", "configs/prompts", "configs")
    if found is None or not found.is_file():
        raise InputError(f"prompts {path}: no such file here or in configs/prompts; check the name")
    values = load_mapping(found, "the keys of a prompt file, as in configs/prompts")
    spec = checked(PromptSpec, values, found.name, "fix this file")
    if language is not None:
        if is_blank(language):
            raise InputError(f"data.language is {shorten(language)}, expected a name such as Hindi; or leave it out")
        spec = replace(spec, language=language, examples_language=spec.examples_language or spec.language)
    _check_values(spec, found.name)
    wrong = [label for label in (*spec.classes, *spec.examples) if label != NO_CLASS and task.match(label) is None]
    if wrong or not spec.classes:
        raise InputError(f"{found.name}: classes {wrong or 'none'}, expected labels of the task: {task.labels}")
    spellings = Counter(fold(label) for label in spec.classes)
    twice = [label for label in spec.classes if spellings[fold(label)] > 1]
    if twice:
        raise InputError(f"{found.name}: classes {twice} are one label in several spellings; keep one of them")
    alone = set(spec.examples) - set(spec.classes)
    if alone:
        raise InputError(
            f"{found.name}: examples of {sorted(alone)}, expected the names under classes: {list(spec.classes)}"
        )
    _check_examples(spec, found.name)
    known = {"domain", "language", *spec.vary, *(["text"] if spec.of_each else [])}
    _check_template(
        spec.completion,
        {"label", "domain", "language", *(["text"] if spec.of_each else [])},
        f"{found.name}: completion",
    )
    _check_template(spec.system, {"language"}, f"{found.name}: system")
    for label, instruction in spec.classes.items():
        _check_template(instruction, known, f"{found.name}: class {label}")
        if spec.of_each is not None and "text" not in names_in(instruction):
            raise InputError(
                f"{found.name}: class {label} shows no {{text}}, expected the {spec.of_each} that it is written for; "
                "add it, or remove of_each"
            )
    return spec


def _check_values(spec: PromptSpec, place: str) -> None:
    """Refuse numbers out of range, domains without a share, and attributes without a value."""
    check_fields(spec, f"{place}: ")
    shares = list(spec.domains.values())
    if not shares or min(shares) < 0 or not 0 < sum(shares) < math.inf:
        raise InputError(f"{place}: domains {spec.domains}, expected a name and a share of 0 or more for each")
    taken = next((name for name in spec.vary if name in FIELDS), None)
    if taken is not None:
        raise InputError(f"{place}: vary has '{taken}', which stands for something else in braces; rename it")
    if spec.of_each in (*COLUMNS, *ANSWERED):
        raise InputError(f"{place}: of_each is '{spec.of_each}', which is a column of generations; name another one")
    empty = [name for name, values in spec.vary.items() if not values]
    if empty:
        raise InputError(f"{place}: vary {empty} has no values, expected at least one each")


def _check_examples(spec: PromptSpec, place: str) -> None:
    for label, listed in spec.examples.items():
        unknown = [domain for domain in listed if domain not in spec.domains] if isinstance(listed, dict) else []
        # The domains of source rows are theirs, not the prompt file's.
        if unknown and spec.of_each is None:
            raise InputError(f"{place}: examples of {label} name the domains {unknown}, expected {list(spec.domains)}")
        for texts in listed.values() if isinstance(listed, dict) else [listed]:
            if not isinstance(texts, list) or not all(_is_example(text, spec.of_each is not None) for text in texts):
                kind = f"[{spec.of_each}, text]" if spec.of_each else "a text"
                raise InputError(f"{place}: examples of {label} are {shorten(texts)}, expected a list, {kind} each")


def _is_example(example: Any, is_pair: bool) -> bool:
    if not is_pair:
        return isinstance(example, str) and not is_blank(example)
    return isinstance(example, list) and len(example) == 2 and all(_is_example(text, is_pair=False) for text in example)


def _check_template(template: str, known: set[str], place: str) -> None:
    try:
        asked = names_in(template)
    except ValueError as error:
        raise InputError(
            f"{place}: {error}, expected names in braces such as {{domain}}; write a brace that is meant as such twice"
        ) from None
    if asked - known:
        raise InputError(f"{place} asks for {sorted(asked - known)}, known are {sorted(known)}")


def prompt_rows(spec: PromptSpec, task: Task, count: int, seed: int, of: Rows | None = None) -> pa.Table:
    """Prompts, class by class in turn, with domains in their shares.

    Args:
        spec: The prompt file.
        task: Gives the spelling of labels.
        count: How many; with `of_each`, one per class for each row of `of`, whatever the count.
        seed: Seed of attributes.
        of: The rows that `{text}` comes from.

    Returns:
        Columns `id`, `system`, `user`, `completion` (the same request as a base model gets it: labelled examples, then
        the line to complete; null if the file has no examples), `prompt_label` (null for `any`), `domain`, `attributes`
        (JSON), and the source's text column where there is one. The prompt label is written here, and never worked out
        again from a position.

    Raises:
        InputError: If the spec needs source rows and has none.
    """
    labels = list(spec.classes)
    if spec.of_each is not None:
        if of is None:
            raise InputError(f"prompts {spec.name}: one prompt for each {spec.of_each}; give --data.source.path")
        texts = of.table[spec.of_each].to_pylist()
        given = zip(of.ids, texts, _column(of.table, "domain", len(texts)), strict=True)
        planned = [(f"{one}/{label}", label, domain, text) for one, text, domain in given for label in labels]
    else:
        domains = _in_shares(spec.domains, -(-count // len(labels)))
        planned = [
            (f"{spec.name}/{number}", labels[number % len(labels)], domains[number // len(labels)], None)
            for number in range(count)
        ]
    rows = [_row(spec, task, *one, seed) for one in planned]
    schema = {name: pa.string() for name in COLUMNS}
    if spec.of_each is not None:
        schema[spec.of_each] = pa.string()
    return pa.Table.from_pylist(rows, schema=pa.schema(list(schema.items())))


def _row(
    spec: PromptSpec, task: Task, one: str, label: str, domain: str | None, text: str | None, seed: int
) -> dict[str, Any]:
    picks = {
        name: values[int(seeded_hash([one], seed, f"vary:{name}")[0] % len(values))]
        for name, values in spec.vary.items()
    }
    filled = fill(spec.classes[label], {"domain": domain, "language": spec.language, "text": text, **picks})
    examples = spec.examples_of(label, domain)
    if examples and spec.chat_examples:
        listed = [example if isinstance(example, str) else f"{example[0]} -> {example[1]}" for example in examples]
        filled += "\n\nExamples, not to be repeated:\n" + "\n".join(f"- {example}" for example in listed)
    return {
        "id": one,
        "system": fill(spec.system, {"language": spec.language}).strip(),
        "user": filled.strip(),
        "completion": _completion(spec, task, one, label, domain, text, seed),
        "prompt_label": None if label == NO_CLASS else task.match(label),
        "domain": domain,
        "attributes": json.dumps(picks, ensure_ascii=False),
        **({spec.of_each: text} if spec.of_each else {}),
    }


def _completion(
    spec: PromptSpec, task: Task, row: str, label: str, domain: str | None, text: str | None, seed: int
) -> str | None:
    """The request as a base model gets it; None if the file has no examples in the language to write in.

    Each class has `shots` examples, drawn and shuffled by a seeded hash of the row's id.
    """
    shown = []
    for other in spec.examples:
        examples = spec.examples_of(other, domain)
        drawn = seeded_hash([f"{row}/{other}/{place}" for place in range(len(examples))], seed, "shots").argsort()
        shown += [(other, examples[place]) for place in drawn[: spec.shots]]
    if not shown or (spec.examples_language or spec.language) != spec.language:
        return None

    def line(label: str, source: str | None) -> str:
        name = "" if label == NO_CLASS else task.match(label)
        values = {"label": name, "domain": domain or "general", "language": spec.language, "text": _on_one_line(source)}
        return fill(spec.completion, values).strip()

    lines = []
    for place in seeded_hash([f"{row}/{place}" for place in range(len(shown))], seed, "order of shots").argsort():
        other, example = shown[place]
        source, written = (None, example) if isinstance(example, str) else example
        lines.append(f"{line(other, source)} {_on_one_line(written)}")
    return "\n".join([*lines, line(label, text)])


def _on_one_line(text: str | None) -> str:
    return " ".join((text or "").split())


def _in_shares(shares: Mapping[str, float], count: int) -> list[str]:
    """Names in their shares at every point of the list: the one that lags behind most comes next."""
    names, total = list(shares), sum(shares.values())
    target = np.array([shares[name] / total for name in names])
    dealt = np.zeros(len(names))
    listed = []
    for number in range(1, count + 1):
        next_one = int(np.argmax(target * number - dealt))
        dealt[next_one] += 1
        listed.append(names[next_one])
    return listed


def _column(table: pa.Table, name: str, rows: int) -> Sequence[str | None]:
    values: list[str | None] = table[name].to_pylist() if name in table.column_names else [None] * rows
    wrong = next((value for value in values if value is not None and not isinstance(value, str)), None)
    if wrong is not None:
        raise InputError(
            f"data.source: {name} is {shorten(wrong)}, expected a text; fix the file, or name another column with "
            f"`columns: {{{name}: ...}}`"
        )
    return values


def spec_files() -> list[Path]:
    """The prompt files that come with the project."""
    folder = find("configs/prompts")
    return sorted(folder.glob("*.yaml")) if folder is not None else []
