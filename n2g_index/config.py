"""What a build is asked to do, and the names of neurons.

`BuildConfig` is written whole into the manifest and the `builds` table: an index says how it was made.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from n2g_index.errors import BadNeuronName, BadParameter

FORMAT_VERSION = 2
"""Version of the on-disk format; an index of another version is refused when opened."""

FIRING_THRESHOLD = 0.5
"""A token fires a neuron when its normalised activation is at least this (paper, section 4)."""

_NEURON = re.compile(r"\s*(?:[lL](\d{1,9})\s*[/_:]?\s*[nN](\d{1,9})|(\d{1,9})\s*[:_/]\s*(\d{1,9}))\s*")


def parse_neuron(text: str) -> tuple[int, int]:
    """Return (layer, index) of `L3N15`, `l3n15`, `L3/N15`, `3:15`, `3_15` or `3/15`.

    Raises:
        BadNeuronName: for anything else.
    """
    found = _NEURON.fullmatch(text)
    if not found:
        raise BadNeuronName(text)
    layer, index = (g for g in found.groups() if g is not None)
    return int(layer), int(index)


def neuron_name(layer: int, index: int) -> str:
    """The canonical name, `L3N15`."""
    return f"L{layer}N{index}"


def parse_ranges(text: str, what: str) -> tuple[int, ...]:
    """Return the sorted numbers of `3`, `0-3` or `0,2,5-7`.

    Raises:
        BadParameter: naming `what` when the text is something else.
    """
    numbers: set[int] = set()
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\d{1,6})\s*(?:-\s*(\d{1,6})\s*)?", part)  # no model has a million
        if not found:
            raise BadParameter(f"{what} {text!r} is not a list of numbers and ranges such as 0-3 or 0,2,5-7.")
        first = int(found[1])
        last = int(found[2]) if found[2] else first
        if last < first:
            raise BadParameter(f"{what} {text!r} has a range that ends before it starts.")
        numbers.update(range(first, last + 1))
    return tuple(sorted(numbers))


Method = Literal["paper", "refined"]
"""How a neuron's paths are found."""


@dataclass(frozen=True, slots=True)
class RefinedConfig:
    """Parameters of the refined method, which learns paths from labelled tokens (`build/refined`)."""

    windows: int = 80
    """Strongest windows learnt from, the train examples among them; the test examples never."""

    reach: int = 6
    """Tokens of context looked at before an activating token."""

    max_literals: int = 3
    """Most literal context tokens in a path."""

    min_gain: float = 1.0
    """Least gain in log-likelihood, in nats, for which a context splits."""

    noise: float = 0.2
    """Standard deviation of normalised activations around the mean of their path."""

    place_prior: float = 0.5
    """How much the gain at a place counts for that place at other activating tokens; 0 for not at all."""

    def __post_init__(self) -> None:
        for name in ("windows", "reach"):
            if getattr(self, name) < 1:
                raise BadParameter(f"{name} must be at least 1, not {getattr(self, name)}.")
        for name in ("max_literals", "min_gain", "place_prior"):
            if not getattr(self, name) >= 0:  # nor NaN
                raise BadParameter(f"{name} must be at least 0, not {getattr(self, name)}.")
        if not self.noise > 0:
            raise BadParameter(f"noise must lie above 0, not {self.noise}.")


