"""Send values to processes on other machines, their large arrays by shared files.

A task of a cluster needs the labels of all recordings, for example. Each array is written once, to a folder that all
machines see, and is mapped into memory by every task that needs it.
"""

import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from ecg.runtime.files import atomic_path

SMALLEST = 65_536  # bytes of an array that is written to a file; smaller ones are sent with the value
ARRAY = ".npy"


class SharedArrays:
    """A folder of arrays, each in a file that is named after its content."""

    def __init__(self, folder: Path) -> None:
        """Write nothing yet.

        Args:
            folder: A folder that all machines see at the same path; it is made if it is missing.
        """
        self.folder = folder.absolute()
        self._saved: dict[int, tuple[np.ndarray, str]] = {}  # by identity; the array stays, so that it is unique

    def pack(self, value: object) -> bytes:
        """Return a value as bytes for `unpack_value`, and write its large arrays.

        Args:
            value: Can be pickled.

        Raises:
            OSError: An array cannot be written.
        """
        file = io.BytesIO()
        _Packer(file, self).dump(value)
        return file.getvalue()

    def save(self, array: np.ndarray) -> str:
        """Write an array, unless it is there, and return the path of its file."""
        if id(array) not in self._saved:
            content = np.ascontiguousarray(array)
            digest = hashlib.sha256(f"{content.dtype.str} {content.shape}\n".encode())
            digest.update(content.reshape(-1).view(np.uint8).data)
            path = self.folder / f"{digest.hexdigest()}{ARRAY}"
            if not path.exists():
                self.folder.mkdir(parents=True, exist_ok=True)
                with atomic_path(path) as temporary:
                    np.save(temporary, content, allow_pickle=False)
            self._saved[id(array)] = array, str(path)
        return self._saved[id(array)][1]


class _Packer(pickle.Pickler):
    """Pickles a value, with the paths of files instead of large arrays."""

    def __init__(self, file: io.BytesIO, arrays: SharedArrays) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self.arrays = arrays

    def persistent_id(self, value: Any) -> str | None:
        """Return the path of a large array's file, and None for all that is pickled."""
        if isinstance(value, np.ndarray) and value.nbytes >= SMALLEST and not value.dtype.hasobject:
            return self.arrays.save(value)
        return None


class _Unpacker(pickle.Unpickler):
    """Reads what `_Packer` has written."""

    def persistent_load(self, path: str) -> np.ndarray:
        """Map the array of a file into memory, read-only."""
        return np.load(path, mmap_mode="r", allow_pickle=False).view(np.ndarray)


def unpack_value(packed: bytes) -> Any:
    """Return the value that `SharedArrays.pack` was given.

    Its large arrays are read-only and mapped from their files. Only bytes that this program has sent to its own task
    are unpacked, never a file.

    Args:
        packed: The bytes.

    Raises:
        OSError: The file of an array is missing.
    """
    return _Unpacker(io.BytesIO(packed)).load()
