"""How is a forward pass kept as short as possible?

A `TransformerBridge` wraps every module of a model so that each intermediate value can be hooked. A build
hooks one value per layer and runs millions of tokens, so it runs the same modules without their wrappers:
a plain torch hook reads each neuron layer, and the last one ends the pass right there, before the rest of
that layer and all later ones. On the embedded model this is about twice as fast as hooking the bridge. Where
only some positions of the last layer are asked for, its MLP, which works on each position alone, is given
only those; of TransformerLens' own blocks `native.py` knows more to leave out. Hugging Face attention runs in
torch's fused kernel: the bridge computes it step by step, to hook its patterns.

`LeanForward` shares all weights with the bridge. `Forward` compares the two once when a model is opened and
stays with the bridge where they differ.
"""

from __future__ import annotations

import copy
import inspect
import threading
from collections import OrderedDict
from collections.abc import Collection, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from n2g_index.build.models.native import is_native, shorten

if TYPE_CHECKING:
    import torch
    from torch import nn

_ALIASES = {"mlp.hook_post": "mlp.out.hook_in"}
"""Hooks that TransformerLens gives under a second name."""


class _Stop(BaseException):
    """Ends a forward pass; not an Exception, so that no handler inside a model swallows it."""


class _Wish(threading.local):
    """What the pass under way is to give; passes of several threads run in the same modules."""

    layers: Collection[int] = ()
    last: int = -1
    places: torch.Tensor | None = None

    def __init__(self) -> None:
        self.found: dict[int, torch.Tensor] = {}

    def places_in(self, layer: int) -> torch.Tensor | None:
        """The places asked for in a layer; None for all."""
        return self.places if layer == self.last else None


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
        self._wish = _Wish()
        if fused:
            _fuse_attention(clones.values())
        takes = inspect.signature(bridge.original_model.forward).parameters
        self._arguments = {"use_cache": False} if "use_cache" in takes or "kwargs" in takes else {}
        _, _, place = hook.partition("{layer}.")
        place = _ALIASES.get(place, place)
        component, _, side = place.rpartition(".")
        if side not in ("hook_in", "hook_out"):
            raise LookupError(hook)
        for layer, block in enumerate(bridge.blocks):
            read = clones[id(_component(block, component).original_component)]
            if side == "hook_in":
                read.register_forward_pre_hook(partial(self._keep_input, layer))
            else:
                read.register_forward_hook(partial(self._keep_output, layer))
            whole = clones[id(block.original_component)]
            if fused and is_native(whole):
                shorten(whole, partial(self._wish.places_in, layer))
            else:
                mlp = clones[id(block.mlp.original_component)]
                mlp.register_forward_pre_hook(partial(self._narrow, layer))

    def run(
        self,
        tokens: torch.Tensor,
        layers: Collection[int],
        places: torch.Tensor | None = None,
        *,
        positions: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
    ) -> dict[int, torch.Tensor]:
        """Run a batch up to the last of some layers; several threads may do so at once.

        Args:
            tokens: ids, [batch, seq].
            layers: which to read.
            places: indices into the flattened batch; None for all.
            positions: of each token in its text, [batch, seq]; None where rows are plain sequences.
            mask: what is added to the attention scores, [batch, 1, seq, seq]; None as with `positions`.

        Returns:
            The hooked value of each layer, [batch, seq, d_mlp]; with `places`, that of the last layer is
            [1, n_places, d_mlp].
        """
        wish = self._wish
        wish.layers, wish.last, wish.places, wish.found = layers, max(layers), places, {}
        shape = {} if positions is None else {"position_ids": positions, "attention_mask": mask}
        try:
            self._model(tokens, **shape, **self._arguments)
        except _Stop:
            pass
        finally:
            found, wish.found, wish.places = wish.found, {}, None
        return found

    def _keep_input(self, layer: int, _: nn.Module, args: tuple[Any, ...]) -> None:
        self._keep(layer, args[0])

    def _keep_output(self, layer: int, _: nn.Module, __: tuple[Any, ...], output: Any) -> None:
        self._keep(layer, output)

    def _keep(self, layer: int, value: Any) -> None:
        if layer in self._wish.layers:
            self._wish.found[layer] = value
            if layer == self._wish.last:
                raise _Stop

    def _narrow(self, layer: int, _: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        places = self._wish.places_in(layer)
        return None if places is None else (args[0].flatten(0, 1)[places][None], *args[1:])


def _fuse_attention(clones: Iterable[nn.Module]) -> None:
    """Let Hugging Face models choose torch's kernel."""
    configs: dict[int, Any] = {}  # modules share their configuration; the bridge's stays as it is
    for clone in clones:
        config = vars(clone).get("config")
        if hasattr(config, "_attn_implementation"):
            if id(config) not in configs:
                configs[id(config)] = copy.copy(config)
                configs[id(config)]._attn_implementation = "sdpa"
            vars(clone)["config"] = configs[id(config)]


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
