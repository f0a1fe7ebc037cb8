"""Variants of a batch side by side: how many of their tasks passed, how fast, at what cost."""
