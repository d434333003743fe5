"""Trainer hooks to side effects."""

from .cartography import CartographyCallback
from .export import ExportBest
from .finite import StopAtNonFinite
from .resume import Resume
from .rows import RowWriter
from .throughput import Throughput

__all__ = ["CartographyCallback", "ExportBest", "Resume", "RowWriter", "StopAtNonFinite", "Throughput"]
