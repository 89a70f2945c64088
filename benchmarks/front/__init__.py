"""Accuracy against multiply-adds of every rule, training-free, beside truncation at equal cost.

    ALPINE_SHARED=../shared python -m benchmarks.front --checkpoint clone.pt \
        --data ../shared/data/bcb --limit 400

Runs `alpine sweep`'s machinery on the test split with a wider grid: all rules, several strengths
each, and truncation at many lengths. Writes front-NAME.json, .md, .png and .svg. Multiply-adds are
those of the lengths each layer really ran at. Interrupted, the same command goes on.

Every setting is set against `unpruned` and against truncation at equal cost on the same samples:
the shortest cut of the input that costs no less than the setting, so that the rival is never given
fewer multiply-adds. Intervals are 95 % percentile bootstraps over samples, after adding two samples
that got neither better nor worse, one that got better and one that got worse: half a sample to each
of the eight cells that `alpine_cli.measure.accuracy` adds to. With several
checkpoints (fine-tuning seeds of one model) a sample's outcome is averaged over them first: the
interval is about samples, the range over seeds is told beside it.

Nothing is chosen here: with so many settings the best of them is flattered. `--time` measures
throughput of those on the Pareto front, in turns with unpruned, `--energy` their energy (of the
first checkpoint: costs do not hang on the seed of the weights). `--again front-NAME.json` judges
and draws once more what was run before.
"""
