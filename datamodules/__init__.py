"""Rows to batches."""

from datamodules.gold import GoldDataModule
from datamodules.mixed import MixedDataModule
from datamodules.pairs import PairsDataModule
from datamodules.pool import PoolDataModule
from datamodules.prompts import PromptDataModule
from datamodules.texts import TextDataModule

__all__ = [
    "GoldDataModule",
    "MixedDataModule",
    "PairsDataModule",
    "PoolDataModule",
    "PromptDataModule",
    "TextDataModule",
]
