"""Trainer hooks to side effects."""

from .averaging import AverageWeights
from .cartography import CartographyCallback
from .export import ExportBest
from .resume import Resume
from .rows import RowWriter
from .throughput import Throughput

__all__ = ["AverageWeights", "CartographyCallback", "ExportBest", "Resume", "RowWriter", "Throughput"]
