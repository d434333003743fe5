"""Reactions to the Trainer's hooks: files, numbers and messages, never a change to the training itself."""

from callbacks.export import ExportBest
from callbacks.resume import Resume
from callbacks.rows import RowWriter
from callbacks.throughput import Throughput

__all__ = ["ExportBest", "Resume", "RowWriter", "Throughput"]
