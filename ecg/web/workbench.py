"""What the server knows: recordings, predictions, reviews, and what is hidden."""

import itertools
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ecg.data.reviews import Review
from ecg.systems.training_overlap import TrainingContent, read_training_content
from ecg.web.catalogue import CHANGED, LARGEST_PAGE, Catalogue, ListQuery
from ecg.web.changes import DataWatch, ModelChanged, ModelWatch
from ecg.web.prediction_worker import ModelFacts, TaskError
from ecg.web.predictions import UNKNOWN, PredictionTable, RecordPrediction
from ecg.web.predictor import BackgroundTask, TimeLimitError, WorkerEnded
from ecg.web.review_book import ReviewBook
from ecg.web.sessions import SessionSigner
from ecg.web.shown_records import ShownRecords

LONG_SECONDS = 1800.0  # longer recordings are predicted last, and only in the background
MOST_ENDS = 2  # of the prediction process over a recording, which is given up then


class HiddenError(Exception):
    """What is asked for is hidden from a blinded reviewer."""


class TaskRunner(Protocol):
    """Does urgent tasks; see `ecg.web.predictor.Predictor`."""

    def submit(self, name: str, *arguments: object) -> Future[Any]:
        """Queue a task."""

    def wake(self) -> None:
        """Look for a background task again."""

    def close(self) -> None:
        """End all tasks."""


@dataclass(frozen=True)
class ReviewSettings:
    """How the server is used.

    Attributes:
        reviewer: Name that the page proposes to who logs in, or an empty string.
        blinded: Whether labels and predictions are hidden until the reviewer has answered.
        seed: Seed of the random order, which also depends on the reviewer if labels are hidden.
        review_list: Recordings and classes to review: pairs of a row and an abbreviation; None for all recordings.
    """

    reviewer: str = ""
    blinded: bool = False
    seed: int = 0
    review_list: Sequence[tuple[int, str]] | None = None


