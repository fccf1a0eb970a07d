"""Results of long work kept in folders of their own, by what they came from, so that none is done twice."""

import hashlib
import json
import re
import zipfile
import zlib
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path

import numpy as np

from ecg.runtime.files import atomic_path, to_json

KEY_LENGTH = 12  # characters of a mark in the name of a folder
# What is raised where a file of arrays is missing, damaged or not of what it should be.
DAMAGED = (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error)


def fingerprint(*parts):
    """Return a text that is another as soon as one of the parts is: texts, numbers, dataclasses, arrays."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(f"{part.dtype} {part.shape}\n".encode() + part.tobytes())
        else:
            digest.update(to_json(asdict(part) if is_dataclass(part) else part).encode() + b"\n")
    return digest.hexdigest()


def source_hash(*folders: str) -> str:
    """Return a SHA-256 over the source files of folders of this package, so that a change of the program is noticed.

    Args:
        folders: Names of folders of the package, such as "data".
    """
    package = Path(__file__).parents[1]
    paths = [path for folder in folders for path in sorted(package.joinpath(folder).rglob("*.py"))]
    return fingerprint(
        *(f"{path.relative_to(package).as_posix()}\n{path.read_text(encoding='utf-8')}" for path in paths)
    )


def manifest_differences(path, facts):
    """Return in what the facts of a file differ from these, a dict: names of (nested) facts, and both values.

    Facts that only one of the two knows are no difference, and a file that is missing or damaged knows none.
    """
    known, given = (
        flatten(read_manifest(path)),
        flatten(json.loads(to_json(facts))),
    )  # tuples become lists, as they come back
    return {name: (known[name], given[name]) for name in known.keys() & given.keys() if known[name] != given[name]}


def write_manifest(path, facts):
    """Write down in a file of what facts, a dict, the training beside it is."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as part:
        part.write_text(to_json(facts, indent=1) + "\n")


def read_manifest(path):
    """Return the facts that a file holds, a dict, empty where it is missing or damaged."""
    try:
        found = json.loads(Path(path).read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def flatten(facts, above=""):
    """Return nested dicts as one, by names such as 'training.rate'."""
    flat = {}
    for name, value in facts.items():
        flat |= flatten(value, f"{above}{name}.") if isinstance(value, dict) else {f"{above}{name}": value}
    return flat


def folder_name(title):
    """Return the name of the folder for what has this title: small letters and digits alone, such as fold_1_of_5."""
    return re.sub(r"[^a-z0-9]+", "_", title.lower()).strip("_")


@dataclass(frozen=True)
class ResultCache:
    """The folder of a stage, and the mark of what it keeps: the fingerprint of all that decides what it comes to."""

    path: Path
    key: str

    def save(self, name, arrays):
        """Keep a dict of arrays under a name, in place of what was kept under it."""
        self.path.mkdir(parents=True, exist_ok=True)
        with atomic_path(self._file(name)) as part:
            np.savez(part, key=self.key, **arrays)

    def load(self, name):
        """Return what is kept under a name and this mark, a dict of arrays.

        None where there is none, or what is there is damaged, for then the work is to be done again.
        """
        try:
            with open(self._file(name), "rb") as file, np.load(file, allow_pickle=False) as found:
                if found["key"] != self.key:
                    return None
                return {name: found[name] for name in found.files if name != "key"}
        except DAMAGED:
            return None

    def delete(self, name):
        """Forget what is kept under a name, if anything."""
        self._file(name).unlink(missing_ok=True)

    def _file(self, name):
        return self.path / f"{name}.npz"
