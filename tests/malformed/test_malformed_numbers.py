"""Numbers of every class and command: each has a range, and what is outside of it is refused before anything is done."""

import inspect
import math
from collections.abc import Callable, Iterator
from typing import Any, get_args

import pytest
from doors import assert_line

from labelbridge import callbacks, datamodules, modules
from labelbridge.lightning_app.annotation.annotate import annotate
from labelbridge.lightning_app.core.errors import InputError
from labelbridge.lightning_app.core.ranges import Range, check_ranges, range_of
from labelbridge.lightning_app.evaluation.report import report
from labelbridge.lightning_app.generation.cleaning import clean
from labelbridge.lightning_app.selection.select import select
from labelbridge.lightning_app.translation.gates import Gates
from labelbridge.modules.corrections import Corrections
from labelbridge.modules.generator import GeneratorModule
from labelbridge.modules.losses import Objective
from labelbridge.modules.schedules import Schedules
from labelbridge.modules.sequence_models import Lora
from labelbridge.modules.sequence_translator import SequenceTranslator
from labelbridge.modules.transformers_generator import TransformersGenerator

# Numbers whose range depends on other things -> on what.
ELSEWHERE = {"frozen_layers": "the network's layers", "quota": "the task's labels", "max_words": "min_words"}
CALLABLES: list[Callable[..., Any]] = [
    *(kind for room in (modules, datamodules, callbacks) for kind in vars(room).values() if inspect.isclass(kind)),
    *(clean, select, annotate, report, Gates, Corrections, Objective, Schedules, Lora),
]


def numbers() -> Iterator[tuple[Callable[..., Any], str, Any]]:
    """Each argument that is a number, or may be one, with its annotation."""
    for called in CALLABLES:
        for name, argument in inspect.signature(called).parameters.items():
            kinds = {argument.annotation, *get_args(argument.annotation)}
            if kinds & {int, float} or range_of(argument.annotation) is not None:
                yield called, name, argument.annotation


NAMED = {f"{called.__name__}.{name}": (called, name, annotation) for called, name, annotation in numbers()}


def test_many_are_looked_at():
    assert len(NAMED) > 60
    assert {
        "StudentModule.temperature",
        "OpenAIGenerator.retries",
        "GoldDataModule.batch_size",
        "Resume.every_minutes",
    } <= {*NAMED}


@pytest.mark.parametrize("place", NAMED)
def test_every_number_has_a_range(place: str):
    _, name, annotation = NAMED[place]
    assert range_of(annotation) is not None or name in ELSEWHERE


@pytest.mark.parametrize("place", [place for place in NAMED if NAMED[place][1] not in ELSEWHERE])
def test_a_number_out_of_its_range(place: str):
    called, name, _ = NAMED[place]
    for value in (math.nan, math.inf, -math.inf, -(10**30), "5", [1]):
        with pytest.raises(InputError) as caught:
            called(**{name: value})
        assert_line(str(caught.value), f"{name} is .*, expected .* <=? {name}")


# Numbers that are refused, and the range in the message.
REFUSED: list[tuple[Callable[..., Any], str, Any, str]] = [
    (SequenceTranslator, "num_beams", 100_000, "model.num_beams is 100000, expected 1 <= num_beams <= 100"),
    (SequenceTranslator, "max_new_tokens", 10**12, "expected 1 <= max_new_tokens <= 1000000"),
    (TransformersGenerator, "top_k", -1, "model.top_k is -1, expected 0 <= top_k"),
    (GeneratorModule, "max_new_tokens", 10**12, "expected 1 <= max_new_tokens <= 1000000"),
    (GeneratorModule, "top_p", 0, "expected 0 < top_p <= 1"),
    (GeneratorModule, "seed", 2**32, "expected 0 <= seed < 4294967296"),
    (modules.StudentModule, "importance_clip", 0, "expected 0 < importance_clip; null turns it off"),
    (datamodules.GoldDataModule, "batch_size", 10**30, "expected 1 <= batch_size <= 1000000000"),
    (datamodules.PromptDataModule, "count", 10**12, "expected 1 <= count <= 100000000"),
    (datamodules.PairsDataModule, "max_length", 10**30, "expected 4 <= max_length <= 1000000"),
    (callbacks.AverageWeights, "start", 1, "average.start is 1, expected 0 <= start < 1; a share of the optimizer"),
    (clean, "semantic_duplicates", -1, "^semantic_duplicates is -1, expected -1 < semantic_duplicates <= 1"),
]


@pytest.mark.parametrize(("called", "name", "value", "said"), REFUSED)
def test_a_plain_number_that_no_run_could_mean(called: Callable[..., Any], name: str, value: Any, said: str):
    with pytest.raises(InputError, match=said):
        called(**{name: value})


def test_a_temperature_that_leaves_float32(task: Any):
    with pytest.raises(InputError, match=r"model.temperature is 1e-30, expected 0.001 or more, or 0"):
        GeneratorModule(task, "m", temperature=1e-30)


def test_ranges_are_checked_however_an_argument_is_given():
    @check_ranges("mine.")
    def half(number: "float | None", whole: Any = 2) -> Any:
        return number, whole

    assert half(None) == (None, 2)
    with pytest.raises(InputError, match="model.top_p is 2, expected 0 < top_p <= 1"):
        Range(above=0, most=1).check("model.top_p", 2)
    with pytest.raises(InputError, match="data.batch_size is 0"):
        datamodules.GoldDataModule(None, None, None, None, False, False, None, 0)


def test_a_setting_may_be_null_and_a_truth_value_is_no_mistake_of_the_range():
    assert range_of(int | None) is None
    Range(least=0, most=1).check("x", None)
