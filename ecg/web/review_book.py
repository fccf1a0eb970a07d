"""The reviews of all reviewers in memory, in step with their files."""

import logging
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from ecg.data.class_tables import ClassTable
from ecg.data.labels import CHALLENGE_CLASSES
from ecg.data.reviewers import check_reviewer_name, find_review_files, review_path, reviewer_key, reviewer_of
from ecg.data.reviews import (
    Review,
    append_review,
    merge_spellings,
    read_review_file,
    select_last,
)
from ecg.runtime.console import describe_error, escape_unprintable
from ecg.web.catalogue import file_state

LOGGER = logging.getLogger("ecg")

LOCK_SECONDS = 0.2  # that a request waits for a file which another program has locked
RETRY_SECONDS = 2.0  # until such a file, or one that cannot be read, is tried again

Verdicts = dict[str, dict[str, Review]]  # the last review of each class, by record and class


@dataclass
class ReviewBook:
    """The reviews in a folder; other programs may append to its files.

    While a file cannot be read, or another program has locked it, what was last read of it counts.

    Attributes:
        folder: Folder of the reviews.
        classes: The classes that reviews may have.
        version: Number of changes that were noticed.
    """

    folder: Path
    classes: ClassTable = CHALLENGE_CLASSES
    version: int = 0
    _files: dict[Path, tuple[tuple[int, int], list[Review]]] = field(default_factory=dict, repr=False)
    _verdicts: dict[str, Verdicts] = field(default_factory=dict, repr=False)
    _compared: dict[str, list[Review]] = field(default_factory=dict, repr=False)
    _failures: dict[Path, tuple[float, str]] = field(default_factory=dict, repr=False)  # when to try again, reason
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def verdicts(self, reviewer: str | None) -> Verdicts:
        """Return the last reviews of a reviewer, by record and class."""
        with self._lock:
            self._refresh()
            return self._verdicts.get(reviewer_key(reviewer), {}) if reviewer else {}

    def compared_reviews(self) -> list[Review]:
        """Return the reviews of all reviewers whose agreement is measured.

        Of a class in a recording it is the reviewer's last blinded one, if there is one, else the last one.
        """
        with self._lock:
            self._refresh()
            return [review for reviewer in sorted(self._compared) for review in self._compared[reviewer]]

    def count_others(self, reviewer: str | None, record: str) -> int:
        """Return how many verdicts on a recording others have given."""
        with self._lock:
            self._refresh()
            mine = reviewer_key(reviewer or "")
            return sum(len(verdicts.get(record, {})) for name, verdicts in self._verdicts.items() if name != mine)

    def append(self, reviewer: str, review: Review) -> Review:
        """Write a review to the disk; see `append_review`."""
        return append_review(self.folder, reviewer, review)

    def known_name(self, name: str) -> str:
        """Return the name of a reviewer as their file has it, if there is one.

        Raises:
            ValueError: It cannot be the name of a reviewer.
        """
        return reviewer_of(review_path(self.folder, name)) if self.folder.is_dir() else check_reviewer_name(name)

    def _refresh(self) -> None:
        """Read the files that have changed."""
        try:
            paths = find_review_files(self.folder) if self.folder.is_dir() else []
        except OSError as error:
            return self._note_failure(self.folder, error)
        removed = self._files.keys() - set(paths)
        reviewers = {reviewer_key(path.stem) for path in removed}
        for path in removed:
            del self._files[path]
        reviewers |= {reviewer_key(path.stem) for path in paths if self._read(path)}
        for reviewer in reviewers:
            self.version += 1
            self._merge(reviewer)

    def _read(self, path: Path) -> bool:
        """Read a file if it has changed, and return whether it was read."""
        state = file_state(path)
        if path in self._files and self._files[path][0] == state:
            return False
        if path in self._failures and time.monotonic() < self._failures[path][0]:
            return False
        try:
            self._files[path] = state, read_review_file(path, self.classes, LOCK_SECONDS)
        except (OSError, ValueError) as error:
            self._note_failure(path, error)
            return False
        self._failures.pop(path, None)
        return True

    def _note_failure(self, path: Path, error: Exception) -> None:
        """Log why a file or the folder cannot be read, each reason once."""
        reason = describe_error(error)
        if self._failures.get(path, (0, ""))[1] != reason:
            LOGGER.warning(escape_unprintable(f"{reason}; what was read of it before counts until it can be read"))
        self._failures[path] = time.monotonic() + RETRY_SECONDS, reason

    def _merge(self, reviewer: str) -> None:
        """Select the reviews of a reviewer that count, given the key of the name."""
        files = {path: reviews for path, (_, reviews) in self._files.items() if reviewer_key(path.stem) == reviewer}
        merged = merge_spellings(files)
        verdicts: Verdicts = {}
        for (record, abbreviation), review in select_last(merged).items():
            verdicts.setdefault(record, {})[abbreviation] = review
        self._verdicts[reviewer] = verdicts
        self._compared[reviewer] = list(select_last(merged, prefers_blinded=True).values())
