"""Do helpers propose exactly what their masked language model says, as single tokens of the target?"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    AutoModelForMaskedLM,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
)

from n2g_index.build.models.helper import (
    Candidate,
    Helper,
    SharedTokenizerHelper,
    TextHelper,
    load_helper,
)
from n2g_index.build.models.transformer_lens import TransformerLensModel
from n2g_index.errors import ModelError
from n2g_index.resources import embedded_helper, embedded_model

BOS, MASK, SPECIAL = 0, 2, {0, 1, 2}
TEXT = (
    "import numpy as np\nfrom os import path\n\ndef main(self, name):\n    if name is None:\n"
    "        raise ValueError('The name is not set.')\n    return self.name\n"
)
Proposals = list[tuple[Candidate, ...]]


def shared(target: TransformerLensModel) -> SharedTokenizerHelper:
    """The embedded helper, with nothing remembered."""
    helper = load_helper("auto", target, "cpu")
    assert isinstance(helper, SharedTokenizerHelper)
    return helper


def tokens_of(target: TransformerLensModel, text: str) -> NDArray[np.int32]:
    return np.array(target.encode([text])[0], dtype=np.int32)


def probabilities(model: Any, row: Sequence[int], at: int) -> list[float]:
    """The model's own softmax at one position of one row."""
    with torch.inference_mode():
        softmax: list[float] = model(input_ids=torch.tensor([row])).logits[0, at].softmax(-1).tolist()
    return softmax


def assert_same(found: Proposals, expected: Proposals) -> None:
    assert [[c.token_id for c in row] for row in found] == [[c.token_id for c in row] for row in expected]
    for ours, theirs in zip(found, expected, strict=True):
        assert [c.probability for c in ours] == pytest.approx([c.probability for c in theirs], abs=1e-5)


# With the target's own tokenizer


def directly(
    model: Any, tokens: NDArray[np.int32], position: int, limit: int, least: float
) -> tuple[Candidate, ...]:
    row = [BOS, *tokens.tolist()]
    row[position + 1] = MASK
    weights = probabilities(model, row, position + 1)
    ranked = sorted(range(len(weights)), key=lambda token: -weights[token])
    barred = SPECIAL | {int(tokens[position])}
    return tuple(Candidate(t, weights[t]) for t in ranked if t not in barred and weights[t] >= least)[:limit]


@pytest.fixture(scope="module")
def model() -> Any:
    return AutoModelForMaskedLM.from_pretrained(embedded_helper()).float().eval()


def test_shared_proposals_are_the_softmax_of_each_context_alone(
    embedded: TransformerLensModel, model: Any
) -> None:
    tokens = tokens_of(embedded, TEXT)
    places = [(tokens[:length], place) for length in (1, 5, 9) for place in range(0, length, 2)]
    places += [(tokens, place) for place in range(0, len(tokens), 7)]
    helper = shared(embedded)
    helper.batch_tokens = 40  # several batches of each length
    found = helper.propose(places, limit=5, min_probability=0.05)
    assert_same(found, [directly(model, context, place, 5, 0.05) for context, place in places])
    assert {len(row) for row in found} >= {0, 5}  # some are cut by the limit, some by the threshold


def test_neither_the_original_nor_a_special_token_is_proposed(embedded: TransformerLensModel) -> None:
    tokens = tokens_of(embedded, "from os import path")
    (everything,) = shared(embedded).propose([(tokens, 2)], limit=6144, min_probability=0)
    assert {c.token_id for c in everything} == set(range(6144)) - SPECIAL - {int(tokens[2])}
    assert list(everything) == sorted(everything, key=lambda c: -c.probability)


