"""Network families, one per file: the settings in params.yaml and the Keras model that they describe.

All files here are imported and registered automatically. They import Keras in the functions that build a network, so
that params.yaml can be checked without the seconds that importing TensorFlow takes.
"""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
