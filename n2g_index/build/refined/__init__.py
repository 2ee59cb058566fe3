"""The refined method: paths learnt from every labelled token of a neuron's train examples.

The paper looks at the tokens that fire and throws the rest away; but each train example also holds hundreds
of tokens that are known *not* to fire, often the same token in another context. Steps:

    examples -> labelled tokens -> context tries -> calibrated probabilities -> cut -> paths

1. `labelled`: every token of the train examples, and of further strong windows, whose like fires somewhere:
   its context and its activation.
2. `grow`: for each activating token, the contexts that tell its strong from its weak occurrences, split by
   split where that explains the activations best.
3. `calibrate`: the probability that a token fires whose longest match is this path; constants that were
   fitted once, to out-of-sample predictions on train examples (`benchmarks/calibrate.py`).
4. `learn`: the cut above which calling a fire gives the best expected F1, and the paths with the activations
   that say so.

Nothing here runs a model, and nothing sees a test example. The tries use all that DESIGN allows a trie:
longer paths may be exceptions to shorter ones.
"""
