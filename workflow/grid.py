"""What a grid file says, checked before anything runs.

A *place* is where methods are trained and tested: `en` (zero-shot, directly in `out`), a translation, a union of
places, or `translate-test`, where the models of `en` meet translated targets. Every place except `en` has its own
folder in `out`.
"""

import difflib
import inspect
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from labelbridge.lightning_app.core.errors import InputError, shorten
from labelbridge.lightning_app.core.yaml_files import load_mapping
from labelbridge.lightning_app.data.readers import Source
from labelbridge.lightning_app.evaluation.report import report
from labelbridge.lightning_app.selection.select import select
from labelbridge.lightning_app.selection.strategies import BUILT_IN

ENGLISH = "en"
TRANSLATE_TEST = "translate-test"
TRAINER_STAGES = ("translate", "teacher", "pseudolabel", "embed", "student", "test")
STAGES = ("clean", "select", *TRAINER_STAGES)
KEYS = (
    "out", "seeds", "seed_chain", "teachers", "keep_models", "task", "raw", "pool", "gold", "targets", "target_text",
    "translations", "unions", "translate_test", "overlays", "trainer", "teacher", "student", "report", "pseudolabels",
    "selections", "methods",
)  # fmt: skip
# The first part of the settings of a Trainer command that a grid may change.
TRAINER_SETTINGS = (
    "model", "data", "trainer", "cartography", "export", "rows", "throughput", "boards", "average", "resume", "method",
    "setting",
)  # fmt: skip
# Folders inside `out`, or inside a place's folder, that a method or a place must not be named after.
TAKEN = (
    ENGLISH, TRANSLATE_TEST, "clean", "dev", "embed", "embed_target", "logs", "pool", "pseudolabel", "report", "select",
    "selected", "teacher", "train",
)  # fmt: skip
LONGEST_NAME = 150  # bytes; a file's name may have 255, and that of a log adds the stage and the seed


@dataclass(frozen=True)
class Selection:
    """One way to select.

    Args:
        settings: Settings of `select`.
        needs: What it reads: `pseudolabels`, `dynamics`, `embeddings`, `target`.
        labels: The name of the pseudolabels that it reads; empty for the plain ones.
    """

    settings: dict[str, Any]
    needs: frozenset[str]
    labels: str = ""


@dataclass(frozen=True)
class Pseudolabels:
    """Pseudolabels beside the plain ones of the teacher.

    Args:
        teacher: The method, one without a selection, whose model gives them; None for the teacher.
        flags: Settings of `predict`.
    """

    teacher: str | None
    flags: dict[str, Any]


@dataclass(frozen=True)
class Method:
    """One row of the report.

    Args:
        selection: The selection that its student learns from; None for the teacher itself.
        flags: Settings of the `fit` of its student, or without a selection of its teacher.
        places: Where it is trained and tested.
        select_first: Whether rows are selected in English and then translated, instead of the other way round.
        needs: Folders of artifacts that its flags read, such as translations for `data.views`.
    """

    selection: str | None
    flags: dict[str, Any]
    places: list[str]
    select_first: bool
    needs: Sequence[str] = ()


