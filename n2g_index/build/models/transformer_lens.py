"""How does a TransformerLens model become a target model?

Three ways in, one adapter: `boot_native` for folders in our own layout (the embedded model), `boot_tl_legacy`
for Neel Nanda's SoLU models of the paper, `boot_transformers` for every other hub name or local folder.
torch and transformer_lens are imported when a model is loaded, not before.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from n2g_index.build.models.forward import Forward
from n2g_index.build.models.hooks import choose_hook
from n2g_index.build.models.target import Batch, ModelInfo
from n2g_index.build.models.tokens import token_texts
from n2g_index.build.models.workers import side_by_side
from n2g_index.errors import MissingExtra, ModelError
from n2g_index.resources import embedded_model

if TYPE_CHECKING:
    import torch

EMBEDDED = "embedded"
LEGACY_PREFIXES = ("NeelNanda/", "ArthurConmy/", "Baidicoot/")
NATIVE_ARCHITECTURE = "TransformerLensNative"


class TransformerLensModel:
    """A `TransformerBridge` behind the `TargetModel` seam."""

    def __init__(self, bridge: Any, name: str, hook: str | None = None) -> None:
        """Wrap a booted bridge.

        Args:
            bridge: a `TransformerBridge` with a tokenizer.
            name: what the index calls the model.
            hook: neuron hook with `{layer}`; None to choose by architecture.

        Raises:
            ModelError: when no neuron hook or no tokenizer can be found.
        """
        self.bridge = bridge.eval()
        for parameter in bridge.parameters():
            parameter.requires_grad_(False)
        self.tokenizer = bridge.tokenizer
        if self.tokenizer is None or not self.tokenizer.encode("a", add_special_tokens=False):
            raise ModelError(f"The model {name!r} has no tokenizer: put its files into the model's folder.")
        self._hook = choose_hook(str(bridge.cfg.act_fn), bridge.hook_dict, hook, int(bridge.cfg.n_layers))
        self._encoder = _plain_encoder(self.tokenizer)
        self._forward = Forward(bridge, self._hook, self._bos_id(name))
        self.info = self._describe(name)
        self._forward.shorten(self.info.vocab_size, self.info.n_ctx)
        self._check_causal()

    def _bos_id(self, name: str) -> int:
        bos: int | None = _first(self.tokenizer.bos_token_id, self.tokenizer.eos_token_id)
        if bos is None:
            raise ModelError(f"The tokenizer of {name!r} has neither a BOS nor an end-of-text token.")
        if bos >= int(self.bridge.cfg.d_vocab):  # an added token may lie beyond what the model can embed
            raise ModelError(f"The tokenizer of {name!r} has a BOS token that the model does not know.")
        return bos

    def _describe(self, name: str) -> ModelInfo:
        cfg, tokenizer, bos = self.bridge.cfg, self.tokenizer, self._forward.bos_id
        known = int(cfg.d_vocab)
        likely = (tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.eos_token_id)
        mask = next((i for i in likely if i is not None and i != bos and i < known), bos)
        d_mlp, longer = (self.activations(0, np.zeros((1, n), dtype=np.int32)).shape[-1] for n in (2, 3))
        if d_mlp != longer:
            raise ModelError(
                f"The hook {self._hook!r} has no neurons: its last dimension is the text's length."
            )
        return ModelInfo(
            name=name,
            n_layers=int(cfg.n_layers),
            d_mlp=int(d_mlp),  # as the hook gives it: configurations disagree on what d_mlp counts
            act_fn=str(cfg.act_fn),
            hook=self._hook,
            tokenizer=type(tokenizer).__name__ if name == EMBEDDED else str(tokenizer.name_or_path),
            vocab_size=int(cfg.d_vocab),
            n_ctx=int(cfg.n_ctx),
            bos_id=bos,
            mask_id=mask,
            weights_sha256=_weights_sha256(self.bridge),
            config=_plain(vars(cfg)),
        )

    @property
    def device(self) -> str:
        """Where the model runs."""
        return str(self._forward.device)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        if self._encoder is not None:
            encodings = self._encoder.encode_batch(list(texts), add_special_tokens=False)
            return [encoding.ids for encoding in encodings]
        return [self.tokenizer.encode(text, add_special_tokens=False) for text in texts]

    def token_texts(self) -> tuple[str, ...]:
        return token_texts(self.tokenizer, self.info.vocab_size)

    def activations(self, layer: int, tokens: NDArray[np.int32]) -> torch.Tensor:
        return self._read((layer,), tokens)[layer]

    @property
    def runs_trees(self) -> bool:
        return self._forward.runs_trees

    def values(self, layer: int, batches: Iterable[Batch]) -> Iterator[NDArray[np.float32]]:
        return side_by_side(partial(self._forward.values, layer), batches, self.device)

    def layer_activations(
        self, layers: Sequence[int], batches: Iterable[NDArray[np.int32]]
    ) -> Iterator[dict[int, torch.Tensor]]:
        return side_by_side(partial(self._read, layers), batches, self.device)

    def _read(self, layers: Sequence[int], tokens: NDArray[np.int32]) -> dict[int, torch.Tensor]:
        seen = self._forward.layers(layers, tokens)
        return {layer: seen.pop(layer)[:, 1:].float() for layer in sorted(layers)}

    def _check_causal(self) -> None:
        """Pruning and masking are exact only where a token cannot change what comes before it."""
        tokens = np.array([[3, 4, 5, 6], [3, 4, 5, 7]], dtype=np.int32) % self.info.vocab_size
        one, other = self.activations(self.info.n_layers - 1, tokens)[:, :3].cpu().numpy()
        if not np.allclose(one, other, rtol=1e-3, atol=1e-4, equal_nan=True):
            raise ModelError(
                f"{self.info.name!r} is not a causal language model: later tokens change earlier ones."
            )


def _plain_encoder(tokenizer: Any) -> Any | None:
    """A copy of a fast tokenizer that reads all text as text; None for a slow one.

    A corpus may hold the words `<|endoftext|>`; they must not become the token that separates documents.
    """
    if not tokenizer.is_fast:
        return None
    encoder = copy.deepcopy(tokenizer.backend_tokenizer)
    encoder.no_truncation()
    encoder.no_padding()
    encoder.encode_special_tokens = True
    return encoder


def load_target(name: str, *, hook: str | None = None, device: str = "auto") -> TransformerLensModel:
    """Open a model by name.

    Args:
        name: `embedded`, a folder, `NeelNanda/...` and the like, or a Hugging Face hub name.
        hook: neuron hook with `{layer}`; None to choose by architecture.
        device: `auto` (a GPU where there is one), `cpu`, `cuda`, `cuda:N` or `mps`.

    Raises:
        ModelError: when it cannot be opened.
        MissingExtra: when torch or transformer_lens is not installed.
    """
    try:
        import torch
        from transformer_lens.model_bridge import TransformerBridge
    except ImportError as error:
        raise MissingExtra("Reading a model", "build") from error
    chosen = _device(torch, device)
    folder = embedded_model() if name == EMBEDDED else Path(name)
    with quiet():
        try:
            if _is_native(folder):
                bridge = _boot_native(folder, chosen)
            elif name.startswith(LEGACY_PREFIXES) and not folder.is_dir():
                bridge = TransformerBridge.boot_tl_legacy(name, device=chosen)
            else:
                weights = load_whole("AutoModelForCausalLM", name).to(chosen)
                bridge = TransformerBridge.boot_transformers(name, device=chosen, hf_model=weights)
        except ModelError:
            raise
        except Exception as error:  # the loaders below raise whatever their backends raise
            raise ModelError(_cannot_open(name, error)) from error
    return TransformerLensModel(bridge, name, hook)


def load_whole(auto_class: str, source: str) -> Any:
    """Load a Hugging Face model, float32, and make sure that every weight came from its files.

    transformers fills what a checkpoint lacks with random numbers; an index of those would mean nothing.

    Args:
        auto_class: name of the class in `transformers` that knows the head.
        source: hub name or folder.

    Raises:
        ModelError: when weights are missing or have another shape than the configuration says.
    """
    import torch
    import transformers

    model, report = getattr(transformers, auto_class).from_pretrained(
        source, output_loading_info=True, ignore_mismatched_sizes=True, dtype=torch.float32
    )
    wrong = [f"{found[0]} has another shape" for found in sorted(report.get("mismatched_keys", ()))]
    lacking = [f"{key} is missing" for key in sorted(report["missing_keys"])]
    if wrong or lacking:
        raise ModelError(f"The weights of {source!r} do not fit its config.json: {(wrong + lacking)[0]}.")
    return model


def reason(error: Exception) -> str:
    """What a loader said, in one line without a full stop."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # A first line that ends in a colon only announces the next one.
    text = " ".join(lines[:2]) if lines and lines[0].endswith(":") else lines[0] if lines else ""
    return text.rstrip(".") or type(error).__name__


