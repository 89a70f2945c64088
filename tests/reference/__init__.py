"""Slow and obvious implementations, written from the papers and not from alpine's code."""
