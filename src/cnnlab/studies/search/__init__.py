"""Search for the best variant around a base."""
