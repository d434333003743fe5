"""Rows to batches."""

from datamodules.gold import GoldDataModule
from datamodules.mixed import MixedDataModule
from datamodules.pool import PoolDataModule

__all__ = ["GoldDataModule", "MixedDataModule", "PoolDataModule"]
