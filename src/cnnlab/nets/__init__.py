"""Keras models: the lesson's networks and the configurable homework network."""
