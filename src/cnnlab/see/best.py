"""Portraits of the best variant of each data set: stage `see` writes them, the lesson reads them."""

import time
from typing import Any

import pandas as pd

from cnnlab import params
from cnnlab.data.store import open_processed
from cnnlab.evaluation.results import Evaluation
from cnnlab.files import REPORTS, atomic_folder, verified, write_manifest, write_text
from cnnlab.report.language import Language
from cnnlab.report.tables import records
from cnnlab.see import FIGURES

SEE = REPORTS / "see"
TABLE = SEE / "seen.csv"
DEPTHS = SEE / "depths.csv"
COMMAND = "python pipeline/see.py"


def best_variants(parameters: params.Params) -> dict[str, str]:
    """The variant with the highest mean validation accuracy for each data set; the first of equal ones.

    Raises UserError if the evaluation of a variant is missing or damaged.
    """
    best: dict[str, tuple[float, str]] = {}
    for name, variant in params.variants(parameters).items():
        accuracy = Evaluation(name).metrics()["validation_accuracy"]
        if variant.data not in best or accuracy > best[variant.data][0]:
            best[variant.data] = (accuracy, name)
    return {data: name for data, (_, name) in best.items()}


def write_portraits(parameters: params.Params, say: Language) -> None:
    """Write `reports/see/` as a whole: `<variant>/*.png` of each best variant, seen.csv and depths.csv.

    Columns of seen.csv, one row per variant: `data`, `variant`, `run_id` (MLflow's) and the numbers of `portrait`; of
    depths.csv, one row per convolution: the same three and those of `hierarchy.depths`. Each folder has its
    SHA256SUMS. Raises UserError if a network or its evaluation is missing or damaged.
    """
    from cnnlab.see import hierarchy  # noqa: PLC0415  # TensorFlow takes seconds to import
    from cnnlab.see.portrait import UNTRAINED, load, portrait, validation_images  # noqa: PLC0415

    rows, layers = [], []
    with atomic_folder(SEE) as folder:
        for data, name in best_variants(parameters).items():
            started = time.perf_counter()
            model, run_id = load(data, name)
            validation = params.set_aside(parameters, data, params.variant(parameters, name).validation)
            processed = open_processed(data)
            numbers = portrait(model, processed, folder / name, validation=validation, say=say)
            write_manifest(folder / name)
            depths = hierarchy.depths(model, *validation_images(processed, validation), UNTRAINED)
            layers += [{"data": data, "variant": name, "run_id": run_id, **row} for row in depths]
            rows.append({"data": data, "variant": name, "run_id": run_id, **numbers})
            print(f"see  {data}  {name}  {time.perf_counter() - started:.0f} s", flush=True)
        write_text(folder / DEPTHS.name, pd.DataFrame(layers).to_csv(index=False))
        write_text(folder / TABLE.name, pd.DataFrame(rows).to_csv(index=False))
        write_manifest(folder)


def seen() -> list[dict[str, Any]]:
    """The rows of seen.csv. Raises UserError if it, or a figure of its variants, is missing or damaged."""
    rows = records(pd.read_csv(verified(TABLE, COMMAND), dtype={"variant": str, "run_id": str}))
    for row in rows:
        for figure in FIGURES:
            verified(SEE / row["variant"] / f"{figure}.png", COMMAND)
    return rows


def depths() -> pd.DataFrame:
    """The table depths.csv. Raises UserError if it is missing or damaged."""
    return pd.read_csv(verified(DEPTHS, COMMAND), dtype={"variant": str, "run_id": str})
