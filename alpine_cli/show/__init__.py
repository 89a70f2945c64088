"""`alpine show`: where the tokens of a function go, and which kinds of token survive.

sources     a file, standard input or a sample of a data set → text
offsets     text → token ids, and the characters each of them stands for
fates       one function (or pair) through a model → what became of every token, and why
layout      tokens back onto the source, character for character; colours of layers
terminal, fates_page     the views of that
kinds       characters → syntactic kinds (Pygments)
survival    kinds x layers over a whole data set, with intervals
survival_views, survival_page   the views of that
"""
