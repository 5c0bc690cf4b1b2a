"""Keras models: network families, their anatomy, weight transfer and inference models."""
