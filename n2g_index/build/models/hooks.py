"""Which hook is the neuron?

The neuron's activation is its value after the non-linearity: for SoLU before the mid-MLP LayerNorm (the
paper reads it there), for gated MLPs after gate times up, else straight after the activation function.
"""

from __future__ import annotations

from collections.abc import Collection

from n2g_index.errors import ModelError

SOLU_HOOK = "blocks.{layer}.mlp.ln.hook_in"
POST_HOOK = "blocks.{layer}.mlp.hook_post"
OUT_HOOK = "blocks.{layer}.mlp.out.hook_in"


def choose_hook(act_fn: str, hooks: Collection[str], requested: str | None = None, n_layers: int = 1) -> str:
    """Return the hook to read, with `{layer}` in place of the layer.

    Args:
        act_fn: the model's activation function, as TransformerLens names it.
        hooks: every hook name of the model.
        requested: a hook the user named, with `{layer}`.
        n_layers: how many layers must have it.

    Raises:
        ModelError: when there is no such hook.
    """
    if requested is not None:
        if "{layer}" not in requested:
            raise ModelError(f"The hook {requested!r} must hold {{layer}}, as in {POST_HOOK!r}.")
        candidates = [requested]
    elif act_fn.endswith("_ln"):
        candidates = [SOLU_HOOK]
    else:
        candidates = [POST_HOOK, OUT_HOOK]
    for hook in candidates:
        if all(hook.replace("{layer}", str(layer)) in hooks for layer in range(n_layers)):
            return hook
    near = sorted(h.replace("blocks.0.", "blocks.{layer}.") for h in hooks if h.startswith("blocks.0.mlp"))
    listing = ", ".join(near) or "none"
    raise ModelError(
        f"The model has no hook {candidates[0]!r}; name one with --hook (its MLP hooks: {listing})."
    )
