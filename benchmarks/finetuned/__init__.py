"""What fine-tuning with pruning keeps at 2, 4 and 8 times fewer multiply-adds, and which way of it.

    python -m benchmarks.finetuned --model DIR --task clone-detection --data ../shared/data/bcb \
        --train 2000 --test 1000 --seeds 1 2 3 --work runs/finetuned

For every seed a model is fine-tuned without pruning. Then, at each share of its multiply-adds, with
every way of saving them (rules and merges; as rivals, truncation of the input and a model of fewer
layers):

    training-free     the unpruned model, pruned at inference only
    recovered         the same after a short fine-tuning with pruning (a part of one epoch)
    distilled         the same recovery, half of its loss the unpruned model's answers
    distilled longer  the same over as many epochs as the unpruned model was trained
    from the start    fine-tuned with pruning from the encoder on, as long as the unpruned model

and beside them the unpruned model trained on for as long as a recovery takes, so that more training
is not taken for a gain of pruning. Strengths are fitted to the share on validation data, before
anything is trained with them; fewer layers are the lowest ones, which matter most (Sajjad et al.,
"On the effect of dropping layers of pre-trained transformer models", 2023), and as many as cost no
less than the share. Every run picks its weights by validation; test data is read by the finished
runs, once each.

Differences are paired by seed and sample: a sample's outcome is averaged over seeds first, the
interval is about samples, and the range over seeds stands beside it. Finished runs stay in
`--work`: interrupted, the same command goes on, and seeds can be run side by side and told in one
table by a last call with all of them.
"""
