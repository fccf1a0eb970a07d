"""Parse WFDB headers: the leads of a recording, demographics and diagnoses.

The grammar is WFDB's (header(5) of the WFDB library) for records of one segment, and covers the dialects of the
Challenge's databases. RECORD_LINE and LEAD_LINE match valid lines. If a line does not match, `_field_error` names its
first wrong field.
"""

import codecs
import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ecg.data.labels import code_of
from ecg.data.leads import standard_name
from ecg.data.ptb_xl import format_comments
from ecg.data.sex_words import parse_sex
from ecg.runtime.files import read_bytes

DEFAULT_FREQUENCY = 250.0  # Hz; WFDB's default if the record line has no frequency
DEFAULT_GAIN = 200.0  # WFDB's default if the lead line has no gain
DEFAULT_UNITS = "mV"
# Hz; ECGs have 100 to 2,000, and a value far from these is a fault. At the highest, twelve leads of the maximum
# duration (ecg.data.preprocessing) take 250 MB.
LOWEST_FREQUENCY, HIGHEST_FREQUENCY = 10.0, 1e4
SMALLEST_GAIN, LARGEST_GAIN = 1e-9, 1e12  # integers per unit; may be negative
MOST_LEADS = 1000
BYTE_ORDER_MARK = "\N{ZERO WIDTH NO-BREAK SPACE}"
MOST_BYTES = 2**20  # in a header; those of the Challenge have 700
LONGEST_SHOWN = 40  # characters of a bad word in a message
LONGEST_MESSAGE = 600  # characters
OLDEST = 130.0  # years; a greater age has another meaning, such as PTB-XL's 300 for 90 or more
# The stored integer that means no value, by format (signal(5) of the WFDB library); format 8 has none.
INVALID = {"80": -(2**7), "508": -(2**7), "310": -(2**9), "311": -(2**9), "212": -(2**11), "16": -(2**15),
           "61": -(2**15), "160": -(2**15), "516": -(2**15), "24": -(2**23), "524": -(2**23),
           "32": -(2**31)}  # fmt: skip
# In one unit, by its name in lower case.
MILLIVOLTS = {"mv": 1.0, "uv": 1e-3, "\N{GREEK SMALL LETTER MU}v": 1e-3, "v": 1e3}

# The patterns are unambiguous and bounded. An invalid line cannot cause catastrophic backtracking.
NUMBER = r"[-+]?(?:[0-9]{1,40}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})(?:[eE][-+]?[0-9]{1,9})?"
INTEGER = r"[-+]?[0-9]{1,18}"
COUNT = r"[0-9]{1,18}"

# Fields of a line, in order: its title, its pattern, and the pattern in words.
RECORD_FIELDS = (
    ("record name", r"(?P<name>[^\s/]{1,255})", "the NAME of a record of one segment, others are not read"),
    ("number of leads", rf"(?P<leads>{COUNT})", "a COUNT"),
    ("sampling frequency", rf"(?P<frequency>{NUMBER})(?:/{NUMBER}(?:\({NUMBER}\))?)?", "NUMBER[/COUNTER[(BASE)]]"),
    ("number of samples", rf"(?P<samples>{COUNT})", "a COUNT"),
)
LEAD_FIELDS = (
    ("file", r"(?P<file>(?!\.\.?(?:\s|$))[^\s/\\:\x00-\x1f\x7f]{1,255})", "the name of a FILE in the header's folder"),
    ("format",
     rf"(?P<format>[0-9]{{1,4}})(?:x(?P<frame>{COUNT}))?(?::(?P<skew>{COUNT}))?(?:\+(?P<offset>{COUNT}))?",
     "FORMAT[xSAMPLES][:SKEW][+OFFSET]"),
    ("gain", rf"(?P<gain>{NUMBER})(?:\((?P<baseline>{INTEGER})\))?(?:/(?P<units>\S{{0,255}}))?",
     "NUMBER[(BASELINE)][/UNITS]"),
    ("ADC resolution", INTEGER, "an INTEGER"),
    ("ADC zero", rf"(?P<zero>{INTEGER})", "an INTEGER"),
    ("first value", rf"(?P<first>{INTEGER})", "an INTEGER"),
    ("checksum", rf"(?P<checksum>{INTEGER})", "an INTEGER"),
    ("block size", INTEGER, "an INTEGER"),
)  # fmt: skip
REQUIRED = 2  # fields of either line; others may be missing at the end
COMMENT = re.compile(r"^[ \t]*#[ \t]*(Age|Sex|Dx)[ \t]*:(.*)", re.IGNORECASE | re.MULTILINE)
AGE = re.compile(rf"({NUMBER})\+?\s*(?:([ymwd])[a-z/]*\.?)?", re.IGNORECASE)
AGES_A_YEAR = {"y": 1.0, "m": 12.0, "w": 365.25 / 7, "d": 365.25}


