"""Names of neurons, ranges, and parameters that make no sense."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from n2g_index.config import BuildConfig, N2GConfig, RefinedConfig, neuron_name, parse_neuron, parse_ranges
from n2g_index.errors import BadNeuronName, BadParameter


@pytest.mark.parametrize(
    "text",
    ["L3N15", "l3n15", "L3/N15", "L3_N15", "L3:N15", "L3 N15", "3:15", "3_15", "3/15", " 3 : 15 ", "L03N015"],
)
def test_spellings_of_a_neuron(text: str) -> None:
    assert parse_neuron(text) == (3, 15)


@pytest.mark.parametrize(
    "text",
    ["", " ", "L3", "N15", "315", "3 15", "3-15", "L-3N15", "L3N-1", "L3N15x", "xL3N15", "L3.5N1", "3:15:2",
     "L9Nx", "N15L3", "L3N1 5", "L3N", "3:", ":15", "L3N15\nL4N1"],
)  # fmt: skip
def test_what_is_no_neuron(text: str) -> None:
    with pytest.raises(BadNeuronName) as caught:
        parse_neuron(text)
    assert str(caught.value) == f"{text!r} is not a neuron name: write L3N15 (or 3:15, 3_15, 3/15)."
    assert caught.value.exit_code == 2


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_canonical_name_reads_back(layer: int, index: int) -> None:
    assert parse_neuron(neuron_name(layer, index)) == (layer, index)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("3", (3,)),
        ("0-3", (0, 1, 2, 3)),
        ("0,2,5-7", (0, 2, 5, 6, 7)),
        ("5-7,6,0", (0, 5, 6, 7)),
        (" 1 , 3 - 4 ", (1, 3, 4)),
        ("2-2", (2,)),
    ],
)
def test_ranges(text: str, numbers: tuple[int, ...]) -> None:
    assert parse_ranges(text, "--layers") == numbers


@pytest.mark.parametrize("text", ["", ",", "1,", "-1", "1-", "1-2-3", "a", "1.5", "0 3", "1;2"])
def test_what_is_no_range(text: str) -> None:
    with pytest.raises(BadParameter) as caught:
        parse_ranges(text, "--layers")
    assert str(caught.value) == (
        f"--layers {text!r} is not a list of numbers and ranges such as 0-3 or 0,2,5-7."
    )
    assert caught.value.exit_code == 2


def test_a_range_that_runs_backwards() -> None:
    with pytest.raises(BadParameter) as caught:
        parse_ranges("1,3-2", "--neurons")
    assert str(caught.value) == "--neurons '1,3-2' has a range that ends before it starts."


@given(st.sets(st.integers(0, 60), min_size=1))
def test_a_list_of_numbers_reads_back(numbers: set[int]) -> None:
    assert parse_ranges(",".join(map(str, numbers)), "--layers") == tuple(sorted(numbers))


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"firing_threshold": 0}, "firing_threshold must lie above 0 and at most at 1, not 0."),
        ({"importance_threshold": 1.5}, "importance_threshold must lie above 0 and at most at 1, not 1.5."),
        ({"keep_threshold": -0.5}, "keep_threshold must lie above 0 and at most at 1, not -0.5."),
        (
            {"substitute_probability": float("nan")},
            "substitute_probability must lie above 0 and at most at 1, not nan.",
        ),
        ({"max_context": 0}, "max_context must be at least 1, not 0."),
        ({"max_substitutes": -1}, "max_substitutes cannot be negative (-1)."),
    ],
)
def test_parameters_of_n2g_that_make_no_sense(parameters: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadParameter) as caught:
        N2GConfig(**parameters)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"examples": 0}, "examples must be at least 1, not 0."),
        ({"examples": 1}, "examples must be at least 2: one to train on, one to test on."),
        ({"chunk": 0}, "chunk must be at least 1, not 0."),
        ({"batch_tokens": -1}, "batch_tokens must be at least 1, not -1."),
        ({"window": 1}, "window must be at least 2 tokens, not 1."),
    ],
)
def test_parameters_of_a_build_that_make_no_sense(parameters: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadParameter) as caught:
        BuildConfig(**parameters)
    assert str(caught.value) == sentence


def test_the_edges_are_allowed() -> None:
    refined = RefinedConfig(1, 1, 0, 0, 0.1, 0)
    n2g = N2GConfig("paper", 1, 1, 1, 1, 1, 0, 1, refined)
    assert BuildConfig(examples=2, chunk=1, batch_tokens=1, window=2, n2g=n2g).parameters()["n2g"] == {
        "method": "paper",
        "firing_threshold": 1,
        "importance_threshold": 1,
        "keep_threshold": 1,
        "max_context": 1,
        "substitute_probability": 1,
        "max_substitutes": 0,
        "max_combinations": 1,
        "refined": {
            "windows": 1,
            "reach": 1,
            "max_literals": 0,
            "min_gain": 0,
            "noise": 0.1,
            "place_prior": 0,
        },
    }


@pytest.mark.parametrize(
    ("n2g", "collected"),
    [
        (N2GConfig(), 80),
        (N2GConfig(refined=RefinedConfig(windows=5)), 20),
        (N2GConfig(method="paper"), 20),
    ],
)
def test_windows_are_collected_for_the_examples_and_for_what_the_method_learns(
    n2g: N2GConfig, collected: int
) -> None:
    assert BuildConfig(examples=20, n2g=n2g).collected_windows == collected


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"windows": 0}, "windows must be at least 1, not 0."),
        ({"reach": 0}, "reach must be at least 1, not 0."),
        ({"max_literals": -1}, "max_literals must be at least 0, not -1."),
        ({"min_gain": -0.5}, "min_gain must be at least 0, not -0.5."),
        ({"place_prior": -1}, "place_prior must be at least 0, not -1."),
        ({"noise": 0}, "noise must lie above 0, not 0."),
        ({"noise": float("nan")}, "noise must lie above 0, not nan."),
    ],
)
def test_parameters_of_the_refined_method_that_make_no_sense(
    parameters: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(BadParameter) as caught:
        RefinedConfig(**parameters)
    assert str(caught.value) == sentence


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(BadParameter) as caught:
        N2GConfig(method="better")  # type: ignore[arg-type]
    assert str(caught.value) == "method must be one of paper, refined, not 'better'."


def test_layers_and_neurons_are_kept_sorted_and_once() -> None:
    config = BuildConfig(layers=(2, 0, 2), neurons=(5, 1, 1))
    assert (config.layers, config.neurons) == ((0, 2), (1, 5))


@pytest.mark.parametrize("chosen", [(), (-1,), (0, -2)])
def test_no_layers_and_negative_ones_are_refused(chosen: tuple[int, ...]) -> None:
    for name in ("layers", "neurons"):
        with pytest.raises(BadParameter, match=name):
            BuildConfig(**{name: chosen})  # type: ignore[arg-type]
