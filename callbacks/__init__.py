"""Trainer hooks to side effects."""

from .cartography import CartographyCallback
from .export import ExportBest
from .progress import RunProgressBar
from .resume import Resume
from .rows import RowWriter
from .throughput import Throughput

__all__ = ["CartographyCallback", "ExportBest", "Resume", "RowWriter", "RunProgressBar", "Throughput"]
