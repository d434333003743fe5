"""Rows from files, artifacts and the Hub, checked and under the task's names."""
