"""Bytes from the network to uint8 arrays on disk to batches on devices."""