def _compile_line(fields: Sequence[tuple[str, str, str]], rest: str) -> re.Pattern[str]:
    """Compile the pattern of a line.

    The required fields come first. Each of the others is only allowed after the one before it.

    Args:
        fields: RECORD_FIELDS or LEAD_FIELDS.
        rest: Pattern of what may follow the last field, with its spaces.
    """
    pattern = rest
    for index, (_, field, _) in reversed(list(enumerate(fields))):
        space = r"\s+" if index else ""
        pattern = f"{space}{field}{pattern}" if index < REQUIRED else rf"(?:{space}{field}{pattern})?"
    return re.compile(pattern)


RECORD_LINE = _compile_line(RECORD_FIELDS, rest=r"(?:\s.*)?")  # time and date, in any order
LEAD_LINE = _compile_line(LEAD_FIELDS, rest=r"(?:\s+(?P<name>.*))?")


class RecordError(ValueError):
    """A recording cannot be used.

    The message names the recording or file, the position, what was expected and what was found. A message of more than
    LONGEST_MESSAGE characters, such as about a thousand leads, is shortened in the middle.
    """

    def __init__(self, message: str) -> None:
        half = LONGEST_MESSAGE // 2 - 3
        super().__init__(message if len(message) <= LONGEST_MESSAGE else f"{message[:half]} ... {message[-half:]}")


class HeaderError(RecordError):
    """A header does not follow the grammar, or has values that no ECG recording has."""


class Lead(NamedTuple):
    """One lead line of a header.

    Attributes:
        name: The standard name if it is a standard lead, else as written.
        file: The file of its samples.
        format: WFDB's storage format, such as "16".
        offset: Bytes of the file before its samples.
        gain: Integers per unit.
        baseline: The integer for zero.
        units: Name of the unit.
        samples_per_frame: Number of its samples that share a time.
        skew: By how many samples it is late in the file.
        first_value: The integer before the first sample, for formats of differences.
        gain_written: Whether the line has the gain. Otherwise it is WFDB's default.
        checksum: Sum of the samples modulo 2 ** 16; None if the line has none.
        gain_is_zero: Whether the line has a gain of 0, for which WFDB's default is used.
        written: The name as written.
    """

    name: str
    file: str
    format: str
    offset: int
    gain: float
    baseline: int
    units: str
    samples_per_frame: int = 1
    skew: int = 0
    first_value: int = 0
    gain_written: bool = True
    checksum: int | None = None
    gain_is_zero: bool = False
    written: str = ""

    @property
    def per_millivolt(self) -> float:
        """The gain in integers per millivolt.

        Raises:
            HeaderError: The unit is not one of a voltage, or no recorder has such a gain. It is raised here because
                leads that are not used may have any unit and gain.
        """
        unit = MILLIVOLTS.get(self.units.casefold())
        if unit is None:
            raise HeaderError(f"{self.file} lead {self.name}: units {self.units!r} are not mV, uV or V")
        if not SMALLEST_GAIN <= abs(self.gain) <= LARGEST_GAIN:
            expected = f"{SMALLEST_GAIN:g} to {LARGEST_GAIN:g} of either sign"
            raise HeaderError(f"{self.file} lead {self.name}: gain {self.gain:g} is not within {expected}")
        return self.gain / unit

    @property
    def invalid(self) -> int | None:
        """The stored integer that means no value; None if the format has none."""
        return INVALID.get(self.format)


