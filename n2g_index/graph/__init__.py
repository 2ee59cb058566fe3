"""Paths, tries, matching and scoring: pure functions on numpy and the standard library."""
