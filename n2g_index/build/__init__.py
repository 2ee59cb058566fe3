"""From a model and a text to an index. Imports torch, but only once a build runs."""

from n2g_index.build.pipeline import BuildSummary, build

__all__ = ["BuildSummary", "build"]
