"""Neuron to Graph (Foote et al. 2023), for a batch of neurons of one layer at a time.

    examples --prune--> minimal contexts --saliency--> importances --augment--> substitutes --traces--> paths
                                                                                     '---lattice--> optima

1. `prune`: the shortest run of tokens ending at the pivot that keeps half of its activation (section 3.1).
2. `saliency`: how much masking each token lowers each firing token of the minimal context (section 3.2).
3. `augment`: substitutes for the pivot's important tokens from a masked LM, kept where the pivot keeps half
   of its activation (section 3.2).
4. `lattice`: the combination of substitutes that drives the pivot hardest (Algorithm 1, steps 10 to 12).
5. `traces`: one path per firing token and kept substitute, ending at its last important token (section 3.3).

Every stage is a function over small frozen values. None of them runs the model itself: they ask `Probe` for
activations, which runs each distinct sequence once for all neurons that ask.
"""
