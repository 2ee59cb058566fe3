"""Drawings of a neuron: SVG pictures and terminal trees, from pure functions on tries and graphs."""
