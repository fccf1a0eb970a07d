"""Find and read WFDB records: headers and the files of samples that they name."""

import math
import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

from ecg.data.headers import Header, Lead, RecordError, read_header
from ecg.data.leads import LEADS
from ecg.data.matlab import MOST_BYTES, NUMERIC, MatlabError, Matrix, iter_matrices
from ecg.data.ptb_xl import select_resolution
from ecg.data.unread_files import CONVERT, find_hospital_files, find_unread_signals, hint_at_conversion
from ecg.runtime.files import check_file_size, read_bytes, walk_files

KEY = "val"  # the Challenge's name of the matrix
TRANSPOSED, OTHER_KEY, OTHER_FILE = "transposed", f"matrix not called {KEY}", "file not called as in the header"
UNREAD = "unneeded lead not read"
HEADER = ".hea"  # extension of a header, in any case
SHOWN = 5  # matrices in a message

# Bytes per sample in the formats of WFDB. In the compressed formats (FLAC) they depend on the samples.
BYTES: dict[str, int | Fraction] = {
    **{"8": 1, "16": 2, "24": 3, "32": 4, "61": 2, "80": 1, "160": 2},
    **{"212": Fraction(3, 2), "310": Fraction(4, 3), "311": Fraction(4, 3)},
}
COMPRESSED = ("508", "516", "524")
MOST_SAMPLES = MOST_BYTES // 8  # in all leads, read by wfdb
MOST_FILE_BYTES = 2**40  # in a file of which only parts are in memory
# What wfdb raises over damaged files and files of other formats.
UNREADABLE = (OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, AssertionError,
              RuntimeError, EOFError, ImportError, MemoryError)  # fmt: skip


class SignalError(RecordError):
    """A file of samples is missing, unreadable or not as its header says."""


class RawSignal(NamedTuple):
    """The stored samples of a recording.

    Attributes:
        samples: Usually integers (L, T), rows in the header's order.
        warnings: What is unusual about the file, such as TRANSPOSED.
    """

    samples: np.ndarray
    warnings: tuple[str, ...]


def find_records(folder: str | os.PathLike, excluded: list[tuple[str, str]] | None = None) -> list[Path]:
    """Find the headers in a folder and nested below it.

    A header is a file named *.hea, in any case. Hidden files and folders are ignored. Links to folders are followed
    (ecg.runtime.files). A recording of PTB-XL at 100 Hz is ignored if it is there at 500 Hz.

    Args:
        folder: The data folder.
        excluded: A list that takes pairs of a path below the folder and the reason why it is not read: folders that
            cannot be listed, links that lead nowhere, a second header of one recording, signals without a header, and
            recordings in hospitals' formats.

    Returns:
        Paths of the headers, sorted.

    Raises:
        OSError: The folder itself cannot be listed.
    """
    files, errors = walk_files(folder)
    headers: dict[str, str] = {}
    second_headers = []
    for file in sorted(files, key=lambda file: not file.endswith(HEADER)):  # lower case before other cases
        if is_header(file.rpartition("/")[2]):
            first = headers.setdefault(file[: -len(HEADER)], file)
            if first is not file:
                second_headers.append((file, f"the header of this recording is {first}"))
    headers = select_resolution(headers)
    if excluded is not None:
        for error in errors:
            path = Path(error.filename).relative_to(folder).as_posix()
            if isinstance(error, FileNotFoundError):
                excluded.append((path, "a link that leads nowhere"))
            else:
                excluded.append((f"{path}/", f"cannot be read: {error.strerror}"))
        excluded += second_headers
        excluded += [(file, "no header names it") for file in find_unread_signals(folder, files, headers)]
        excluded += [(file, f"{kind}: {CONVERT}") for file, kind in find_hospital_files(folder, files)]
    return [Path(folder, file) for file in sorted(headers.values())]


def record_name(path: Path) -> str:
    """Return the name of a record, given its header's path below the data folder."""
    return path.with_suffix("").as_posix()


