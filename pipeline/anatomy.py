"""Print a network layer by layer: a variant of params.yaml, or one of the lesson's."""

import sys

from cnnlab import errors, params


def main() -> None:
    parameters = params.load()
    from cnnlab.nets.anatomy import layer_table, table_text  # noqa: PLC0415  # Keras takes seconds to import
    from cnnlab.nets.build import network_named  # noqa: PLC0415

    model = network_named(parameters, sys.argv[1])
    print(table_text(layer_table(model.layers, model.input_shape[1:])))


if __name__ == "__main__":
    errors.run(main)
