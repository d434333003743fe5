"""Rows to batches."""

from .gold import GoldDataModule
from .mixed import MixedDataModule
from .pairs import PairsDataModule
from .pool import PoolDataModule
from .prompts import PromptDataModule
from .texts import TextDataModule

__all__ = [
    "GoldDataModule",
    "MixedDataModule",
    "PairsDataModule",
    "PoolDataModule",
    "PromptDataModule",
    "TextDataModule",
]
