"""Find the classes of a saved model without loading Keras."""

import json
from pathlib import Path

from ecg.data.class_tables import ClassTable, parse_class_table
from ecg.data.labels import CHALLENGE_CLASSES
from ecg.data.leads import LEAD_SETS
from ecg.runtime.files import read_bytes

MAX_BYTES = 2**20  # of a description
DAMAGED = (ValueError, LookupError, TypeError, AttributeError, RecursionError, OSError)


def find_model_classes(folder: Path) -> ClassTable:
    """Return the classes of the first model in a folder that can be read.

    Whoever loads the model checks it. If none can be read, or it was saved before models had their classes, the classes
    are those of the Challenge.

    Args:
        folder: Model folder.
    """
    for n_leads in LEAD_SETS:
        try:
            content = json.loads(read_bytes(Path(folder) / f"{n_leads}_leads.json", MAX_BYTES, ValueError))
            return parse_class_table(content["class_table"])
        except DAMAGED:
            continue
    return CHALLENGE_CLASSES
