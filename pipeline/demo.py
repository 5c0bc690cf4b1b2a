"""Serve a page that tells what a dropped picture shows, on this machine only."""

import argparse

from cnnlab import errors, params


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=7860)
    port = parser.parse_args().port
    parameters = params.load()
    from cnnlab.use.demo import serve  # noqa: PLC0415  # TensorFlow takes seconds to import

    serve(parameters, port)


if __name__ == "__main__":
    errors.run(main)
