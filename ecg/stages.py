"""Results of long work kept in folders of their own, by what they came from, so that none is done twice."""

import hashlib
import json
import zipfile
import zlib
from dataclasses import asdict, is_dataclass
from pathlib import Path

import numpy as np

from ecg.files import aside

RESULT = "result.npz"


def fingerprint(*parts):
    """Return a text that is another as soon as one of the parts is: texts, numbers, dataclasses, arrays."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(f"{part.dtype} {part.shape}\n".encode() + part.tobytes())
        else:
            digest.update(json.dumps(asdict(part) if is_dataclass(part) else part).encode() + b"\n")
    return digest.hexdigest()


def keep(folder, mark, arrays):
    """Keep a result, a dict of arrays, in a folder of its own, under the fingerprint of all that it came from."""
    path = Path(folder) / RESULT
    path.parent.mkdir(parents=True, exist_ok=True)
    with aside(path) as part:
        np.savez(part, mark=mark, **arrays)


def recall(folder, mark):
    """Return the result kept in a folder under this fingerprint, a dict of arrays.

    None where there is none, or what is there is damaged, for then the work is to be done again.
    """
    try:
        with open(Path(folder) / RESULT, "rb") as file, np.load(file, allow_pickle=False) as found:
            return {name: found[name] for name in found.files if name != "mark"} if found["mark"] == mark else None
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error):
        return None
