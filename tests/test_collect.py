"""Does collecting find exactly what brute force over every window finds?

`exact` is a model whose activations are exact in floating point however they are batched: each depends on
its token alone and is one product, so equal tokens tie to the last bit. `embedded` is a real one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

from n2g_index.build.collect import DENSITY_WINDOWS, LayerActivity, collect
from n2g_index.build.corpus import Skipped, read_documents
from n2g_index.build.models.transformer_lens import TransformerLensModel, load_target
from n2g_index.build.windows import Windows, cut_windows
from n2g_index.resources import embedded_corpus, embedded_model

D_MODEL, D_MLP, LAYERS = 16, 24, (0, 1)


def exact_folder(folder: Path, nan: tuple[int, int] | None = None) -> Path:
    """Write the exact model, with a NaN among the weights of one (layer, neuron)."""
    torch.manual_seed(3)
    config = GPT2Config(
        vocab_size=6144,
        n_positions=32,
        n_embd=D_MODEL,
        n_inner=D_MLP,
        n_layer=2,
        n_head=2,
        activation_function="relu",
        bos_token_id=0,
        eos_token_id=0,
        initializer_range=1.0,
    )
    model = GPT2LMHeadModel(config)
    with torch.no_grad():
        model.transformer.wpe.weight.zero_()
        for layer, block in enumerate(model.transformer.h):
            block.attn.c_proj.weight.zero_()
            block.mlp.c_proj.weight.zero_()
            block.mlp.c_fc.weight.zero_()
            for neuron in range(D_MLP):  # each reads one direction
                block.mlp.c_fc.weight[(neuron + layer) % D_MODEL, neuron] = 2.0 ** (neuron % 3)
            block.mlp.c_fc.bias[20] = -5.0  # positive on few tokens: the other windows tie at 0
            block.mlp.c_fc.bias[21] = -99.0  # never fires
            block.mlp.c_fc.weight[:, 22] = 0
            block.mlp.c_fc.bias[22] = 0.75  # the same on every token: all windows tie
            if nan is not None and nan[0] == layer:
                block.mlp.c_fc.weight[0, nan[1]] = float("nan")
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(embedded_model()).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> TransformerLensModel:
    return load_target(str(exact_folder(tmp_path_factory.mktemp("exact"))), device="cpu")


def random_windows(count: int, length: int, *, seed: int = 0) -> Windows:
    """Windows over 30 tokens only, so that many share their strongest token."""
    tokens = np.random.default_rng(seed).integers(10, 40, (count, length)).astype(np.int32)
    return as_windows(tokens)


def as_windows(tokens: NDArray[np.int32]) -> Windows:
    count = len(tokens)
    return Windows(
        tokens=tokens,
        corpus=("corpus",) * count,
        source=("document",) * count,
        start=np.arange(count, dtype=np.int64) * tokens.shape[1],
        joins=((),) * count,
        n_documents=1,
        n_tokens=tokens.size,
        n_duplicates=0,
    )


def everything(model: TransformerLensModel, layer: int, windows: Windows) -> NDArray[np.float32]:
    """The neurons of a layer at every token of every window, one window at a time."""
    rows = [model.activations(layer, row[None])[0].numpy() for row in windows.tokens]
    return np.stack(rows).astype(np.float32)


def run(
    model: TransformerLensModel, windows: Windows, scratch: Path, *, k: int = 5, batch_tokens: int = 64
) -> dict[int, LayerActivity]:
    found = collect(
        model,
        windows,
        range(model.info.n_layers),
        top=k,
        firing_threshold=0.5,
        scratch=scratch,
        batch_tokens=batch_tokens,
    )
    return dict(found)


def top_rows(activity: LayerActivity) -> NDArray[np.float32]:
    """Token-level activations of the chosen windows, [K, d_mlp, window]."""
    neurons = np.arange(activity.rows.shape[0])
    rows: NDArray[np.float32] = np.array(activity.rows[neurons, activity.slot])
    return rows


def assert_close(found: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    """Equal to float tolerance."""
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def brute_force(full: NDArray[np.float32], k: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Per neuron the top k windows by falling maximum, earlier first on ties: ids, values, rows."""
    largest = full.max(axis=1)
    ids = np.array([sorted(range(len(largest)), key=lambda w: (-largest[w, n], w))[:k] for n in range(D_MLP)])
    values = np.array([largest[ids[n], n] for n in range(D_MLP)])
    rows = np.array([full[ids[n], :, n] for n in range(D_MLP)])
    return ids.T, values.T, rows.transpose(1, 0, 2)


