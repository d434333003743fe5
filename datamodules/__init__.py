"""Rows to batches."""

from datamodules.gold import GoldDataModule
from datamodules.mixed import MixedDataModule
from datamodules.pool import PoolDataModule
from datamodules.prompts import PromptDataModule

__all__ = ["GoldDataModule", "MixedDataModule", "PoolDataModule", "PromptDataModule"]
