"""From a model and a text to an index: the use-case behind `n2g-index build`.

    corpus -> windows -> collect -> per chunk of neurons: N2G, score, write -> full text, manifest -> rename

Nothing is published unless all of it succeeded.
"""

from __future__ import annotations

import dataclasses
import platform
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from n2g_index.build.collect import collect
from n2g_index.build.corpus import Skipped, read_documents
from n2g_index.build.models.helper import load_helper
from n2g_index.build.models.target import ModelInfo, TargetModel
from n2g_index.build.models.transformer_lens import EMBEDDED, load_target
from n2g_index.build.n2g.probe import ProbeStats
from n2g_index.build.neurons import Explainer
from n2g_index.build.progress import Reporter, Silent
from n2g_index.build.windows import Windows, cut_windows
from n2g_index.config import FORMAT_VERSION, BuildConfig, neuron_name
from n2g_index.errors import BadParameter, NeuronNotFound
from n2g_index.resources import embedded_corpus
from n2g_index.store.manifest import Manifest, describe_files, write_manifest
from n2g_index.store.records import ModelRecord, WindowRecord
from n2g_index.store.staging import Staging, disk_errors
from n2g_index.store.writer import IndexWriter

DEFAULT_WINDOW = 255


@dataclass(frozen=True, slots=True)
class BuildSummary:
    """What a build did."""

    path: Path
    n_ok: int
    n_dead: int
    n_failed: int
    n_windows: int
    n_tokens: int
    seconds: float
    stats: ProbeStats


def build(
    config: BuildConfig, out: Path, *, replace: bool = False, reporter: Reporter | None = None
) -> BuildSummary:
    """Build an index.

    Args:
        config: what to build and how.
        out: folder to create, `NAME.n2g`.
        replace: whether an index that is there already may be replaced.
        reporter: is told about progress.

    Raises:
        ModelError, CorpusError: when an input cannot be used.
        NeuronNotFound, BadParameter: when a layer, neuron or window is out of the model's range.
        BuildError: when the target exists, is being written, or the disk is full.
    """
    reporter = reporter or Silent()
    started = datetime.now(UTC)
    with Staging(out, replace=replace) as staging:
        reporter.stage("open model", None, "")
        model = load_target(config.model, hook=config.hook, device=config.device)
        layers, neurons = _selection(model.info, config)
        helper = load_helper(config.helper, model, model.device)
        batch_tokens = config.batch_tokens or (4096 if model.device == "cpu" else 65_536)
        windows = read_windows(config, model, reporter)
        config = dataclasses.replace(  # what was left open is recorded as it was decided
            config,
            helper=helper.name if helper else "none",
            batch_tokens=batch_tokens,
            window=windows.length,
            device=model.device,
        )
        explainer = Explainer(
            model,
            helper,
            windows,
            model.token_texts(),
            config.n2g,
            config.examples,
            batch_tokens,
            ProbeStats(),
        )
        writer = IndexWriter(staging.folder, out)
        try:
            writer.write_model(_model_record(model.info, explainer.token_texts))
            writer.write_windows(_window_records(windows))
            counts = _explain_all(explainer, layers, neurons, config, staging.folder, writer, reporter)
            reporter.stage("publish", None, "")
            writer.write_build(started, datetime.now(UTC), _versions(), config.parameters(), counts)
            writer.finish()
        finally:
            writer.close()
        with disk_errors(out):
            write_manifest(staging.folder, _manifest(config, model.info, windows, staging.folder))
        staging.publish()
    seconds = (datetime.now(UTC) - started).total_seconds()
    return BuildSummary(
        out, counts["ok"], counts["dead"], counts["failed"], len(windows), windows.n_tokens, seconds,
        explainer.stats,
    )  # fmt: skip


