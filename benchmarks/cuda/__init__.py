"""What pruning saves on a CUDA GPU: `costs` on models built from their configs, `learned` on one
that was trained. Both run offline, from this repository and the running Python alone."""
