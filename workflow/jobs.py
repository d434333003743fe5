"""The jobs of a grid: what each rule of the Snakefile reads, and the one command that it runs.

Snakemake sees manifests only: it removes a rule's outputs before a rerun, and the stages resume from everything else in
their folders.
"""

import glob
import json
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from labelbridge.lightning_app.models.locate import CARD_FACTS

from .grid import ENGLISH, TRAINER_STAGES, TRANSLATE_TEST, Grid, Translated

MAIN = (sys.executable, "main.py")
Made = TypeVar("Made")


def from_wildcards(make: Callable[..., Made]) -> Callable[[Any], Made]:
    """A job's function as Snakemake calls it: the place and the pseudolabels by name, the seed as a number."""

    def call(wildcards: Any) -> Made:
        named: dict[str, Any] = dict(wildcards.items())
        if "place" in named:
            named["place"] = named["place"].rstrip("/") or ENGLISH
        if "seed" in named:
            named["seed"] = int(named["seed"])
        if "labels" in named:
            named["labels"] = named["labels"].removeprefix("-")
        return make(**named)

    return call


def manifest(folder: str) -> str:
    """The file that says that a folder is complete."""
    return f"{folder}/_manifest.json"


def flags(settings: Mapping[str, Any]) -> list[str]:
    """Settings as words of a command line; a list or map is written as JSON."""
    words = []
    for key, value in settings.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        words += [f"--{key}", text] if text and not text.startswith("-") else [f"--{key}={text}"]
    return words


