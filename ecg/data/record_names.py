"""Write the names of records such that every character can be seen."""

import re

CODE = r"(?:x[0-9a-f]{2}|u[0-9a-f]{4}|U00(?:0[0-9a-f]|10)[0-9a-f]{4})"  # after a backslash, see `escape_name`


def escape_name(name: str) -> str:
    r"""Return the name of a record with codes for characters that cannot be seen.

    The codes are such as `\u000a`. The characters are line breaks and other control characters, and bytes that are not
    UTF-8 (`\xff`). A backslash before what looks like a code becomes `\x5c`, so that different names stay different;
    see `unescape_name`.
    """
    return re.sub(rf"[^ -~]|\\(?={CODE})", _escape_character, name)


def _escape_character(match: re.Match[str]) -> str:
    number = ord(match[0])
    if number == ord("\\") or 0xDC80 <= number <= 0xDCFF:
        return f"\\x{number & 0xFF:02x}"
    return match[0] if match[0].isprintable() else f"\\u{number:04x}" if number < 2**16 else f"\\U{number:08x}"


def unescape_name(name: str) -> str:
    """Return the name of a record from what `escape_name` returns."""
    return re.sub(rf"\\{CODE}", lambda match: _decode_code(match[0]), name)


def _decode_code(code: str) -> str:
    number = int(code[2:], 16)
    return chr(number) if code[1] in "uU" or number < 0x80 else chr(0xDC00 + number)
