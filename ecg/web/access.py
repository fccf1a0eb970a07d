"""Decide who may ask the server what, and how much and how long they may send."""

import asyncio
import hmac
import html
import ipaddress
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ecg.runtime.files import to_json

LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")
WILDCARDS = ("0.0.0.0", "::")  # addresses that stand for all of the machine's
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
TOKEN_BYTES = 32
UPLOAD_PATH = "/api/predict"
MOST_UPLOAD_BYTES = 32 * 2**20
MOST_BODY_BYTES = 64 * 2**10  # of other requests
MOST_DRAINED = 4  # times as much is read and forgotten, so that the client sees why it is refused
DRAIN_SECONDS = 5.0  # for the body of a request that is refused already
MOST_BUFFERED_BYTES = 256 * 2**20  # in all requests that are being received or answered
IDLE_SECONDS, BODY_SECONDS, UPLOAD_SECONDS = 10.0, 20.0, 120.0
POLICY = ("default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
          "base-uri 'none'; form-action 'none'; frame-ancestors 'none'")  # fmt: skip
SECURITY_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class RefusedRequest(Exception):
    """A request is refused.

    Attributes:
        status: HTTP status.
        reason: One sentence for the user.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class JsonResponse(Response):
    """An answer as JSON in ASCII, which names of files that are not UTF-8 survive."""

    media_type = "application/json"

    def render(self, content: object) -> bytes:
        """Return the bytes of an object."""
        return to_json(content, allow_nan=False, separators=(",", ":")).encode()


def error_response(status: int, reason: str) -> JsonResponse:
    """Return the answer to a request that cannot be fulfilled."""
    return JsonResponse({"error": reason}, status, headers={"Retry-After": "5"} if status == 503 else None)


def make_refusal(scope: Scope, refusal: RefusedRequest) -> Response:
    """Return the answer to a request that is refused; the connection ends with it."""
    accepted = Headers(scope=scope).get("accept", "")
    if scope["path"] == "/" and "text/html" in accepted:  # a person looks at it
        page = f"<!doctype html><html lang=en><title>ECG workbench</title><p>{html.escape(refusal.reason)}</p></html>"
        response: Response = HTMLResponse(page, refusal.status)
    else:
        response = error_response(refusal.status, refusal.reason)
    response.headers["Connection"] = "close"
    return response


def is_loopback(address: str) -> bool:
    """Return whether an IP address reaches this machine only."""
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def is_address(name: str) -> bool:
    """Return whether the host name of a URL is an IP address."""
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


@dataclass(frozen=True)
class Access:
    """Who may ask the server.

    Attributes:
        host: Name or address that the server was told to bind to.
        port: Port that it listens on.
        token: Secret that requests must have; an empty string if everybody may ask.
        is_local: Whether only this machine reaches the server.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str = field(default="", repr=False)
    is_local: bool = True

    @property
    def cookie(self) -> str:
        """Name of the cookie with the token; browsers mix the cookies of ports."""
        return f"access-{self.port}"

    @property
    def url(self) -> str:
        """The address to open in a browser, with the token."""
        host = socket.gethostname() if self.host in WILDCARDS else self.host
        name = f"[{host}]" if ":" in host else host
        return f"http://{name}:{self.port}/{f'?token={self.token}' * bool(self.token)}"

    def allows_host(self, host: str) -> bool:
        """Return whether the Host header names this server.

        Another name may be that of a foreign page which its owner has pointed to this machine (DNS rebinding). An
        address cannot be, so that all are allowed if the server listens on all of the machine's.
        """
        name, colon, port = host.rpartition(":")
        if not colon or name.endswith(":") or not port.isascii() or not port.isdigit():
            name, port = host, "80"
        if int(port[:6]) != self.port:
            return False
        given = f"[{self.host}]" if ":" in self.host else self.host
        allowed = {*LOOPBACK_NAMES, given.casefold()}
        if self.host in WILDCARDS:
            allowed |= {socket.gethostname().casefold(), socket.getfqdn().casefold()}
        return name.casefold() in allowed or (self.host in WILDCARDS and is_address(name))

    def has_token(self, given: str) -> bool:
        """Return whether a string is the token."""
        return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), self.token.encode())


def make_access(host: str, port: int, address: str, has_token: bool = True) -> Access:
    """Return the access to a server.

    Args:
        host: Name or address that it was told to bind to.
        port: Port that it listens on.
        address: Address that it listens on.
        has_token: Whether requests need a token, which is a new one for each server.
    """
    return Access(host, port, secrets.token_urlsafe(TOKEN_BYTES) if has_token else "", is_loopback(address))


def read_cookie(headers: Headers, name: str) -> str:
    """Return the value of a cookie, or an empty string."""
    return cookie_parser(headers.get("cookie", "")).get(name, "")


