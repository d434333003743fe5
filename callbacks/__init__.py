"""Trainer hooks to side effects."""

from callbacks.cartography import CartographyCallback
from callbacks.export import ExportBest
from callbacks.resume import Resume
from callbacks.rows import RowWriter
from callbacks.throughput import Throughput

__all__ = ["CartographyCallback", "ExportBest", "Resume", "RowWriter", "Throughput"]
