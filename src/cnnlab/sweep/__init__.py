"""Sweeps: a search over the knobs of a variant, by Optuna, each trial in a process of its own."""