class AccessControl:
    """Checks requests before the application sees them; adds headers to the answers.

    The body of a request is read here, so that neither its size nor its speed depends on what the client says.
    """

    def __init__(self, app: ASGIApp, access: Access, enter: Callable[[Headers], Response]) -> None:
        """Check requests to an application.

        Args:
            app: The application.
            access: Who may ask it.
            enter: Returns the answer to a request for the address with the token, given its headers.
        """
        self.app, self.access, self.enter = app, access, enter
        self.buffered = 0  # bytes of all bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        send = _with_headers(scope["path"], send)
        body = bytearray()
        try:
            response = self._check(scope)
        except RefusedRequest as refusal:
            response = make_refusal(scope, refusal)
        try:
            if response is None or "expect" not in Headers(scope=scope):  # who expects an answer sends no body yet
                await self._read_body(scope, receive, body, is_kept=response is None)
            if response is None:
                await self.app(scope, _replay(bytes(body), receive), send)
                return
        except RefusedRequest as refusal:
            response = make_refusal(scope, refusal)
        finally:
            self.buffered -= len(body)
        await response(scope, receive, send)

    def _check(self, scope: Scope) -> Response | None:
        """Check host, origin and token.

        Returns:
            An answer if the application is not to be asked.

        Raises:
            RefusedRequest: The request is not allowed.
        """
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self.access.allows_host(hosts[0]):
            raise RefusedRequest(403, "This is not the server's address; open the one that it printed at its start.")
        site = headers.get("sec-fetch-site", "none")
        changes = scope["method"] not in SAFE_METHODS
        origin = headers.get("origin")
        if changes and origin is not None and origin.casefold() != f"{scope['scheme']}://{hosts[0]}".casefold():
            raise RefusedRequest(403, "Requests from pages of other sites are refused.")
        if site not in ("same-origin", "none") and (changes or scope["path"] != "/"):
            raise RefusedRequest(403, "Requests from pages of other sites are refused.")
        return self._check_token(scope, headers) if self.access.token else None

    def _check_token(self, scope: Scope, headers: Headers) -> Response | None:
        """Check the token.

        Returns:
            The answer that sets the cookie, if the address has the token.

        Raises:
            RefusedRequest: There is no token, or a wrong one.
        """
        if scope["path"] == "/":
            values = parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
            if len(values) == 1 and self.access.has_token(values[0]):
                return self.enter(headers)
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        if self.access.has_token(read_cookie(headers, self.access.cookie)):
            return None
        if scheme.casefold() == "bearer" and self.access.has_token(bearer.strip()):
            return None
        raise RefusedRequest(401, "A token is needed; open the address that the server printed at its start.")

    async def _read_body(self, scope: Scope, receive: Receive, body: bytearray, is_kept: bool) -> None:
        """Read the body of a request.

        Args:
            scope: The request.
            receive: Receives its messages.
            body: Takes the bytes, which are counted in `buffered`.
            is_kept: Whether it takes them. If not, they are read only so that the client sees why it is refused.

        Raises:
            RefusedRequest: It is too large or too slow, too much is being received, or the client is gone.
        """
        is_upload, headers = scope["path"] == UPLOAD_PATH, Headers(scope=scope)
        most = MOST_UPLOAD_BYTES if is_upload else MOST_BODY_BYTES
        too_large = RefusedRequest(413, f"The request has more than {most:,} bytes.")
        length = headers.get("content-length", "0")
        if "content-length" in headers and "transfer-encoding" in headers:
            raise RefusedRequest(400, "The request has two lengths.")
        if length.isascii() and length.isdigit() and int(length[:20]) > MOST_DRAINED * most:
            raise too_large
        seconds = DRAIN_SECONDS if not is_kept else UPLOAD_SECONDS if is_upload else BODY_SECONDS
        end = asyncio.get_running_loop().time() + seconds
        received, more = 0, True
        while more:
            message = await _receive_until(receive, end)
            chunk = message.get("body", b"")
            received, more = received + len(chunk), message.get("more_body", False)
            if received <= most and is_kept:
                body += chunk
                self.buffered += len(chunk)
            elif received > MOST_DRAINED * most:
                raise too_large
            if self.buffered > MOST_BUFFERED_BYTES:
                raise RefusedRequest(503, "Too many requests at once; try again.")
        if received > most:  # only now, since a client that still sends might not see the answer
            raise too_large


async def _receive_until(receive: Receive, end: float) -> Message:
    """Receive the next message of a body.

    Args:
        receive: Receives it.
        end: Until when, by the clock of the event loop.

    Raises:
        RefusedRequest: The client is too slow, or gone.
    """
    left = end - asyncio.get_running_loop().time()
    try:
        message = await asyncio.wait_for(receive(), min(IDLE_SECONDS, max(left, 0)))
    except TimeoutError:
        raise RefusedRequest(408, "The request came too slowly.") from None
    if message["type"] == "http.disconnect":
        raise RefusedRequest(400, "The request is not complete.")
    return message


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a function that receives a body, then the end of the connection."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return messages.pop() if messages else await receive()

    return receive_again


def _with_headers(path: str, send: Send) -> Send:
    """Return a function that sends messages with the headers of all answers."""

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in SECURITY_HEADERS.items():
                headers[name] = value
            headers.setdefault("Cache-Control", "no-cache" if path.startswith("/static/") else "no-store")
        await send(message)

    return send_with_headers
