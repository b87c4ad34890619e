"""Lossless speculation: tokens guessed ahead, computed in one pass, kept where the model agrees."""
