"""Contracts and pure functions: no weights, no Trainer hooks."""

__version__ = "0.1.0"
