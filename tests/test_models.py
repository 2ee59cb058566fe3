"""Do models opened in each of the three ways give exactly the neurons they should?

What they give is measured a second time without our code: on the Hugging Face model with a plain torch hook,
or with the bridge's own cache.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch.utils._python_dispatch import TorchDispatchMode
from transformer_lens.config import TransformerBridgeConfig
from transformer_lens.model_bridge import TransformerBridge
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from n2g_index.build.models.forward import Forward
from n2g_index.build.models.hooks import OUT_HOOK, POST_HOOK, SOLU_HOOK, choose_hook
from n2g_index.build.models.lean import LeanForward
from n2g_index.build.models.target import Batch, Tree
from n2g_index.build.models.tokens import token_texts
from n2g_index.build.models.transformer_lens import TransformerLensModel, load_target
from n2g_index.build.tokentree import plant, shared_prefixes
from n2g_index.errors import ModelError
from n2g_index.resources import embedded_helper, embedded_model
from tests.conftest import save_model

BOS = 0
CODE = (
    "import numpy as np\nfrom os import path\n\n\ndef main(argv=None):\n    return path.join('a', 'b')\n" * 3
)


@pytest.fixture(scope="module")
def tokens(embedded: TransformerLensModel) -> NDArray[np.int32]:
    """Four rows of twelve tokens of code."""
    return np.array(embedded.encode([CODE])[0][:48], dtype=np.int32).reshape(4, 12)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of two layers with random weights and grouped heads."""
    torch.manual_seed(2)
    config = LlamaConfig(
        vocab_size=6144,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=32,
        bos_token_id=BOS,
        eos_token_id=BOS,
        initializer_range=0.1,
    )
    return save_model(LlamaForCausalLM(config), tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def rotary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A native model of two layers with random weights, rotary positions, grouped heads and gated MLPs."""
    folder = tmp_path_factory.mktemp("rotary") / "model"
    shutil.copytree(embedded_model(), folder, ignore=shutil.ignore_patterns("model.safetensors"))
    config = {
        "d_model": 32,
        "n_layers": 2,
        "d_mlp": 48,
        "d_head": 8,
        "n_heads": 4,
        "n_key_value_heads": 2,
        "n_ctx": 32,
        "d_vocab": 6144,
        "act_fn": "silu",
        "gated_mlp": True,
        "normalization_type": "RMS",
        "positional_embedding_type": "rotary",
        "architecture": "TransformerLensNative",
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    bridge = TransformerBridge.boot_native(TransformerBridgeConfig.from_dict(config))
    torch.manual_seed(3)
    state = {k: torch.randn_like(v) * 0.2 for k, v in bridge.state_dict().items() if v.is_floating_point()}
    save_file(state, folder / "model.safetensors")
    return folder


def with_bos(tokens: NDArray[np.int32]) -> torch.Tensor:
    return torch.tensor([[BOS, *row] for row in tokens.tolist()])


def from_cache(model: TransformerLensModel, hook: str, tokens: NDArray[np.int32]) -> torch.Tensor:
    """What the bridge's cache holds at a hook, BOS left out."""
    _, cache = model.bridge.run_with_cache(with_bos(tokens))
    value: torch.Tensor = cache[hook][:, 1:]
    return value


# The embedded model


def test_the_embedded_model_describes_itself(embedded: TransformerLensModel) -> None:
    info = embedded.info
    assert (info.name, info.n_layers, info.d_mlp, info.act_fn, info.hook) == (
        "embedded",
        4,
        768,
        "solu_ln",
        "blocks.{layer}.mlp.ln.hook_in",
    )
    assert (info.vocab_size, info.n_ctx, info.bos_id, info.mask_id) == (6144, 256, 0, 1)
    stored = json.loads((embedded_model() / "config.json").read_text(encoding="utf-8"))
    assert {name: info.config[name] for name in stored} == stored
    assert json.loads(json.dumps(info.config)) == info.config
    assert re.fullmatch("[0-9a-f]{64}", info.weights_sha256)


def test_embedded_activations_are_those_at_the_hook(
    embedded: TransformerLensModel, tokens: NDArray[np.int32]
) -> None:
    for layer in range(4):
        cached = from_cache(embedded, f"blocks.{layer}.mlp.ln.hook_in", tokens)
        torch.testing.assert_close(embedded.activations(layer, tokens), cached, rtol=1e-4, atol=1e-5)


def test_embedded_activations_are_solu_before_the_layer_norm(
    embedded: TransformerLensModel, tokens: NDArray[np.int32]
) -> None:
    before = from_cache(embedded, "blocks.2.mlp.in.hook_out", tokens)
    torch.testing.assert_close(
        embedded.activations(2, tokens), before * before.softmax(-1), rtol=1e-4, atol=1e-5
    )


def test_several_layers_from_one_pass_equal_one_pass_each(
    embedded: TransformerLensModel, tokens: NDArray[np.int32]
) -> None:
    several, again = embedded.layer_activations((3, 0, 2, 1), [tokens, tokens[:1]])
    assert list(several) == list(again) == [0, 1, 2, 3]
    torch.testing.assert_close(again[2], several[2][:1], rtol=1e-5, atol=1e-5)
    for layer, activations in several.items():
        torch.testing.assert_close(activations, embedded.activations(layer, tokens), rtol=0, atol=0)


def test_activations_are_float32_of_every_token(
    embedded: TransformerLensModel, tokens: NDArray[np.int32]
) -> None:
    activations = embedded.activations(0, tokens)
    assert (activations.shape, activations.dtype, embedded.device) == ((4, 12, 768), torch.float32, "cpu")
    assert not activations.requires_grad


def test_a_row_does_not_depend_on_its_batch(
    embedded: TransformerLensModel, tokens: NDArray[np.int32]
) -> None:
    together = embedded.activations(3, tokens)
    alone = torch.cat([embedded.activations(3, row[None]) for row in tokens])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


class Touched(TorchDispatchMode):
    """Notes which blocks' weights any operation reads, whatever module asks for it."""

    def __init__(self, blocks: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.blocks: set[int] = set()
        self._owner = {
            parameter.untyped_storage().data_ptr(): number
            for number, block in enumerate(blocks)
            for parameter in block.parameters()
        }

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for value in torch.utils._pytree.tree_leaves((args, kwargs)):
            if isinstance(value, torch.Tensor):
                number = self._owner.get(value.untyped_storage().data_ptr())
                self.blocks |= set() if number is None else {number}
        return func(*args, **(kwargs or {}))


def blocks_read(model: TransformerLensModel, layers: tuple[int, ...], tokens: NDArray[np.int32]) -> set[int]:
    touched = Touched(model.bridge.blocks)
    with touched:
        list(model.layer_activations(layers, [tokens]))
    return touched.blocks


def test_the_forward_pass_stops_at_the_last_layer_read(
    embedded: TransformerLensModel, gpt2: Path, tokens: NDArray[np.int32]
) -> None:
    other = load_target(str(gpt2), device="cpu")
    assert [blocks_read(embedded, layers, tokens) for layers in ((0,), (1,), (3,), (0, 2))] == [
        {0},
        {0, 1},
        {0, 1, 2, 3},
        {0, 1, 2},
    ]
    assert [blocks_read(other, layers, tokens) for layers in ((0,), (2,))] == [{0}, {0, 1, 2}]


def test_encoding_adds_no_token(embedded: TransformerLensModel) -> None:
    plain = Tokenizer.from_file(str(embedded_model() / "tokenizer.json"))
    texts = ["import os", "", " leading space", "naïve ✓\r\n"]
    assert embedded.encode(texts) == [plain.encode(text, add_special_tokens=False).ids for text in texts]


def test_loading_is_silent() -> None:
    program = (
        "from n2g_index.build.models.transformer_lens import load_target\n"
        "from n2g_index.build.models.helper import load_helper\n"
        "import numpy as np\n"
        "model = load_target('embedded', device='cpu')\n"
        "helper = load_helper('auto', model, 'cpu')\n"
        "print(tuple(model.activations(0, np.array([[3, 4]], dtype=np.int32)).shape), helper.name)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        check=False,
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "(1, 2, 768) embedded\n", "")


def test_the_data_is_what_its_checksums_say() -> None:
    folder = embedded_model().parent
    lines = (folder / "checksums.sha256").read_text(encoding="utf-8").splitlines()
    stated = {path: digest for digest, path in (line.split("  ") for line in lines)}
    parts = ("model", "helper", "corpus")
    found = {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for part in parts
        for path in (folder / part).rglob("*")
        if path.is_file()
    }
    assert found == stated


# Hugging Face folders


def direct_gpt2(folder: Path, layer: int, tokens: NDArray[np.int32]) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    return hooked(model, model.transformer.h[layer].mlp.act, tokens, lambda inputs, output: output)


def direct_llama(folder: Path, layer: int, tokens: NDArray[np.int32]) -> torch.Tensor:
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    return hooked(model, model.model.layers[layer].mlp.down_proj, tokens, lambda inputs, output: inputs[0])


def hooked(model: Any, module: Any, tokens: NDArray[np.int32], take: Callable[..., Any]) -> torch.Tensor:
    found: list[torch.Tensor] = []
    handle = module.register_forward_hook(lambda _, inputs, output: found.append(take(inputs, output)))
    with torch.inference_mode():
        model(with_bos(tokens))
    handle.remove()
    return found[0][:, 1:]


SHAPES = [
    pytest.param("gpt2", direct_gpt2, (3, 128, "gelu_new", POST_HOOK), id="gpt2"),
    pytest.param("llama", direct_llama, (2, 48, "silu", POST_HOOK), id="llama"),
]


@pytest.mark.parametrize(("shape", "direct", "facts"), SHAPES)
def test_a_hugging_face_folder_gives_the_neurons_of_the_model_itself(
    shape: str,
    direct: Callable[[Path, int, NDArray[np.int32]], torch.Tensor],
    facts: tuple[int, int, str, str],
    request: pytest.FixtureRequest,
    tokens: NDArray[np.int32],
) -> None:
    folder = request.getfixturevalue(shape)
    model = load_target(str(folder), device="cpu")
    info = model.info
    assert (info.n_layers, info.d_mlp, info.act_fn, info.hook) == facts
    assert (info.name, info.tokenizer, info.vocab_size, info.n_ctx, info.bos_id, info.mask_id) == (
        str(folder),
        str(folder),
        6144,
        32,
        0,
        1,
    )
    (read,) = model.layer_activations(range(info.n_layers), [tokens])
    for layer, activations in read.items():
        torch.testing.assert_close(activations, direct(folder, layer, tokens), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("hook", "width"),
    [
        ("blocks.{layer}.mlp.in.hook_out", 128),
        ("blocks.{layer}.mlp.out.hook_in", 128),
        ("blocks.{layer}.mlp.hook_pre", 128),
        ("blocks.{layer}.hook_resid_post", 32),
    ],
)
def test_a_hook_that_the_user_names_is_read(
    gpt2: Path, tokens: NDArray[np.int32], hook: str, width: int
) -> None:
    model = load_target(str(gpt2), hook=hook, device="cpu")
    assert (model.info.hook, model.info.d_mlp) == (hook, width)
    for layer in range(3):
        cached = from_cache(model, hook.format(layer=layer), tokens)
        torch.testing.assert_close(model.activations(layer, tokens), cached, rtol=1e-5, atol=1e-5)


def test_a_hook_that_the_model_lacks_is_refused_with_those_it_has(gpt2: Path) -> None:
    with pytest.raises(ModelError) as caught:
        load_target(str(gpt2), hook=SOLU_HOOK, device="cpu")
    names = "hook_in hook_out hook_post hook_pre in.hook_in in.hook_out out.hook_in out.hook_out"
    listed = [f"blocks.{{layer}}.mlp.{name}" for name in names.split()]
    assert str(caught.value) == (
        f"The model has no hook {SOLU_HOOK!r}; name one with --hook (its MLP hooks: {', '.join(listed)})."
    )


def test_the_digest_of_the_weights_tells_models_apart(gpt2: Path, tmp_path: Path) -> None:
    changed = shutil.copytree(gpt2, tmp_path / "changed")
    weights = load_file(changed / "model.safetensors")
    weights["transformer.h.1.mlp.c_fc.bias"][5] += 1
    save_file(weights, changed / "model.safetensors", metadata={"format": "pt"})
    again = shutil.copytree(gpt2, tmp_path / "again")
    first, same, other = (
        load_target(str(folder), device="cpu").info.weights_sha256 for folder in (gpt2, again, changed)
    )
    assert (first == same, first == other) == (True, False)


# Values at places, plain and as token trees


VARIANTS = [[9, 8, 7, 6, 5], [9, 1, 7, 6, 5], [9, 8, 1], [9, 8, 7, 1, 5], [4], [9, 8, 7, 6, 1]]


def asked(texts: list[list[int]]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Sequence, position and neuron of one question for every token."""
    places = [(i, at) for i, text in enumerate(texts) for at in range(len(text))]
    sequence, position = np.array(places, dtype=np.int64).T
    return sequence, position, np.arange(len(places), dtype=np.int64) * 3 % 48


def one_by_one(model: TransformerLensModel, layer: int, texts: list[list[int]]) -> NDArray[np.float32]:
    rows = [model.activations(layer, np.array([text], dtype=np.int32))[0] for text in texts]
    sequence, position, neuron = asked(texts)
    return np.array([float(rows[i][at, n]) for i, at, n in zip(sequence, position, neuron, strict=True)])


def as_tree(texts: list[list[int]]) -> Batch:
    arrays = [np.array(text, dtype=np.int32) for text in texts]
    forest = plant(arrays, *shared_prefixes(arrays), longest=15)
    tokens, depth, end = forest.padded(np.arange(len(forest.starts) - 1))
    sequence, position, neuron = asked(texts)
    return Batch(tokens, *forest.find(sequence, position), neuron, Tree(depth, end))


@pytest.mark.parametrize("shape", ["embedded", "gpt2", "llama", "rotary"])
def test_a_token_tree_gives_what_its_sequences_give(shape: str, request: pytest.FixtureRequest) -> None:
    name = shape if shape == "embedded" else str(request.getfixturevalue(shape))
    model = load_target(name, device="cpu")
    assert model.runs_trees
    for layer in range(model.info.n_layers):
        (values,) = model.values(layer, [as_tree(VARIANTS)])
        np.testing.assert_allclose(values, one_by_one(model, layer, VARIANTS), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", ["embedded", "gpt2", "llama", "rotary"])
@pytest.mark.parametrize("places", [[(0, 4), (1, 4), (3, 4)], [(1, 2), (3, 2)], [(0, 0), (0, 3), (3, 4)]])
def test_plain_rows_give_the_places_asked_for(
    shape: str, places: list[tuple[int, int]], request: pytest.FixtureRequest
) -> None:
    name = shape if shape == "embedded" else str(request.getfixturevalue(shape))
    model = load_target(name, device="cpu")
    tokens = np.array([VARIANTS[i] for i in (0, 1, 3, 5)], dtype=np.int32)
    row, position = np.array(places, dtype=np.int64).T
    neuron = np.array([5, 7, 5], dtype=np.int64)[: len(row)]
    for layer in range(model.info.n_layers):
        (values,) = model.values(layer, [Batch(tokens, row, position, neuron)])
        whole = model.activations(layer, tokens).numpy()
        np.testing.assert_allclose(values, whole[row, position, neuron], rtol=1e-4, atol=1e-5)


def test_a_model_that_takes_no_mask_runs_no_trees(gpt2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = LeanForward.run

    def deaf(self: LeanForward, *args: Any, mask: Any = None, **kwargs: Any) -> dict[int, torch.Tensor]:
        return run(self, *args, mask=None if mask is None else torch.zeros_like(mask), **kwargs)

    monkeypatch.setattr(LeanForward, "run", deaf)
    assert not load_target(str(gpt2), device="cpu").runs_trees


def test_a_model_that_fails_on_a_mask_runs_no_trees(gpt2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Forward, tree: Tree) -> dict[str, torch.Tensor]:
        raise RuntimeError("no mask of four dimensions")

    monkeypatch.setattr(Forward, "_tree", broken)
    assert not load_target(str(gpt2), device="cpu").runs_trees


def test_a_model_that_needs_its_wrappers_runs_through_the_bridge(
    gpt2: Path, tokens: NDArray[np.int32], monkeypatch: pytest.MonkeyPatch
) -> None:
    short = load_target(str(gpt2), device="cpu")
    monkeypatch.setattr(LeanForward, "run", lambda *_, **__: {})
    whole = load_target(str(gpt2), device="cpu")
    assert not whole.runs_trees
    monkeypatch.undo()
    row, position, neuron = np.array([[0, 2], [3, 11], [7, 90]], dtype=np.int64)
    batch = Batch(tokens, row, position, neuron)
    for layer in range(3):
        (one,), (other,) = (model.values(layer, [batch]) for model in (short, whole))
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_batches_side_by_side_give_the_same_in_their_order(embedded: TransformerLensModel) -> None:
    batches = [as_tree(VARIANTS[: 1 + i % len(VARIANTS)]) for i in range(17)]
    alone = list(embedded.values(2, batches))
    torch.set_num_threads(3)
    try:
        together = list(embedded.values(2, batches))
        assert torch.get_num_threads() == 3  # the workers' setting is not the caller's
    finally:
        torch.set_num_threads(1)
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_an_error_in_one_batch_ends_the_run(embedded: TransformerLensModel) -> None:
    good = as_tree(VARIANTS)
    bad = Batch(good.tokens + 10_000, good.row, good.position, good.neuron, good.tree)
    torch.set_num_threads(2)
    try:
        with pytest.raises(IndexError):
            list(embedded.values(1, [good, bad, *[good] * 20]))
    finally:
        torch.set_num_threads(1)


# Neel Nanda's legacy format


@pytest.fixture
def legacy_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub that holds one repository in the legacy format, with the embedded model's weights."""
    config = json.loads((embedded_model() / "config.json").read_text(encoding="utf-8"))
    heads, width, d_head = config["n_heads"], config["d_model"], config["d_head"]
    state: dict[str, torch.Tensor] = {"unembed.b_U": torch.zeros(config["d_vocab"])}
    for name, tensor in load_file(embedded_model() / "model.safetensors").items():
        weight = tensor.float()
        stem, _, kind = name.rpartition(".")
        parent, _, leaf = stem.rpartition(".")
        if parent.endswith(".attn") and leaf in "qkv":
            key = f"{parent}.{'W' if kind == 'weight' else 'b'}_{leaf.upper()}"
            if kind == "weight":  # a row per output, heads one after the other
                weight = weight.reshape(heads, d_head, width).transpose(1, 2)
            else:
                weight = weight.reshape(heads, d_head)
        elif parent.endswith(".attn"):
            key = f"{parent}.{'W' if kind == 'weight' else 'b'}_O"
            weight = weight.T.reshape(heads, d_head, width) if kind == "weight" else weight
        elif leaf in ("in", "out"):
            key = f"{parent}.{'W' if kind == 'weight' else 'b'}_{leaf}"
            weight = weight.T if kind == "weight" else weight
        elif stem in ("embed", "pos_embed", "unembed"):
            key = f"{stem}.{ {'embed': 'W_E', 'pos_embed': 'W_pos', 'unembed': 'W_U'}[stem] }"
            weight = weight.T if stem == "unembed" else weight
        else:
            key = f"{stem}.{'w' if kind == 'weight' else 'b'}"
        state[key] = weight.contiguous()
    for layer in range(config["n_layers"]):  # buffers that such checkpoints carry
        state[f"blocks.{layer}.attn.mask"] = torch.ones(config["n_ctx"], config["n_ctx"]).tril()
        state[f"blocks.{layer}.attn.IGNORE"] = torch.tensor(-1e5)
    torch.save(state, tmp_path / "final.pth")
    (tmp_path / "config.json").write_text(
        json.dumps(
            {
                **{key: config[key] for key in ("d_model", "n_layers", "d_mlp", "d_head", "n_heads")},
                **{key: config[key] for key in ("n_ctx", "d_vocab", "act_fn")},
                "attn_only": False,
                "normalization": "LN",
                "tokenizer_name": str(embedded_model()),
            }
        ),
        encoding="utf-8",
    )

    def download(repo_id: str, filename: str, **options: Any) -> str:
        assert repo_id == "NeelNanda/test_4L"
        return str(tmp_path / filename)

    def list_files(api: Any, repo_id: str, **options: Any) -> list[str]:
        assert repo_id == "NeelNanda/test_4L"
        return ["README.md", "config.json", "final.pth"]

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", list_files)
    return tmp_path


@pytest.mark.usefixtures("legacy_hub")
def test_a_legacy_solu_model_gives_the_same_neurons(
    embedded: TransformerLensModel, tokens: NDArray[np.int32]
) -> None:
    legacy = load_target("NeelNanda/test_4L", device="cpu")
    info = legacy.info
    assert (info.name, info.n_layers, info.d_mlp, info.act_fn, info.hook) == (
        "NeelNanda/test_4L",
        4,
        768,
        "solu_ln",
        SOLU_HOOK,
    )
    assert legacy.encode([CODE]) == embedded.encode([CODE])
    (read,) = legacy.layer_activations(range(4), [tokens])
    for layer, activations in read.items():
        torch.testing.assert_close(activations, embedded.activations(layer, tokens), rtol=1e-5, atol=1e-5)


def test_a_legacy_model_without_weights_is_refused(legacy_hub: Path) -> None:
    (legacy_hub / "final.pth").unlink()
    assert refused("NeelNanda/test_4L").startswith(
        "The model 'NeelNanda/test_4L' is neither a local folder nor a model that the Hugging Face hub gave ("
    )


# What cannot be opened


def refused(name: str, device: str = "cpu") -> str:
    """The message with which a model is refused; it is one line and ends as a sentence does."""
    with pytest.raises(ModelError) as caught:
        load_target(name, device=device)
    message = str(caught.value)
    assert re.fullmatch(r"[^\n]+[^.\n]\.", message)
    return message


def edited(source: Path, folder: Path, **changes: Any) -> Path:
    """A copy of a model folder with other values in its config.json."""
    shutil.copytree(source, folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, **changes}), encoding="utf-8")
    return folder


def test_an_unknown_name_is_refused() -> None:
    assert re.fullmatch(
        r"The model 'nobody/no-such-model' is neither a local folder nor a model that the Hugging Face hub "
        r"gave \(.+\); give a folder with config\.json, weights and tokenizer, or 'embedded'\.",
        refused("nobody/no-such-model"),
    )


def test_a_folder_without_config_is_refused(tmp_path: Path) -> None:
    assert refused(str(tmp_path)).startswith(f"The model in {str(tmp_path)!r} cannot be opened: ")


def test_a_broken_config_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{oops", encoding="utf-8")
    assert refused(str(tmp_path)).startswith(f"{tmp_path / 'config.json'} is not valid JSON: ")


def test_weights_of_another_number_of_layers_are_refused(tmp_path: Path) -> None:
    folder = edited(embedded_model(), tmp_path / "model", n_layers=3)
    start = f"The weights in {folder} do not fit its config.json (blocks.3."
    assert refused(str(folder)).startswith(start)


def test_weights_of_another_shape_are_refused(tmp_path: Path, gpt2: Path) -> None:
    own = edited(embedded_model(), tmp_path / "own", d_mlp=512)
    assert refused(str(own)).startswith(f"The model in {str(own)!r} cannot be opened: Error(s) in loading")
    assert "size mismatch" in refused(str(own))
    foreign = edited(gpt2, tmp_path / "foreign", n_inner=77)
    assert refused(str(foreign)) == (
        f"The weights of {str(foreign)!r} do not fit its config.json: "
        "transformer.h.0.mlp.c_fc.bias has another shape."
    )


@pytest.mark.parametrize("content", [None, b"cut off"])
@pytest.mark.parametrize("shape", ["embedded", "llama"])
def test_missing_and_damaged_weights_are_refused(
    shape: str, content: bytes | None, tmp_path: Path, llama: Path
) -> None:
    folder = shutil.copytree({"embedded": embedded_model(), "llama": llama}[shape], tmp_path / "model")
    (folder / "model.safetensors").unlink()
    if content is not None:
        (folder / "model.safetensors").write_bytes(content)
    assert refused(str(folder)).startswith(f"The model in {str(folder)!r} cannot be opened: ")


@pytest.mark.parametrize("shape", ["embedded", "llama"])
def test_a_model_without_tokenizer_is_refused(shape: str, tmp_path: Path, llama: Path) -> None:
    folder = shutil.copytree({"embedded": embedded_model(), "llama": llama}[shape], tmp_path / "model")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    assert refused(str(folder)).startswith(f"The model in {str(folder)!r} cannot be opened: ")


@pytest.mark.parametrize("device", ["cuda:99", "nonsense"])
def test_a_device_that_is_not_there_is_refused(device: str) -> None:
    assert refused("embedded", device) == f"The device {device!r} is not available here; use --device cpu."


# Known gaps: what should be refused with a ModelError and is not yet


def test_a_hugging_face_folder_that_lacks_weights_is_refused(gpt2: Path, tmp_path: Path) -> None:
    refused(str(edited(gpt2, tmp_path / "model", n_layer=4)))


def test_a_gpt2_folder_without_tokenizer_is_refused(gpt2: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(gpt2, tmp_path / "model")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    refused(str(folder))


def test_a_model_that_looks_ahead_is_refused() -> None:
    refused(str(embedded_helper()))


def test_a_hook_with_another_field_is_refused() -> None:
    with pytest.raises(ModelError):
        choose_hook("gelu", {"blocks.0.mlp.hook_post"}, "blocks.{layer}.{part}")


def test_a_device_without_memory_is_refused() -> None:
    refused("embedded", "meta")


# Hooks


@pytest.mark.parametrize(
    ("act_fn", "hooks", "requested", "chosen"),
    [
        ("solu_ln", {"blocks.0.mlp.ln.hook_in", "blocks.0.mlp.hook_post"}, None, SOLU_HOOK),
        ("gelu", {"blocks.0.mlp.hook_post", "blocks.0.mlp.out.hook_in"}, None, POST_HOOK),
        ("silu", {"blocks.0.mlp.out.hook_in", "blocks.0.mlp.in.hook_in"}, None, OUT_HOOK),
        ("solu", {"blocks.0.mlp.hook_post", "blocks.0.mlp.ln.hook_in"}, None, POST_HOOK),
        ("solu_ln", {"blocks.0.mlp.ln.hook_in", "blocks.0.hook_x"}, "blocks.{layer}.hook_x", None),
    ],
)
def test_the_hook_is_chosen_by_architecture(
    act_fn: str, hooks: set[str], requested: str | None, chosen: str | None
) -> None:
    assert choose_hook(act_fn, hooks, requested) == (chosen or requested)


@pytest.mark.parametrize(
    ("act_fn", "hooks", "requested", "message"),
    [
        (
            "gelu",
            {"blocks.0.hook_in"},
            None,
            f"The model has no hook {POST_HOOK!r}; name one with --hook (its MLP hooks: none).",
        ),
        (
            "solu_ln",
            {"blocks.0.mlp.hook_post", "blocks.0.mlp.hook_in", "blocks.1.mlp.hook_in"},
            None,
            f"The model has no hook {SOLU_HOOK!r}; name one with --hook (its MLP hooks: "
            "blocks.{layer}.mlp.hook_in, blocks.{layer}.mlp.hook_post).",
        ),
        (
            "gelu",
            {"blocks.0.mlp.hook_post"},
            "blocks.0.mlp.hook_post",
            "The hook 'blocks.0.mlp.hook_post' must hold {layer}, as in 'blocks.{layer}.mlp.hook_post'.",
        ),
    ],
)
def test_a_hook_that_is_not_there_is_an_error(
    act_fn: str, hooks: set[str], requested: str | None, message: str
) -> None:
    with pytest.raises(ModelError) as caught:
        choose_hook(act_fn, hooks, requested)
    assert str(caught.value) == message


# Token texts


def byte_of() -> dict[str, int]:
    """The stand-ins of byte-level BPE, as GPT-2 published them."""
    shown = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = sorted(set(range(256)) - set(shown))
    return {chr(b): b for b in shown} | {chr(256 + n): b for n, b in enumerate(hidden)}


def test_every_byte_level_token_has_its_exact_text(embedded: TransformerLensModel) -> None:
    plain = Tokenizer.from_file(str(embedded_model() / "tokenizer.json"))
    stand_in = byte_of()
    expected = ["<|endoftext|>", "<|pad|>", "<|mask|>"]
    for token_id in range(3, 6144):
        raw = bytes(stand_in[c] for c in plain.id_to_token(token_id) or "")
        expected.append(raw.decode("utf-8", errors="backslashreplace"))
    assert list(embedded.token_texts()) == expected
    assert {" import", "\n    ", "\\xc3", " "} <= set(expected)


def test_token_texts_joined_are_the_text(embedded: TransformerLensModel) -> None:
    texts = embedded.token_texts()
    assert "".join(texts[i] for i in embedded.encode([CODE])[0]) == CODE


def test_ids_beyond_the_tokenizer_are_named_by_number(embedded: TransformerLensModel) -> None:
    assert token_texts(embedded.tokenizer, 6146)[6142:] == (
        *embedded.token_texts()[6142:],
        "<id 6144>",
        "<id 6145>",
    )


PIECES = {"▁": " ", "a": "a", "b": "b", "é": "é", "▁a": " a", "ab": "ab", "▁ab": " ab", "▁▁": "  "}
LLAMA = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]


def sentencepiece(decoder: decoders.Decoder) -> Any:
    """A tokenizer with ▁ for spaces and a token for every byte, as SentencePiece models have."""
    names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *PIECES]
    merges = [("▁", "a"), ("a", "b"), ("▁a", "b"), ("▁", "▁")]
    vocabulary = {name: number for number, name in enumerate(names)}
    backend = Tokenizer(models.BPE(vocabulary, merges, byte_fallback=True, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoder
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


DECODERS = pytest.mark.parametrize(
    "decoder",
    [
        pytest.param(decoders.Sequence([*LLAMA, decoders.Strip(" ", 1, 0)]), id="llama"),
        pytest.param(decoders.Sequence(LLAMA), id="gemma"),
        pytest.param(decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()]), id="metaspace"),
    ],
)


@DECODERS
def test_every_sentencepiece_token_has_its_exact_text(decoder: decoders.Decoder) -> None:
    texts = token_texts(sentencepiece(decoder), 3 + 256 + len(PIECES))
    ascii_bytes = [chr(byte) for byte in range(128)]  # among them a line break for <0x0A>
    assert texts[: 3 + 128] == ("<unk>", "<s>", "</s>", *ascii_bytes)
    assert texts[3 + 256 :] == tuple(PIECES.values())


@DECODERS
def test_sentencepiece_bytes_that_are_no_character_are_escaped(decoder: decoders.Decoder) -> None:
    texts = token_texts(sentencepiece(decoder), 3 + 256)
    assert texts[3 + 128 :] == tuple(f"\\x{byte:02x}" for byte in range(128, 256))
