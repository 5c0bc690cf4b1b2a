"""cnnlab: train, compare and explain small convolutional networks honestly."""

import os

# Read by the libraries when they are first imported, so set before any of them is.
os.environ["KERAS_BACKEND"] = "tensorflow"  # a user's own keras.json may name another backend
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors only: start-up notes bury the progress lines
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # a laboratory does not report on its users
