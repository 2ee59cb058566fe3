"""The public surface, and what importing it costs."""

import subprocess
import sys

import n2g_index
from n2g_index import errors
from n2g_index.index import Index


def test_public_names() -> None:
    assert n2g_index.__all__ == ["BuildConfig", "Index", "N2GConfig", "N2GError", "__version__", "open"]
    for name in n2g_index.__all__:
        assert getattr(n2g_index, name) is not None
    assert [name for name in vars(Index) if not name.startswith("_")] == [
        "close", "info", "search", "neuron", "examples", "scores", "sql",
    ]  # fmt: skip


def test_build_stays_what_it_is() -> None:
    """A function `n2g_index.build` would be hidden by the package of that name once it is imported."""
    from n2g_index.build import build

    assert n2g_index.build.build is build


def test_every_error_is_drawn_in_the_tree() -> None:
    kinds = [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, errors.N2GError)]
    assert len(kinds) > 10
    for kind in kinds:
        assert kind.__name__ in (errors.__doc__ or "")
        assert kind.exit_code in (1, 2)


def test_reading_never_imports_what_only_building_needs() -> None:
    heavy = ("torch", "transformers", "transformer_lens", "pyarrow", "pandas", "datasets", "zstandard")
    script = (
        "import sys, n2g_index.index, n2g_index.cli.main, n2g_index.cli.read, n2g_index.render.svg\n"
        f"print([m for m in {heavy!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
