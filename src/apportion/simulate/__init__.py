"""Runs without a model: policies over recorded or made routes, by the very objects that the engine uses."""