def require_records(folder: str | os.PathLike, excluded: list[tuple[str, str]] | None = None) -> list[Path]:
    """Find the headers in a folder as `find_records` does, at least one.

    Raises:
        FileNotFoundError: There is no header. The message names a file in a hospital's format, if there is one.
        OSError: The folder cannot be listed.
    """
    paths = find_records(folder, excluded)
    if not paths:
        unread: list[tuple[str, str]] = []
        find_records(folder, unread)  # again, because the other files are only looked at if somebody asks for them
        raise FileNotFoundError(f"{folder}: no header (*.hea) in this folder or below it{hint_at_conversion(unread)}")
    return paths


def read_record(path: str | os.PathLike) -> tuple[Header, np.ndarray]:
    """Read a record by its header's path.

    Returns:
        The header and the samples (L, T), rows in the header's order.

    Raises:
        HeaderError: The header cannot be read.
        SignalError: The samples cannot be read.
    """
    header = read_header(path)
    return header, read_raw_signal(path, header).samples


def read_raw_signal(path: str | os.PathLike, header: Header) -> RawSignal:
    """Read the samples of a header.

    In a file named *.mat, the matrix `val` is read as in the Challenge's files. Without one, the only matrix that fits
    the header is read, transposed if needed. All other files are read by wfdb. The extension of a file may differ from
    the header's in its case. A file without a standard lead is not needed: if it cannot be read, its leads get the
    integer for no value.

    Args:
        path: The header's path.
        header: Its content.

    Raises:
        SignalError: The samples are missing, unreadable or of another shape than the header says.
    """
    path = Path(path)
    try:
        return _read_files(path, header)
    except SignalError:
        files = {lead.file for lead in header.leads if lead.name in LEADS}
        rows = [row for row, lead in enumerate(header.leads) if lead.file in files]
        if len(rows) in (0, len(header.leads)):
            raise
    stored = _read_files(path, replace(header, leads=tuple(header.leads[row] for row in rows)))
    recording = np.zeros((len(header.leads), stored.samples.shape[1]), stored.samples.dtype)
    recording[rows] = stored.samples
    for row, lead in enumerate(header.leads):
        if lead.file not in files:
            recording[row] = _no_value(lead, recording.dtype)
    return RawSignal(recording, (*stored.warnings, UNREAD))


def _no_value(lead: Lead, dtype: np.dtype) -> float:
    """Return the number of this type that means no value, or 0 if there is none."""
    if dtype.kind == "f":
        return math.nan
    return lead.invalid if lead.invalid is not None and np.iinfo(dtype).min <= lead.invalid else 0


def _read_files(path: Path, header: Header) -> RawSignal:
    """Read the files of all leads of a header."""
    files, header, is_mat = locate_files(path, header)
    if not is_mat:
        return RawSignal(read_wfdb(path, files, header), ())
    stored = decode_mat(read_bytes(files[0], MOST_BYTES, SignalError), header, files[0].name, path.name)
    is_renamed = files[0].name.casefold() != header.leads[0].file.casefold()  # header and samples, together
    return RawSignal(stored.samples, (*([OTHER_FILE] if is_renamed else []), *stored.warnings))


def locate_files(path: Path, header: Header) -> tuple[list[Path], Header, bool]:
    """Find the files of samples that a header names.

    Args:
        path: The header's path.
        header: Its content.

    Returns:
        The files; the header with their names as they are spelled, unless they are one MATLAB file; and whether they
        are.

    Raises:
        SignalError: A file is missing, or there are several MATLAB files.
    """
    names = tuple(dict.fromkeys(lead.file for lead in header.leads))
    files = [resolve_case(path.parent / name) for name in names]
    if not os.path.exists(files[0]) and os.path.exists(renamed := resolve_case(path.with_suffix(".mat"))):
        return [renamed], header, True
    for file in files:
        if not os.path.lexists(file):
            raise SignalError(f"{file.name}: no such file beside {path.name}, which names it")
    if not any(file.suffix.lower() == ".mat" for file in files):
        file_of = dict(zip(names, files, strict=True))
        leads = tuple(lead._replace(file=file_of[lead.file].name) for lead in header.leads)
        return files, replace(header, leads=leads), False
    if len(files) > 1:
        raise SignalError(f"{path.name}: leads in {names[0]} and {names[1]}, expected all of them in one .mat file")
    return files, header, True


