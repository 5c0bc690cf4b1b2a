"""One training loop for every network, recipe and strategy."""
