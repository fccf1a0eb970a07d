"""The reviews of all reviewers in memory, in step with their files."""

import threading
from dataclasses import dataclass, field
from pathlib import Path

from ecg.data.reviews import (
    Review,
    append_review,
    check_reviewer_name,
    find_review_files,
    merge_spellings,
    read_review_file,
    review_path,
)
from ecg.web.catalogue import file_state

Verdicts = dict[str, dict[str, Review]]  # the last review of each class, by record and class


@dataclass
class ReviewBook:
    """The reviews in a folder; other programs may append to its files.

    Attributes:
        folder: Folder of the reviews.
        version: Number of changes that were noticed.
    """

    folder: Path
    version: int = 0
    _files: dict[Path, tuple[tuple[int, int], list[Review]]] = field(default_factory=dict, repr=False)
    _verdicts: dict[str, Verdicts] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def verdicts(self, reviewer: str | None) -> Verdicts:
        """Return the last reviews of a reviewer, by record and class."""
        with self._lock:
            self._refresh()
            return self._verdicts.get(reviewer.casefold(), {}) if reviewer else {}

    def all_reviews(self) -> list[Review]:
        """Return the last reviews of all classes and recordings, by reviewer."""
        with self._lock:
            self._refresh()
            books = [self._verdicts[reviewer] for reviewer in sorted(self._verdicts)]
            return [review for verdicts in books for classes in verdicts.values() for review in classes.values()]

    def count_others(self, reviewer: str | None, record: str) -> int:
        """Return how many verdicts on a recording others have given."""
        with self._lock:
            self._refresh()
            mine = (reviewer or "").casefold()
            return sum(len(verdicts.get(record, {})) for name, verdicts in self._verdicts.items() if name != mine)

    def append(self, reviewer: str, review: Review) -> Review:
        """Write a review to the disk; see `append_review`."""
        return append_review(self.folder, reviewer, review)

    def known_name(self, name: str) -> str:
        """Return the name of a reviewer as their file has it, if there is one.

        Raises:
            ValueError: It cannot be the name of a reviewer.
        """
        return review_path(self.folder, name).stem if self.folder.is_dir() else check_reviewer_name(name)

    def _refresh(self) -> None:
        """Read the files that have changed."""
        paths = find_review_files(self.folder) if self.folder.is_dir() else []
        changed = self._files.keys() - set(paths)
        for path in changed:
            del self._files[path]
        reviewers = {path.stem.casefold() for path in changed}
        for path in paths:
            state = file_state(path)
            if path not in self._files or self._files[path][0] != state:
                self._files[path] = state, read_review_file(path)
                reviewers.add(path.stem.casefold())
        for reviewer in reviewers:
            self.version += 1
            self._verdicts[reviewer] = self._merge(reviewer)

    def _merge(self, reviewer: str) -> Verdicts:
        """Return the last reviews of a reviewer, whose name is given in lower case."""
        files = {path: reviews for path, (_, reviews) in self._files.items() if path.stem.casefold() == reviewer}
        verdicts: Verdicts = {}
        for review in merge_spellings(files):
            verdicts.setdefault(review.record, {})[review.abbreviation] = review
        return verdicts
