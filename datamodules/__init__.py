"""Rows to batches."""

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
