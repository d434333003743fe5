"""What a grid file says, checked before anything runs.

A *place* is where methods are trained and tested: `en` (zero-shot, directly in `out`), a translation, a union of
places, or `translate-test`, where the models of `en` meet translated targets. Every place except `en` has its own
folder in `out`.

The classes below declare the file: pydantic checks keys, types and choices against them, the functions at the end check
what one entry says of another.
"""

import inspect
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import yaml
from annotated_types import Ge, Lt
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, PlainValidator, model_validator

from labelbridge.lightning_app.core.contracts import TaskFacts
from labelbridge.lightning_app.core.documents import checked, known_key
from labelbridge.lightning_app.core.errors import InputError, closest, shorten
from labelbridge.lightning_app.core.task import is_blank
from labelbridge.lightning_app.core.yaml_files import load_mapping
from labelbridge.lightning_app.data.readers import Source
from labelbridge.lightning_app.evaluation.report import report
from labelbridge.lightning_app.selection.select import select
from labelbridge.lightning_app.selection.strategies import BUILT_IN

ENGLISH = "en"
TRANSLATE_TEST = "translate-test"
TRAINER_STAGES = ("translate", "teacher", "pseudolabel", "embed", "student", "test")
STAGES = ("clean", "select", *TRAINER_STAGES)
# The first part of the settings of a Trainer command that a grid may change.
TRAINER_SETTINGS = (
    "model", "data", "trainer", "cartography", "export", "rows", "throughput", "boards", "average", "resume", "method",
    "setting",
)  # fmt: skip
SELECT_SETTINGS = {*inspect.signature(select).parameters, "needs"} - {"out", "overwrite", "pool", "task"}
REPORT_SETTINGS = set(inspect.signature(report).parameters) - {"runs", "out", "overwrite"}
# Settings of a student with prompt labels that weigh rows by the teacher's probabilities.
WEIGHED_BY_TEACHER = ("model.importance_clip", "model.min_confidence")
# What a selection may name as its `needs`.
EVIDENCE = ("dynamics", "embeddings", "target")
# Folders inside `out`, or inside a place's folder, that a method or a place must not be named after.
TAKEN = (
    ENGLISH, TRANSLATE_TEST, "clean", "dev", "embed", "embed_target", "logs", "pool", "pseudolabel", "report", "select",
    "selected", "teacher", "train",
)  # fmt: skip
# Mappings whose keys become folders.
NAMED = ("translations", "unions", "translate_test", "pseudolabels", "selections", "methods")
LONGEST_NAME = 150  # bytes; a file's name may have 255, and that of a log adds the stage and the seed
REMEDY = "see workflow/languages.yaml for an example"


def _listed(value: Any) -> list[Any]:
    """A list as it is, one entry as a list of one, null as an empty one."""
    return value if isinstance(value, list) else [] if value is None else [value]


def _name(name: str) -> str:
    """Refuse a name that cannot be a folder's, a wildcard's or a flag's value."""
    if not re.fullmatch(r"[^/{}\x00-\x1f\x7f]+", name) or name != name.strip() or name[0] in "-.~" or is_blank(name):
        raise ValueError(
            "a name without slashes, braces and control characters, that does not begin with '-', '.', '~' or a space, "
            "nor end with a space"
        )
    if len(name.encode()) > LONGEST_NAME:
        raise ValueError(f"a name of {LONGEST_NAME} bytes at most")
    if name in TAKEN:
        raise ValueError("another name, as the grid makes a folder of this one")
    if _reads_as_null(name):
        raise ValueError("a name that is not null to YAML")
    return name


def _reads_as_null(name: str) -> bool:
    """Whether a command would take the name for no name at all, such as `null` or `#3`."""
    try:
        return yaml.safe_load(name) is None
    except yaml.YAMLError:
        return False


def _out(folder: str) -> str:
    if not folder.strip() or folder.startswith(("-", "~")) or re.search(r"[{}\x00-\x1f\x7f]", folder):
        raise ValueError("a folder without braces and control characters")
    return os.path.normpath(folder)


def _different(seeds: list[int]) -> list[int]:
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError("a list of different whole numbers, such as [0, 1]")
    return seeds


def _settings_of(source: Any) -> Any:
    """A source of rows by its path, or as JSON from the command line, written out."""
    if not isinstance(source, str):
        return source
    try:
        return yaml.safe_load(source) if source.lstrip().startswith("{") else {"path": source}
    except yaml.YAMLError:
        raise ValueError("a path, or settings such as {path: my/rows.jsonl}") from None


