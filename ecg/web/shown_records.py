"""Remember of which recordings a reviewer has been shown labels or predictions."""

import fcntl
import json
import logging
import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ecg.data.reviewers import reviewer_key
from ecg.runtime.console import describe_error, escape_unprintable
from ecg.runtime.files import to_json
from ecg.runtime.locks import lock_file, open_regular

LOGGER = logging.getLogger("ecg")

SHOWN_FILE = ".shown"  # in the folder of the reviews
LOCK_SECONDS = 0.2  # that a request waits if another program has locked it


@dataclass
class ShownRecords:
    """The recordings whose labels or predictions were sent to a reviewer.

    A file remembers them, so that a verdict is not called blinded if the reviewer has looked at the recording with
    another server before. Each line is a list of two strings, as JSON: the reviewer's name in lower case, and the name
    of the recording. Several servers may append to it.

    Attributes:
        folder: Folder of the reviews.
    """

    folder: Path
    _records: dict[str, set[str]] = field(default_factory=dict, repr=False)  # by reviewer
    _unsaved: list[str] = field(default_factory=list, repr=False)
    _offset: int = 0  # up to which the file has been read
    _reason: str = ""  # why it could not be written the last time
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, reviewer: str, records: Iterable[str]) -> None:
        """Remember that a reviewer is shown recordings, given by their names.

        If the file cannot be written, this is logged, and tried again with the next recordings.
        """
        with self._lock:
            self._read()
            known = self._records.setdefault(reviewer_key(reviewer), set())
            unknown = [record for record in dict.fromkeys(records) if record not in known]
            if not unknown and not self._unsaved:
                return
            known.update(unknown)
            self._unsaved += [f"{to_json([reviewer_key(reviewer), record])}\n" for record in unknown]
            try:
                self._append("".join(self._unsaved).encode())
                self._unsaved, self._reason = [], ""
            except OSError as error:
                if self._reason != (reason := describe_error(error)):
                    LOGGER.error(escape_unprintable(f"{reason}; what reviewers have been shown is not saved"))
                    self._reason = reason

    def has(self, reviewer: str, record: str) -> bool:
        """Return whether a reviewer has been shown a recording, given by its name."""
        with self._lock:
            self._read()
            return record in self._records.get(reviewer_key(reviewer), ())

    def _append(self, lines: bytes) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / SHOWN_FILE
        descriptor = open_regular(path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
        with os.fdopen(descriptor, "r+b", buffering=0) as file:
            lock_file(descriptor, path, fcntl.LOCK_EX, LOCK_SECONDS)
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":  # power was lost within a line
                lines = b"\n" + lines
            file.write(lines)

    def _read(self) -> None:
        """Read what has been appended since the last time; a malformed line is skipped."""
        try:
            with os.fdopen(open_regular(self.folder / SHOWN_FILE, os.O_RDONLY), "rb") as file:
                if os.fstat(file.fileno()).st_size < self._offset:  # another file
                    self._offset = 0
                file.seek(self._offset)
                content = file.read()
        except OSError:
            return  # there is none yet; `add` reports others
        complete, _, _ = content.rpartition(b"\n")
        self._offset += len(complete) + 1 if complete else 0
        for line in complete.splitlines():
            try:
                reviewer, record = json.loads(line)
                self._records.setdefault(reviewer, set()).add(record)
            except (ValueError, TypeError):
                continue