@pytest.mark.parametrize("batch_tokens", [1, 27, 64, 10_000])
def test_top_windows_are_those_of_brute_force_with_ties_to_the_earlier(
    exact: TransformerLensModel, tmp_path: Path, batch_tokens: int
) -> None:
    windows = random_windows(60, 8)
    found = run(exact, windows, tmp_path, batch_tokens=batch_tokens)
    assert list(found) == [0, 1]
    ties = 0
    for layer, activity in found.items():
        full = everything(exact, layer, windows)
        ids, values, rows = brute_force(full, 5)
        np.testing.assert_array_equal(activity.top_window, ids)
        np.testing.assert_array_equal(activity.top_value, values)
        np.testing.assert_array_equal(top_rows(activity), rows)
        np.testing.assert_array_equal(activity.max_activation, full.max(axis=(0, 1)))
        np.testing.assert_allclose(activity.mean, full.mean(axis=(0, 1), dtype=np.float64), rtol=1e-12)
        fires = (full >= 0.5 * full.max(axis=(0, 1))) & (full.max(axis=(0, 1)) > 0)
        np.testing.assert_array_equal(activity.density, fires.mean(axis=(0, 1)))
        assert activity.finite.all()
        assert activity.top_window[:, 22].tolist() == [0, 1, 2, 3, 4]  # the same everywhere
        ties += int((np.diff(values, axis=0) == 0).sum())
    assert ties > 50  # the test is about them


def test_no_window_is_an_example_twice(exact: TransformerLensModel, tmp_path: Path) -> None:
    # Every token of a window is the neuron's strongest: still one example.
    tokens = np.repeat(np.arange(10, 26, dtype=np.int32)[:, None], 8, axis=1)
    for activity in run(exact, as_windows(tokens), tmp_path).values():
        distinct = [len(set(activity.top_window[:, neuron].tolist())) for neuron in range(D_MLP)]
        assert distinct == [5] * D_MLP


def test_an_equally_strong_later_window_never_displaces_an_earlier(
    exact: TransformerLensModel, tmp_path: Path
) -> None:
    # Each group of four windows has the same strongest token for every neuron, in another place.
    base = np.random.default_rng(4).integers(10, 40, (6, 8)).astype(np.int32)
    tokens = np.concatenate([np.roll(base, shift, axis=1) for shift in range(4)])
    windows = as_windows(tokens)
    for layer, activity in run(exact, windows, tmp_path, k=6, batch_tokens=40).items():
        ids, values, rows = brute_force(everything(exact, layer, windows), 6)
        np.testing.assert_array_equal(activity.top_window, ids)
        np.testing.assert_array_equal(activity.top_value, values)
        np.testing.assert_array_equal(top_rows(activity), rows)


def test_examples_are_the_windows_in_which_the_neuron_is_positive(
    exact: TransformerLensModel, tmp_path: Path
) -> None:
    windows = random_windows(60, 8)
    activity = run(exact, windows, tmp_path, k=40)[0]
    full = everything(exact, 0, windows)
    ids, values, _ = brute_force(full, 40)
    for neuron in range(D_MLP):
        expected = [
            (
                neuron,
                rank,
                w,
                windows.tokens[w].tolist(),
                int(full[w, :, neuron].argmax()),
                full[w, :, neuron],
            )
            for rank, w in enumerate(ids[:, neuron].tolist())
            if values[rank, neuron] > 0
        ]
        found = [
            (e.neuron, e.rank, e.window_id, e.tokens.tolist(), e.pivot, e.activations)
            for e in activity.examples(neuron, windows)
        ]
        assert [f[:5] for f in found] == [e[:5] for e in expected]
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_array_equal(ours[5], theirs[5])
    assert activity.examples(21, windows) == []
    assert 0 < len(activity.examples(20, windows)) < 40


def test_fewer_windows_than_asked_for_are_all_kept(exact: TransformerLensModel, tmp_path: Path) -> None:
    windows = random_windows(3, 8)
    for layer, activity in run(exact, windows, tmp_path, k=20).items():
        ids, values, rows = brute_force(everything(exact, layer, windows), 3)
        np.testing.assert_array_equal(activity.top_window, ids)
        np.testing.assert_array_equal(activity.top_value, values)
        np.testing.assert_array_equal(top_rows(activity), rows)
        assert activity.rows.shape == (D_MLP, 3, 8)


def test_density_in_a_large_corpus_is_exact_for_rare_neurons_and_sampled_for_others(
    exact: TransformerLensModel, tmp_path: Path
) -> None:
    tokens = random_windows(2 * DENSITY_WINDOWS + 40, 4).tokens
    vocabulary = np.arange(3, 6144, dtype=np.int32)[:, None]
    rare = vocabulary[exact.activations(0, vocabulary)[:, 0, 20].argmax()]
    sample = np.linspace(0, len(tokens) - 1, DENSITY_WINDOWS).astype(np.int64)
    unsampled = np.setdiff1d(np.arange(len(tokens)), sample)
    tokens[unsampled[[3, 40, 200]], 2] = rare  # neuron 20 fires on nothing else
    windows = as_windows(tokens)
    activity = run(exact, windows, tmp_path, k=5, batch_tokens=500)[0]
    full = everything(exact, 0, windows)
    bar = 0.5 * full.max(axis=(0, 1))
    fires = (full >= bar) & (bar > 0)
    _, values, rows = brute_force(full, 5)
    in_top = (rows >= bar[:, None]).sum(axis=(0, 2)) / tokens.size
    sampled = fires[sample].mean(axis=(0, 1))
    expected = np.where(values[-1] < bar, fires.mean(axis=(0, 1)), np.maximum(in_top, sampled))
    np.testing.assert_allclose(activity.density, np.where(bar > 0, expected, 0), rtol=1e-12)
    assert (activity.density[20], sampled[20]) == (3 / tokens.size, 0)
    np.testing.assert_allclose(activity.mean, full.mean(axis=(0, 1), dtype=np.float64), rtol=1e-12)


