"""What every test can rely on: no network, few threads, the embedded model opened once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

# Read when huggingface_hub is first imported, so before any test module is.
os.environ["HF_HUB_OFFLINE"] = "1"

if TYPE_CHECKING:
    from n2g_index.build.models.transformer_lens import TransformerLensModel


@pytest.fixture(scope="session")
def embedded() -> TransformerLensModel:
    """The embedded model. One thread: for models this small more of them cost more than they give."""
    import torch

    from n2g_index.build.models.transformer_lens import load_target

    torch.set_num_threads(1)
    return load_target("embedded", device="cpu")


@pytest.fixture(scope="session")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a GPT-2 of three layers with random weights and the embedded model's tokenizer."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(1)
    config = GPT2Config(
        vocab_size=6144,
        n_positions=32,
        n_embd=32,
        n_layer=3,
        n_head=4,
        bos_token_id=0,
        eos_token_id=0,
        initializer_range=0.2,
    )
    return save_model(GPT2LMHeadModel(config), tmp_path_factory.mktemp("gpt2"))


def save_model(model: Any, folder: Path) -> Path:
    """Write a Hugging Face model with the embedded model's tokenizer."""
    from transformers import AutoTokenizer

    from n2g_index.resources import embedded_model

    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(embedded_model()).save_pretrained(folder)
    return folder
