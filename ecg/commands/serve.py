"""Serve the workbench: prepare the list of recordings, then answer requests."""

import importlib.util
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from ecg.data.review_lists import read_review_list
from ecg.data.reviewers import check_reviewer_name
from ecg.data.source_tables import SourceTable
from ecg.runtime.cache import KEY_LENGTH, fingerprint
from ecg.runtime.console import Progress, pluralise, raise_if_interrupted
from ecg.runtime.files import check_writable

if TYPE_CHECKING:  # an extra of the installation
    from ecg.web.access import Access
    from ecg.web.predictions import PredictionTable
    from ecg.web.predictor import Predictor
    from ecg.web.workbench import Workbench

LOGGER = logging.getLogger("ecg")

PACKAGES = ("starlette", "uvicorn", "python_multipart")
CACHE = ".cache"  # folder below that of the reviews
BACKLOG = 2048  # connections that wait
KEEP_ALIVE_SECONDS, SHUTDOWN_SECONDS = 30, 3
POLL_SECONDS = 0.5
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class WebPackagesMissing(ImportError):
    """The packages of the server are not installed."""


class ServerError(RuntimeError):
    """The server cannot be started."""


@dataclass
class StopSignals:
    """The signals that are to end the server, as far as they have come.

    Attributes:
        received: Their numbers.
        server: The server of uvicorn, as soon as there is one.
    """

    received: list[int] = field(default_factory=list)
    server: Any = None

    def note(self, number: int, frame: FrameType | None) -> None:
        """Note a signal, and have the server end; a handler of signals."""
        self.received.append(number)
        if self.server is not None:
            self.server.should_exit = True


@dataclass(frozen=True)
class ServerSettings:
    """What is served, and how.

    Attributes:
        model: Folder of the model.
        data: Folder of the recordings.
        reviews: Folder of the reviews, and of cached predictions.
        reviewer: Name that the page proposes to who logs in, or an empty string.
        host: Name or address to bind to.
        port: Port; 0 for any that is free.
        blinded: Whether labels and predictions are hidden until the reviewer has answered.
        seed: Seed of the random order, and of a sample.
        review_list: File of a list of labels to review; None for all recordings.
        sample: Class, number of false positives and number of false negatives of a random sample to review, or None.
        no_token: Whether everybody on this machine may ask the server, without a token.
        source_table: The sources of records; None: those that are known for the model's classes.

    Raises:
        ValueError: The name cannot be that of a reviewer, or the reviews are in the folder of model or data.
    """

    model: Path
    data: Path
    reviews: Path = Path("reviews")
    reviewer: str = ""
    host: str = "127.0.0.1"
    port: int = 8000
    blinded: bool = False
    seed: int = 0
    review_list: Path | None = None
    sample: tuple[str, int, int] | None = None
    no_token: bool = False
    source_table: SourceTable | None = None

    def __post_init__(self) -> None:
        if self.reviewer:
            object.__setattr__(self, "reviewer", check_reviewer_name(self.reviewer))
        for folder in (self.model, self.data):
            if self.reviews.resolve().is_relative_to(folder.resolve()):
                raise ValueError(f"{self.reviews}: is in {folder}, where nothing is written; choose --reviews FOLDER")


def check_packages() -> None:
    """Check that the packages of the server are installed.

    Raises:
        WebPackagesMissing: One of them is not.
    """
    if missing := [name for name in PACKAGES if importlib.util.find_spec(name) is None]:
        raise WebPackagesMissing(f"{', '.join(missing)} not installed: pip install 'reduced-lead-ecg[web]'")


def serve(settings: ServerSettings) -> None:
    """Serve the workbench until Ctrl-C.

    Args:
        settings: What is served, and how.

    Raises:
        WebPackagesMissing: The packages of the server are not installed.
        ServerError: The model cannot be used, or other machines would reach the server without a token.
        RecordError: The list of labels to review cannot be read, or the model makes no error to sample.
        OSError: The data cannot be listed, the reviews not be written, or the address is not free.
    """
    check_packages()
    signal.signal(signal.SIGTERM, _exit_cleanly)
    from ecg.web.access import make_access
    from ecg.web.predictor import Predictor

    check_writable(settings.reviews)
    listener = open_listener(settings.host, settings.port)
    address, port = listener.getsockname()[:2]
    access = make_access(settings.host, port, address, not settings.no_token)
    predictor = Predictor(settings.model)
    try:
        if not (access.is_local or access.token):
            raise ServerError("--no-token is for a server that only this machine reaches; leave it or --host out")
        predictor.start()
        bench = open_workbench(settings, predictor)
        answer_requests(bench, access, listener, partial(log_start, settings, bench, access))
    finally:
        predictor.close()
        listener.close()


def _exit_cleanly(number: int, frame: FrameType | None) -> None:
    """End the program as after an error, so that processes end and files are removed."""
    raise SystemExit(128 + number)


@contextmanager
def noted_signals() -> Iterator[StopSignals]:
    """Note SIGINT and SIGTERM in the block, and give them to their handlers after it.

    Their handlers raise an exception wherever the program is. Code of libraries that is just imported may lose it, and
    the server would go on.

    Raises:
        SystemExit: SIGINT came before.
    """
    stop = StopSignals()
    chosen = [number for number in STOP_SIGNALS if callable(signal.getsignal(number))]
    handlers = {number: signal.signal(number, stop.note) for number in chosen}
    try:
        raise_if_interrupted()
        yield stop
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for received in stop.received:
            signal.raise_signal(received)


