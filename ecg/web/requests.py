"""Read what requests hold: numbers, JSON and files."""

import json
from collections.abc import Mapping
from typing import Any

from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from ecg.data.headers import MOST_BYTES, Header, HeaderError, decode_header, parse_header
from ecg.runtime.console import describe_error
from ecg.web.access import RefusedRequest

FLAGS = {"1": True, "true": True, "0": False, "false": False, "": False}
DEEPEST = 8  # nested objects and arrays
PARTS = {"header": ".hea", "signal": ".mat"}


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
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().casefold() != "multipart/form-data":
        raise RefusedRequest(415, "The request is to have the content type multipart/form-data.")
    try:
        async with request.form(max_files=len(PARTS), max_fields=0) as form:
            content = [await _read_part(form, name) for name in PARTS]
    except HTTPException as error:
        raise RefusedRequest(400, f"The form cannot be read: {error.detail}") from error
    try:
        if len(content[0]) > MOST_BYTES:
            raise HeaderError(f"header: {len(content[0]):,} bytes, expected {MOST_BYTES:,} or fewer")
        text = decode_header(content[0])
        return parse_header(text), text, content[1]
    except HeaderError as error:
        raise RefusedRequest(422, f"The header cannot be used: {describe_error(error)}") from error


async def _read_part(form: FormData, name: str) -> bytes:
    """Return the bytes of the file of a form."""
    values = form.getlist(name)
    if len(values) != 1 or not isinstance(values[0], UploadFile):
        raise RefusedRequest(400, f"The form needs one file {name}, of the kind {PARTS[name]}.")
    return await values[0].read()
