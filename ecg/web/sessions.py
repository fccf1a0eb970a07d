"""Remember who reviews, in a signed cookie."""

import base64
import binascii
import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

KEY_FILE = ".session.key"
KEY_BYTES = 32


@dataclass(frozen=True)
class SessionSigner:
    """Signs the names of reviewers, so that no other program can invent one.

    Attributes:
        key: The secret.
    """

    key: bytes

    def sign(self, reviewer: str) -> str:
        """Return the value of the cookie of a reviewer."""
        name = base64.urlsafe_b64encode(reviewer.encode()).decode()
        return f"{name}.{self._digest(name)}"

    def read(self, cookie: str) -> str | None:
        """Return the reviewer of a cookie, or None if its signature is wrong."""
        name, _, digest = cookie.partition(".")
        if not hmac.compare_digest(digest.encode("utf-8", "replace"), self._digest(name).encode()):
            return None
        try:
            return base64.urlsafe_b64decode(name).decode()
        except (binascii.Error, ValueError):
            return None

    def _digest(self, name: str) -> str:
        return hmac.new(self.key, name.encode("utf-8", "replace"), hashlib.sha256).hexdigest()


def load_signer(folder: Path) -> SessionSigner:
    """Load the secret of a folder of reviews, or make one.

    Reviewers stay logged in if the server starts again.

    Raises:
        OSError: It cannot be read or written.
    """
    path = folder / KEY_FILE
    folder.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        key = path.read_bytes()
        if len(key) == KEY_BYTES:
            return SessionSigner(key)
        path.unlink()  # its writing was interrupted
        return load_signer(folder)
    with os.fdopen(descriptor, "wb") as file:
        file.write(key := secrets.token_bytes(KEY_BYTES))
    return SessionSigner(key)
