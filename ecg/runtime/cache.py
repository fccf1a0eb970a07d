"""Cache results of long work in folders, by a key of all that they depend on."""

import hashlib
import json
import re
import stat
import time
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ecg.runtime.files import PART, atomic_path, to_json

VISIBLE_SECONDS = 120.0  # after which a file that another machine has written is visible at the latest
KEY_LENGTH = 12  # characters of a key in the name of a folder
# What is raised over a file of arrays that is missing, damaged or has other content. zipfile raises RuntimeError if a
# damaged byte says that the content is encrypted or compressed in an unknown way.
DAMAGED = (OSError, EOFError, ValueError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error)


def fingerprint(*parts: object) -> str:
    """Return a SHA-256 over strings, numbers, dataclasses and arrays."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(f"{part.dtype} {part.shape}\n".encode() + part.tobytes())
        else:
            digest.update(to_json(part).encode() + b"\n")
    return digest.hexdigest()


def source_hash(*folders: str) -> str:
    """Return a SHA-256 over the modules and tables (CSV) of folders of this package.

    Args:
        folders: Names of folders of the package, such as "data".
    """
    package = Path(__file__).parents[1]
    files = [path for folder in folders for path in sorted(package.joinpath(folder).rglob("*"))]
    paths = [path for path in files if path.suffix in (".py", ".csv")]
    texts = [f"{path.relative_to(package).as_posix()}\n{path.read_text(encoding='utf-8')}" for path in paths]
    return fingerprint(*texts)


def manifest_differences(path: Path, manifest: Mapping[str, object]) -> dict[str, tuple[object, object]]:
    """Compare a manifest with the one in a file.

    Args:
        path: A file written by `write_manifest`. If it is missing or damaged, nothing differs.
        manifest: What is to be done now.

    Returns:
        By name, such as "training.rate", the values of the file and of `manifest` where both have one and they differ.
    """
    known = flatten(read_manifest(path))
    given = flatten(json.loads(to_json(manifest)))  # tuples become lists, as in the file
    return {name: (known[name], given[name]) for name in known.keys() & given.keys() if known[name] != given[name]}


def write_manifest(path: Path, manifest: Mapping[str, object]) -> None:
    """Write a manifest, which says what a folder holds, as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_text(to_json(manifest, indent=1) + "\n")


def read_manifest(path: Path) -> dict[str, object]:
    """Read a manifest; it is empty if the file is missing or damaged."""
    try:
        manifest = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return manifest if isinstance(manifest, dict) else {}


def flatten(values: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Merge nested dicts into one with names such as "training.rate"."""
    flat: dict[str, object] = {}
    for name, value in values.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def folder_name(title: str) -> str:
    """Return a folder's name for a title, such as fold_1_of_5."""
    return re.sub(r"[^a-z0-9]+", "_", title.lower()).strip("_")


@dataclass(frozen=True)
class ResultCache:
    """A folder of results that are valid for one key.

    Attributes:
        path: The folder.
        key: Fingerprint of all that the results depend on.
    """

    path: Path
    key: str

    def save(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Save arrays under a name, replacing earlier ones."""
        self.path.mkdir(parents=True, exist_ok=True)
        with atomic_path(self._file(name)) as temporary:
            np.savez(temporary, key=self.key, **arrays)  # type: ignore[arg-type]

    def load(self, name: str) -> dict[str, np.ndarray] | None:
        """Load the arrays of a name; None if they are missing, damaged or of another key."""
        try:
            with open(self._file(name), "rb") as file, np.load(file, allow_pickle=False) as arrays:
                if arrays["key"] != self.key:
                    return None
                return {name: arrays[name] for name in arrays.files if name != "key"}
        except DAMAGED:
            return None

    def wait_for(self, name: str) -> dict[str, np.ndarray]:
        """Load the arrays of a name that another machine has saved.

        The file system of a network may show them some seconds later.

        Raises:
            FileNotFoundError: They do not appear.
        """
        end = time.monotonic() + VISIBLE_SECONDS
        while (arrays := self.load(name)) is None:
            if time.monotonic() > end:
                raise FileNotFoundError(f"{self._file(name)}: was written by another machine and does not appear here; "
                                        f"mount the folder on all machines at the same path")  # fmt: skip
            time.sleep(1)
        return arrays

    def delete(self, name: str) -> None:
        """Delete the arrays of a name, if there are any."""
        self._file(name).unlink(missing_ok=True)

    def _file(self, name: str) -> Path:
        return self.path / f"{name}.npz"


def find_last_change(folder: Path, patterns: Iterable[str]) -> int:
    """Return when a file in some folders, or below them, was last written.

    Args:
        folder: The folder of the folders.
        patterns: Patterns of their names.

    Returns:
        Nanoseconds since 1970; 0 if there is no file.
    """
    latest = 0
    for pattern in patterns:
        with suppress(OSError):  # a folder was removed meanwhile
            for path in folder.glob(f"{pattern}/**/*"):
                with suppress(OSError):  # it was replaced meanwhile
                    status = path.stat()
                    is_complete = stat.S_ISREG(status.st_mode) and not path.name.startswith(PART)
                    latest = max(latest, status.st_mtime_ns * is_complete)
    return latest
