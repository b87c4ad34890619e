"""Prefix reuse: what the keys and values of a block are called, and which of them are kept."""
