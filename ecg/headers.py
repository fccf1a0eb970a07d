"""The text of a WFDB header: its grammar, and what it tells of a record.

The grammar is WFDB's (header(5) of the WFDB library) for records of one segment, and covers the dialects of the
Challenge's databases. One regular expression a line kind reads a good line; the tables beside them say which field
of a bad one is wrong.
"""

import math
import re
from dataclasses import dataclass
from pathlib import Path

from ecg.leads import standard_name

DEFAULT_FREQUENCY = 250.0  # WFDB's, where a record line ends before it
DEFAULT_GAIN = 200.0  # WFDB's, where a lead line ends before it
DEFAULT_UNITS = "mV"
MILLIVOLTS = {"mv": 1.0, "uv": 1e-3, "\N{GREEK SMALL LETTER MU}v": 1e-3, "v": 1e3}  # in one unit, case folded

NUMBER = r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
INTEGER = r"[-+]?[0-9]{1,18}"
COUNT = r"[0-9]{1,18}"

# Fields of a line, in order: what it is, how it reads, how a message says that.
RECORD_FIELDS = (
    ("record name", r"(?P<name>[^\s/]+)", "NAME of a record of one segment"),
    ("number of leads", rf"(?P<leads>{COUNT})", "a COUNT"),
    ("sampling frequency", rf"(?P<frequency>{NUMBER})(?:/{NUMBER}(?:\({NUMBER}\))?)?", "NUMBER[/COUNTER[(BASE)]]"),
    ("number of samples", rf"(?P<samples>{COUNT})", "a COUNT"),
)
LEAD_FIELDS = (
    ("file", r"(?P<file>[^\s/\\]+)", "the name of a FILE beside the header"),
    ("format", rf"(?P<format>[0-9]+)(?:x{COUNT})?(?::{COUNT})?(?:\+(?P<offset>{COUNT}))?",
     "FORMAT[xSAMPLES][:SKEW][+OFFSET]"),
    ("gain", rf"(?P<gain>{NUMBER})(?:\((?P<baseline>{INTEGER})\))?(?:/(?P<units>\S*))?",
     "NUMBER[(BASELINE)][/UNITS]"),
    ("ADC resolution", INTEGER, "an INTEGER"),
    ("ADC zero", rf"(?P<zero>{INTEGER})", "an INTEGER"),
    ("first value", INTEGER, "an INTEGER"),
    ("checksum", INTEGER, "an INTEGER"),
    ("block size", INTEGER, "an INTEGER"),
)  # fmt: skip
REQUIRED = 2  # fields of either line; the others may be missing from the right
COMMENT = re.compile(r"^[ \t]*#[ \t]*(Age|Sex|Dx)[ \t]*:(.*)", re.IGNORECASE | re.MULTILINE)


def _line(fields, rest):
    """Return the expression of a line: the required fields, then each of the others only after the one before.

    `rest` is the expression of what may follow the last field, spaces and all.
    """
    pattern = rest
    for place, (_, field, _) in reversed(list(enumerate(fields))):
        space = r"\s+" if place else ""
        pattern = f"{space}{field}{pattern}" if place < REQUIRED else rf"(?:{space}{field}{pattern})?"
    return re.compile(pattern)


RECORD_LINE = _line(RECORD_FIELDS, rest=r"(?:\s.*)?")  # time and date, in whatever order they come
LEAD_LINE = _line(LEAD_FIELDS, rest=r"(?:\s+(?P<name>.*))?")
SEX = {"m": "Male", "male": "Male", "f": "Female", "female": "Female"}


class RecordError(ValueError):
    """A recording that cannot be used; the message names the record or file, the place, the expected and the found."""


class HeaderError(RecordError):
    """A header that does not follow the grammar, or that speaks of something no ECG record has."""


@dataclass(frozen=True)
class Lead:
    """One lead line of a header: the gain is in integers for one of `units`, the baseline the integer for zero."""

    name: str
    file: str
    format: str
    offset: int
    gain: float
    baseline: int
    units: str

    @property
    def per_millivolt(self):
        """Return the gain in integers for one millivolt; HeaderError where the units are not of a voltage."""
        unit = MILLIVOLTS.get(self.units.casefold())
        if unit is None:
            raise HeaderError(f"{self.file} lead {self.name}: units {self.units!r} are not mV, uV or V")
        return self.gain / unit


