"""Tables as records."""

from typing import Any

import pandas as pd


def records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table as dicts with string keys."""
    return [{str(key): value for key, value in row.items()} for row in rows.to_dict("records")]