def _with_path(source: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(source.get("path"), str):
        raise ValueError("a source of rows, such as {path: my/rows.jsonl}")
    return source


def _read_file(file: Any) -> "Grid":
    """The grid of another file."""
    return read(load_mapping(Path(str(file)), "a grid, such as workflow/paper.yaml"), str(file))


def _not_empty(names: list[str]) -> list[str]:
    if not names:
        raise ValueError("at least one name")
    return names


Name = Annotated[str, AfterValidator(_name)]
Names = Annotated[list[str], BeforeValidator(_listed), AfterValidator(_not_empty)]
Files = Annotated[list[str], BeforeValidator(_listed)]
Seeds = Annotated[list[Annotated[int, Ge(0), Lt(2**32)]], BeforeValidator(_listed), AfterValidator(_different)]
SourceSettings = Annotated[
    dict[Annotated[str, known_key([field.name for field in fields(Source)])], Any],
    BeforeValidator(_settings_of),
    AfterValidator(_with_path),
]
Sources = Annotated[list[SourceSettings], BeforeValidator(_listed)]
SelectSettings = Annotated[
    dict[Annotated[str, known_key(SELECT_SETTINGS, dotted=True)], Any], BeforeValidator(lambda settings: settings or {})
]
Flags = dict[Annotated[str, known_key(TRAINER_SETTINGS, dotted=True)], Any]
"""Settings of a Trainer command, by their dotted names."""


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """A part of the file. Null, or nothing after the colon, stands for the default."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, entry: Any) -> Any:
        entry = {} if entry is None else entry
        return {key: value for key, value in entry.items() if value is not None} if isinstance(entry, dict) else entry


@dataclass(frozen=True, kw_only=True)
class Pseudolabels(_Entry):
    """Pseudolabels beside the plain ones of the teacher.

    Args:
        teacher: The method whose model gives them, of the seed that selects; None for the teacher.
        flags: Settings of `predict`.
        rows: What is labelled in the place of the pool, such as unlabelled text of the target. Selections that name
            these pseudolabels choose among these rows. They are read as they are, in every place.
        needs: Folders of artifacts that its flags read, such as the models of `model.ensemble`.
    """

    teacher: str | None = None
    flags: Flags = field(default_factory=dict)
    rows: Sources = field(default_factory=list)
    needs: Files = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Method(_Entry):
    """One row of the report.

    Args:
        selection: The selection that its student learns from; None for the teacher itself.
        flags: Settings of the `fit` of its student, or without a selection of its teacher.
        places: Where it is trained and tested; `in` in the file.
        order: Whether rows are translated and then selected, or selected in English and then translated.
        needs: Folders of artifacts that its flags read, such as translations for `data.views`.
        export_of: The method whose model this one is, exported anew, or several for the mean of their weights; in the
            place of a training.
        prior: The label prior of that export, as in `export --prior`.
        target: The pseudolabels, made by the exported model, that the priors `em` and `bbse` are estimated on.
    """

    selection: str | None = None
    flags: Flags = field(default_factory=dict)
    places: Annotated[Names, Field(alias="in")] = field(default_factory=lambda: [ENGLISH])
    order: Literal["translate-first", "select-first"] | None = None
    needs: Files = field(default_factory=list)
    export_of: Annotated[list[str], BeforeValidator(_listed)] = field(default_factory=list)
    prior: str | dict[str, float] | None = None
    target: str | None = None

    def __post_init__(self) -> None:
        if self.order is not None and self.selection is None:
            raise ValueError("a selection too, as order is a student's")
        if self.export_of and (self.selection is not None or self.flags or self.needs):
            raise ValueError("no settings of a training beside export_of")
        if not self.export_of and (self.prior is not None or self.target is not None):
            raise ValueError("export_of too, as prior and target are an export's")


@dataclass(frozen=True, kw_only=True)
class Translated(_Entry):
    """How rows are translated.

    Args:
        overlays: Config files merged over `translate.yaml`.
        flags: Settings of `predict`.
    """

    overlays: Files = field(default_factory=list)
    flags: Flags = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Translation(Translated):
    """A place whose rows are translated.

    Args:
        origin: The place whose rows are translated; `from` in the file.
        targets: What the models of this place are tested on; empty for the grid's targets.
    """

    origin: Annotated[str, Field(alias="from")] = ENGLISH
    targets: dict[str, SourceSettings] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TranslatedTarget(Translated):
    """A target that is translated into English.

    Args:
        rows: Its rows.
    """

    rows: Sources


@dataclass(frozen=True, kw_only=True)
class Grid(_Entry):
    """A grid; workflow/paper.yaml and workflow/languages.yaml show the keys of the file.

    `teachers` is the grid whose English teachers this one uses; None where it trains its own.
    """

    out: Annotated[str, AfterValidator(_out)]
    seeds: Seeds
    selections: dict[Name, SelectSettings]
    methods: dict[Name, Method]
    seed_chain: Literal["student", "full"] = "student"
    keep_models: Literal["all", "first"] = "all"
    task: str | TaskFacts | None = None
    raw: Sources = field(default_factory=list)
    pool: Sources = field(default_factory=list)
    gold: dict[Annotated[str, known_key(("train", "dev"))], Sources] = field(default_factory=dict)
    targets: dict[str, SourceSettings] = field(default_factory=dict)
    target_text: Sources = field(default_factory=list)
    translations: dict[Name, Translation] = field(default_factory=dict)
    unions: dict[Name, Names] = field(default_factory=dict)
    translate_test: dict[Name, TranslatedTarget] = field(default_factory=dict)
    overlays: dict[Annotated[str, known_key([*STAGES, "all"])], Files] = field(default_factory=dict)
    trainer: Flags = field(default_factory=dict)
    teacher: Flags = field(default_factory=dict)
    student: Flags = field(default_factory=dict)
    report: dict[Annotated[str, known_key(REPORT_SETTINGS)], Any] = field(default_factory=dict)
    pseudolabels: dict[Name, Pseudolabels] = field(default_factory=dict)
    teachers: Annotated["Grid | None", PlainValidator(_read_file)] = None

    @property
    def places(self) -> list[str]:
        """All places, `en` first."""
        return [ENGLISH, *self.translations, *self.unions, *([TRANSLATE_TEST] if self.translate_test else [])]

    def settings(self, selection: str) -> dict[str, Any]:
        """A selection's settings of `select`."""
        given = self.selections[selection].items()
        return {key: value for key, value in given if key not in ("needs", "pseudolabels")}

    def labels(self, selection: str) -> str:
        """The name of the pseudolabels that a selection reads; empty for the plain ones."""
        return self.selections[selection].get("pseudolabels") or ""

    def own_rows(self, labels: str) -> list[dict[str, Any]]:
        """The rows of pseudolabels that are not the pool's; empty for the pool's."""
        return self.pseudolabels[labels].rows if labels else []

    def needs(self, selection: str) -> set[str]:
        """What a selection reads: `pseudolabels`, `dynamics`, `embeddings`, `target`."""
        settings = self.selections[selection]
        strategy = str(settings.get("strategy", "top"))
        # A user's own strategy lists them as `needs`.
        needs = {*_listed(settings.get("needs")), *(BUILT_IN[strategy].needs if strategy in BUILT_IN else ())}
        if settings.get("class_from") == "last_epoch":
            needs.add("dynamics")
        # A draw by prompt label needs no teacher, unless one of its students learns from the teacher's probabilities.
        by_prompt = strategy == "random" and settings.get("class_from") == "prompt" and not settings.get("agreement")
        students = [method.flags for method in self.methods.values() if method.selection == selection]
        if not by_prompt or any(map(_reads_the_teacher, students)):
            needs.add("pseudolabels")
        return needs

    def any_needs(self, what: str) -> bool:
        """Whether any selection reads `what`."""
        return any(what in self.needs(selection) for selection in self.selections)


def _reads_the_teacher(flags: Mapping[str, Any]) -> bool:
    """Whether a student with these flags requires the teacher's probabilities of its selection."""
    return flags.get("model.synthetic_labels") != "prompt" or any(flags.get(name) for name in WEIGHED_BY_TEACHER)


def read(config: Mapping[str, Any], place: str = "grid") -> Grid:
    """Check a grid.

    Args:
        config: The grid file's content, laid over by what the command line's `--config` says.
        place: What an error calls it.

    Raises:
        InputError: For an unknown key, a name that cannot be a folder's, or a reference to something that is not there.
    """
    raw = _filled_in(config)
    names = [(key, name) for key in NAMED if isinstance(raw.get(key), dict) for name in raw[key]]
    for key, name in names:
        if not isinstance(name, str):  # JSON would make a text of it
            raise InputError(f"{place}: {key}.{name} is {name!r}, expected a text; put it in quotation marks")
    grid = checked(Grid, raw, place, REMEDY)
    try:
        _check_references(grid)
        _check_folders(grid)
        _check_rows(grid)
        _check_teachers(grid)
    except InputError as error:
        raise InputError(f"{place}: {error}") from None
    return grid


def _filled_in(config: Mapping[str, Any]) -> dict[str, Any]:
    """The grid with each `{name}` replaced by what `--config name=...` says, without these further keys."""
    used: set[str] = set()

    def filled(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: filled(entry) for key, entry in value.items()}
        if isinstance(value, list):
            return [filled(entry) for entry in value]
        if value is None or isinstance(value, int | float):
            return value
        text = str(value)  # of a date, too
        for name in re.findall(r"\{(\w+)\}", text):
            if name not in config:
                raise InputError(f"{text}: the grid requires a folder; give it with --config {name}=FOLDER")
            used.add(name)
        return re.sub(r"\{(\w+)\}", lambda match: str(config[match[1]]), text)

    keys = {entry.name for entry in fields(Grid)}
    return {key: value for key, value in filled(config).items() if key in keys or key not in used}


def _check_references(grid: Grid) -> None:
    """Refuse names that nothing in the grid has."""
    for name, translation in grid.translations.items():
        _check_names(f"translations.{name}.from", [translation.origin], [ENGLISH, *grid.translations])
    for name in grid.translations:
        place = name
        for _ in grid.translations:
            place = grid.translations[place].origin if place != ENGLISH else place
        if place != ENGLISH:
            raise InputError(f"translations.{name}.from: leads back to itself; one of them must start from {ENGLISH}")
    for name, members in grid.unions.items():
        _check_names(f"unions.{name}", members, [ENGLISH, *grid.translations])
    for name, method in grid.methods.items():
        _check_names(f"methods.{name}.selection", _listed(method.selection), grid.selections)
        _check_names(f"methods.{name}.in", method.places, grid.places)
        trained = [one for one, other in grid.methods.items() if not other.export_of]
        _check_names(f"methods.{name}.export_of", method.export_of, trained)
        _check_names(f"methods.{name}.target", _listed(method.target), grid.pseudolabels)
    for name, pseudolabels in grid.pseudolabels.items():
        _check_names(f"pseudolabels.{name}.teacher", _listed(pseudolabels.teacher), grid.methods)
    for name, settings in grid.selections.items():
        _check_names(f"selections.{name}.needs", _listed(settings.get("needs")), EVIDENCE)
        _check_names(f"selections.{name}.pseudolabels", _listed(settings.get("pseudolabels")), grid.pseudolabels)
    for name in grid.pseudolabels:
        _check_rounds(grid, name)


def _check_rounds(grid: Grid, first: str) -> None:
    """Refuse pseudolabels of a student that learns from them, directly or by way of others."""
    found, open_ones = set[str](), [first]
    while open_ones:
        teacher = grid.pseudolabels[open_ones.pop()].teacher
        methods = [] if teacher is None else [teacher, *grid.methods[teacher].export_of]
        selections = [one for one in (grid.methods[method].selection for method in methods) if one is not None]
        for labels in {grid.labels(one) for one in selections} - found - {""}:
            if labels == first:
                raise InputError(
                    f"pseudolabels.{first}.teacher: {teacher!r} learns from these pseudolabels; name another method"
                )
            found.add(labels)
            open_ones.append(labels)


def _check_names(place: str, names: Sequence[Any], known: Collection[str]) -> None:
    for name in names:
        if name not in list(known):
            raise InputError(f"{place}: unknown name {shorten(name)}, {closest(str(name), known)}")


def _check_folders(grid: Grid) -> None:
    """Refuse two things that would share a folder, and an order that has no selection to translate."""
    if not grid.methods:
        raise InputError("methods: is empty, expected at least one, such as SRC: {}")
    for key, names, others in (
        ("methods", grid.methods, {*grid.translations, *grid.unions, *grid.translate_test}),
        ("unions", grid.unions, {*grid.translations}),
    ):
        if both := others & {*names}:
            raise InputError(f"{key}.{min(both)}: a place or target has the same name; rename one of them")
    for name, method in grid.methods.items():
        if method.order == "select-first" and any(place in grid.unions for place in method.places):
            raise InputError(
                f"methods.{name}: order select-first in a union {list(grid.unions)}, where there is no one selection "
                "to translate; take the union out of `in`, or the order"
            )
        if method.order == "select-first" and method.selection and grid.own_rows(grid.labels(method.selection)):
            raise InputError(
                f"methods.{name}: order select-first, expected none with a selection whose pseudolabels have rows of "
                "their own, which are read as they are"
            )


def _check_rows(grid: Grid) -> None:
    """Refuse a grid that lacks rows which one of its rules reads."""
    used = {name for method in grid.methods.values() for name in method.places}
    if used & {*grid.translations, *grid.unions}:
        for part in ("train", "dev"):
            if not grid.gold.get(part):
                raise InputError(f"gold.{part}: is missing; translations start from it")
        of_pool = [one for one in grid.selections if not grid.own_rows(grid.labels(one))]
        if not grid.pool and not grid.raw and any(method.selection in of_pool for method in grid.methods.values()):
            raise InputError("pool: is missing; translations start from it, or from `raw`")
    for name in grid.selections:
        others = sorted(grid.needs(name) - {"pseudolabels"})
        if grid.own_rows(grid.labels(name)) and others:
            raise InputError(
                f"selections.{name}: reads {' and '.join(others)} of the pool, expected a strategy that does without, "
                "such as certain, as its pseudolabels are of other rows"
            )
    if grid.any_needs("target") and not grid.target_text:
        raise InputError("target_text: is missing; near_target compares the pool with unlabelled text of the target")


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
