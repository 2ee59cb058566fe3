"""Where do the paths of all neurons lie, ready to be matched against a text?

Folder `paths/` holds the arrays of one `MergedTrie` as plain .npy files. Owners are neuron ids, path ids are
those of the table `paths`, and the root of a path is the model_id of its neuron: the same token id means
another token in another model. All of it is derived from the tables. Opening maps the files and reads
nothing; numpy is imported at the first match, since most commands do without.
"""

from __future__ import annotations

import mmap
from functools import cached_property
from pathlib import Path
from tokenize import TokenError
from typing import TYPE_CHECKING, Any

import duckdb

from n2g_index.errors import IndexIncomplete

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from n2g_index.graph.merged import MergedTrie

_SUFFIX = ".npy"

_MODELS = "select coalesce(max(model_id) + 1, 1) from models"

_PATHS = """
    select neuron_id, path_id, model_id, activation, length
    from paths join neurons using (neuron_id) order by neuron_id, path_id
"""

_TOKENS = """
    with places as (
        select neuron_id, path_id, unnest(tokens) as token, generate_subscripts(tokens, 1) as place from paths
    )
    select token from places order by neuron_id, path_id, place
"""


def build_path_index(db: duckdb.DuckDBPyConnection, folder: Path) -> None:
    """Write the merged trie of the tables in `db` into a new folder.

    Takes about 100 bytes of memory for each position of a path.
    """
    from n2g_index.graph.merged import MergedTrie, PathTable

    ((n_models,),) = db.execute(_MODELS).fetchall()
    rows = db.execute(_PATHS).fetchnumpy()
    table = PathTable(
        owners=rows["neuron_id"],
        path_ids=rows["path_id"],
        activations=rows["activation"],
        lengths=rows["length"].astype("int64"),
        tokens=db.execute(_TOKENS).fetchnumpy()["token"],
    )
    trie = MergedTrie.build(table, rows["model_id"], n_models)
    folder.mkdir()
    for name, array in trie.arrays().items():
        _write_array(folder / (name + _SUFFIX), array)


class PathIndex:
    """An opened path index."""

    def __init__(self, folder: Path) -> None:
        """Map its files; they stay readable when the index is replaced."""
        self._folder = folder
        self._maps = {}
        for file in folder.glob("*" + _SUFFIX):
            with file.open("rb") as opened:
                self._maps[file.stem] = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)

    @cached_property
    def trie(self) -> MergedTrie:
        """The merged trie of all neurons; its pages are read as a match touches them.

        Raises:
            IndexIncomplete: when a file is damaged so far that it is no array.
        """
        from n2g_index.graph.merged import MergedTrie

        try:
            arrays: dict[str, Any] = {name: _mapped_array(file) for name, file in self._maps.items()}
            return MergedTrie(**arrays)
        except (ValueError, TypeError, TokenError) as error:  # the last is numpy's of an odd header
            raise IndexIncomplete(
                f"The path index in {str(self._folder)!r} is damaged: build it again."
            ) from error


def _write_array(file: Path, array: NDArray[Any]) -> None:
    """As `np.save`, which writes past Python's file and so loses the reason why a disk refuses."""
    import numpy as np

    header = np.lib.format.header_data_from_array_1_0(array)
    with file.open("wb") as out:
        np.lib.format.write_array_header_1_0(out, header)
        out.write(np.ascontiguousarray(array).data)


def _mapped_array(file: mmap.mmap) -> NDArray[Any]:
    """The array in a mapped .npy file, without a copy."""
    import numpy as np

    file.seek(0)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("not written by n2g-index")
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    return np.frombuffer(file, dtype, offset=file.tell(), count=shape[0])