@dataclass(frozen=True)
class Translation:
    """How rows are translated.

    Args:
        overlays: Config files merged over `translate.yaml`.
        flags: Settings of `predict`.
        origin: The place whose rows are translated.
        rows: The rows of a target that is translated into English; empty for a place.
        targets: What the models of this place are tested on; empty for the grid's targets.
    """

    overlays: list[str]
    flags: dict[str, Any]
    origin: str = ENGLISH
    rows: Sequence[dict[str, Any]] = ()
    targets: Mapping[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Grid:
    """A checked grid; workflow/paper.yaml and workflow/languages.yaml show the keys of the file.

    `teachers` is the grid whose English teachers this one uses; None where it trains its own.
    """

    out: str
    seeds: list[int]
    full_chain: bool
    keep_all_models: bool
    task: Any
    raw: list[dict[str, Any]]
    pool: list[dict[str, Any]]
    gold: dict[str, list[dict[str, Any]]]
    targets: dict[str, dict[str, Any]]
    target_text: list[dict[str, Any]]
    translations: dict[str, Translation]
    unions: dict[str, list[str]]
    translate_test: dict[str, Translation]
    overlays: dict[str, list[str]]
    trainer: dict[str, Any]
    teacher: dict[str, Any]
    student: dict[str, Any]
    report: dict[str, Any]
    pseudolabels: dict[str, Pseudolabels]
    selections: dict[str, Selection]
    methods: dict[str, Method]
    teachers: "Grid | None" = None

    @property
    def places(self) -> list[str]:
        """All places, `en` first."""
        return [ENGLISH, *self.translations, *self.unions, *([TRANSLATE_TEST] if self.translate_test else [])]

    def any_needs(self, what: str) -> bool:
        """Whether any selection reads `what`."""
        return any(what in selection.needs for selection in self.selections.values())


def read(config: Mapping[str, Any]) -> Grid:
    """Check a grid.

    Args:
        config: The grid file's content, laid over by what the command line's `--config` says.

    Raises:
        InputError: For an unknown key, a name that cannot be a folder's, or a reference to something that is not there.
    """
    raw, used = _fill_in(config)
    _check_keys("", raw, [*KEYS, *used])
    for key in ("out", "seeds", "selections", "methods"):
        if raw.get(key) is None:
            raise InputError(f"{key}: is missing; see workflow/demo.yaml for an example")
    translations = _translations(raw)
    unions = {
        name: _names(f"unions.{name}", places, [ENGLISH, *translations])
        for name, places in _mapping("unions", raw.get("unions")).items()
    }
    translate_test = _translate_test(raw)
    places = [ENGLISH, *translations, *unions, *([TRANSLATE_TEST] if translate_test else [])]
    selections = {name: _mapping(f"selections.{name}", entry) for name, entry in _named(raw, "selections").items()}
    methods = _methods(raw, places, selections)
    pseudolabels = _pseudolabels(raw, [name for name, method in methods.items() if method.selection is None])
    for name, entry in selections.items():
        if entry.get("pseudolabels") is not None:
            _names(f"selections.{name}.pseudolabels", entry["pseudolabels"], pseudolabels)
    report_settings = _mapping("report", raw.get("report"))
    _check_keys("report.", report_settings, set(inspect.signature(report).parameters) - {"runs", "out", "overwrite"})
    grid = Grid(
        out=_out(raw["out"]),
        seeds=_seeds(raw["seeds"]),
        full_chain=_choice("seed_chain", raw.get("seed_chain"), ["student", "full"]) == "full",
        keep_all_models=_choice("keep_models", raw.get("keep_models"), ["all", "first"]) == "all",
        task=raw.get("task"),
        raw=_sources("raw", raw.get("raw")),
        pool=_sources("pool", raw.get("pool")),
        gold={
            part: _sources(f"gold.{part}", value)
            for part, value in _mapping("gold", raw.get("gold"), ["train", "dev"]).items()
        },
        targets=_targets("targets", raw.get("targets")),
        target_text=_sources("target_text", raw.get("target_text")),
        translations=translations,
        unions=unions,
        translate_test=translate_test,
        overlays={
            stage: _files(f"overlays.{stage}", files)
            for stage, files in _mapping("overlays", raw.get("overlays"), [*STAGES, "all"]).items()
        },
        trainer=_flags("trainer", raw.get("trainer")),
        teacher=_flags("teacher", raw.get("teacher")),
        student=_flags("student", raw.get("student")),
        report=report_settings,
        pseudolabels=pseudolabels,
        selections={name: _selection(name, entry, methods) for name, entry in selections.items()},
        methods=methods,
        teachers=_teachers(raw.get("teachers")),
    )
    _check_teachers(grid)
    _check_folders(grid)
    _check_rows(grid)
    return grid


def _fill_in(config: Mapping[str, Any]) -> tuple[dict[str, Any], set[str]]:
    """The grid with each `{name}` replaced by what `--config name=...` says, and the names that were used."""
    used: set[str] = set()

    def filled(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: filled(entry) for key, entry in value.items()}
        if isinstance(value, list):
            return [filled(entry) for entry in value]
        if not isinstance(value, str):
            return value
        for name in re.findall(r"\{(\w+)\}", value):
            if name not in config:
                raise InputError(f"{value}: the grid requires a folder; give it with --config {name}=FOLDER")
            used.add(name)
        return re.sub(r"\{(\w+)\}", lambda match: str(config[match[1]]), value)

    return filled(config), used


def _check_keys(place: str, mapping: Mapping[Any, Any], known: Collection[str]) -> None:
    for key in mapping:
        if key not in known:
            close = difflib.get_close_matches(str(key), sorted(known), n=1)
            remedy = f"did you mean '{close[0]}'?" if close else f"expected one of {', '.join(sorted(known))}"
            raise InputError(f"{place}{key}: unknown key, {remedy}")


def _mapping(place: str, value: Any, known: Collection[str] | None = None) -> dict[str, Any]:
    """A mapping, or an empty one for null."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InputError(f"{place}: expected a mapping, got {shorten(value)}")
    if known is not None:
        _check_keys(f"{place}.", value, known)
    return dict(value)


def _named(raw: Mapping[str, Any], key: str) -> dict[str, Any]:
    """A mapping whose keys become folders."""
    mapping = _mapping(key, raw.get(key))
    for name in mapping:
        _check_name(key, name)
    return mapping


def _check_name(key: str, name: Any) -> None:
    """Refuse a name that cannot be a folder's, a wildcard's or a flag's value."""
    if not isinstance(name, str):
        raise InputError(f"{key}: name {name!r} is not text; put it in quotation marks")
    wrong = None
    if not name.strip() or name != name.strip():
        wrong = "is empty, or begins or ends with a space"
    elif re.search(r"[/{}\x00-\x1f\x7f]", name):
        wrong = "contains a slash, a brace or a control character"
    elif name.startswith(("-", ".", "~")):
        wrong = "begins with '-', '.' or '~'"
    elif len(name.encode()) > LONGEST_NAME:
        wrong = f"is longer than {LONGEST_NAME} bytes"
    elif name in TAKEN:
        wrong = "is the name of a folder that the grid makes"
    elif _reads_as_null(name):
        wrong = "is null to YAML"
    if wrong is not None:
        raise InputError(f"{key}: name {shorten(name)} {wrong}; choose another name")


def _reads_as_null(name: str) -> bool:
    """Whether a command would take the name for no name at all, such as `null` or `#3`."""
    try:
        return yaml.safe_load(name) is None
    except yaml.YAMLError:
        return False


def _names(place: str, value: Any, known: Collection[str]) -> list[str]:
    """A list of names, all of them known."""
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not names:
        raise InputError(f"{place}: expected a list of names, got {shorten(value)}")
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(str(name), sorted(known), n=1)
            remedy = f"did you mean '{close[0]}'?" if close else f"expected one of {', '.join(known)}"
            raise InputError(f"{place}: unknown name {shorten(name)}, {remedy}")
    return names


def _files(place: str, value: Any) -> list[str]:
    files = [value] if isinstance(value, str) else [] if value is None else value
    if not isinstance(files, list) or not all(isinstance(file, str) for file in files):
        raise InputError(f"{place}: expected a list of config files, got {shorten(value)}")
    return files


def _sources(place: str, value: Any) -> list[dict[str, Any]]:
    """Sources of rows: a path, a mapping, or a list of either."""
    return (
        [_source(place, entry) for entry in value]
        if isinstance(value, list)
        else [_source(place, value)]
        if value
        else []
    )


def _source(place: str, value: Any) -> dict[str, Any]:
    if isinstance(value, str) and value.lstrip().startswith("{"):  # JSON, from the command line
        value = yaml.safe_load(value)
    source = (
        {"path": value} if isinstance(value, str) else _mapping(place, value, [field.name for field in fields(Source)])
    )
    if not isinstance(source.get("path"), str):
        raise InputError(f"{place}: expected a source of rows, such as {{path: my/rows.jsonl}}, got {shorten(value)}")
    return source


def _targets(place: str, value: Any) -> dict[str, dict[str, Any]]:
    """Sources by the target's name."""
    return {name: _source(f"{place}.{name}", source) for name, source in _mapping(place, value).items()}


def _choice(place: str, value: Any, choices: Sequence[str]) -> str:
    """One of `choices`; the first for null."""
    if value is not None and value not in choices:
        raise InputError(f"{place}: is {shorten(value)}, expected {' or '.join(choices)}")
    return choices[0] if value is None else str(value)


def _flags(place: str, value: Any) -> dict[str, Any]:
    """Settings of a Trainer command, by their dotted names."""
    settings = _mapping(place, value)
    for key in settings:
        _check_keys(f"{place}.{key}: ", {str(key).split(".")[0]: None}, TRAINER_SETTINGS)
    return settings


def _out(value: Any) -> str:
    text = str(value)
    if not text.strip() or text.startswith(("-", "~")) or re.search(r"[{}\x00-\x1f\x7f]", text):
        raise InputError(f"out: is {shorten(value)}, expected a folder without braces and control characters")
    return os.path.normpath(text)


def _teachers(value: Any) -> Grid | None:
    """The grid of another file, whose teachers are used."""
    return None if value is None else read(load_mapping(Path(str(value)), "a grid, such as workflow/paper.yaml"))


def _check_teachers(grid: Grid) -> None:
    """Refuse teachers that were not trained as this grid says."""
    other = grid.teachers
    if other is None:
        return
    if other.teachers is not None or other.raw:
        raise InputError("teachers: names a grid that cleans its pool or has no teachers of its own; name another one")
    for key in ("task", "gold", "trainer", "teacher"):
        if getattr(grid, key) != getattr(other, key):
            raise InputError(f"{key}: differs from that of the grid named by `teachers`; write the same in both")
    if grid.overlays.get("teacher") != other.overlays.get("teacher"):
        raise InputError("overlays.teacher: differs from that of the grid named by `teachers`; write the same in both")
    if grid.any_needs("dynamics") and (grid.pool, grid.seeds[0]) != (other.pool, other.seeds[0]):
        raise InputError("pool: the grid named by `teachers` records training dynamics of another pool, or other seed")
    if grid.any_needs("dynamics") and not other.any_needs("dynamics"):
        raise InputError("teachers: names a grid that records no training dynamics, which a selection here reads")


def _seeds(value: Any) -> list[int]:
    seeds = value if isinstance(value, list) else [value]
    is_number = [isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0 for seed in seeds]
    if not seeds or not all(is_number) or len(set(seeds)) < len(seeds):
        raise InputError(f"seeds: is {shorten(value)}, expected a list of different whole numbers, such as [0, 1]")
    return list(seeds)


def _translations(raw: Mapping[str, Any]) -> dict[str, Translation]:
    listed = _named(raw, "translations")
    translations = {}
    for name, entry in listed.items():
        place = f"translations.{name}"
        settings = _mapping(place, entry, ["from", "overlays", "flags", "targets"])
        translations[name] = Translation(
            _files(f"{place}.overlays", settings.get("overlays")),
            _flags(f"{place}.flags", settings.get("flags")),
            _names(f"{place}.from", settings.get("from", ENGLISH), [ENGLISH, *listed])[0],
            targets=_targets(f"{place}.targets", settings.get("targets")),
        )
    for name in translations:
        place = name
        for _ in translations:
            place = translations[place].origin if place != ENGLISH else place
        if place != ENGLISH:
            raise InputError(f"translations.{name}.from: leads back to itself; one of them must start from {ENGLISH}")
    return translations


def _translate_test(raw: Mapping[str, Any]) -> dict[str, Translation]:
    targets = {}
    for name, entry in _named(raw, "translate_test").items():
        place = f"translate_test.{name}"
        settings = _mapping(place, entry, ["rows", "overlays", "flags"])
        if settings.get("rows") is None:
            raise InputError(f"{place}.rows: is missing; name the target's rows, such as {{path: my/{name}.jsonl}}")
        targets[name] = Translation(
            _files(f"{place}.overlays", settings.get("overlays")),
            _flags(f"{place}.flags", settings.get("flags")),
            rows=_sources(f"{place}.rows", settings["rows"]),
        )
    return targets


def _methods(raw: Mapping[str, Any], places: list[str], selections: Collection[str]) -> dict[str, Method]:
    methods = {}
    for name, entry in _named(raw, "methods").items():
        place = f"methods.{name}"
        settings = _mapping(place, entry, ["selection", "flags", "in", "order", "needs"])
        selection = settings.get("selection")
        if selection is not None:
            _names(f"{place}.selection", selection, selections)
        elif settings.get("order"):
            raise InputError(f"{place}: order is a student's, which requires a selection; add one")
        methods[name] = Method(
            selection,
            _flags(f"{place}.flags", settings.get("flags")),
            _names(f"{place}.in", settings.get("in", [ENGLISH]), places),
            _choice(f"{place}.order", settings.get("order"), ["translate-first", "select-first"]) == "select-first",
            _files(f"{place}.needs", settings.get("needs")),
        )
    if not methods:
        raise InputError("methods: is empty, expected at least one, such as SRC: {}")
    return methods


def _pseudolabels(raw: Mapping[str, Any], teachers: list[str]) -> dict[str, Pseudolabels]:
    """Pseudolabels by name: another teacher, other settings of `predict`, or both."""
    made = {}
    for name, entry in _named(raw, "pseudolabels").items():
        place = f"pseudolabels.{name}"
        settings = _mapping(place, entry, ["teacher", "flags"])
        teacher = settings.get("teacher")
        if teacher is not None:
            _names(f"{place}.teacher", teacher, teachers)
        made[name] = Pseudolabels(teacher, _flags(f"{place}.flags", settings.get("flags")))
    return made


def _selection(name: str, settings: dict[str, Any], methods: Mapping[str, Method]) -> Selection:
    """A selection's settings, and what it reads."""
    known = set(inspect.signature(select).parameters) - {"out", "overwrite", "pool", "task"}
    _check_keys(f"selections.{name}.", {str(key).split(".")[0]: None for key in settings}, {*known, "needs"})
    strategy = settings.get("strategy", "top")
    # A user's own strategy lists them as `needs`.
    needs = set(BUILT_IN[strategy].needs) if strategy in BUILT_IN else set()
    if settings.get("needs"):
        needs.update(_names(f"selections.{name}.needs", settings["needs"], ["dynamics", "embeddings", "target"]))
    if settings.get("class_from") == "last_epoch":
        needs.add("dynamics")
    # A draw by prompt label needs no teacher, unless one of its students learns from the teacher's probabilities.
    needs_no_teacher = strategy == "random" and settings.get("class_from") == "prompt" and not settings.get("agreement")
    students = [method.flags for method in methods.values() if method.selection == name]
    if not needs_no_teacher or any(flags.get("model.synthetic_labels") != "prompt" for flags in students):
        needs.add("pseudolabels")
    labels = settings.get("pseudolabels") or ""
    own = {key: value for key, value in settings.items() if key not in ("needs", "pseudolabels")}
    return Selection(own, frozenset(needs), labels)


def _check_folders(grid: Grid) -> None:
    """Refuse two things that would share a folder, and an order that has no selection to translate."""
    for name in grid.methods:
        if name in (*grid.translations, *grid.unions, *grid.translate_test):
            raise InputError(f"methods.{name}: a place or target has the same name; rename one of them")
    for name in grid.unions:
        _check_name("unions", name)
        if name in grid.translations:
            raise InputError(f"unions.{name}: a translation has the same name; rename one of them")
    for name, method in grid.methods.items():
        if method.select_first and any(place in grid.unions for place in method.places):
            raise InputError(
                f"methods.{name}: order select-first in a union {list(grid.unions)}, where there is no one selection "
                "to translate; take the union out of `in`, or the order"
            )


def _check_rows(grid: Grid) -> None:
    """Refuse a grid that lacks rows which one of its rules reads."""
    used = {name for method in grid.methods.values() for name in method.places}
    if used & {*grid.translations, *grid.unions}:
        for part in ("train", "dev"):
            if not grid.gold.get(part):
                raise InputError(f"gold.{part}: is missing; translations start from it")
        if not grid.pool and not grid.raw and any(method.selection for method in grid.methods.values()):
            raise InputError("pool: is missing; translations start from it, or from `raw`")
    if grid.any_needs("target") and not grid.target_text:
        raise InputError("target_text: is missing; near_target compares the pool with unlabelled text of the target")