def test_progress_counts_windows(exact: TransformerLensModel, tmp_path: Path) -> None:
    done: list[int] = []
    collect(
        exact,
        random_windows(10, 8),
        (1,),
        top=2,
        firing_threshold=0.5,
        scratch=tmp_path,
        batch_tokens=36,
        on_progress=done.append,
    )
    assert done == [4, 8, 10]


def test_one_layer_alone_gives_what_it_gives_among_all(exact: TransformerLensModel, tmp_path: Path) -> None:
    windows = random_windows(40, 8)
    both = run(exact, windows, tmp_path)
    alone = collect(exact, windows, (1,), top=5, firing_threshold=0.5, scratch=tmp_path, batch_tokens=64)
    assert list(alone) == [1]
    for name in ("top_window", "top_value", "mean", "density", "finite"):
        np.testing.assert_array_equal(getattr(alone[1], name), getattr(both[1], name))


@pytest.mark.parametrize(
    ("nan", "broken"),
    [((1, 3), {(1, 3)}), ((0, 3), {(0, 3), *((1, neuron) for neuron in range(D_MLP))})],
)
def test_nan_marks_the_neurons_it_reaches_and_no_other(
    nan: tuple[int, int], broken: set[tuple[int, int]], exact: TransformerLensModel, tmp_path: Path
) -> None:
    model = load_target(str(exact_folder(tmp_path / "model", nan)), device="cpu")
    windows = random_windows(20, 8)
    healthy = run(exact, windows, tmp_path)
    spoiled = run(model, windows, tmp_path / "model")
    for layer, activity in spoiled.items():
        well = np.array([(layer, neuron) not in broken for neuron in range(D_MLP)])
        np.testing.assert_array_equal(activity.finite, well)
        np.testing.assert_array_equal(activity.top_window[:, well], healthy[layer].top_window[:, well])
        np.testing.assert_array_equal(activity.top_value[:, well], healthy[layer].top_value[:, well])
        assert [activity.examples(neuron, windows) for neuron in np.flatnonzero(~well).tolist()] == [[]] * (
            ~well
        ).sum()


@pytest.fixture(scope="module")
def corpus(embedded: TransformerLensModel) -> Windows:
    """Sixty windows of the embedded corpus."""
    documents = read_documents((str(embedded_corpus()),), skipped=Skipped())
    return cut_windows(documents, embedded.encode, length=40, separator=0, max_tokens=60 * 40)


def test_a_real_model_agrees_with_brute_force_and_with_itself(
    embedded: TransformerLensModel, corpus: Windows, tmp_path: Path
) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    small.mkdir()
    large.mkdir()
    one = run(embedded, corpus, small, k=10, batch_tokens=200)
    other = run(embedded, corpus, large, k=10, batch_tokens=1500)
    for layer in range(4):
        full = everything(embedded, layer, corpus)
        largest = full.max(axis=1)
        activity = one[layer]
        assert_close(activity.top_value, -np.sort(-largest, axis=0)[:10])
        chosen = np.take_along_axis(largest, activity.top_window, axis=0)
        assert_close(chosen, activity.top_value)
        neurons = np.arange(embedded.info.d_mlp)
        theirs = full[activity.top_window, :, neurons]
        assert_close(top_rows(activity), theirs)
        assert all(len(set(column)) == 10 for column in activity.top_window.T.tolist())
        np.testing.assert_allclose(
            activity.mean, full.mean(axis=(0, 1), dtype=np.float64), rtol=1e-4, atol=1e-6
        )
        fires = (full >= 0.5 * full.max(axis=(0, 1))).mean(axis=(0, 1))
        np.testing.assert_allclose(activity.density, fires, atol=1.5 / corpus.tokens.size)
        assert_close(activity.top_value, other[layer].top_value)
        # The same windows too, unless two are equally strong to float tolerance.
        ranked = -np.sort(-largest, axis=0)[:11]
        apart = (np.diff(ranked, axis=0) < -2e-5).all(axis=0)
        assert apart.mean() > 0.5
        np.testing.assert_array_equal(activity.top_window[:, apart], other[layer].top_window[:, apart])
        np.testing.assert_array_equal(
            activity.top_window[:, apart], np.argsort(-largest, axis=0, kind="stable")[:10, apart]
        )
