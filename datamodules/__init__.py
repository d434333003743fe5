"""Rows to batches."""

# Imported as a top-level package, every class in here would exist twice, once under either name.
if not __name__.startswith("labelbridge."):
    raise ImportError(f"'{__name__}' is a part of Labelbridge; import it as 'labelbridge.{__name__}'")

from .collate import Collate
from .gold import GoldDataModule
from .mixed import MixedDataModule
from .pairs import PairsDataModule
from .pool import PoolDataModule
from .prompts import PromptDataModule
from .texts import TextDataModule

__all__ = [
    "Collate",
    "GoldDataModule",
    "MixedDataModule",
    "PairsDataModule",
    "PoolDataModule",
    "PromptDataModule",
    "TextDataModule",
]
