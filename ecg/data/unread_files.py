"""Find the files of a data folder that are not read.

These are signals without a header, and recordings in the formats of hospitals and devices.
"""

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from ecg.data.headers import RecordError, read_header

CONVERT = "`python -m ecg convert` makes a WFDB record of it"
SNIFFED_BYTES = 4096
# Of names in lower case.
HOSPITAL_ENDINGS = (".dcm", ".xml", ".scp", ".edf", ".bdf", ".ecg", ".mwf", ".mfer", ".mfr", ".json")
# By what a file contains early, in lower case and without zeros, which UTF-16 has between letters.
TEXT_FORMATS = (
    (re.compile(rb"<annotatedecg"), "HL7 aECG"),
    (re.compile(rb"<restingecgdata"), "Philips XML"),
    (re.compile(rb"<restingecg|<museinfo"), "GE MUSE XML"),
    (re.compile(rb"<ecg\s.*(?:<subject|<typical_cycle|<channel|acquisition_time|mortara)", re.DOTALL), "Mortara XML"),
    (re.compile(rb'^\s*\{(?=.*"recordedat").*"(?:amplituderesolution|data12l)"', re.DOTALL), "Kardia JSON"),
)  # fmt: skip


def name_format(path: Path) -> str | None:
    """Return the name of a hospital's format by a file's first bytes, or None.

    No other package is needed. Formats without a mark of their own are not recognised.

    Args:
        path: A regular file.

    Raises:
        OSError: The file cannot be read.
    """
    with open(path, "rb") as file:
        head = file.read(SNIFFED_BYTES)
    if head[128:132] == b"DICM":
        return "DICOM"
    if head[16:22] == b"SCPECG":
        return "SCP-ECG"
    if head[:8] == b"0       " and path.suffix.lower() in (".edf", ".bdf", ".rec"):
        return "EDF"
    if head[:8] in (b"ISHNE1.0", b"ANN  1.0"):
        return "ISHNE"
    if head[:1] == b"\x40" and head[2:6] == b"MFR ":
        return "MFER"
    text = head.replace(b"\0", b"").lower()
    return next((name for mark, name in TEXT_FORMATS if mark.search(text)), None)


def find_unread_signals(folder: str | os.PathLike, files: list[str], headers: dict[str, str]) -> list[str]:
    """Find the .mat files that no header names.

    A header may name another file than that of its own name. Headers that lack one are read for this, but only in
    folders where a .mat file lacks a header.

    Args:
        folder: The data folder.
        files: All files below it.
        headers: The header of each recording, by its path without extension.

    Returns:
        The paths of the .mat files below the folder, in their order.
    """
    signals = {file[:-4]: file for file in files if file[-4:].lower() == ".mat"}
    unread = [file for recording, file in signals.items() if recording not in headers]
    folders = {file.rpartition("/")[0] for file in unread}
    used = set()
    for recording, header in headers.items():
        parent = header.rpartition("/")[0]
        if recording not in signals and parent in folders:
            with suppress(RecordError):
                leads = read_header(Path(folder, header)).leads
                used |= {f"{parent}/{lead.file}".lstrip("/").casefold() for lead in leads}
    return [file for file in unread if file.casefold() not in used]


def find_hospital_files(folder: str | os.PathLike, files: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield each file in a hospital's format, and the name of the format.

    Args:
        folder: The data folder.
        files: Paths of files below it.
    """
    for file in files:
        if file.rpartition("/")[2].lower().endswith(HOSPITAL_ENDINGS):
            with suppress(OSError):
                path = Path(folder, file)
                if path.is_file() and (kind := name_format(path)):
                    yield file, kind


def hint_at_conversion(excluded: Iterable[tuple[str, str]]) -> str:
    """Return the end of a message about missing records: a file that can be converted."""
    convertible = next((pair for pair in excluded if pair[1].endswith(CONVERT)), None)
    return "; {} is {}".format(*convertible) if convertible else ""