def is_header(name: str) -> bool:
    """Return whether this is a header's name: `.hea` in any case, not hidden."""
    return name[-4:].lower() == HEADER and not name.startswith(".")


def resolve_case(path: Path) -> Path:
    """Return the path, or one with its extension in another case that exists."""
    if os.path.lexists(path):
        return path
    cases = product(*(dict.fromkeys((letter.lower(), letter.upper())) for letter in path.suffix))
    candidates = (path.with_suffix("".join(letters)) for letters in cases) if len(path.suffix) <= 4 else ()
    return next((candidate for candidate in candidates if os.path.lexists(candidate)), path)


def read_matrix(path: str | os.PathLike, key: str = KEY) -> np.ndarray:
    """Read the matrix of this name from a MATLAB file.

    Raises:
        SignalError: The file cannot be read, or has no such matrix.
    """
    with _reraise_as_signal_error(path, "as a MATLAB file", MatlabError):
        content = read_bytes(path, MOST_BYTES, SignalError)
        return np.ascontiguousarray(_find_matrix(content, path, key, lambda matrix: False).numbers())


def decode_mat(content: bytes | bytearray, header: Header, file: str, source: str = "the header") -> RawSignal:
    """Return the samples in the content of a MATLAB file, with leads as rows.

    Args:
        content: The bytes of the file.
        header: The header of its recording; the files that it names are not read.
        file: What messages call the file.
        source: What messages call the header.

    Raises:
        SignalError: The content has no matrix that fits the header.
    """
    recording, warnings = view_matrix(content, header, file, source)
    del content  # frees the file's content before the samples are copied
    # Rows are contiguous, as in other drivers: the last bit of a sum depends on its order in memory.
    return RawSignal(np.ascontiguousarray(recording), warnings)


