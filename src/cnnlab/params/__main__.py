"""Check params.yaml; `make repro` does so before DVC reads it."""

from cnnlab.errors import run
from cnnlab.params import load

run(load)
