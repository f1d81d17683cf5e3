"""Measurements, each beside its reference in the same run. They are quoted as ratios, and never
tests: ``python -m benchmarks.api``."""