class Jobs:
    """Inputs and commands of a grid's rules, and the folders they write to.

    Places, methods, selections, languages and targets are given by their names in the grid.
    """

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.out = grid.out
        self.teachers = self if grid.teachers is None else Jobs(grid.teachers)
        # With raw generations in the grid, the pool is what `clean` makes of them.
        self.cleaned = [manifest(f"{self.out}/clean")] if grid.raw else []
        self.tests = [
            manifest(self._test(place, name, seed))
            for name, method in grid.methods.items()
            for place in method.places
            for seed in grid.seeds
        ]

    # Inputs

    def inputs_of_translate(self, language: str, part: str) -> list[str]:
        """A translation may start from another one: English -> Hindi -> Hinglish."""
        return self._rows_made(self.grid.translations[language].origin, part)

    def inputs_of_translate_selection(self, language: str, selection: str, seed: int) -> list[str]:
        """The selection in the language that the translation starts from."""
        return [manifest(self._selected_in(self.grid.translations[language].origin, selection, seed))]

    def inputs_of_teacher(self, place: str, seed: int) -> list[str]:
        """The place's gold, and its pool where the pool's training dynamics will be looked at."""
        if self._shares(place):
            return self.teachers.inputs_of_teacher(place, seed)
        pool = self._rows_made(place, "pool") if self._is_scored(seed) else []
        return [*self._gold_made(place), *pool]

    def inputs_of_own_teacher(self, place: str, method: str, seed: int) -> list[str]:
        """The place's gold, and what the method's settings read."""
        return [*self._gold_made(place), *map(manifest, self.grid.methods[method].needs)]

    def inputs_of_pseudolabel(self, place: str, labels: str, seed: int) -> list[str]:
        """A teacher, a pool, and what the settings read."""
        needs = self.grid.pseudolabels[labels].needs if labels else []
        pool = [] if self.grid.own_rows(labels) else self._rows_made(place, "pool")
        return [self._labelling(place, labels, seed)[1], *pool, *map(manifest, needs)]

    def inputs_of_embed(self, place: str) -> list[str]:
        """A pool."""
        return self._rows_made(place, "pool")

    def inputs_of_select(self, place: str, selection: str, seed: int) -> list[str]:
        """A pool, and what the strategy looks at."""
        evidence = [
            manifest(folder.removesuffix("/dynamics")) for folder in self._evidence(place, selection, seed).values()
        ]
        pool = [] if self.grid.own_rows(self.grid.labels(selection)) else self._rows_made(place, "pool")
        return [*pool, *evidence]

    def inputs_of_student(self, place: str, method: str, seed: int) -> list[str]:
        """The place's gold, a selection, and what the method's settings read."""
        selection = manifest(self._selection(place, method, seed))
        return [*self._gold_made(place), selection, *map(manifest, self.grid.methods[method].needs)]

    def inputs_of_export(self, place: str, method: str, seed: int) -> list[str]:
        """The models of other methods, and predictions for unlabelled text of the target."""
        own = self.grid.methods[method]
        target = [] if own.target is None else [manifest(self._pseudolabels(place, own.target, seed))]
        return [*(self._complete(place, one, seed) for one in own.export_of), *target]

    def inputs_of_test(self, place: str, method: str, seed: int) -> list[str]:
        """A model, and translated targets where they are what it is tested on."""
        targets = self.grid.translate_test if place == TRANSLATE_TEST else {}
        return [
            self._complete(place, method, seed),
            *(manifest(f"{self.out}/{TRANSLATE_TEST}/{target}") for target in targets),
        ]

    # Commands

    def clean(self) -> str:
        """Raw generations to the pool."""
        return self._command("clean", f"{self.out}/clean", {"raw": self.grid.raw})

    def translate(self, language: str, part: str) -> str:
        """Gold or pool into another language."""
        translation = self.grid.translations[language]
        column = "prompt_label" if part == "pool" else "label"
        rows = {"data.rows": self._rows(translation.origin, part), "data.label_column": column}
        return self._translation(translation, f"{self._folder(language)}/{part}", {**translation.flags, **rows})

    def translate_selection(self, language: str, selection: str, seed: int) -> str:
        """A selection made in English into another language."""
        translation = self.grid.translations[language]
        rows = {"path": self._selected_in(translation.origin, selection, seed)}
        settings = {**translation.flags, "data.label_column": "prompt_label", "data.rows": rows}
        return self._translation(translation, self._selected_in(language, selection, seed), settings)

    def translate_target(self, target: str) -> str:
        """A target into English. No row of a test set may be lost, so rows that fail a gate stay, marked."""
        translation = self.grid.translate_test[target]
        first = {"setting": TRANSLATE_TEST, "data.failing": "keep"}
        settings = {**first, **translation.flags, "data.rows": translation.rows}
        return self._translation(translation, f"{self.out}/{TRANSLATE_TEST}/{target}", settings)

    def teacher(self, place: str, seed: int) -> str:
        """The teacher of a place, with the training dynamics of the pool where they will be looked at."""
        if self._shares(place):
            return self.teachers.teacher(place, seed)
        pool = self._pool(place, "data.pool") if self._is_scored(seed) else {}
        settings = {**self._fit_settings("teacher", place), "seed_everything": seed, **pool}
        return self._command("fit", self._teacher(place, seed), settings, "teacher")

    def own_teacher(self, place: str, method: str, seed: int) -> str:
        """The teacher of a method without a selection that has settings of its own."""
        settings = {**self._fit_settings("teacher", place), "seed_everything": seed, "method": method}
        settings.update(self.grid.methods[method].flags)
        return self._command("fit", self._model(place, method, seed), settings, "teacher")

    def pseudolabel(self, place: str, labels: str, seed: int) -> str:
        """The teacher's probabilities for the pool."""
        model = f"{self._labelling(place, labels, seed)[0]}/model"
        flags = self.grid.pseudolabels[labels].flags if labels else {}
        shared = self._frozen_cache(flags)
        pool = self._labelled(place, labels, "data.pool")
        settings = {**pool, "model.model": model, **shared, **flags}
        return self._command("predict", self._pseudolabels(place, labels, seed), settings, "pseudolabel")

    def embed(self, place: str) -> str:
        """The pool's embeddings."""
        return self._command("predict", f"{self._folder(place)}/embed", self._pool(place, "data.pool"), "embed")

    def embed_target(self) -> str:
        """Embeddings of unlabelled target text."""
        settings = {"data.pool": self.grid.target_text, "data.prompt_labels": False}
        return self._command("predict", f"{self.out}/embed_target", settings, "embed")

    def select(self, place: str, selection: str, seed: int) -> str:
        """A selection from the place's pool."""
        settings = {
            **self._labelled(place, self.grid.labels(selection), "pool"),
            "pseudolabels": None,
            **self._evidence(place, selection, seed),
            "seed": seed,
            **self.grid.settings(selection),
        }
        return self._command("select", f"{self._folder(place)}/select/{selection}/seed{seed}", settings)

    def student(self, place: str, method: str, seed: int) -> str:
        """The student of a method."""
        settings = {
            **self._fit_settings("student", place),
            "seed_everything": seed,
            "method": method,
            "data.selection": self._selection(place, method, seed),
            **self.grid.methods[method].flags,
        }
        return self._command("fit", self._model(place, method, seed), settings, "student")

    def export(self, place: str, method: str, seed: int) -> str:
        """A model of another method, exported anew, or the mean of several."""
        own = self.grid.methods[method]
        models = [f"{self._model(place, one, seed)}/model" for one in own.export_of]
        settings = {
            **({"model": models[0]} if len(models) == 1 else {"average": models}),
            "out": f"{self._model(place, method, seed)}/model",
            "overwrite": True,  # an export that was cut short is nothing to go on with
            "prior": own.prior,
            "target": None if own.target is None else self._pseudolabels(place, own.target, seed),
        }
        given = {key: value for key, value in settings.items() if value is not None}
        return shlex.join([*MAIN, "export", *flags(given)])

    def test(self, place: str, method: str, seed: int) -> str:
        """A model on the place's targets."""
        shared = self._frozen_cache(self.grid.methods[method].flags)
        named = {"method": method} if self.grid.methods[method].export_of else {}  # an export keeps the other's name
        model = {"model.model": f"{self._model(place, method, seed)}/model"}
        settings = {**model, **named, **shared, **self._targets(place)}
        return self._command("test", self._test(place, method, seed), settings, "test")

    def after_test(self, place: str, method: str, seed: int) -> str:
        """With `keep_models: first`, the removal of a later seed's weights: nothing else reads them."""
        if self.grid.keep_models == "all" or self.grid.seed_chain == "full" or seed == self.grid.seeds[0]:
            return ""
        if self._is_read_again(place, method):
            return ""
        return f"&& rm -r {shlex.quote(self._model(place, method, seed) + '/model')}"

    def report(self) -> str:
        """The tables of all tests."""
        # `report` takes patterns, in which brackets of a method's name would match other folders.
        runs = [glob.escape(test.removesuffix("/_manifest.json")) for test in self.tests]
        words = [*MAIN, "report", "--out", f"{self.out}/report", *flags({"runs": runs, **self.grid.report})]
        return shlex.join(words)

    # Folders

    def _folder(self, place: str) -> str:
        return self.out if place == ENGLISH else f"{self.out}/{place}"

    def _shares(self, place: str) -> bool:
        """Whether the teacher of a place is another grid's."""
        return place == ENGLISH and self.grid.teachers is not None

    def _teacher(self, place: str, seed: int) -> str:
        if self._shares(place):
            return self.teachers._teacher(place, seed)
        return f"{self._folder(place)}/teacher/seed{seed}"

    def _pseudolabels(self, place: str, labels: str, seed: int) -> str:
        return f"{self._folder(place)}/pseudolabel{'-' if labels else ''}{labels}/seed{seed}"

    def _labelling(self, place: str, labels: str, seed: int) -> tuple[str, str]:
        """The run whose model gives pseudolabels, and the file that says that it is complete."""
        teacher = self.grid.pseudolabels[labels].teacher if labels else None
        if teacher is None:
            folder = self._teacher(place, seed)
            return folder, manifest(folder)
        return self._model(place, teacher, seed), self._complete(place, teacher, seed)

    def _model(self, place: str, method: str, seed: int) -> str:
        """The folder of a method's model: SRC is the teacher itself, or another one if it has flags."""
        place = ENGLISH if place == TRANSLATE_TEST else place
        own = self.grid.methods[method]
        if own.selection is None and not own.flags and not own.export_of:
            return self._teacher(place, seed)
        stage = "student" if own.selection is not None else "export" if own.export_of else "teacher"
        return f"{self._folder(place)}/{method}/seed{seed}/{stage}"

    def _complete(self, place: str, method: str, seed: int) -> str:
        """The file that says that a method's model is complete."""
        folder = self._model(place, method, seed)
        return f"{folder}/model/{CARD_FACTS}" if self.grid.methods[method].export_of else manifest(folder)

    def _is_read_again(self, place: str, method: str) -> bool:
        """Whether a model of a later seed has a reader beside this test: an export, another test, another grid."""
        seed = self.grid.seeds[0]
        model = self._model(place, method, seed)
        methods = self.grid.methods.items()
        tests = [name for name, one in methods for other in one.places if self._model(other, name, seed) == model]
        of_another = self._shares(place) and model == self._teacher(place, seed)
        return len(tests) > 1 or of_another or any(method in one.export_of for _, one in methods)

    def _test(self, place: str, method: str, seed: int) -> str:
        return f"{self._folder(place)}/{method}/seed{seed}/test"

    def _selection(self, place: str, method: str, seed: int) -> str:
        """A student's selection: made from its place's pool, or in English and then translated."""
        selection = self.grid.methods[method].selection
        assert selection is not None, "a student has a selection"
        seed = self._chain_seed(seed)
        if self.grid.methods[method].order == "select-first":
            return self._selected_in(place, selection, seed)
        return f"{self._folder(place)}/select/{selection}/seed{seed}"

    def _selected_in(self, place: str, selection: str, seed: int) -> str:
        """An English selection in the language of a place."""
        between = "select" if place == ENGLISH else "selected"
        return f"{self._folder(place)}/{between}/{selection}/seed{seed}"

    # Rows

    def _rows(self, place: str, part: str) -> list[dict[str, Any]]:
        """The sources of a place's gold or pool; translations keep ids, so a union adds a prefix."""
        if place in self.grid.translations:
            return [{"path": f"{self._folder(place)}/{part}"}]
        if place in self.grid.unions:
            return [
                {**source, "id_prefix": f"{member}/"}
                for member in self.grid.unions[place]
                for source in self._rows(member, part)
            ]
        rows = self.grid.pool if part == "pool" else self.grid.gold.get(part, [])
        if part == "pool" and self.cleaned:
            rows = [{"path": f"{self.out}/clean"}]
        return rows

    def _rows_made(self, place: str, part: str) -> list[str]:
        """The manifests that must be there before a place's rows can be read."""
        if place in self.grid.translations:
            return [manifest(f"{self._folder(place)}/{part}")]
        if place in self.grid.unions:
            return [file for member in self.grid.unions[place] for file in self._rows_made(member, part)]
        return self.cleaned if part == "pool" else []

    def _gold_made(self, place: str) -> list[str]:
        return [*self._rows_made(place, "train"), *self._rows_made(place, "dev")]

    def _pool(self, place: str, key: str) -> dict[str, Any]:
        """A place's pool under a stage's name for it; without any, the stage's configuration has one."""
        rows = self._rows(place, "pool")
        return {key: rows} if rows else {}

    def _labelled(self, place: str, labels: str, key: str) -> dict[str, Any]:
        """The rows that pseudolabels are of, under a stage's name for them: the place's pool, or rows of their own."""
        own = self.grid.own_rows(labels)
        return {key: own} if own else self._pool(place, key)

    def _targets(self, place: str) -> dict[str, Any]:
        """The targets of a place; without any, the configuration of `test` has some."""
        if place == TRANSLATE_TEST:
            made = {name: {"path": f"{self.out}/{place}/{name}"} for name in self.grid.translate_test}
            return {"setting": TRANSLATE_TEST, "data.targets": made}
        translation = self.grid.translations.get(place)
        targets = (translation.targets if translation is not None else {}) or self.grid.targets
        return {"data.targets": targets} if targets else {}

    def _evidence(self, place: str, selection: str, seed: int) -> dict[str, str]:
        """What a selection looks at, under its setting in `select`."""
        needs = self.grid.needs(selection)
        folders = {
            "pseudolabels": (
                "pseudolabels" in needs,
                self._pseudolabels(place, self.grid.labels(selection), seed),
            ),
            "dynamics": ("dynamics" in needs, f"{self._teacher(place, seed)}/dynamics"),
            # Where one selection needs embeddings all of the pool get them: then each reports its diversity.
            "embeddings": (
                self.grid.any_needs("embeddings") and not self.grid.own_rows(self.grid.labels(selection)),
                f"{self._folder(place)}/embed",
            ),
            "target_embeddings": ("target" in needs, f"{self.out}/embed_target"),
        }
        return {setting: folder for setting, (is_read, folder) in folders.items() if is_read}

    # Settings

    def _command(self, command: str, out: str, settings: Mapping[str, Any], stage: str | None = None) -> str:
        """One command, every word quoted. `stage` names the config file, if it is not the command's name."""
        name = stage or command
        task = {} if self.grid.task is None else {"task": self.grid.task}
        return shlex.join([*MAIN, command, *_configs(self._configs(name)), "--out", out, *flags({**task, **settings})])

    def _translation(self, translation: Translated, out: str, settings: Mapping[str, Any]) -> str:
        task = {} if self.grid.task is None else {"task": self.grid.task}
        configs = _configs([*self._configs("translate"), *translation.overlays])
        return shlex.join([*MAIN, "predict", *configs, "--out", out, *flags({**task, **settings})])

    def _configs(self, stage: str) -> list[str]:
        """The stage's config file, and those that the grid merges over it."""
        for_all = self.grid.overlays.get("all", []) if stage in TRAINER_STAGES else []
        return [f"{stage}.yaml", *self.grid.overlays.get(stage, []), *for_all]

    def _fit_settings(self, stage: str, place: str) -> dict[str, Any]:
        """Settings of all fits, those of the stage, and the place's gold."""
        of_stage = self.grid.teacher if stage == "teacher" else self.grid.student
        gold = {f"data.{part}": rows for part in ("train", "dev") if (rows := self._rows(place, part))}
        setting = {} if place == ENGLISH else {"setting": self._setting(place)}
        return {**self.grid.trainer, **of_stage, **gold, **setting}

    def _frozen_cache(self, flags: Mapping[str, Any]) -> dict[str, Any]:
        """Let a model's predictions share the outputs of the layers that were frozen in its fit."""
        settings = {**self.grid.trainer, **flags}
        names = ("model.frozen_layers", "model.frozen_cache")
        is_shared = settings.get("model.frozen_cache") is not None and "model.model" not in flags
        return {name: settings[name] for name in names} if is_shared else {}

    def _setting(self, place: str) -> str:
        """The setting's name in the report, with the place where two places are tested on the same targets."""
        unions, translations = self.grid.unions, self.grid.translations
        name, alike = ("translate-train-all", unions) if place in unions else ("translate-train", translations)
        if len(alike) == 1:
            return name
        targets = [set(translations[one].targets) if one in translations else set() for one in alike]
        are_different = all(targets) and len(set().union(*targets)) == sum(map(len, targets))
        return name if are_different else f"{name}, {place}"

    def _chain_seed(self, seed: int) -> int:
        """The seed of teacher and selection: the first, unless the grid asks for a full chain."""
        return seed if self.grid.seed_chain == "full" else self.grid.seeds[0]

    def _is_scored(self, seed: int) -> bool:
        """Whether a teacher's training dynamics will be looked at: only those of the seed that selects."""
        return self.grid.any_needs("dynamics") and seed == self._chain_seed(seed)


def _configs(files: Sequence[str]) -> list[str]:
    return [word for file in files for word in ("--config", file)]
