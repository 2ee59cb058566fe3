"""How are TransformerLens' own modules run without work that nobody asked for?

`NativeModel` is what the embedded model and Neel Nanda's SoLU models become. Its blocks are written to be
hooked: attention keeps its pattern, every step makes a new tensor. Here the same blocks, with the same
weights, run attention in torch's fused kernel and add in place. In the last layer of a pass only keys and
values are needed at every token; the rest is computed at the places asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn

Places = Callable[[], "torch.Tensor | None"]
"""Gives the places asked for, indices into the flattened batch; None where every token is needed."""


def is_native(block: nn.Module) -> bool:
    """Whether `shorten` knows a block."""
    from transformer_lens.model_bridge.sources.native.model import NativeBlock

    if not isinstance(block, NativeBlock) or block.cfg.attn_only:
        return False
    return bool(block.attn.causal and not block.attn.attn_scores_soft_cap > 0)


def shorten(block: nn.Module, places: Places) -> None:
    """Give a copy of a block a shorter way to the same values."""
    vars(block)["forward"] = partial(_block, block, places)
    mlp: Any = block.mlp
    if str(block.cfg.act_fn).lower() in ("solu", "solu_ln") and not block.cfg.gated_mlp:  # type: ignore[union-attr]
        vars(mlp)["act"] = _solu


def _block(
    self: Any,
    asked: Places,
    hidden: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    position_ids: torch.Tensor | None = None,
    **_: Any,
) -> tuple[torch.Tensor]:
    """`NativeBlock.forward`; hidden is [batch, seq, d_model].

    Where only some places are asked for, the MLP runs on those alone, as one row: [1, n_places, d_model].
    """
    places = asked()
    mixed = _attention(self.attn, self.ln1(hidden), attention_mask, position_ids, places)
    if places is not None:
        hidden = hidden.flatten(0, 1)[places][None]
    hidden = self.attn.o(mixed).add_(hidden)
    return (self.mlp(self.ln2(hidden)).add_(hidden),)


def _attention(
    self: Any,
    hidden: torch.Tensor,
    mask: torch.Tensor | None,
    position_ids: torch.Tensor | None,
    places: torch.Tensor | None,
) -> torch.Tensor:
    """`NativeAttention.forward` up to its output projection.

    Args:
        self: a `NativeAttention`.
        hidden: [batch, seq, d_model].
        mask: what to add to the scores, [batch, 1, seq, seq]; None for plain causal rows.
        position_ids: [batch, seq].
        places: indices into the flattened batch; None for all.

    Returns:
        [batch, seq, n_heads * d_head], or [1, n_places, n_heads * d_head].
    """
    from torch.nn.functional import scaled_dot_product_attention

    batch, seq, _d = hidden.shape

    def heads(projection: nn.Module, x: torch.Tensor, n: int) -> torch.Tensor:
        return projection(x).view(batch, x.shape[1], n, self.d_head).transpose(1, 2)  # type: ignore[no-any-return]

    only = None if places is None or mask is not None else _only_column(places, seq)
    asking, asking_ids = hidden, position_ids
    if only is not None:  # what comes after the one position asked for plays no part
        asking, hidden = hidden[:, only : only + 1], hidden[:, : only + 1]
        if position_ids is not None:
            asking_ids, position_ids = position_ids[:, only : only + 1], position_ids[:, : only + 1]
        places = places.div(seq, rounding_mode="floor")  # type: ignore[union-attr]
    q = heads(self.q, asking, self.n_heads)
    k, v = heads(self.k, hidden, self.n_kv_heads), heads(self.v, hidden, self.n_kv_heads)
    if self.rotary is not None:
        q, _ = self.rotary.apply_rope(q, q, position_ids=asking_ids)
        _, k = self.rotary.apply_rope(k, k, position_ids=position_ids)
    if self.kv_repeats > 1:
        k, v = k.repeat_interleave(self.kv_repeats, dim=1), v.repeat_interleave(self.kv_repeats, dim=1)
    causal = mask is None and only is None
    mixed = scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, scale=1 / self.scale)
    mixed = mixed.transpose(1, 2).flatten(2)
    return mixed if places is None else mixed.flatten(0, 1)[places][None]


def _only_column(places: torch.Tensor, seq: int) -> int | None:
    """The position asked for in every row, where it is the same in all."""
    columns = places % seq
    return int(columns[0]) if bool((columns == columns[0]).all()) else None


def _solu(x: torch.Tensor) -> torch.Tensor:
    return x.softmax(-1).mul_(x)