@dataclass(frozen=True)
class Header:
    """What a header tells: samples 0 where it does not say, age in years or NaN, sex Female, Male or Unknown."""

    name: str
    sampling_frequency: float
    samples: int
    leads: tuple[Lead, ...]
    age: float
    sex: str
    codes: tuple[str, ...]

    @property
    def lead_names(self):
        """Return the names of the leads, in the file's order."""
        return tuple(lead.name for lead in self.leads)


def parse_header(text, place="header", as_written=False):
    """Parse a header's text; `place` is what messages call it, such as the file's name.

    A standard lead's name gets its standard spelling ('AVR' -> 'aVR') and the record's name loses the extension of
    a file ('A0001.mat' -> 'A0001'), unless they are to be `as_written`; other names stay. A baseline that is not
    given is the ADC zero, as WFDB has it. Diagnoses stay text as written, each once, in the order of the Dx lines.
    Raises HeaderError.
    """
    text = text.removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}")
    stripped = enumerate(map(str.strip, text.split("\n")), 1)
    lines = [(f"{place} line {number}", line) for number, line in stripped if line and not line.startswith("#")]
    if not lines:
        raise HeaderError(f"{place}: no record line, which should read NAME LEADS [FREQUENCY [SAMPLES]]")
    where, line = lines[0]
    record = RECORD_LINE.fullmatch(line) or _fail(RECORD_FIELDS, line, where)
    frequency = float(record["frequency"] or DEFAULT_FREQUENCY)
    if not 0 < frequency < math.inf:
        raise HeaderError(f"{where}: sampling frequency {record['frequency']!r} is not a finite number above 0")
    leads = [_lead(line, where, as_written) for where, line in lines[1:]]
    if len(leads) != int(record["leads"]) or not leads:
        raise HeaderError(f"{place}: {len(leads)} lead lines where the record line says {record['leads']}")
    age, sex = ((comments(text, key) or [""])[-1].strip() for key in ("Age", "Sex"))
    return Header(
        name=record["name"] if as_written else re.sub(r"(?<=.)\.(mat|hea)$", "", record["name"]),
        sampling_frequency=frequency,
        samples=int(record["samples"] or 0),
        leads=tuple(leads),
        age=float(age) if re.fullmatch(NUMBER, age) else math.nan,
        sex=SEX.get(sex.casefold(), "Unknown"),
        codes=parse_codes(text),
    )


def parse_codes(text):
    """Return the diagnoses of a header's text, as text, each once, in the order of its Dx lines."""
    return tuple(dict.fromkeys(code for code in map(str.strip, ",".join(comments(text, "Dx")).split(",")) if code))


def comments(text, key):
    """Return what follows the colon in each comment line 'Age', 'Sex' or 'Dx' of a header's text: a list of texts."""
    return [value for found, value in COMMENT.findall(text) if found.casefold() == key.casefold()]


def _lead(line, place, as_written):
    match = LEAD_LINE.fullmatch(line) or _fail(LEAD_FIELDS, line, place)
    file, kind, offset, gain, baseline, units, zero, name = match.group(
        "file", "format", "offset", "gain", "baseline", "units", "zero", "name"
    )
    gain = DEFAULT_GAIN if gain is None else float(gain)
    if gain == 0 or math.isinf(gain):
        raise HeaderError(f"{place}: gain {match['gain']!r} is not a finite number other than 0")
    name = (name or "") if as_written else standard_name(name or "")
    return Lead(name, file, kind, int(offset or 0), gain, int(baseline or zero or 0), units or DEFAULT_UNITS)


def _fail(fields, line, place):
    """Raise the HeaderError of a line that its expression does not match, naming the first field that is wrong."""
    words = line.split()
    for word, (title, pattern, grammar) in zip(words, fields, strict=False):
        if not re.fullmatch(pattern, word):
            raise HeaderError(f"{place}: {title} {word!r} is not {grammar}")
    raise HeaderError(f"{place}: {fields[len(words)][0]} is missing, a line has {REQUIRED} fields or more")


def read_header_text(path):
    """Read a header file's text, UTF-8 or else Latin-1, with line ends of whatever kind as newlines."""
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        return Path(path).read_text(encoding="latin-1")


def read_header(path):
    """Read and parse a header file; HeaderError where it is bad, OSError where it cannot be read."""
    return parse_header(read_header_text(path), Path(path).name)
