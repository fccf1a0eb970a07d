"""Note the complete output files of a folder, with their model and recording.

The folder has a hidden folder with a file of lines of JSON. The first line is the fingerprint of the model. Each other
line is an output file: its recording, the state of the recording's files, a hash of its content, and the kinds of
repairs. A line is added after its output file is complete. Half a line, which a killed process can leave, is skipped.
"""

import errno
import hashlib
import json
import os
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from ecg.data.headers import Header
from ecg.data.ptb_xl import find_database
from ecg.data.records import resolve_case
from ecg.runtime.cache import fingerprint, source_hash
from ecg.runtime.files import atomic_path, to_json
from ecg.web.catalogue import file_state

FOLDER = ".predictions"  # hidden, and no path of a recording has a hidden part
JOURNAL = "outputs.jsonl"
CONFIGS = "*_leads.json"  # descriptions in a model folder; each has the hashes of its weights
HASH_BYTES = 8


class Entry(NamedTuple):
    """An output file.

    Attributes:
        state: State of its recording's files; see `record_state`.
        output: Hash of its content.
        repairs: Kinds of repairs of the recording.
    """

    state: str
    output: str
    repairs: tuple[str, ...]


class Journal:
    """The output files of a folder that are complete.

    Attributes:
        path: The file.
        model_key: Fingerprint of the model.
        entries: What an earlier run with the same model has noted, by the recording's name.
    """

    def __init__(self, outputs: Path, model_key: str) -> None:
        """Read what an earlier run has noted. Nothing is written before the first `add`.

        Args:
            outputs: Folder of the output files.
            model_key: Fingerprint of the model.
        """
        self.path, self.model_key = outputs / FOLDER / JOURNAL, model_key
        self.entries = _read_entries(self.path, model_key)
        self._file: int | None = None

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:  # fmt: skip
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def is_valid(self, name: str, state: str, output: str) -> bool:
        """Return whether an output file is complete and of this model and recording.

        Args:
            name: The recording.
            state: Present state of its files.
            output: Hash of the present content of its output file.
        """
        entry = self.entries.get(name)
        return entry is not None and bool(state) and (entry.state, entry.output) == (state, output)

    def add(self, name: str, entry: Entry) -> None:
        """Note that an output file is complete.

        Args:
            name: The recording.
            entry: Its output file.

        Raises:
            OSError: The disk is full; the error names the file.
        """
        if self._file is None:
            with atomic_path(self.path) as temporary:  # without half lines and those of other models
                lines = (_format_line(name, entry) for name, entry in self.entries.items())
                temporary.write_text("".join((f"{to_json(self.model_key)}\n", *lines)), encoding="ascii")
            self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        line = _format_line(name, entry).encode("ascii")
        try:
            written = os.write(self._file, line)
        except OSError as error:
            raise OSError(error.errno, error.strerror, os.fspath(self.path)) from error
        if written < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(self.path))


def find_configs(model: Path) -> list[Path]:
    """Return the descriptions of the models in a folder.

    Raises:
        OSError: The folder has no model.
    """
    paths = sorted(Path(model).glob(CONFIGS))
    if not paths:
        os.listdir(model)  # raises if there is no such folder
        raise FileNotFoundError(f"{model}: no model in this folder, which would have a file named {CONFIGS}")
    return paths


def fingerprint_model(model: Path) -> str:
    """Return a fingerprint of the models in a folder and of the code that predicts.

    Raises:
        OSError: The folder has no model, or one cannot be read.
    """
    contents = (f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in find_configs(model))
    return fingerprint(*contents, source_hash("data", "models"))


def record_state(path: Path, header: Header) -> str:
    """Return a hash of names, sizes and times of the files of a recording.

    The table of PTB-XL, which has the ages, is one of them.

    Args:
        path: The header's path.
        header: Its content.
    """
    signals = (path.parent / name for name in dict.fromkeys(lead.file for lead in header.leads))
    files = [path, *map(resolve_case, (*signals, path.with_suffix(".mat")))]
    states = [(file.name, *file_state(file)) for file in (*files, *filter(None, [find_database(path)]))]
    return hashlib.blake2b(to_json(states).encode(), digest_size=HASH_BYTES).hexdigest()


def hash_output(path: Path) -> str:
    """Return a hash of the content of an output file; empty if it cannot be read."""
    try:
        return hashlib.blake2b(path.read_bytes(), digest_size=HASH_BYTES).hexdigest()
    except OSError:
        return ""


def _format_line(name: str, entry: Entry) -> str:
    return f"{to_json([name, *entry])}\n"


def _read_entries(path: Path, model_key: str) -> dict[str, Entry]:
    """Read a journal; nothing is in it if it is missing or of another model."""
    entries: dict[str, Entry] = {}
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            if _parse_line(file.readline()) != model_key:
                return {}
            for line in file:
                match _parse_line(line):
                    case [str(name), str(state), str(output), list(repairs)]:
                        entries[name] = Entry(state, output, tuple(map(str, repairs)))
    except FileNotFoundError:
        pass
    return entries


def _parse_line(line: str) -> object:
    """Return the value of a line of JSON; None if it is damaged."""
    try:
        return json.loads(line)
    except ValueError:
        return None