@dataclass(frozen=True)
class Header:
    """A parsed header.

    Attributes:
        name: The recording's name.
        sampling_frequency: In Hz.
        samples: Number of samples of a lead; 0 if the header has none.
        leads: The lead lines, in the file's order.
        age: In years; NaN if unknown.
        sex: "Female", "Male" or "Unknown".
        codes: The diagnoses, each once.
        diagnoses_written: The diagnoses as written.
        evaluator_codes: Codes as the Challenge's evaluator splits them: at commas only.
        age_written: The age as written; empty without a line for it.
        sex_written: The sex as written; empty without a line for it.
    """

    name: str
    sampling_frequency: float
    samples: int
    leads: tuple[Lead, ...]
    age: float
    sex: str
    codes: tuple[str, ...]
    diagnoses_written: tuple[str, ...] = ()
    evaluator_codes: tuple[str, ...] = ()
    age_written: str = ""
    sex_written: str = ""

    @property
    def lead_names(self) -> tuple[str, ...]:
        """The names of the leads, in the file's order."""
        return tuple(lead.name for lead in self.leads)


def parse_header(text: str, source: str = "header", as_written: bool = False) -> Header:
    """Parse a header.

    A standard lead gets its standard name ("AVR" -> "aVR", "Lead I" -> "I", "C1" -> "V1"), and the recording's name
    loses the extension of a file ("A0001.mat" -> "A0001"). As in WFDB, a missing baseline is the ADC zero, and a gain
    of 0 is the default gain. Diagnoses are separated by commas, semicolons or blanks. Abbreviations become codes. Other
    words stay.

    Args:
        text: Content of the header file.
        source: What messages call it, such as the file's name.
        as_written: Whether names, and a gain of 0, stay as they are written.

    Raises:
        HeaderError: The header does not follow the grammar.
    """
    text = text.removeprefix(BYTE_ORDER_MARK)
    stripped = enumerate(map(str.strip, text.split("\n")), 1)
    lines = [(f"{source} line {number}", line) for number, line in stripped if line and not line.startswith("#")]
    if not lines:
        raise HeaderError(f"{source}: no record line, which should read NAME LEADS [FREQUENCY [SAMPLES]]")
    position, line = lines[0]
    record = RECORD_LINE.fullmatch(line)
    if not record:
        raise _field_error(RECORD_FIELDS, line, position)
    frequency = float(record["frequency"] or DEFAULT_FREQUENCY)
    if not LOWEST_FREQUENCY <= frequency <= HIGHEST_FREQUENCY:
        expected = f"{LOWEST_FREQUENCY:g} to {HIGHEST_FREQUENCY:,.0f} Hz"
        raise HeaderError(f"{position}: sampling frequency {record['frequency']!r} is not within {expected}")
    if len(lines) - 1 > MOST_LEADS:
        raise HeaderError(f"{source}: {len(lines) - 1:,} lead lines, expected {MOST_LEADS:,} or fewer")
    leads = [_parse_lead(line, position, as_written) for position, line in lines[1:]]
    if len(leads) != int(record["leads"]) or not leads:
        raise HeaderError(f"{source}: {len(leads)} lead lines where the record line says {record['leads']}")
    comments = _parse_comments(text)
    written = tuple(_split_diagnoses(comments["dx"]))
    age, sex = (comments[key][-1].strip() if comments[key] else "" for key in ("age", "sex"))
    return Header(
        name=record["name"] if as_written else re.sub(r"(?<=.)\.(mat|hea)$", "", record["name"]),
        sampling_frequency=frequency,
        samples=int(record["samples"] or 0),
        leads=tuple(leads),
        age=_parse_age(age),
        sex=parse_sex(sex),
        codes=tuple(dict.fromkeys(map(code_of, written))),
        diagnoses_written=written,
        evaluator_codes=tuple(dict.fromkeys(map(code_of, _split_at_commas(comments["dx"])))),
        age_written=age,
        sex_written=sex,
    )


def parse_codes(text: str) -> tuple[str, ...]:
    """Return the diagnoses of a header as written, split at commas, each once."""
    return tuple(dict.fromkeys(_split_at_commas(_parse_comments(text)["dx"])))


def comment_values(text: str, key: str) -> list[str]:
    """Return the values of the comment lines "Age", "Sex" or "Dx" of a header."""
    return _parse_comments(text)[key.casefold()]


