"""Use a trained network: predict, export, serve, demo; and doctor, which checks the machine."""