def answer_requests(
    bench: "Workbench", access: "Access", listener: socket.socket, announce: Callable[[], None] = lambda: None
) -> None:
    """Serve requests until the process is stopped.

    Args:
        bench: What is served.
        access: Who may ask.
        listener: Where the requests come.
        announce: Tells the user the address, as soon as a signal would end the server.
    """
    with noted_signals() as stop:
        import uvicorn

        from ecg.web.app import create_app
        from ecg.web.protocol import PromptProtocol

        logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it tells of every malformed form
        config = uvicorn.Config(
            create_app(bench, access), log_config=None, log_level="error", access_log=False, server_header=False,
            proxy_headers=False, http=PromptProtocol, ws="none", lifespan="on", timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=SHUTDOWN_SECONDS, backlog=BACKLOG,
        )  # fmt: skip
        stop.server = uvicorn.Server(config)
        if not stop.received:
            announce()
            stop.server.run(sockets=[listener])


def open_listener(host: str, port: int) -> socket.socket:
    """Bind to an address, so that one that is not free is an error at once.

    Args:
        host: Name or address.
        port: Port; 0 for any that is free.

    Raises:
        OSError: The address is not free, or not one of this machine; the error names it.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except socket.gaierror as error:  # its number is none of the system's
        raise OSError(error.errno, error.strerror, f"{host}:{port}") from error
    except OSError as error:
        raise OSError(error.errno, os.strerror(error.errno or 0), f"{host}:{port}") from error


def open_workbench(settings: ServerSettings, predictor: "Predictor") -> "Workbench":
    """List the recordings, load what is cached, and begin to predict the others.

    Args:
        settings: What is served, and how.
        predictor: Predicts; it has been started.

    Raises:
        ServerError: The model cannot be used.
        RecordError: The list of labels to review cannot be read, or the model makes no error to sample.
        OSError: The data cannot be listed, or the reviews not be written.
    """
    import numpy as np

    from ecg.models.saved_classes import find_model_classes
    from ecg.web.catalogue import load_catalogue
    from ecg.web.changes import DataWatch, ModelChanged
    from ecg.web.prediction_worker import TaskError
    from ecg.web.predictions import PredictionTable
    from ecg.web.predictor import TimeLimitError, WorkerEnded
    from ecg.web.review_book import ReviewBook
    from ecg.web.sessions import load_signer
    from ecg.web.workbench import ReviewSettings, Workbench

    description = predictor.submit("describe_model")
    # By its whole path, since recordings in another folder may have the same names, sizes and times.
    cache = settings.reviews / CACHE / fingerprint(os.fspath(settings.data.resolve()))[:KEY_LENGTH]
    classes = find_model_classes(settings.model)
    catalogue = load_catalogue(settings.data, cache, classes=classes, source_table=settings.source_table)
    try:
        facts = description.result()
    except (TaskError, TimeLimitError, WorkerEnded, ModelChanged) as error:
        raise ServerError(str(error)) from error
    if facts.classes != classes:
        raise ServerError(f"{settings.model}: has been replaced just now, start the server again")
    model = facts.lead_sets[max(facts.lead_sets)]
    exclusive = classes.indices(model.classes) if model.exclusive else np.empty(0, int)
    predictions = PredictionTable(catalogue, cache / f"predictions-{facts.key[:12]}", facts.key, exclusive)
    chosen = ReviewSettings(settings.reviewer, settings.blinded, settings.seed)
    bench = Workbench(
        catalogue,
        predictions,
        facts,
        ReviewBook(settings.reviews, classes),
        load_signer(settings.reviews),
        chosen,
        predictor,
        model_folder=settings.model,
    )
    bench.model_watch, bench.data_watch = predictor.watch, DataWatch(catalogue)
    bench.data_watch.start()
    if settings.review_list is not None:
        rows = read_review_list(settings.review_list, catalogue.names, classes)
        show_only(bench, [(catalogue.row_of_name[name], abbreviation) for name, abbreviation in rows])
    predictor.find_background_task = bench.find_background_task
    predictor.wake()
    if settings.sample is not None:
        wait_for_predictions(predictions)
        show_only(bench, predictions.sample_errors(*settings.sample, settings.seed))
    return bench


def show_only(bench: "Workbench", rows: Sequence[tuple[int, str]]) -> None:
    """Show only the recordings of a list, with the classes that are to be reviewed."""
    bench.use_settings(replace(bench.settings, review_list=rows))


def wait_for_predictions(predictions: "PredictionTable") -> None:
    """Wait until all recordings are predicted."""
    counts = predictions.counts()
    with Progress("predictions", counts["recordings"]) as progress:
        while (done := counts["predicted"] + counts["failed"]) < counts["recordings"]:
            progress.advance(done - progress.done)
            time.sleep(POLL_SECONDS)
            counts = predictions.counts()


def log_start(settings: ServerSettings, bench: "Workbench", access: "Access") -> None:
    """Log what is served, and the address to open."""
    counts = bench.predictions.counts()
    waiting = counts["recordings"] - counts["predicted"] - counts["failed"]
    LOGGER.info(f"{settings.reviews}: reviews; {pluralise(counts['predicted'], 'recording')} predicted, {waiting:,} to "
                f"predict")  # fmt: skip
    if not access.is_local:
        LOGGER.info("other machines reach this server, unencrypted; who has the address can read and review")
    elif not access.token:
        LOGGER.info("no token: all users of this machine can read and review")
    LOGGER.info(access.url)
