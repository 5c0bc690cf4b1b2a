"""Serve the champion of a data set with MLflow's scoring server, on this machine only."""

import argparse

from cnnlab import errors


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--port", type=int, default=5001)
    asked = parser.parse_args()
    from cnnlab.use.serve import serve  # noqa: PLC0415  # TensorFlow takes seconds to import

    serve(asked.data, asked.port)


if __name__ == "__main__":
    errors.run(main)
