"""Rows in another language: languages, dictionaries, quality gates, and segments put back into rows."""
