"""Measurements, as ratios against a peer on the same work in one run: `python -m benchmarks [NAME] [--full]`."""
