"""Which stage a Trainer command runs, by the classes of its module and DataModule."""

from collections.abc import Iterable

from .. import stages
from ..core.errors import InputError


def stage_of_run(subcommand: str, module: type, data: type) -> stages.Stage:
    """The row of the table that fits.

    Args:
        subcommand: `fit`, `validate`, `test` or `predict`.
        module: The module's class.
        data: The DataModule's class.

    Raises:
        InputError: If no stage has such a module, or its DataModule is another one.
    """
    stage = stages.of_module(subcommand, module.__mro__)
    if stage is None:
        commands = stages.commands_of_module(module.__mro__)
        if commands:
            raise InputError(f"model.class_path {module.__name__}: has no {subcommand}, only {' and '.join(commands)}")
        raise InputError(
            f"model.class_path {module.__name__}: not the module of a stage, expected a subclass of one of "
            f"{_names(path for row in stages.STAGES if row.command == subcommand for path in row.modules)}"
        )
    of_data = stages.stages_of_data(data.__mro__)
    served = dict.fromkeys(row.command for row in of_data)
    if of_data and subcommand not in served:
        raise InputError(
            f"data.class_path {data.__name__}: has no rows for {subcommand}, only for {' and '.join(served)}; begin "
            "with a file of that stage, see python main.py --help"
        )
    if stage not in of_data:
        raise InputError(
            f"data.class_path {data.__name__}: not a DataModule of stage '{stage.name}', expected {_names(stage.data)} "
            f"or a subclass; begin with {stage.config}"
        )
    return stage


def _names(paths: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(path.rpartition(".")[2] for path in paths))