def view_matrix(
    content: bytes | bytearray | mmap.mmap, header: Header, file: str, source: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the matrix of a MATLAB file that holds the leads, not copied.

    Returns:
        The samples (L, T), a view of the content unless that is compressed, and what is unusual about the file.
    """

    def has_leads_first(shape: tuple[int, ...]) -> bool:
        return len(shape) == 2 and shape[0] == len(header.leads) and header.samples in (0, shape[1])

    def fits(matrix: Matrix) -> bool:
        return matrix.kind == NUMERIC and (has_leads_first(matrix.shape) or has_leads_first(matrix.shape[::-1]))

    with _reraise_as_signal_error(file, "as a MATLAB file", MatlabError):
        matrix = _find_matrix(content, file, KEY, fits)
        if not fits(matrix):
            expected = f"({len(header.leads)}, {header.samples or 'T'}) numbers"
            received = f"{matrix.name} is {matrix.shape} {matrix.kind}"
            raise SignalError(f"{file}: {received}, expected {expected} by {source}")
        recording = matrix.numbers()
        warnings: tuple[str, ...] = () if matrix.name == KEY else (OTHER_KEY,)
    return (recording, warnings) if has_leads_first(recording.shape) else (recording.T, (*warnings, TRANSPOSED))


def _find_matrix(
    content: bytes | bytearray | mmap.mmap, file: str | os.PathLike, key: str, fits: Callable[[Matrix], bool]
) -> Matrix:
    """Return the matrix of this name in a file, or else the only one that fits."""
    candidates = []
    for matrix in iter_matrices(content):
        if matrix.name == key:
            return matrix
        candidates.append(matrix)
    fitting = [matrix for matrix in candidates if fits(matrix)]
    if len(fitting) == 1:
        return fitting[0]
    names = ", ".join(f"{matrix.name} of {matrix.shape} {matrix.kind}" for matrix in candidates[:SHOWN]) or "nothing"
    raise SignalError(f"{Path(file).name}: no matrix {key} in it, but {names}{', ...' if candidates[SHOWN:] else ''}")


def read_wfdb(path: Path, files: list[Path], header: Header, window: tuple[int, int] | None = None) -> np.ndarray:
    """Read the integers (L, T) of the files that a header names by wfdb.

    wfdb gets a plain header of its own, because its grammar of headers is not that of ecg.data.headers.

    Args:
        path: The header's path.
        files: What `locate_files` returns.
        header: The header that it returns.
        window: First sample, and the one after the last; None for all, at most MOST_SAMPLES of all leads.

    Raises:
        SignalError: The files cannot be read.
    """
    import wfdb  # only few records need it, and its import takes a second

    samples = count_wfdb_samples(path, files, header)
    first, last = window or (0, samples)
    frame = sum(lead.samples_per_frame for lead in header.leads)
    total = frame * (last - first + max(lead.skew for lead in header.leads))
    if total > MOST_SAMPLES:
        raise SignalError(f"{path.name}: {total:,} samples of all leads, expected {MOST_SAMPLES:,} or fewer")
    file_numbers = {file.name: number for number, file in enumerate(files)}
    lines = [f"record {len(header.leads)} {header.sampling_frequency} {samples}"]
    for lead in header.leads:
        layout = f"{lead.format}x{lead.samples_per_frame}:{lead.skew}+{lead.offset}"
        lines.append(f"{file_numbers[lead.file]}.dat {layout} 1 16 0 {lead.first_value}")
    with _reraise_as_signal_error(files[0], f"with {path.name} by wfdb", *UNREADABLE), TemporaryDirectory() as folder:
        for number, file in enumerate(files):
            os.symlink(file.absolute(), Path(folder, f"{number}.dat"))
        Path(folder, "record.hea").write_text("\n".join(lines) + "\n")
        return np.ascontiguousarray(wfdb.rdrecord(f"{folder}/record", first, last, physical=False).d_signal.T)


def count_wfdb_samples(path: Path, files: list[Path], header: Header) -> int:
    """Check files for wfdb as `read_wfdb` does; return the samples of a lead."""
    samples = header.samples
    for file in files:
        leads = [lead for lead in header.leads if lead.file == file.name]
        kind, offset, frame = leads[0].format, leads[0].offset, sum(lead.samples_per_frame for lead in leads)
        formats = sorted({lead.format for lead in leads})
        if formats != [kind] or kind not in (*BYTES, *COMPRESSED):
            expected = f"one of {', '.join((*BYTES, *COMPRESSED))}"
            raise SignalError(f"{file.name}: format {' and '.join(formats)} by {path.name}, expected {expected}")
        size = check_file_size(file, MOST_FILE_BYTES, SignalError)
        if kind in BYTES:
            samples = samples or max(size - offset, 0) // (BYTES[kind] * frame)
            needed = offset + math.ceil(BYTES[kind] * frame * max(samples, 1))
            if size < needed:
                raise SignalError(f"{file.name}: {size:,} bytes, expected {needed:,} for {path.name}")
    if samples == 0:
        raise SignalError(f"{path.name}: no number of samples, which files of format {', '.join(COMPRESSED)} need")
    return samples


@contextmanager
def _reraise_as_signal_error(file: str | os.PathLike, how: str, *errors: type[Exception]) -> Iterator[None]:
    """Raise SignalError with a file's name if one of these errors leaves the block."""
    try:
        yield
    except RecordError:
        raise
    except errors as error:
        raise SignalError(f"{Path(file).name}: not to be read {how}: {error}") from error


def find_header(path: str | os.PathLike) -> Path:
    """Return the header's path of a recording, by its path with or without extension.

    Args:
        path: `NAME`, `NAME.hea` or `NAME.mat`, the extension in any case; NAME may contain dots.

    Returns:
        The header in the same folder, with its extension in any case; `NAME.hea` if there is none.

    Raises:
        SignalError: The path is that of a file in a hospital's format.
    """
    path = Path(path)
    for file, kind in find_hospital_files(path.parent, [path.name]):
        raise SignalError(f"{file}: {kind}: {CONVERT}")
    name = path.stem if path.suffix.lower() in (HEADER, ".mat") else path.name
    # A record may itself be called NAME.mat. The header that was named is preferred.
    candidates = [path, *(resolve_case(path.parent / f"{stem}{HEADER}") for stem in (name, path.name))]
    return next((file for file in candidates if is_header(file.name) and os.path.lexists(file)), candidates[1])
