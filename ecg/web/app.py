"""The routes of the workbench's server."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import anyio
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from ecg.data.headers import RecordError
from ecg.data.reviews import Review, Verdict
from ecg.runtime.console import describe_error, remove_record_name
from ecg.systems.training_overlap import describe_overlap
from ecg.web import descriptions
from ecg.web.access import Access, AccessControl, JsonResponse, RefusedRequest, error_response, read_cookie
from ecg.web.agreement_study import describe_agreement
from ecg.web.catalogue import LARGEST_PAGE, SORTS, ListQuery, RecordingChanged
from ecg.web.changes import ModelChanged
from ecg.web.envelopes import FINE_BLOCK, MOST_ENTRIES, SampleWindow, SignalSource, TooLongError
from ecg.web.prediction_worker import TASK_SECONDS, PackedEvidence, RecordingTooLong, TaskError
from ecg.web.predictor import BusyError, TimeLimitError, WorkerEnded
from ecg.web.requests import read_flag, read_integer, read_json, read_upload, string_field, wait_for_result
from ecg.web.signals import KINDS, RecordingFacts, join_names, read_facts
from ecg.web.workbench import HiddenError, Workbench

LOGGER = logging.getLogger("ecg")

STATIC = Path(__file__).with_name("static")
MEDIA_TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml",
               ".js": "text/javascript; charset=utf-8"}  # fmt: skip
INDEX = "index.html"
PREDICTION_SECONDS = 0.5  # that the page of a recording waits for its prediction; later it asks again
ANSWER_SECONDS = TASK_SECONDS + 10  # until a request is answered; the page waits for 60 s
MOST_READERS = 4  # signals that are read at once; one may take some hundred megabytes
MOST_SHADINGS = 64  # that are kept
SESSION_SECONDS = 90 * 86400
DEFAULT_PAGE = 50  # recordings

Result = TypeVar("Result")


def create_app(bench: Workbench, access: Access) -> ASGIApp:
    """Return the application: its routes behind the checks of `AccessControl`."""
    routes = Routes(bench, access)
    handlers: Mapping[Any, Any] = {
        RefusedRequest: lambda request, error: error_response(error.status, error.reason),
        HTTPException: lambda request, error: error_response(error.status_code, f"{error.detail}."),
        RecordError: lambda request, error: error_response(422, describe_error(error)),
        RecordingChanged: lambda request, error: error_response(409, f"{error}"),
        ModelChanged: lambda request, error: error_response(409, f"{error}"),
        RecordingTooLong: lambda request, error: error_response(413, f"{error}"),
        HiddenError: lambda request, error: error_response(400, f"{error}"),
        BusyError: lambda request, error: error_response(503, f"{error}"),
        WorkerEnded: lambda request, error: error_response(503, f"{error}"),
        OSError: lambda request, error: error_response(503, describe_error(error)),
        Exception: lambda request, error: error_response(500, "An error of the server; its log says more."),
    }

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(bench.close)

    app = Starlette(routes=routes.table(), exception_handlers=handlers, lifespan=lifespan)
    app.router.redirect_slashes = False
    return AccessControl(app, access, routes.enter)


def load_static_files() -> dict[str, tuple[bytes, str]]:
    """Return content and media type of each static file; no other file is served."""
    return {
        path.name: (path.read_bytes(), MEDIA_TYPES[path.suffix])
        for path in sorted(STATIC.iterdir())
        if path.suffix in MEDIA_TYPES
    }


class Routes:
    """The functions that answer requests, each a method."""

    def __init__(self, bench: Workbench, access: Access) -> None:
        self.bench, self.access = bench, access
        self.cookie = f"reviewer-{access.port}"
        self.static = load_static_files()
        self._shadings: dict[tuple[int, str, str], PackedEvidence] = {}
        self._agreement_key: tuple[str | None, int, int] | None = None
        self._agreement_answer: dict[str, Any] = {}
        self._signals = SignalSource()
        self._readers, self._studies = anyio.CapacityLimiter(MOST_READERS), anyio.CapacityLimiter(1)

    def table(self) -> list[Route]:
        """Return the routes."""
        get, post = ["GET"], ["POST"]
        return [
            Route("/", self.index, methods=get),
            Route("/static/{name}", self.static_file, methods=get),
            Route("/api/session", self.session, methods=get),
            Route("/api/login", self.login, methods=post),
            Route("/api/logout", self.logout, methods=post),
            Route("/api/recordings", self.recordings, methods=get),
            Route("/api/recording", self.recording, methods=get),
            Route("/api/signal", self.signal, methods=get),
            Route("/api/explanation", self.explanation, methods=get),
            Route("/api/reviews", self.reviews, methods=get),
            Route("/api/reviews", self.add_review, methods=post),
            Route("/api/agreement", self.agreement, methods=get),
            Route("/api/predict", self.predict, methods=post),
        ]

    async def index(self, request: Request) -> Response:
        """Return the page."""
        return self._static(INDEX)

    async def static_file(self, request: Request) -> Response:
        """Return a static file by its name."""
        return self._static(request.path_params["name"])

    def _static(self, name: str) -> Response:
        if name not in self.static:
            raise RefusedRequest(404, "There is no such file.")
        content, media_type = self.static[name]
        return Response(content, media_type=media_type)

    def enter(self, headers: Headers) -> Response:
        """Answer who opens the printed address, by cookies and a redirection.

        The address that it leads to has no token. On this machine, whoever was named at the start is logged in, unless
        the browser knows another reviewer.
        """
        response = RedirectResponse("/", 303)
        # Not "strict", since a link of another site, such as that of a terminal in a browser, may lead here.
        response.set_cookie(self.access.cookie, self.access.token, httponly=True, samesite="lax", path="/")
        default = self.bench.settings.reviewer
        if default and self.access.is_local and self.read_reviewer(headers) is None:
            with suppress(OSError):  # such as if the folder cannot be listed; the page asks for the name then
                self.remember(response, self.bench.reviews.known_name(default))
        return response

    def remember(self, response: Response, reviewer: str) -> None:
        """Have the browser remember who reviews."""
        value = self.bench.signer.sign(reviewer)
        response.set_cookie(self.cookie, value, SESSION_SECONDS, httponly=True, samesite="strict", path="/")

    def reviewer(self, request: Request) -> str | None:
        """Return who has logged in; None for nobody."""
        return self.read_reviewer(request.headers)

    def read_reviewer(self, headers: Headers) -> str | None:
        """Return who has logged in, by the cookie; None for nobody."""
        cookie = read_cookie(headers, self.cookie)
        return self.bench.signer.read(cookie) if cookie else None

    def row(self, name: str) -> int:
        """Return the row of a record by its name, which is never part of a path."""
        row = self.bench.catalogue.index.get(name)
        if row is None:
            raise RefusedRequest(404, "There is no recording of this name.")
        return row

    async def session(self, request: Request) -> Response:
        """Describe the server."""
        return await respond_in_thread(descriptions.describe_session, self.bench, self.reviewer(request))

    async def login(self, request: Request) -> Response:
        """Choose the reviewer."""
        name = string_field(await read_json(request), "reviewer")
        try:
            name = await run_in_threadpool(self.bench.reviews.known_name, name)
        except ValueError as error:
            raise RefusedRequest(400, f"The reviewer's name cannot be used: {error}") from error
        response = JsonResponse({"reviewer": name})
        self.remember(response, name)
        return response

    async def logout(self, request: Request) -> Response:
        """Forget the reviewer."""
        response = JsonResponse({"reviewer": None})
        response.delete_cookie(self.cookie, path="/", httponly=True, samesite="strict")
        return response

    async def recordings(self, request: Request) -> Response:
        """Return a page of the list."""
        values = request.query_params
        neutral = self.bench.settings.blinded or self.bench.settings.review_list is not None
        sort = values.get("sort", "random" if neutral else "suspicion")
        if sort not in SORTS:
            raise RefusedRequest(400, f"sort is none of {', '.join(SORTS)}.")
        if self.bench.settings.blinded and sort == "suspicion":
            sort = "random"  # the suspicion is hidden
        texts = {name: values.get(name, "") for name in ("search", "label", "predicted", "source")}
        suspected, unreviewed = read_flag(values, "suspected"), read_flag(values, "unreviewed")
        descending = read_flag(values, "descending", default=sort == "suspicion")
        query = ListQuery(**texts, suspected=suspected, sort=sort, descending=descending)
        offset = read_integer(values, "offset", 0, 2**31)
        limit = read_integer(values, "limit", DEFAULT_PAGE, LARGEST_PAGE)
        return await respond_in_thread(self._page, query, self.reviewer(request), unreviewed, offset, limit)

    def _page(
        self, query: ListQuery, reviewer: str | None, unreviewed: bool, offset: int, limit: int
    ) -> dict[str, Any]:
        rows = self.bench.list_rows(query, reviewer, unreviewed)
        shown = rows[offset : offset + limit].tolist()
        self.bench.show(shown)
        items = descriptions.describe_items(self.bench, shown, reviewer)
        visible = [row for row, item in zip(shown, items, strict=True) if item["labels"] is not None]
        self.bench.note_shown(reviewer, visible)
        return {"total": len(rows), "offset": offset, "items": items}

    async def recording(self, request: Request) -> Response:
        """Describe a recording; its prediction is awaited for half a second."""
        row = self.row(request.query_params.get("record", ""))
        try:
            future = self.bench.predict_row(row)
        except BusyError:
            future = None  # it comes later, in the background
        facts = await self._read(read_facts, row)
        if future is not None:
            waiting = asyncio.wrap_future(future)
            waiting.add_done_callback(lambda done: done.cancelled() or done.exception())  # the page asks again
            await asyncio.wait({waiting}, timeout=PREDICTION_SECONDS)
        return await respond_in_thread(self._describe_record, row, facts, self.reviewer(request))

    def _describe_record(self, row: int, facts: RecordingFacts, reviewer: str | None) -> dict[str, Any]:
        described = descriptions.describe_record(self.bench, row, facts, reviewer)
        self.bench.note_shown(reviewer, [row] * (described["labels"] is not None))
        return described

    async def _read(self, read: Callable[..., Result], row: int, *arguments: object) -> Result:
        """Read a recording in a thread, while few others are read."""
        call = partial(self._read_unchanged, read, row, *arguments)
        return await anyio.to_thread.run_sync(call, limiter=self._readers)

    def _read_unchanged(self, read: Callable[..., Result], row: int, *arguments: object) -> Result:
        try:
            return read(self.bench.catalogue.path(row), *arguments, early_gains=self.bench.early_gains)
        finally:
            self.bench.catalogue.check_unchanged(row)

    async def signal(self, request: Request) -> Response:
        """Return a signal as integers of 16 bits; see `SignalSource.pack`."""
        row, kind = self.row(request.query_params.get("record", "")), request.query_params.get("kind", KINDS[0])
        if kind not in KINDS:
            raise RefusedRequest(400, f"kind is none of {', '.join(KINDS)}.")
        values = request.query_params
        block = read_integer(values, "block", 1, FINE_BLOCK)
        first, count = read_integer(values, "first", 0, 2**40), read_integer(values, "count", 0, block * MOST_ENTRIES)
        if block not in (1, FINE_BLOCK):
            raise RefusedRequest(400, f"block is 1 or {FINE_BLOCK}.")
        try:
            packed = await self._read(self._signals.pack, row, kind, SampleWindow(first, count, block))
        except (RecordError, OSError) as error:
            reason = remove_record_name(describe_error(error), self.bench.catalogue.path(row))
            status = 413 if isinstance(error, TooLongError) else 422
            raise RefusedRequest(status, f"The recording cannot be shown: {reason}") from error
        content = packed.integers.data.cast("B") if packed.integers.size else b""
        return Response(content, headers=packed.headers(), media_type="application/octet-stream")

    async def explanation(self, request: Request) -> Response:
        """Return where the evidence for a class lies, as integers of 8 bits."""
        values = request.query_params
        row = self.row(values.get("record", ""))
        abbreviation, method = values.get("class", ""), values.get("method", "")
        if method not in self.bench.facts.methods.get(abbreviation, ()):
            raise RefusedRequest(400, "This class is not explained by this method.")
        reviewer = self.reviewer(request)
        mine = await run_in_threadpool(self.bench.reviews.verdicts, reviewer)
        if self.bench.is_hidden(row, mine.get(self.bench.catalogue.names[row], {})):
            raise RefusedRequest(403, "The prediction is hidden until you have answered.")
        await run_in_threadpool(self.bench.note_shown, reviewer, [row])
        shading = self._shadings.get((row, abbreviation, method))
        if shading is None:
            arguments = self.bench.catalogue.path(row), abbreviation, method
            shading = await self._perform(request, "explained", "explain_record", *arguments)
            self._shadings[row, abbreviation, method] = shading
            while len(self._shadings) > MOST_SHADINGS:
                del self._shadings[next(iter(self._shadings))]
        await run_in_threadpool(self.bench.catalogue.check_unchanged, row)
        headers = {
            "X-Leads": join_names(shading.leads),
            "X-Bins": str(shading.strengths.shape[1]),
            "X-Seconds-Per-Bin": f"{shading.bin_seconds:.9g}",
            "X-By-Lead": ",".join(f"{value:.6g}" for value in shading.by_lead),
        }
        return Response(shading.strengths.tobytes(), headers=headers, media_type="application/octet-stream")

    async def _perform(self, request: Request, what: str, name: str, *arguments: object) -> Any:
        """Return the result of a task of the prediction process.

        Args:
            request: Who asks for it.
            what: What is done with the recording, for messages.
            name: Name of the task.
            *arguments: Its arguments.
        """
        if self.bench.runner is None:
            raise BusyError("the model is not loaded yet; try again")
        try:
            return await wait_for_result(request, self.bench.runner.submit(name, *arguments), ANSWER_SECONDS)
        except RecordingTooLong:
            raise
        except TaskError as error:
            raise RefusedRequest(422, f"The recording cannot be {what}: {error}") from error
        except TimeLimitError as error:
            raise RefusedRequest(504, f"The recording cannot be {what}: {error}") from error

    async def reviews(self, request: Request) -> Response:
        """Return the reviewer's own reviews, of one recording or of all."""
        verdicts = await run_in_threadpool(self.bench.reviews.verdicts, self.reviewer(request))
        if "record" in request.query_params:
            name = self.bench.catalogue.names[self.row(request.query_params["record"])]
            verdicts = {name: verdicts.get(name, {})}
        last = [descriptions.describe_review(review) for classes in verdicts.values() for review in classes.values()]
        return JsonResponse({"reviews": last})

    async def add_review(self, request: Request) -> Response:
        """Save a review; it is on the disk before the answer."""
        reviewer = self.reviewer(request)
        if reviewer is None:
            raise RefusedRequest(409, "Log in as a reviewer first.")
        content = await read_json(request)
        row = self.row(string_field(content, "record"))
        abbreviation, verdict = string_field(content, "class"), string_field(content, "verdict")
        if abbreviation not in self.bench.facts.classes.index or verdict not in tuple(Verdict):
            raise RefusedRequest(400, f"A review needs a class and one of the verdicts {', '.join(Verdict)}.")
        comment = string_field(content, "comment", optional=True)
        saved = await run_in_threadpool(self._save, reviewer, row, (abbreviation, verdict, comment))
        return JsonResponse(descriptions.describe_review(saved), 201)

    def _save(self, reviewer: str, row: int, values: tuple[str, str, str]) -> Review:
        """Write a review, and whether it was blinded."""
        blinded = self.bench.is_blinded(row, reviewer)
        abbreviation, verdict, comment = values
        try:
            review = Review(self.bench.catalogue.names[row], abbreviation, Verdict(verdict), comment, blinded=blinded)
            return self.bench.reviews.append(reviewer, review)
        except ValueError as error:
            raise RefusedRequest(400, f"The review cannot be saved: {error}") from error
        except OSError as error:
            LOGGER.error(f"a review of {reviewer} cannot be saved: {describe_error(error)}")
            raise RefusedRequest(503, f"The review could not be saved: {error.strerror}") from error

    async def agreement(self, request: Request) -> Response:
        """Return who agrees with whom; to the blinded, on what they have answered."""
        study = partial(self._agreement, self.reviewer(request))
        return JsonResponse(await anyio.to_thread.run_sync(study, limiter=self._studies))

    def _agreement(self, reviewer: str | None) -> dict[str, Any]:
        """Measure the agreement, unless no review came since the last time."""
        bench = self.bench
        reviews = bench.reviews.compared_reviews()
        if bench.settings.blinded:
            shown = {bench.catalogue.names[row]: row for row in bench.answered_rows(reviewer)}
            reviews = [review for review in reviews if review.record in shown]
            bench.note_shown(reviewer, shown.values())
        key = (reviewer if bench.settings.blinded else None, bench.reviews.version, bench.predictions.version)
        if self._agreement_key != key:
            caveat = describe_overlap("The model", bench.training_content, reviews) if reviews else ""
            answer = describe_agreement(bench.predictions, reviews)
            self._agreement_answer = answer | {"caveats": [f"{caveat}."] if caveat else []}
            self._agreement_key = key
        bench.note_shown(reviewer, (self.row(item["record"]) for item in self._agreement_answer["contested"]))
        return self._agreement_answer

    async def predict(self, request: Request) -> Response:
        """Predict a recording that a program sends.

        Not if reviewers are blinded: they could send a recording that they have to review.
        """
        if self.bench.settings.blinded:
            raise RefusedRequest(403, "Predictions are hidden from reviewers; ask a server without --blinded.")
        header, text, content = await read_upload(request)
        prediction = await self._perform(request, "predicted", "predict_upload", text, content)
        return JsonResponse(descriptions.describe_upload(header.name, prediction, self.bench.facts))


async def respond_in_thread(describe: Callable[..., Any], *arguments: object) -> Response:
    """Return what a function describes, as JSON; the function runs in a thread."""
    return JsonResponse(await run_in_threadpool(partial(describe, *arguments)))
