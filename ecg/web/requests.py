"""Read what requests hold: numbers, JSON and files; wait for what they ask for."""

import asyncio
import json
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any, TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from ecg.data.headers import Header, HeaderError, decode_header, parse_header
from ecg.runtime.console import describe_error
from ecg.web.access import RefusedRequest
from ecg.web.prediction_worker import check_upload_length
from ecg.web.predictor import BusyError

FLAGS = {"1": True, "true": True, "0": False, "false": False, "": False}
DEEPEST = 8  # nested objects and arrays
PARTS = {"header": ".hea", "signal": ".mat"}
MOST_HEADER_BYTES = 64 * 2**10
MOST_DIAGNOSES = 1000

Result = TypeVar("Result")


def read_flag(values: Mapping[str, str], name: str, default: bool = False) -> bool:
    """Return a parameter that is 1 or 0.

    Raises:
        RefusedRequest: It is neither.
    """
    if name not in values:
        return default
    if values[name].casefold() not in FLAGS:
        raise RefusedRequest(400, f"{name} is 1 or 0.")
    return FLAGS[values[name].casefold()]


def read_integer(values: Mapping[str, str], name: str, default: int, most: int) -> int:
    """Return a parameter that is an integer from 0 to `most`.

    Raises:
        RefusedRequest: It is none.
    """
    text = values.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 16 and int(text) <= most):
        raise RefusedRequest(400, f"{name} is an integer from 0 to {most:,}.")
    return int(text)


async def read_json(request: Request) -> dict[str, Any]:
    """Return the object that a request holds.

    Raises:
        RefusedRequest: It is not declared as JSON, malformed, nested too deeply, or no object.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().casefold() != "application/json":
        raise RefusedRequest(415, "The request is to have the content type application/json.")
    try:
        content = json.loads(await request.body(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise RefusedRequest(400, "The request is no valid JSON.") from None
    if not isinstance(content, dict) or _is_deeper(content, DEEPEST):
        raise RefusedRequest(400, "The request is to be an object of JSON, not nested deeply.")
    return content


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _is_deeper(value: Any, levels: int) -> bool:
    """Return whether lists and objects are nested in more levels."""
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return (levels == 0 and isinstance(value, dict | list)) or any(_is_deeper(child, levels - 1) for child in children)


def string_field(content: Mapping[str, Any], name: str, optional: bool = False) -> str:
    """Return a string of an object.

    Raises:
        RefusedRequest: It is missing, no string, or no valid Unicode.
    """
    value = content.get(name, "" if optional else None)
    if not isinstance(value, str):
        raise RefusedRequest(400, f"{name} is to be a string.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise RefusedRequest(400, f"{name} is no valid Unicode.") from None
    return value


async def read_upload(request: Request) -> tuple[Header, str, bytes]:
    """Return the header of a recording, its text, and the bytes of its signal file.

    Raises:
        RefusedRequest: The request is malformed, or has other parts.
        RecordingTooLong: The recording is too long by its header.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().casefold() != "multipart/form-data":
        raise RefusedRequest(415, "The request is to have the content type multipart/form-data.")
    try:
        async with request.form(max_files=len(PARTS), max_fields=0) as form:
            content = [await _read_part(form, name) for name in PARTS]
    except HTTPException as error:
        raise RefusedRequest(400, f"The form cannot be read: {error.detail}") from error
    try:
        header, text = await run_in_threadpool(_parse_upload_header, content[0])
    except HeaderError as error:
        raise RefusedRequest(422, f"The header cannot be used: {describe_error(error)}") from error
    check_upload_length(header, header.samples or 0)
    return header, text, content[1]


def _parse_upload_header(content: bytes) -> tuple[Header, str]:
    """Return the header in the bytes of a file, and its text.

    Raises:
        HeaderError: It cannot be parsed, or is larger than any real one.
    """
    if len(content) > MOST_HEADER_BYTES:
        raise HeaderError(f"header: {len(content):,} bytes, expected {MOST_HEADER_BYTES:,} or fewer")
    text = decode_header(content)
    header = parse_header(text)
    if len(header.codes) > MOST_DIAGNOSES:
        raise HeaderError(f"header: {len(header.codes):,} diagnoses, expected {MOST_DIAGNOSES:,} or fewer")
    return header, text


async def _read_part(form: FormData, name: str) -> bytes:
    """Return the bytes of the file of a form."""
    values = form.getlist(name)
    if len(values) != 1 or not isinstance(values[0], UploadFile):
        raise RefusedRequest(400, f"The form needs one file {name}, of the kind {PARTS[name]}.")
    return await values[0].read()


async def wait_for_result(request: Request, future: Future[Result], seconds: float) -> Result:
    """Return the result of a task.

    The task is cancelled if the client leaves or has waited for too long.

    Args:
        request: Who waits for it.
        future: The result to come.
        seconds: How long it is waited for.

    Raises:
        RefusedRequest: The client has left.
        BusyError: It has waited for too long.
    """
    task, leaving = asyncio.wrap_future(future), asyncio.ensure_future(_wait_for_disconnect(request))
    futures: set[asyncio.Future[Any]] = {task, leaving}
    try:
        await asyncio.wait(futures, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        if leaving.done():
            raise RefusedRequest(400, "The client has left.")
        raise BusyError("other tasks took too long; try again")
    finally:
        task.cancel()
        leaving.cancel()


async def _wait_for_disconnect(request: Request) -> None:
    """Return when the client closes its connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