def test_limit_and_threshold_cut_the_same_list(embedded: TransformerLensModel) -> None:
    place = (tokens_of(embedded, TEXT), 12)
    (everything,) = shared(embedded).propose([place], limit=6144, min_probability=0)
    (limited,) = shared(embedded).propose([place], limit=3, min_probability=0)
    (likely,) = shared(embedded).propose([place], limit=6144, min_probability=0.02)
    assert_same([limited], [everything[:3]])
    assert_same([likely], [tuple(c for c in everything if c.probability >= 0.02)])
    assert 0 < len(likely) < 50
    assert shared(embedded).propose([place], limit=3, min_probability=1) == [()]


def test_remembered_answers_are_the_same_and_cost_nothing(embedded: TransformerLensModel) -> None:
    helper = shared(embedded)
    tokens = tokens_of(embedded, TEXT)
    places = [(tokens[:6], 1), (tokens[:6], 2), (tokens[:6].copy(), 1), (tokens[:9], 1)]
    rows: list[int] = []
    handle = helper.model.register_forward_pre_hook(
        lambda _, args, kwargs: rows.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    first = helper.propose(places, limit=4, min_probability=0.001)
    assert sum(rows) == 3  # two of the four are equal
    assert helper.propose(places[::-1], limit=4, min_probability=0.001) == first[::-1]
    assert sum(rows) == 3
    handle.remove()
    assert first[0] == first[2]


def test_the_same_masked_context_with_another_original_bars_that_one(
    embedded: TransformerLensModel, model: Any
) -> None:
    tokens = tokens_of(embedded, "from os import path")
    ((best, *_),) = shared(embedded).propose([(tokens, 2)], limit=1, min_probability=0)
    other = tokens.copy()
    other[2] = best.token_id
    places = [(tokens, 2), (other, 2)]
    found = shared(embedded).propose(places, limit=3, min_probability=0)
    assert_same(found, [directly(model, context, place, 3, 0) for context, place in places])
    assert best.token_id == found[0][0].token_id
    assert best.token_id not in {c.token_id for c in found[1]}


@pytest.mark.parametrize(
    ("position", "start"), [(0, 0), (63, 0), (64, 1), (150, 87), (236, 173), (237, 173), (299, 173)]
)
def test_long_contexts_are_cut_around_the_place(
    position: int, start: int, embedded: TransformerLensModel, model: Any
) -> None:
    tokens = np.resize(tokens_of(embedded, TEXT), 300)
    found = shared(embedded).propose([(tokens, position)], limit=5, min_probability=0.001)
    seen = tokens[start : start + 127]  # BOS takes one of the helper's 128 places
    assert_same(found, [directly(model, seen, position - start, 5, 0.001)])


def test_no_place_has_no_answer(embedded: TransformerLensModel) -> None:
    assert shared(embedded).propose([], limit=5, min_probability=0.01) == []


def test_a_later_call_may_ask_for_more(embedded: TransformerLensModel) -> None:
    helper = shared(embedded)
    place = (tokens_of(embedded, TEXT), 12)
    helper.propose([place], limit=1, min_probability=0)
    assert [len(row) for row in helper.propose([place], limit=5, min_probability=0)] == [5]


# With a tokenizer of its own

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [
    "the",
    "this",
    "that",
    "name",
    "path",
    "import",
    "from",
    "self",
    "return",
    "if",
    "not",
    "is",
    "in",
    "for",
    "none",
    "value",
    "error",
    "set",
]
PIECES = ["##s", "##er", "##ing", "##name", "(", ")", ".", ",", ":", "'", "_", "zebrafish", "qwertyuiop"]
ROOM = 24
"""Longest input that the little BERT reads."""


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT with random weights and a WordPiece vocabulary of words the target mostly has as one token."""
    folder = tmp_path_factory.mktemp("bert")
    names = [*SPECIALS, *WORDS, *PIECES]
    backend = Tokenizer(models.WordPiece({name: i for i, name in enumerate(names)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    special = {f"{name[1:-1].lower()}_token": name for name in SPECIALS}
    PreTrainedTokenizerFast(tokenizer_object=backend, **special).save_pretrained(folder)
    torch.manual_seed(6)
    BertForMaskedLM(bert_config(len(names))).save_pretrained(folder)
    return folder


def bert_config(vocab_size: int) -> Any:
    return BertConfig(
        vocab_size=vocab_size,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=ROOM,
        initializer_range=0.6,
    )


def by_text(
    folder: Path, target: TransformerLensModel, tokens: NDArray[np.int32], position: int, least: float
) -> tuple[Candidate, ...]:
    """What the helper must propose, from the text with its mask written into it."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForMaskedLM.from_pretrained(folder).eval()
    texts = target.token_texts()
    parts = [texts[token] for token in tokens]
    parts[position] = "[MASK]"
    row = tokenizer("".join(parts))["input_ids"]
    weights = probabilities(model, row, row.index(4))
    original = texts[tokens[position]]
    single = {text: token for token, text in enumerate(texts)}
    found: dict[int, Candidate] = {}
    for piece in sorted(range(5, len(weights)), key=lambda piece: -weights[piece]):
        word = tokenizer.convert_ids_to_tokens(piece)
        if word.startswith("##") and original[0].isspace():
            continue  # the inside of a word cannot begin one
        word = word.removeprefix("##")
        word = word.title() if original.strip().istitle() else word
        token = single.get(re.match(r"\s*", original)[0] + word)  # type: ignore[index]
        if token is not None and token != tokens[position] and weights[piece] >= least:
            found.setdefault(token, Candidate(token, weights[piece]))
    return tuple(found.values())


def text_helper(folder: Path, target: TransformerLensModel) -> TextHelper:
    helper = load_helper(str(folder), target, "cpu")
    assert isinstance(helper, TextHelper)
    return helper


def test_text_proposals_are_single_tokens_written_like_the_original(
    bert: Path, embedded: TransformerLensModel
) -> None:
    contexts = ["from os import path", "if the name is not set: return", "This is the Value(self.name)"]
    places = [(t, at) for t in (tokens_of(embedded, text) for text in contexts) for at in range(len(t))]
    least = 0.01
    found = text_helper(bert, embedded).propose(places, limit=30, min_probability=least)
    assert_same(found, [by_text(bert, embedded, tokens, at, least) for tokens, at in places])
    texts = embedded.token_texts()
    spaced = titled = 0
    for (tokens, at), row in zip(places, found, strict=True):
        original = texts[tokens[at]]
        for candidate in row:
            text = texts[candidate.token_id]
            assert embedded.encode([text]) == [[candidate.token_id]]
            assert text.startswith(" ") == original.startswith(" ")
            assert candidate.token_id != tokens[at]
            if original.strip().istitle() and text.strip().isalpha():
                assert text.strip().istitle()
                titled += 1
            spaced += text.startswith(" ")
    assert (spaced > 20, titled > 5) == (True, True)


def test_text_proposals_keep_to_limit_and_threshold(bert: Path, embedded: TransformerLensModel) -> None:
    place = (tokens_of(embedded, "if the name is not set: return"), 2)
    helper = text_helper(bert, embedded)
    everything = by_text(bert, embedded, *place, 0)
    least = everything[2].probability * 0.999
    assert_same(helper.propose([place], limit=2, min_probability=0), [everything[:2]])
    assert_same(
        helper.propose([place], limit=9, min_probability=least),
        [tuple(c for c in everything if c.probability >= least)],
    )
    assert helper.propose([place], limit=9, min_probability=1) == [()]
    assert helper.propose([], limit=9, min_probability=0) == []


@pytest.mark.parametrize("at", [0, 20, 59])
def test_text_contexts_longer_than_the_helper_reads_are_cut(
    at: int, bert: Path, embedded: TransformerLensModel
) -> None:
    words = [WORDS[i % len(WORDS)] for i in range(60)]
    assert all(len(embedded.encode([f" {word}"])[0]) == 1 for word in words)
    tokens = tokens_of(embedded, "".join(f" {word}" for word in words))
    before, after = words[:at], words[at + 1 :]
    room = ROOM - 3  # [CLS], [MASK] and [SEP]
    left = min(len(before), room // 2)
    kept = [*before[len(before) - left :], words[at], *after[: room - left]]
    short = tokens_of(embedded, "".join(f" {word}" for word in kept))
    found = text_helper(bert, embedded).propose([(tokens, at)], limit=30, min_probability=0.01)
    assert_same(found, [by_text(bert, embedded, short, left, 0.01)])


def test_a_mask_written_in_the_text_is_not_the_place(bert: Path, embedded: TransformerLensModel) -> None:
    tokens = tokens_of(embedded, "the [MASK] is the name")
    row = AutoTokenizer.from_pretrained(bert)("the [MASK] is the [MASK]")["input_ids"]
    weights = probabilities(AutoModelForMaskedLM.from_pretrained(bert).eval(), row, len(row) - 2)
    (found,) = text_helper(bert, embedded).propose([(tokens, len(tokens) - 1)], limit=5, min_probability=0)
    assert [min(abs(c.probability - w) for w in weights) for c in found] == pytest.approx([0] * 5, abs=1e-6)


# Opening a helper


def refused(name: str, target: TransformerLensModel) -> str:
    with pytest.raises(ModelError) as caught:
        load_helper(name, target, "cpu")
    message = str(caught.value)
    assert re.fullmatch(r"[^\n]+[^.\n]\.", message)
    return message


def opened(helper: Helper | None) -> tuple[type[object], str]:
    assert helper is not None
    return type(helper), helper.name


def test_the_embedded_model_has_the_embedded_helper(embedded: TransformerLensModel) -> None:
    assert [opened(load_helper(name, embedded, "cpu")) for name in ("auto", "embedded")] == [
        (SharedTokenizerHelper, "embedded"),
        (SharedTokenizerHelper, "embedded"),
    ]


def test_none_is_no_helper(embedded: TransformerLensModel) -> None:
    assert load_helper("none", embedded, "cpu") is None


def test_a_folder_is_named_as_given(bert: Path, embedded: TransformerLensModel) -> None:
    assert opened(load_helper(str(bert), embedded, "cpu")) == (TextHelper, str(bert))


HINT = "name a local masked LM with --helper DIR, or build without substitutes: --helper none."


def test_a_helper_that_is_not_there_is_refused(embedded: TransformerLensModel, tmp_path: Path) -> None:
    for name in ("nobody/no-such-helper", str(tmp_path / "missing"), str(tmp_path)):
        message = refused(name, embedded)
        assert message.startswith(f"The helper {name!r} cannot be opened (")
        assert message.endswith(f"); {HINT}")


def test_a_causal_model_is_no_helper(embedded: TransformerLensModel, tmp_path: Path) -> None:
    config = GPT2Config(vocab_size=6144, n_positions=8, n_embd=8, n_layer=1, n_head=1)
    GPT2LMHeadModel(config).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(embedded_model()).save_pretrained(tmp_path)
    assert refused(str(tmp_path), embedded).startswith(f"The helper {str(tmp_path)!r} cannot be opened (")


def test_a_helper_without_mask_token_is_refused(
    bert: Path, embedded: TransformerLensModel, tmp_path: Path
) -> None:
    folder = shutil.copytree(bert, tmp_path / "bert")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.mask_token = None
    tokenizer.save_pretrained(folder)
    assert refused(str(folder), embedded) == (
        f"The helper {str(folder)!r} has no mask token: it is not a masked language model."
    )


def test_a_model_without_its_prediction_head_is_refused(
    bert: Path, embedded: TransformerLensModel, tmp_path: Path
) -> None:
    folder = shutil.copytree(bert, tmp_path / "bert")
    BertModel.from_pretrained(bert).save_pretrained(folder)
    refused(str(folder), embedded)
