"""How is a forward pass kept as short as possible?

A `TransformerBridge` wraps every module of a model so that each intermediate value can be hooked. A build
hooks one value per layer and runs millions of tokens, so it runs the same modules without their wrappers:
a plain torch hook reads each neuron layer, and the last one ends the pass right there, before the rest of
that layer and all later ones. On the embedded model this is about twice as fast as hooking the bridge. Where
only some positions of the last layer are asked for, its MLP, which works on each position alone, is given
only those. Attention runs in torch's fused kernel: the bridge computes it step by step, to hook its patterns.

`LeanForward` shares all weights with the bridge. `TransformerLensModel` compares the two once when a model is
opened and stays with the bridge where they differ.
"""

from __future__ import annotations

import copy
import inspect
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from types import MethodType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn

_ALIASES = {"mlp.hook_post": "mlp.out.hook_in"}
"""Hooks that TransformerLens gives under a second name."""


class _Stop(BaseException):
    """Ends a forward pass; not an Exception, so that no handler inside a model swallows it."""


class LeanForward:
    """The modules of a bridge without their wrappers."""

    def __init__(self, bridge: Any, hook: str, *, fused: bool) -> None:
        """Unwrap a bridge.

        Args:
            bridge: a `TransformerBridge`.
            hook: the neuron hook, `blocks.{layer}.COMPONENT.hook_in` or `.hook_out`, or an alias of one.
            fused: whether attention runs in torch's fused kernel, as far as the model allows it.

        Raises:
            AttributeError, LookupError: when the hook is not the input or output of one module.
        """
        clones: dict[int, nn.Module] = {}
        self._model = _unwrap(bridge.original_model, clones)
        if fused:
            _fuse_attention(clones.values())
        takes = inspect.signature(bridge.original_model.forward).parameters
        self._arguments = {"use_cache": False} if "use_cache" in takes or "kwargs" in takes else {}
        _, _, place = hook.partition("{layer}.")
        place = _ALIASES.get(place, place)
        component, _, side = place.rpartition(".")
        if side not in ("hook_in", "hook_out"):
            raise LookupError(hook)
        self._reads_input = side == "hook_in"
        self._read = [clones[id(_component(block, component).original_component)] for block in bridge.blocks]
        self._mlps = [clones[id(block.mlp.original_component)] for block in bridge.blocks]

    def run(
        self, tokens: torch.Tensor, layers: Sequence[int], places: torch.Tensor | None = None
    ) -> dict[int, torch.Tensor]:
        """Run a batch up to the last of some layers.

        Args:
            tokens: ids, [batch, seq].
            layers: which to read.
            places: indices into the flattened batch; None for all.

        Returns:
            The hooked value of each layer, [batch, seq, d_mlp]; with `places`, that of the last layer is
            [1, n_places, d_mlp].
        """
        found: dict[int, torch.Tensor] = {}
        last = max(layers)

        def keep(layer: int, value: Any) -> None:
            found[layer] = value
            if layer == last:
                raise _Stop

        handles = []
        if places is not None:
            handles.append(
                self._mlps[last].register_forward_pre_hook(
                    lambda _, args: (args[0].flatten(0, 1)[places][None], *args[1:])
                )
            )
        for layer in layers:
            module = self._read[layer]
            if self._reads_input:
                handles.append(module.register_forward_pre_hook(lambda _, args, at=layer: keep(at, args[0])))
            else:
                handles.append(module.register_forward_hook(lambda _, __, out, at=layer: keep(at, out)))
        try:
            self._model(tokens, **self._arguments)
        except _Stop:
            pass
        finally:
            for handle in handles:
                handle.remove()
        return found


def _fuse_attention(clones: Iterable[nn.Module]) -> None:
    """Let Hugging Face models choose torch's kernel, and give it to TransformerLens' native attention."""
    from transformer_lens.model_bridge.sources.native import NativeAttention

    configs: dict[int, Any] = {}  # modules share their configuration; the bridge's stays as it is
    for clone in clones:
        config = vars(clone).get("config")
        if hasattr(config, "_attn_implementation"):
            if id(config) not in configs:
                configs[id(config)] = copy.copy(config)
                configs[id(config)]._attn_implementation = "sdpa"
            vars(clone)["config"] = configs[id(config)]
        elif isinstance(clone, NativeAttention) and clone.causal and not clone.attn_scores_soft_cap > 0:
            vars(clone)["forward"] = MethodType(_native_attention, clone)


def _native_attention(
    self: Any, hidden: torch.Tensor, position_ids: torch.Tensor | None = None, **_: Any
) -> tuple[torch.Tensor, None]:
    """`NativeAttention.forward` for a batch without padding; hidden is [batch, seq, d_model]."""
    from torch.nn.functional import scaled_dot_product_attention

    batch, seq, _d = hidden.shape

    def heads(projection: nn.Module, n: int) -> torch.Tensor:
        return projection(hidden).view(batch, seq, n, self.d_head).transpose(1, 2)  # type: ignore[no-any-return]

    q, k, v = heads(self.q, self.n_heads), heads(self.k, self.n_kv_heads), heads(self.v, self.n_kv_heads)
    if self.rotary is not None:
        q, k = self.rotary.apply_rope(q, k, position_ids=position_ids)
    if self.kv_repeats > 1:
        k, v = k.repeat_interleave(self.kv_repeats, dim=1), v.repeat_interleave(self.kv_repeats, dim=1)
    mixed = scaled_dot_product_attention(q, k, v, is_causal=True, scale=1 / self.scale)
    return self.o(mixed.transpose(1, 2).reshape(batch, seq, -1)), None


def _component(block: Any, path: str) -> Any:
    for name in path.split("."):
        block = getattr(block, name)
    return block


def _unwrap(module: nn.Module, clones: dict[int, nn.Module]) -> nn.Module:
    """A shallow copy of a module tree, wrappers left out; parameters and buffers are shared.

    Args:
        module: the root.
        clones: filled with the copy of each module, by the id of the original.
    """
    from transformer_lens.model_bridge.generalized_components.base import GeneralizedComponent

    if isinstance(module, GeneralizedComponent):
        original = module.original_component
        if original is None:
            raise LookupError(module.name)
        return _unwrap(original, clones)
    if id(module) not in clones:
        clone = clones[id(module)] = copy.copy(module)
        # copy.copy shares these dictionaries with the original, which must keep its wrappers and hooks.
        vars(clone)["_modules"] = {
            name: child if child is None else _unwrap(child, clones)
            for name, child in module._modules.items()
        }
        vars(clone)["_forward_hooks"] = OrderedDict()
        vars(clone)["_forward_pre_hooks"] = OrderedDict()
    return clones[id(module)]
