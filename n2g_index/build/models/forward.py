"""Which forward pass does a model take, and what does it give at the places asked for?

The bridge's own hooks work for any model and are slow. `LeanForward` is short, and with it a batch may be a
forest of token trees. Whether a model can run so is not guessed from its class: random tokens are run both
ways on every layer when it is opened, and what does not give the same values is not used. That costs a few
passes over 256 tokens.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from n2g_index.build.models.lean import LeanForward
from n2g_index.build.models.target import Batch, Tree
from n2g_index.build.tokentree import plant, shared_prefixes

if TYPE_CHECKING:
    import torch

_CHECKED = 128
"""Tokens in a row of the random text on which ways to run a model are compared."""


class Forward:
    """The passes of one bridge."""

    def __init__(self, bridge: Any, hook: str, bos_id: int) -> None:
        """Start with the bridge's own hooks.

        Args:
            bridge: a `TransformerBridge`.
            hook: the neuron hook, with `{layer}`.
            bos_id: the token put before every row.
        """
        self.bridge = bridge
        self.hook = hook
        self.bos_id = bos_id
        self.device: torch.device = next(iter(bridge.parameters())).device
        self.runs_trees = False
        self._lean: LeanForward | None = None

    def shorten(self, vocab_size: int, n_ctx: int) -> None:
        """Change to the shortest way that gives what the bridge gives on every layer."""
        length = min(n_ctx, _CHECKED)
        tries = (lean for fused in (True, False) if (lean := self._try_lean(fused, vocab_size, length)))
        self._lean = next(tries, None)
        self.runs_trees = self._lean is not None and self._try_trees(vocab_size, length)

    def layers(self, layers: Collection[int], tokens: NDArray[np.int32]) -> dict[int, torch.Tensor]:
        """The hooked values of some layers, BOS included, each [batch, 1 + seq, d_mlp]."""
        import torch

        with torch.inference_mode():
            batch = self._with_bos(tokens)
            return self._lean.run(batch, layers) if self._lean else self._hooked(batch, layers)

    def values(self, layer: int, batch: Batch) -> NDArray[np.float32]:
        """What a batch asks for, shape [n]."""
        import torch

        if not len(batch.row):
            return np.empty(0, dtype=np.float32)
        # Counted with BOS; neurons often ask about the same place.
        places, which = np.unique(
            batch.row * (batch.tokens.shape[1] + 1) + batch.position + 1, return_inverse=True
        )
        with torch.inference_mode():
            tokens, at = self._with_bos(batch.tokens), torch.from_numpy(places).to(self.device)
            if self._lean:
                shape = self._tree(batch.tree) if batch.tree else {}
                values = self._lean.run(tokens, (layer,), at, **shape)[layer].flatten(0, 1)
            else:
                values = self._hooked(tokens, (layer,))[layer].flatten(0, 1)[at]
            index = (torch.from_numpy(i).to(self.device) for i in (which, batch.neuron))
            found: NDArray[np.float32] = values[tuple(index)].float().cpu().numpy()
        return found

    def _with_bos(self, tokens: NDArray[np.int32]) -> torch.Tensor:
        import torch

        with_bos = np.pad(tokens, ((0, 0), (1, 0)), constant_values=self.bos_id)
        return torch.from_numpy(with_bos.astype(np.int64)).to(self.device)

    def _tree(self, tree: Tree) -> dict[str, torch.Tensor]:
        """Positions [batch, 1 + seq] and mask [batch, 1, 1 + seq, 1 + seq] of rows with BOS before them."""
        import torch

        depth, end = (torch.from_numpy(a.astype(np.int64)).to(self.device) for a in (tree.depth, tree.end))
        rows, seq = depth.shape
        end = torch.cat([end.new_full((rows, 1), seq), end], 1) + 1  # BOS comes before every token
        i = torch.arange(seq + 1, device=self.device)
        seen = (i <= i[:, None]) & (i[:, None] < end[:, None, :])
        mask = torch.zeros(rows, 1, seq + 1, seq + 1, device=self.device)
        mask.masked_fill_(~seen[:, None], torch.finfo(mask.dtype).min)
        return {"positions": torch.nn.functional.pad(depth + 1, (1, 0)), "mask": mask}

    def _hooked(self, batch: torch.Tensor, layers: Collection[int]) -> dict[int, torch.Tensor]:
        """The same through the bridge's own hooks: slower, for any model."""
        seen: dict[int, torch.Tensor] = {}

        def keep(layer: int) -> Any:
            def hook(value: torch.Tensor, hook: Any) -> None:
                seen[layer] = value

            return hook

        hooks = [(self.hook.format(layer=layer), keep(layer)) for layer in layers]
        self.bridge.run_with_hooks(batch, fwd_hooks=hooks, stop_at_layer=max(layers) + 1)
        return seen

    def _try_lean(self, fused: bool, vocab_size: int, length: int) -> LeanForward | None:
        import torch

        random = torch.Generator().manual_seed(0)
        ids = torch.randint(vocab_size, (2, length), generator=random).to(self.device)
        layers = range(len(self.bridge.blocks))
        ends = torch.tensor([length - 1, 2 * length - 1], device=self.device)  # one position of each row
        mixed = torch.tensor([length // 2, 2 * length - 1], device=self.device)
        try:
            lean = LeanForward(self.bridge, self.hook, fused=fused)
            with torch.inference_mode():
                short, full = lean.run(ids, layers), self._hooked(ids, layers)
                pairs = [(short[i], full[i]) for i in layers]
                pairs += [
                    (lean.run(ids, (i,), places)[i], full[i].flatten(0, 1)[places])
                    for i in layers
                    for places in (ends, mixed)
                ]
        except Exception:  # a model that cannot run without its wrappers may fail in any way
            return None
        return lean if all(_equal(a, b) for a, b in pairs) else None

    def _try_trees(self, vocab_size: int, length: int) -> bool:
        """Whether variants of one random text give as a tree what they give one by one."""
        import torch

        assert self._lean
        random = np.random.default_rng(0)
        text = random.integers(vocab_size, size=length // 2, dtype=np.int32)
        texts = [text, *(text[:cut].copy() for cut in (1, 2, 6, 12) if cut < len(text))]
        for variant in texts[1:]:
            variant[-1] = (variant[-1] + 1) % vocab_size
        forest = plant(texts, *shared_prefixes(texts), longest=length - 1)
        tokens, depth, end = forest.padded(np.arange(len(forest.starts) - 1))
        asked = [(i, at) for i, one in enumerate(texts) for at in range(len(one))]
        row, column = (torch.from_numpy(a).to(self.device) for a in forest.find(*np.array(asked).T))
        layers = range(len(self.bridge.blocks))
        try:
            with torch.inference_mode():
                shape = self._tree(Tree(depth, end))
                together = self._lean.run(self._with_bos(tokens), layers, **shape)
                apart = [self._lean.run(self._with_bos(t[None]), layers) for t in texts]
                return all(
                    _equal(together[i][row, column + 1], torch.cat([one[i][0, 1:] for one in apart]))
                    for i in layers
                )
        except Exception:  # a model that takes no mask of this form may fail in any way
            return False


def _equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    import torch

    scale = float(other.abs().nan_to_num().max())
    return torch.allclose(one, other, rtol=1e-3, atol=1e-4 * scale, equal_nan=True)