def read_windows(config: BuildConfig, model: TargetModel, reporter: Reporter) -> Windows:
    """Read and cut the corpus of a build; what was skipped goes to the reporter."""
    room = model.info.n_ctx - 1  # BOS takes one place
    length = config.window or min(DEFAULT_WINDOW, room)
    if length > room:
        raise BadParameter(f"A window of {length} tokens does not fit the model: it reads {room} and BOS.")
    own = str(embedded_corpus())
    specs = [own if spec == EMBEDDED else spec for spec in config.corpus]
    skipped = Skipped()
    reporter.stage("read corpus", config.max_tokens, "tokens")
    try:
        windows = cut_windows(
            (
                # Where the package lies on this machine is nothing that an index should hold.
                dataclasses.replace(document, corpus=EMBEDDED) if document.corpus == own else document
                for document in read_documents(specs, text_field=config.text_field, skipped=skipped)
            ),
            model.encode,
            length=length,
            separator=model.info.bos_id,
            max_tokens=config.max_tokens,
            on_progress=reporter.done,
        )
    finally:  # also when nothing is left: the warnings say why
        for warning in skipped.warnings():
            reporter.warn(warning)
    return windows


def _selection(info: ModelInfo, config: BuildConfig) -> tuple[Sequence[int], Sequence[int]]:
    """The layers and the neuron indices to build.

    Raises:
        NeuronNotFound: when the model has no such layer or neuron.
    """
    layers = config.layers if config.layers is not None else tuple(range(info.n_layers))
    neurons = config.neurons if config.neurons is not None else tuple(range(info.d_mlp))
    if max(layers) >= info.n_layers:
        raise NeuronNotFound(
            f"{info.name} has no layer {max(layers)}: its layers are 0 to {info.n_layers - 1}."
        )
    if max(neurons) >= info.d_mlp:
        last = neuron_name(layers[0], info.d_mlp - 1)
        raise NeuronNotFound(
            f"{info.name} has no neuron {neuron_name(layers[0], max(neurons))}: the last is {last}."
        )
    return layers, neurons


def _explain_all(
    explainer: Explainer, layers: Sequence[int], neurons: Sequence[int], config: BuildConfig, folder: Path,
    writer: IndexWriter, reporter: Reporter,
) -> Counter[str]:  # fmt: skip
    """Collect, then explain and write the neurons chunk by chunk; returns how many ended in each status."""
    counts: Counter[str] = Counter()
    info = explainer.model.info
    with TemporaryDirectory(prefix="scratch-", dir=folder, ignore_cleanup_errors=True) as scratch:
        reporter.stage("collect", len(explainer.windows), "windows")
        with disk_errors(folder):
            activity = collect(
                explainer.model,
                explainer.windows,
                layers,
                top=config.collected_windows,
                firing_threshold=config.n2g.firing_threshold,
                scratch=Path(scratch),
                batch_tokens=explainer.batch_tokens,
                on_progress=reporter.done,
            )
        reporter.stage("explain", len(layers) * len(neurons), "neurons")
        for layer in layers:
            for first in range(0, len(neurons), config.chunk):
                records = explainer.explain(activity[layer], neurons[first : first + config.chunk])
                writer.write_neurons(records, info.d_mlp)
                counts.update(record.status for record in records)
                reporter.done(counts.total())
    return counts


def _window_records(windows: Windows) -> Iterator[WindowRecord]:
    rows = zip(
        windows.corpus, windows.source, windows.start.tolist(), windows.joins, windows.tokens, strict=True
    )
    return (WindowRecord(*row) for row in rows)


def _model_record(info: ModelInfo, token_texts: tuple[str, ...]) -> ModelRecord:
    return ModelRecord(
        info.name, info.n_layers, info.d_mlp, info.act_fn, info.hook, info.tokenizer, info.vocab_size,
        info.weights_sha256,
        {**info.config, "bos_id": info.bos_id, "mask_id": info.mask_id},
        token_texts,
    )  # fmt: skip


def _versions() -> dict[str, str]:
    packages = ("n2g-index", "torch", "transformer-lens", "transformers", "duckdb", "tantivy", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def _manifest(config: BuildConfig, info: ModelInfo, windows: Windows, folder: Path) -> Manifest:
    corpus: dict[str, Any] = {
        "names": list(config.corpus),
        "windows": len(windows),
        "window": windows.length,
        "tokens": windows.n_tokens,
        "documents": windows.n_documents,
        "duplicate_windows": windows.n_duplicates,
        "sha256": windows.fingerprint(),
    }
    return Manifest(
        format_version=FORMAT_VERSION,
        generation=1,
        model={"name": info.name, "weights_sha256": info.weights_sha256},
        corpus=corpus,
        parameters=asdict(config),
        files=describe_files(folder),
    )
