"""Notice that the model or the recordings have changed since the server started."""

import logging
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ecg.data.leads import LEAD_SETS
from ecg.data.records import find_records
from ecg.runtime.console import describe_error, pluralise
from ecg.web.catalogue import Catalogue, file_state, hash_file_states

LOGGER = logging.getLogger("ecg")

SCAN_SECONDS = 60.0  # between two looks at all recordings, at least
SCAN_SHARE = 50  # times as long as a look lasts, at least
RESTART = "Start the server again to take this up."


class ModelChanged(Exception):
    """The model is another one than at the start of the server."""


class ModelWatch:
    """Compares the files of a model with those at the start."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.has_changed = False
        self._states = read_model_states(folder)

    def check(self) -> None:
        """Check that the model is the one of the start.

        Once it was another one, it counts as changed for ever: parts of both may have been loaded.

        Raises:
            ModelChanged: It is not.
        """
        self.has_changed = self.has_changed or read_model_states(self.folder) != self._states
        if self.has_changed:
            raise ModelChanged(f"The model has changed since the server started. {RESTART}")


def read_model_states(folder: Path) -> dict[str, tuple[int, int]]:
    """Return sizes and times of the files of all models in a folder, by name."""
    prefixes = tuple(f"{n_leads}_leads." for n_leads in LEAD_SETS)
    try:
        names = sorted(path.name for path in folder.iterdir() if path.name.startswith(prefixes))
    except OSError:
        return {}
    return {name: file_state(folder / name) for name in names}


@dataclass
class DataWatch:
    """Looks now and then at whether a data folder holds the recordings of a catalogue.

    Attributes:
        catalogue: The recordings at the start.
        notice: What has changed, for people; an empty string for nothing.
    """

    catalogue: Catalogue
    notice: str = ""
    _ended: threading.Event = field(default_factory=threading.Event, repr=False)

    def start(self) -> None:
        """Begin to look, in a thread."""
        threading.Thread(target=self._run, name="data watch", daemon=True).start()

    def close(self) -> None:
        """End the thread."""
        self._ended.set()

    def look(self) -> None:
        """Compare the folder with the catalogue, and set the notice."""
        folder, known = self.catalogue.folder, self.catalogue.files
        try:
            files = {path.relative_to(folder).as_posix() for path in find_records(folder)}
        except OSError as error:
            self.notice = f"The recordings cannot be listed any more: {describe_error(error)}."
            return
        n_removed, n_added = len(set(known) - files), len(files - set(known))
        present = [row for row, file in enumerate(known) if file in files]
        keys = hash_file_states(folder, [known[row] for row in present], with_signals=True)
        n_changed = int(np.count_nonzero(keys != self.catalogue.file_keys[present]))
        counts = ((n_added, "added"), (n_removed, "removed"), (n_changed, "changed"))
        parts = [f"{pluralise(count, 'recording')} {what}" for count, what in counts if count]
        self.notice = f"Since the server started: {', '.join(parts)}. {RESTART}" if parts else ""

    def _run(self) -> None:
        pause = SCAN_SECONDS
        while not self._ended.wait(pause):
            start, before = time.monotonic(), self.notice
            self.look()
            if self.notice not in ("", before):
                LOGGER.warning(self.notice)
            pause = max(SCAN_SECONDS, SCAN_SHARE * (time.monotonic() - start))
