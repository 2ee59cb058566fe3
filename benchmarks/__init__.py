"""Measurements: run a module with `python -m benchmarks.NAME`; every one takes --quick and --json."""
