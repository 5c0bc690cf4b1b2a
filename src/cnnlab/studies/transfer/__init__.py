"""Transfers to other data sets."""
