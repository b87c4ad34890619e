"""Many requests without a model: the engine's own classes on a virtual clock, with faults or with a trace."""