def _parse_comments(text: str) -> dict[str, list[str]]:
    """Return the values of the comment lines by "age", "sex" and "dx"."""
    comments: dict[str, list[str]] = {"age": [], "sex": [], "dx": []}
    for key, value in COMMENT.findall(text):
        comments[key.casefold()].append(value)
    return comments


def _split_diagnoses(lines: list[str]) -> Iterator[str]:
    """Yield the diagnoses of Dx lines, separated by commas, semicolons or blanks.

    Blanks separate codes and the Challenge's abbreviations. Other words stay together as one diagnosis.
    """
    for text in re.split("[,;]", ",".join(lines)):
        words = text.split()
        if all(word.isdigit() or code_of(word) != word for word in words):
            yield from words
        else:
            yield text.strip()


def _split_at_commas(lines: list[str]) -> Iterator[str]:
    """Yield the diagnoses of Dx lines as the Challenge's evaluator splits them."""
    return (code for code in map(str.strip, ",".join(lines).split(",")) if code)


def _parse_age(text: str) -> float:
    """Return the years of an age such as "57", "57Y", "6 months" or "20D", or NaN."""
    match = AGE.fullmatch(text)
    if not match:
        return math.nan
    years = float(match[1]) / AGES_A_YEAR[(match[2] or "y").casefold()]
    return years if 0 <= years <= OLDEST else math.nan


def _parse_lead(line: str, position: str, as_written: bool) -> Lead:
    match = LEAD_LINE.fullmatch(line)
    if not match:
        raise _field_error(LEAD_FIELDS, line, position)
    gain = DEFAULT_GAIN if match["gain"] is None else float(match["gain"])
    is_zero = gain == 0
    is_kept = match["gain"] is not None and (as_written or not is_zero)  # in WFDB, 0 means that the gain is unknown
    written = match["name"] or ""
    return Lead(
        written if as_written else standard_name(written), match["file"], match["format"], int(match["offset"] or 0),
        gain if is_kept else DEFAULT_GAIN, int(match["baseline"] or match["zero"] or 0),
        match["units"] or DEFAULT_UNITS, samples_per_frame=int(match["frame"] or 1) or 1,
        skew=int(match["skew"] or 0), first_value=int(match["first"] or 0), gain_written=is_kept,
        checksum=None if match["checksum"] is None else int(match["checksum"]), gain_is_zero=is_zero, written=written,
    )  # fmt: skip


def _field_error(fields: Sequence[tuple[str, str, str]], line: str, position: str) -> HeaderError:
    """Return the error about a line that does not match and its first wrong field."""
    words = line.split()
    for word, (title, pattern, grammar) in zip(words, fields, strict=False):
        if not re.fullmatch(pattern, word):
            shown = word if len(word) <= LONGEST_SHOWN else f"{word[:LONGEST_SHOWN]}..."
            return HeaderError(f"{position}: {title} {shown!r} is not {grammar}")
    return HeaderError(f"{position}: {fields[len(words)][0]} is missing, a line has {REQUIRED} fields or more")


def read_header_text(path: str | os.PathLike) -> str:
    """Read a header file as text; see `decode_header`.

    A header of PTB-XL gets age, sex and diagnoses from the table of PTB-XL (`ecg.data.ptb_xl`).

    Raises:
        HeaderError: It cannot be read, or is no text, or the table cannot be read.
    """
    text = decode_header(read_bytes(path, MOST_BYTES, HeaderError), Path(path).name)
    try:
        return text + format_comments(Path(path), text)
    except ValueError as error:
        raise HeaderError(str(error)) from None


def decode_header(content: bytes | bytearray, source: str = "header") -> str:
    """Return the content of a header file as text with newlines.

    The text is UTF-8, or else Latin-1, with any line ends.

    Args:
        content: The bytes of the file.
        source: What messages call it, such as the file's name.

    Raises:
        HeaderError: It begins as a binary file or one in UTF-16 or UTF-32 does.
    """
    data = content.removeprefix(BYTE_ORDER_MARK.encode())
    if b"\0" in data[:4] or data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise HeaderError(f"{source}: UTF-16, UTF-32 or no text, expected UTF-8, ASCII or Latin-1")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_header(path: str | os.PathLike) -> Header:
    """Read and parse a header file.

    Raises:
        HeaderError: It cannot be read, or does not follow the grammar.
    """
    return parse_header(read_header_text(path), Path(path).name)