def _cannot_open(name: str, error: Exception) -> str:
    if not Path(name).exists():
        return (
            f"The model {name!r} is neither a local folder nor a model that the Hugging Face hub gave "
            f"({reason(error)}); give a folder with config.json, weights and tokenizer, or 'embedded'."
        )
    return f"The model in {name!r} cannot be opened: {reason(error)}."


def _is_native(folder: Path) -> bool:
    config = folder / "config.json"
    if not config.is_file():
        return False
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{config} is not valid JSON: {error}.") from error
    if not isinstance(content, dict):
        raise ModelError(f"{config} must hold one JSON object.")
    return content.get("architecture") == NATIVE_ARCHITECTURE


def _boot_native(folder: Path, device: str) -> Any:
    """A folder with config.json (TransformerBridgeConfig fields), model.safetensors and a tokenizer."""
    from safetensors.torch import load_file
    from transformer_lens.config import TransformerBridgeConfig
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import AutoTokenizer

    config = TransformerBridgeConfig.from_dict(
        json.loads((folder / "config.json").read_text(encoding="utf-8"))
    )
    tokenizer = AutoTokenizer.from_pretrained(folder)
    bridge = TransformerBridge.boot_native(config, tokenizer=tokenizer, device=device)
    state = {name: tensor.float() for name, tensor in load_file(folder / "model.safetensors").items()}
    missing, unexpected = bridge.load_state_dict(state, strict=False)
    # The unembedding's bias may be left out of the file: it does not touch any neuron.
    missing = [name for name in missing if not name.startswith(("head.", "unembed."))]
    if missing or unexpected:
        raise ModelError(f"The weights in {folder} do not fit its config.json ({(missing + unexpected)[0]}).")
    return bridge


def _device(torch: Any, wanted: str) -> str:
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=wanted).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ModelError(f"The device {wanted!r} is not available here; use --device cpu.") from error
    return wanted


def _first(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)


def _weights_sha256(bridge: Any) -> str:
    """Digest over every weight's name, dtype, shape and bytes, in the order of their names."""
    import torch

    digest = hashlib.sha256()
    # The bridge's wrappers stand in the names and may list a weight twice; they are no part of the model.
    weights = {
        name.replace("._original_component", ""): tensor
        for name, tensor in bridge.original_model.state_dict().items()
    }
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Keep what JSON can hold."""
    return {
        key: value
        for key, value in sorted(values.items())
        if type(value) in (str, int, float, bool) and key != "device"
    }


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the loaders' own warnings and progress bars off the terminal: a user can act on none of them."""
    from transformers.utils import logging as hf_logging

    bars = hf_logging.is_progress_bar_enabled()
    hf_logging.disable_progress_bar()
    verbosity = hf_logging.get_verbosity()
    hf_logging.set_verbosity_error()
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
        hf_logging.set_verbosity(verbosity)
        if bars:
            hf_logging.enable_progress_bar()
