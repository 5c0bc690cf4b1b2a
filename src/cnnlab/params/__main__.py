"""`make repro` checks params.yaml before DVC reads it."""

from cnnlab.errors import run
from cnnlab.params import load

run(load)
