"""Studies of many trainings: sweeps, ablations, transfers."""