@dataclass(frozen=True, slots=True)
class N2GConfig:
    """Parameters of the N2G algorithm itself; those of its stages default to the paper's."""

    method: Method = "refined"
    """`paper`: paths from pruning, saliency and augmentation. `refined`: paths learnt from labelled tokens,
    which predict held-out text better; the paper's stages still give lattices and optima, and are scored
    beside."""

    firing_threshold: float = FIRING_THRESHOLD
    """A token fires the neuron at this share of its max activation or above."""

    importance_threshold: float = 0.75
    """A token is important for a firing token when masking it removes this share of the activation."""

    keep_threshold: float = 0.5
    """Share of the pivot's activation that pruning and substituting must keep."""

    max_context: int = 64
    """Longest minimal context tried, in tokens up to the pivot; when none reaches `keep_threshold`
    the longest is taken, as the authors' code does."""

    substitute_probability: float = 0.01
    """Least probability that the helper must give to a substitute."""

    max_substitutes: int = 5
    """Most substitutes tried per important position."""

    max_combinations: int = 4096
    """Most combinations of a minimal context's substitutes that are all tried; of more, a search climbs to
    the strongest it finds."""

    refined: RefinedConfig = field(default_factory=RefinedConfig)
    """Parameters of the refined method."""

    def __post_init__(self) -> None:
        for name in ("firing_threshold", "importance_threshold", "keep_threshold", "substitute_probability"):
            if not 0 < getattr(self, name) <= 1:
                raise BadParameter(f"{name} must lie above 0 and at most at 1, not {getattr(self, name)}.")
        if self.max_context < 1:
            raise BadParameter(f"max_context must be at least 1, not {self.max_context}.")
        if self.max_substitutes < 0:
            raise BadParameter(f"max_substitutes cannot be negative ({self.max_substitutes}).")
        if self.method not in get_args(Method):
            raise BadParameter(f"method must be one of {', '.join(get_args(Method))}, not {self.method!r}.")
        if self.max_combinations < 1:
            raise BadParameter(f"max_combinations must be at least 1, not {self.max_combinations}.")


@dataclass(frozen=True, slots=True)
class BuildConfig:
    """Everything that decides what a build writes."""

    model: str = "embedded"
    """`embedded`, a Hugging Face hub name, a local model folder, or `NeelNanda/...` (SoLU models)."""

    corpus: tuple[str, ...] = ("embedded",)
    """`embedded`, files, folders, or `hf:NAME[:SPLIT]`."""

    helper: str = "auto"
    """Masked LM for substitutes: `auto`, `none`, a hub name or a local folder."""

    layers: tuple[int, ...] | None = None
    """Layers to build; None for all."""

    neurons: tuple[int, ...] | None = None
    """Neuron indices to build in each of those layers; None for all."""

    hook: str | None = None
    """TransformerLens hook to read instead of the one chosen from the architecture; `{layer}` is replaced."""

    window: int | None = None
    """Tokens per window without BOS; None for 255 or what fits the model's context."""

    max_tokens: int | None = None
    """Stop reading the corpus after this many tokens; None for all of it."""

    text_field: str = "text"
    """Field (JSONL, Hugging Face) or column (Parquet) that holds the text."""

    examples: int = 20
    """Top windows kept per neuron; half train, half test."""

    chunk: int = 256
    """Neurons that are processed and committed together."""

    batch_tokens: int | None = None
    """Tokens per forward pass; None for 4,096 on a CPU, whose caches are small, and 65,536 elsewhere."""

    device: str = "auto"
    """`auto` (CUDA where there is a GPU), `cpu`, `cuda` or `cuda:1`."""

    n2g: N2GConfig = field(default_factory=N2GConfig)
    """Parameters of the algorithm."""

    def __post_init__(self) -> None:
        for name in ("examples", "chunk", "batch_tokens", "max_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise BadParameter(f"{name} must be at least 1, not {value}.")
        for name in ("layers", "neurons"):
            chosen = getattr(self, name)
            if chosen is not None:
                if not chosen or min(chosen) < 0:
                    raise BadParameter(f"{name} must be numbers from 0, at least one, not {chosen}.")
                object.__setattr__(self, name, tuple(sorted(set(chosen))))
        if self.examples < 2:
            raise BadParameter("examples must be at least 2: one to train on, one to test on.")
        if self.window is not None and self.window < 2:
            raise BadParameter(f"window must be at least 2 tokens, not {self.window}.")

    @property
    def collected_windows(self) -> int:
        """Top windows to collect for each neuron: its examples, and further ones if the method learns from
        them."""
        return max(self.examples, self.n2g.refined.windows if self.n2g.method == "refined" else 0)

    def parameters(self) -> dict[str, Any]:
        """All parameters as plain values, for the manifest and the `builds` table."""
        return asdict(self)
