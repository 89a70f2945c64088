"""How the pruning layer meets stock transformers models: one file per family.

A family joins by one file here that makes a `Family`, and one line in `registry`.
"""
