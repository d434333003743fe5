"""Labelled text in one language and an LLM in, a classifier for a language without labels out.

The folders in here are those beside it in a checkout: `labelbridge.modules` is `modules/`, and so on. Import them under
these names only, so that each class exists once. Importing `labelbridge` itself loads nothing heavy: what `__all__`
names is imported when it is first asked for. `docs/python.md` shows it in use.
"""

import importlib
from typing import TYPE_CHECKING, Any

from .lightning_app import __version__

if TYPE_CHECKING:
    from .callbacks import CartographyCallback, ExportBest
    from .datamodules import Collate, GoldDataModule, MixedDataModule, PoolDataModule
    from .lightning_app.api import clean, read, report, select
    from .lightning_app.core.artifacts import Artifact
    from .lightning_app.core.errors import InputError
    from .lightning_app.core.task import Task
    from .lightning_app.data.readers import Source
    from .lightning_app.evaluation.report import Report
    from .lightning_app.generation.cleaning import Pool
    from .lightning_app.selection.quotas import Choice
    from .lightning_app.selection.select import Selection
    from .lightning_app.selection.strategies import Candidates
    from .modules import ClassifierModule, StudentModule, TeacherModule

__all__ = [
    "Artifact",
    "Candidates",
    "CartographyCallback",
    "Choice",
    "ClassifierModule",
    "Collate",
    "ExportBest",
    "GoldDataModule",
    "InputError",
    "MixedDataModule",
    "Pool",
    "PoolDataModule",
    "Report",
    "Selection",
    "Source",
    "StudentModule",
    "Task",
    "TeacherModule",
    "__version__",
    "clean",
    "read",
    "report",
    "select",
]

# Where each name is defined; a test compares this with the imports above, which type checkers read.
_HOMES = {
    ".callbacks": ("CartographyCallback", "ExportBest"),
    ".datamodules": ("Collate", "GoldDataModule", "MixedDataModule", "PoolDataModule"),
    ".lightning_app.api": ("clean", "read", "report", "select"),
    ".lightning_app.core.artifacts": ("Artifact",),
    ".lightning_app.core.errors": ("InputError",),
    ".lightning_app.core.task": ("Task",),
    ".lightning_app.data.readers": ("Source",),
    ".lightning_app.evaluation.report": ("Report",),
    ".lightning_app.generation.cleaning": ("Pool",),
    ".lightning_app.selection.select": ("Selection",),
    ".lightning_app.selection.quotas": ("Choice",),
    ".lightning_app.selection.strategies": ("Candidates",),
    ".modules": ("ClassifierModule", "StudentModule", "TeacherModule"),
}
_ROOMS = ("callbacks", "datamodules", "lightning_app", "modules")
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a name when it is first asked for (PEP 562)."""
    if name in _ROOMS:
        return importlib.import_module(f".{name}", __name__)
    if name not in _HOME:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    value = getattr(importlib.import_module(_HOME[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """What is in here, imported or not."""
    return sorted({*globals(), *__all__})
