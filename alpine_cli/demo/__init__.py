"""The demo: all of alpine on a small model and real code, offline, in minutes.

    patterns.py   five bugs that linters catch: where each could stand, and how to put it in
    corpus.py     functions of Python's own standard library; half of them get one such bug
    model.py      a byte-level BPE tokenizer trained on them, and a small RoBERTa from a config
    run.py        fine-tune without and with pruning, bench both, draw and print the result

The demo owns no training, pruning or measuring code: it calls what `alpine finetune`,
`alpine bench` and `alpine report` call.
"""