@dataclass
class Workbench:
    """All that the routes of the server need.

    Attributes:
        catalogue: The recordings.
        predictions: What the model predicts for them.
        facts: The model.
        reviews: What the reviewers said.
        signer: Signs the cookies of reviewers.
        settings: How the server is used.
        runner: Predicts and explains.
        model_watch: Notices if the model is replaced.
        data_watch: Notices if recordings are added, removed or changed.
        model_folder: Folder of the model, whose report says what it was trained on; None if there is none.
    """

    catalogue: Catalogue
    predictions: PredictionTable
    facts: ModelFacts
    reviews: ReviewBook
    signer: SessionSigner
    settings: ReviewSettings = field(default_factory=ReviewSettings)
    runner: TaskRunner | None = None
    model_watch: ModelWatch | None = None
    data_watch: DataWatch | None = None
    model_folder: Path | None = None

    def __post_init__(self) -> None:
        self.shown_records = ShownRecords(self.reviews.folder)
        self._is_long = self.catalogue.columns["seconds"] > LONG_SECONDS
        self._shown: list[int] = []
        self._postponed: dict[int, None] = {}  # an ordered set
        self._background_row: int | None = None
        self._predicting: dict[int, Future[RecordPrediction]] = {}
        self._ends: Counter[int] = Counter()
        self.use_settings(self.settings)
        self._lock = threading.RLock()  # a future may be done before its callback is added

    def use_settings(self, settings: ReviewSettings) -> None:
        """Use other settings, before the first request."""
        self.settings = settings
        self.classes_to_review: dict[int, list[str]] = {}
        for row, abbreviation in settings.review_list or ():
            self.classes_to_review.setdefault(row, []).append(abbreviation)
        if settings.blinded:  # a list has the class that the model contradicts most before the others
            self.classes_to_review = {
                row: sorted(names, key=self.facts.classes.index.__getitem__)
                for row, names in self.classes_to_review.items()
            }
        self._list_order = np.full(len(self.catalogue), np.nan)
        self._list_order[list(self.classes_to_review)] = np.arange(len(self.classes_to_review))
        rows = np.array([*self.classes_to_review, *range(len(self.catalogue))])
        self._next = iter(rows[np.argsort(self._is_long[rows], kind="stable")].tolist())

    @property
    def early_gains(self) -> bool:
        """Whether the model corrects the gains of headers of early 2020."""
        return next(iter(self.facts.lead_sets.values())).early_gains

    def is_answered(self, row: int, mine: Mapping[str, Review]) -> bool:
        """Return whether a reviewer has said all that is asked about a recording.

        Args:
            row: The recording.
            mine: The reviewer's reviews of it by class.
        """
        return mine.keys() >= set(self.classes_to_review[row]) if row in self.classes_to_review else bool(mine)

    def is_hidden(self, row: int, mine: Mapping[str, Review]) -> bool:
        """Return whether labels and predictions are hidden; see `is_answered`."""
        return self.settings.blinded and not self.is_answered(row, mine)

    @cached_property
    def training_content(self) -> TrainingContent | None:
        """What the model was trained on; None if that is not known."""
        return None if self.model_folder is None else read_training_content(self.model_folder)

    def note_shown(self, reviewer: str | None, rows: Iterable[int]) -> None:
        """Remember that labels or predictions of recordings are sent to a reviewer."""
        if reviewer is not None:
            self.shown_records.add(reviewer, [self.catalogue.names[row] for row in rows])

    def is_blinded(self, row: int, reviewer: str) -> bool:
        """Return whether a reviewer has never seen labels or predictions of a recording.

        It depends on what was sent, not on what the browser says. Who has once given a verdict that was not blinded has
        seen them, too.
        """
        name = self.catalogue.names[row]
        mine = self.reviews.verdicts(reviewer).get(name, {})
        has_seen = self.shown_records.has(reviewer, name) or not all(review.blinded for review in mine.values())
        return self.settings.blinded and not has_seen

    def list_rows(self, query: ListQuery, reviewer: str | None, unreviewed: bool = False) -> np.ndarray:
        """Return the rows of the recordings that fit a query, in its order.

        Args:
            query: Which recordings, and in which order.
            reviewer: Who asks.
            unreviewed: Whether recordings that the reviewer has answered are left out.

        Raises:
            HiddenError: The query would tell a blinded reviewer what is hidden.
        """
        if self.settings.blinded and (query.label or query.predicted or query.suspected):
            raise HiddenError("labels and predictions are hidden, so that recordings cannot be chosen by them")
        chosen = self.catalogue.matches(query)
        if self.settings.review_list is not None:
            chosen &= np.isfinite(self._list_order)
        if query.predicted:
            outputs = self.predictions.outputs
            column = self.facts.classes.index.get(query.predicted)
            chosen &= False if column is None else outputs[:, column]
        if query.suspected:
            chosen &= self.predictions.suspected.any(axis=1)
        if unreviewed:
            chosen[self.answered_rows(reviewer)] = False
        rows = np.flatnonzero(chosen)
        order = self._order(query, reviewer)[rows]
        return rows[np.argsort(-order if query.descending else order, kind="stable")]

    def _order(self, query: ListQuery, reviewer: str | None) -> np.ndarray:
        """Return by what recordings are sorted, (n_recordings,); NaN is unknown.

        A list to review may be sorted by what the model says. So a blinded reviewer gets it in a random order, which is
        another one for each reviewer.
        """
        is_blinded = self.settings.blinded
        if query.sort == "random" and self.settings.review_list is not None and not is_blinded:
            return self._list_order
        if query.sort == "suspicion":
            return self.predictions.suspicion
        return self.catalogue.ranks(query.sort, self.settings.seed, (reviewer or "") if is_blinded else "")

    def answered_rows(self, reviewer: str | None) -> list[int]:
        """Return the rows of the recordings that a reviewer has answered."""
        rows = []
        for name, verdicts in self.reviews.verdicts(reviewer).items():
            row = self.catalogue.row_of_name.get(name)
            if row is not None and self.is_answered(row, verdicts):
                rows.append(row)
        return rows

    def show(self, rows: Sequence[int]) -> None:
        """Predict these recordings before others, since somebody looks at their list."""
        with self._lock:
            self._shown = list(rows)
        if self.runner is not None:
            self.runner.wake()

    def find_background_task(self) -> BackgroundTask | None:
        """Return the next recording to predict; see `ecg.web.predictor.Predictor`.

        Those of the page that is shown come first, then those to review, then the others by name. Long ones come later,
        and those that were interrupted come last.
        """
        with self._lock:
            in_order = (row for row in itertools.chain(self._shown, self._next) if row not in self._postponed)
            rows = itertools.chain(in_order, self._postponed)
            row = self._background_row = next((row for row in rows if self.predictions.state[row] == UNKNOWN), None)
        if row is None:
            self.predictions.save()
            return None
        store, fail = partial(self._store, row), partial(self.predictions.fail, row)
        return BackgroundTask(self.catalogue.path(row), store, fail, partial(self._postpone, row))

    def _store(self, row: int, prediction: RecordPrediction) -> None:
        """Store a prediction, unless its files are others than those of the labels."""
        if self.catalogue.is_changed(row):
            self.predictions.fail(row, CHANGED)
        else:
            self.predictions.store(row, prediction)

    def _postpone(self, row: int) -> None:
        """Predict a recording after all others."""
        with self._lock:
            self._postponed.pop(row, None)
            self._postponed[row] = None

    def list_notices(self) -> list[str]:
        """Return what has changed since the start, in sentences for people."""
        notices = [self.data_watch.notice] if self.data_watch and self.data_watch.notice else []
        try:
            if self.model_watch is not None:
                self.model_watch.check()
        except ModelChanged as error:
            notices.append(f"{error} Until then, predictions are those of the earlier model.")
        return notices

    def close(self) -> None:
        """End the predictions, and save them."""
        if self.data_watch is not None:
            self.data_watch.close()
        if self.runner is not None:
            self.runner.close()
        self.predictions.save()

    def predict_row(self, row: int) -> Future[RecordPrediction] | None:
        """Predict a recording before all others.

        Returns:
            The prediction to come. None if it is there, or is left to the background.

        Raises:
            BusyError: Too many tasks wait.
        """
        with self._lock:
            if self.predictions.state[row] != UNKNOWN or self.runner is None:
                return None
            if self._is_long[row] or row in self._postponed or row == self._background_row:
                self.show([row, *self._shown[: LARGEST_PAGE - 1]])
                return None
            future = self._predicting.get(row)
            if future is None:
                future = self._predicting[row] = self.runner.submit("predict_record", self.catalogue.path(row))
                future.add_done_callback(partial(self._finish_row, row))
            return future

    def _finish_row(self, row: int, future: Future[RecordPrediction]) -> None:
        """Store the result of an urgent prediction; see `predict_row`."""
        error = None if future.cancelled() else future.exception()
        if isinstance(error, TimeLimitError):
            self._postpone(row)
        elif isinstance(error, WorkerEnded):
            self._ends[row] += 1
        if isinstance(error, TaskError) or self._ends[row] >= MOST_ENDS:
            self.predictions.fail(row, str(error))
        if not future.cancelled() and error is None:
            self._store(row, future.result())
        with self._lock:
            self._predicting.pop(row, None)
