"""Remember who reviews, in a signed cookie."""

import base64
import binascii
import fcntl
import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from ecg.runtime.locks import lock_file, open_regular

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

    Reviewers stay logged in if the server starts again. Servers that start at the same time get the same secret.

    Raises:
        OSError: It cannot be read, written or locked.
    """
    path = folder / KEY_FILE
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = open_regular(path, os.O_RDWR | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "r+b", buffering=0) as file:
        lock_file(descriptor, path, fcntl.LOCK_EX)
        key = file.read(KEY_BYTES + 1)
        if len(key) != KEY_BYTES:  # it is new, or its writing was interrupted
            key = secrets.token_bytes(KEY_BYTES)
            os.pwrite(descriptor, key, 0)
            os.ftruncate(descriptor, KEY_BYTES)
            os.fsync(descriptor)
    return SessionSigner(key)
