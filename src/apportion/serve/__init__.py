"""The server: HTTP APIs over the engine, metrics, and the page that shows where the memory went."""
