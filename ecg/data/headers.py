"""The text of a WFDB header: its grammar, and what it tells of a record.

The grammar is WFDB's (header(5) of the WFDB library) for records of one segment, and covers the dialects of the
Challenge's databases. One regular expression a line kind reads a good line; the tables beside them say which field
of a bad one is wrong.
"""

import codecs
import math
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ecg.data.labels import code_of
from ecg.data.leads import standard_name
from ecg.runtime.files import read_bytes

DEFAULT_FREQUENCY = 250.0  # WFDB's, where a record line ends before it
DEFAULT_GAIN = 200.0  # WFDB's, where a lead line ends before it
DEFAULT_UNITS = "mV"
# Hz; ECGs have 100 to 2,000, what is far from these is a fault. At the highest, twelve leads of as long as ecg.data.preprocessing
# takes at once cost 250 MB.
LOWEST_FREQUENCY, HIGHEST_FREQUENCY = 10.0, 1e4
SMALLEST_GAIN, LARGEST_GAIN = 1e-9, 1e12  # of either sign, in integers for one unit
MOST_LEADS = 1000
BYTE_ORDER_MARK = "\N{ZERO WIDTH NO-BREAK SPACE}"
MOST_BYTES = 2**20  # of a header; those of the Challenge have 700
LOOKED_AT = 1024  # bytes of a header that tell its encoding
LEAST_ASCII = 0.25  # of its characters
NO_TEXT = ("Cc", "Cn", "Co", "Cs")  # categories of Unicode: control, unassigned, private and surrogate characters
LONGEST_SHOWN = 40  # characters of a bad word in a message
LONGEST_MESSAGE = 600  # characters
OLDEST = 130.0  # years; a greater age stands for something else, as PTB-XL's 300 does for 90 or more
# The stored integer that stands for no value, by format (signal(5) of the WFDB library); format 8 has none.
INVALID = {"80": -(2**7), "508": -(2**7), "310": -(2**9), "311": -(2**9), "212": -(2**11), "16": -(2**15),
           "61": -(2**15), "160": -(2**15), "516": -(2**15), "24": -(2**23), "524": -(2**23),
           "32": -(2**31)}  # fmt: skip
MILLIVOLTS = {"mv": 1.0, "uv": 1e-3, "\N{GREEK SMALL LETTER MU}v": 1e-3, "v": 1e3}  # in one unit, case folded

# No digit can be read in two ways and none may go on without end, so that a bad line is found bad at once.
NUMBER = r"[-+]?(?:[0-9]{1,40}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})(?:[eE][-+]?[0-9]{1,9})?"
INTEGER = r"[-+]?[0-9]{1,18}"
COUNT = r"[0-9]{1,18}"

# Fields of a line, in order: what it is, how it reads, how a message says that.
RECORD_FIELDS = (
    ("record name", r"(?P<name>[^\s/]{1,255})", "the NAME of a record of one segment, others are not read"),
    ("number of leads", rf"(?P<leads>{COUNT})", "a COUNT"),
    ("sampling frequency", rf"(?P<frequency>{NUMBER})(?:/{NUMBER}(?:\({NUMBER}\))?)?", "NUMBER[/COUNTER[(BASE)]]"),
    ("number of samples", rf"(?P<samples>{COUNT})", "a COUNT"),
)
LEAD_FIELDS = (
    ("file", r"(?P<file>(?!\.\.?(?:\s|$))[^\s/\\:\x00-\x1f\x7f]{1,255})", "the name of a FILE beside the header"),
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
REQUIRED = 2  # fields of either line; the others may be missing from the right
COMMENT = re.compile(r"^[ \t]*#[ \t]*(Age|Sex|Dx)[ \t]*:(.*)", re.IGNORECASE | re.MULTILINE)
AGE = re.compile(rf"({NUMBER})\+?\s*(?:([ymwd])[a-z/]*\.?)?", re.IGNORECASE)
AGES_A_YEAR = {"y": 1.0, "m": 12.0, "w": 365.25 / 7, "d": 365.25}
# Words for female and for male, by language. Of single letters, M is male, as the Challenge has it (also where Spanish
# M stands for mujer), and V is missing: it is female in Dutch (vrouw) and male in Spanish (varón).
SEX_WORDS = {
    "English": ("female woman girl f w", "male man boy m"),
    "German": ("weiblich weibl frau mädchen w", "männlich männl mann junge m"),
    "French": ("féminin féminine femme fille fem f", "masculin homme garçon masc m h"),
    "Spanish": ("femenino femenina mujer niña hembra fem f", "masculino hombre varón niño macho masc m h"),
    "Italian": ("femminile femmina donna ragazza bambina f", "maschile maschio uomo ragazzo bambino m"),
    "Portuguese": ("feminino feminina mulher menina fêmea fem f", "masculino homem menino macho masc m h"),
    "Dutch": ("vrouw vrouwelijk meisje", "man mannelijk jongen m"),
    "Danish": ("kvinde kvindelig pige k", "mand mandlig dreng m"),
    "Norwegian": ("kvinne kvinnelig jente k", "mann mannlig gutt m"),
    "Swedish": ("kvinna kvinnlig flicka k", "man manlig pojke m"),
    "Polish": ("kobieta żeńska dziewczynka k", "mężczyzna męska chłopiec m"),
    "Russian": ("женский женщина жен ж", "мужской мужчина муж м"),
    "Turkish": ("kadın kadin kız kiz k", "erkek e"),
    "Chinese": ("女 女性 女士 女孩 女童", "男 男性 男士 男孩 男童"),
    "Japanese": ("女 女性 女子", "男 男性 男子"),
    "Korean": ("여 여성 여자", "남 남성 남자"),
}
TRANSCRIBED = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue"})


def _spellings(word: str) -> set[str]:
    """Return a word in lower case with its accents, without them, and with umlauts transcribed."""
    word = unicodedata.normalize("NFC", word.casefold())
    bare = "".join(c for c in unicodedata.normalize("NFD", word) if not unicodedata.combining(c))
    return {word, unicodedata.normalize("NFC", bare), word.translate(TRANSCRIBED)}


SEX = {
    spelling: sex
    for words in SEX_WORDS.values()
    for sex, text in zip(("Female", "Male"), words, strict=True)
    for word in text.split()
    for spelling in _spellings(word)
}


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


class RecordError(ValueError):
    """A recording that cannot be used; the message names the record or file, the place, the expected and the found.

    Of a message that would be longer than LONGEST_MESSAGE, as by a thousand leads, the middle is left out.
    """

    def __init__(self, message):
        half = LONGEST_MESSAGE // 2 - 3
        super().__init__(message if len(message) <= LONGEST_MESSAGE else f"{message[:half]} ... {message[-half:]}")


class HeaderError(RecordError):
    """A header that does not follow the grammar, or that speaks of something no ECG record has."""


class Lead(NamedTuple):
    """One lead line of a header: the gain is in integers for one of `units`, the baseline the integer for zero.

    offset: bytes of the file before its samples, samples_per_frame: how many of them share a time, skew: by how many
    the lead comes late in the file. gain_written: whether the line says the gain, or it is WFDB's default. checksum:
    what the samples add up to, modulo 2 ** 16, None where the line does not say. gain_is_zero: whether the line says 0,
    for which WFDB's default is used. written: the name as the line has it.
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
    def per_millivolt(self):
        """Return the gain in integers for one millivolt.

        Raises:
            HeaderError: The units are not those of a voltage, or the gain is none that a recorder has. A lead that is
                not used may have such units or such a gain.
        """
        unit = MILLIVOLTS.get(self.units.casefold())
        if unit is None:
            raise HeaderError(f"{self.file} lead {self.name}: units {self.units!r} are not mV, uV or V")
        if not SMALLEST_GAIN <= abs(self.gain) <= LARGEST_GAIN:
            expected = f"{SMALLEST_GAIN:g} to {LARGEST_GAIN:g} of either sign"
            raise HeaderError(f"{self.file} lead {self.name}: gain {self.gain:g} is not within {expected}")
        return self.gain / unit

    @property
    def invalid(self):
        """Return the stored integer that stands for no value; None where the format has none."""
        return INVALID.get(self.format)


@dataclass(frozen=True)
class Header:
    """What a header tells: samples 0 where it does not say, age in years or NaN, sex Female, Male or Unknown.

    codes are the diagnoses, each once. `written`, `age_written` and `sex_written` are diagnoses, age and sex as the
    header has them, the latter two empty where it has no line for them. evaluated are the codes that the Challenge's
    evaluator reads, which splits the line at commas alone.
    """

    name: str
    sampling_frequency: float
    samples: int
    leads: tuple[Lead, ...]
    age: float
    sex: str
    codes: tuple[str, ...]
    written: tuple[str, ...] = ()
    evaluated: tuple[str, ...] = ()
    age_written: str = ""
    sex_written: str = ""

    @property
    def lead_names(self):
        """Return the names of the leads, in the file's order."""
        return tuple(lead.name for lead in self.leads)


def parse_header(text, place="header", as_written=False):
    """Parse a header's text; `place` is what messages call it, such as the file's name.

    A standard lead gets its standard name ('AVR' -> 'aVR', 'Lead I' -> 'I', 'C1' -> 'V1') and the record's name loses
    the extension of a file ('A0001.mat' -> 'A0001'), unless they are to be `as_written`; other names stay. A baseline
    that is not given is the ADC zero, as WFDB has it, and a gain of 0 is WFDB's default, unless it is to be as written.
    Diagnoses are codes, as text, each once, in the order of the Dx lines: the texts of 2020 as their codes, other words
    as written. Commas, semicolons and blanks separate them. Raises HeaderError.
    """
    text = text.removeprefix(BYTE_ORDER_MARK)
    stripped = enumerate(map(str.strip, text.split("\n")), 1)
    lines = [(f"{place} line {number}", line) for number, line in stripped if line and not line.startswith("#")]
    if not lines:
        raise HeaderError(f"{place}: no record line, which should read NAME LEADS [FREQUENCY [SAMPLES]]")
    where, line = lines[0]
    record = RECORD_LINE.fullmatch(line) or _fail(RECORD_FIELDS, line, where)
    frequency = float(record["frequency"] or DEFAULT_FREQUENCY)
    if not LOWEST_FREQUENCY <= frequency <= HIGHEST_FREQUENCY:
        expected = f"{LOWEST_FREQUENCY:g} to {HIGHEST_FREQUENCY:,.0f} Hz"
        raise HeaderError(f"{where}: sampling frequency {record['frequency']!r} is not within {expected}")
    if len(lines) - 1 > MOST_LEADS:
        raise HeaderError(f"{place}: {len(lines) - 1:,} lead lines, expected {MOST_LEADS:,} or fewer")
    leads = [_lead(line, where, as_written) for where, line in lines[1:]]
    if len(leads) != int(record["leads"]) or not leads:
        raise HeaderError(f"{place}: {len(leads)} lead lines where the record line says {record['leads']}")
    told = _comments(text)
    written = tuple(_split_diagnoses(told["dx"]))
    age, sex = (told[key][-1].strip() if told[key] else "" for key in ("age", "sex"))
    return Header(
        name=record["name"] if as_written else re.sub(r"(?<=.)\.(mat|hea)$", "", record["name"]),
        sampling_frequency=frequency,
        samples=int(record["samples"] or 0),
        leads=tuple(leads),
        age=_age(age),
        sex=_sex(sex),
        codes=tuple(dict.fromkeys(map(code_of, written))),
        written=written,
        evaluated=tuple(dict.fromkeys(map(code_of, _codes(told["dx"])))),
        age_written=age,
        sex_written=sex,
    )


def parse_codes(text):
    """Return the diagnoses of a header's text as they are written, each once, in the order of its Dx lines."""
    return tuple(dict.fromkeys(_codes(_comments(text)["dx"])))


def find_comments(text, key):
    """Return what follows the colon in each comment line 'Age', 'Sex' or 'Dx' of a header's text: a list of texts."""
    return _comments(text)[key.casefold()]


def _comments(text):
    found = {"age": [], "sex": [], "dx": []}
    for key, value in COMMENT.findall(text):
        found[key.casefold()].append(value)
    return found


def _split_diagnoses(lines: list[str]) -> Iterator[str]:
    """Yield the diagnoses of Dx lines, separated by commas, semicolons or blanks.

    Blanks separate codes and the Challenge's abbreviations; words that are none of these are one text with its blanks.
    """
    for text in re.split("[,;]", ",".join(lines)):
        words = text.split()
        if all(word.isdigit() or code_of(word) != word for word in words):
            yield from words
        else:
            yield text.strip()


def _codes(lines):
    """Yield the diagnoses of Dx lines as the Challenge's evaluator splits them: at commas alone."""
    return (code for code in map(str.strip, ",".join(lines).split(",")) if code)


def _age(text):
    """Return the years that the text of an age means, as in '57', '57Y', '6 months' or '20D', or NaN for none."""
    match = AGE.fullmatch(text)
    if not match:
        return math.nan
    years = float(match[1]) / AGES_A_YEAR[(match[2] or "y").casefold()]
    return years if 0 <= years <= OLDEST else math.nan


def _sex(text: str) -> str:
    """Return Female or Male by the first word of a text, in any spelling of SEX_WORDS, or Unknown."""
    word = re.search(r"[^\W\d_]+", unicodedata.normalize("NFKC", text))
    return SEX.get(word[0].casefold(), "Unknown") if word else "Unknown"


def _lead(line, place, as_written):
    match = LEAD_LINE.fullmatch(line) or _fail(LEAD_FIELDS, line, place)
    file, kind, frame, skew, offset, gain, baseline, units, zero, first, checksum, name = match.group(
        "file", "format", "frame", "skew", "offset", "gain", "baseline", "units", "zero", "first", "checksum", "name"
    )
    is_written = gain is not None
    gain = float(gain) if is_written else DEFAULT_GAIN
    is_zero = gain == 0
    if is_zero and not as_written:
        gain, is_written = DEFAULT_GAIN, False  # by WFDB's rules 0 says that the gain is not known
    written = name or ""
    name = written if as_written else standard_name(written)
    return Lead(name, file, kind, int(offset or 0), gain, int(baseline or zero or 0), units or DEFAULT_UNITS,
                int(frame or 1) or 1, int(skew or 0), int(first or 0), is_written,
                None if checksum is None else int(checksum), is_zero, written)  # fmt: skip


def _fail(fields, line, place):
    """Raise the HeaderError of a line that its expression does not match, naming the first field that is wrong."""
    words = line.split()
    for word, (title, pattern, grammar) in zip(words, fields, strict=False):
        if not re.fullmatch(pattern, word):
            shown = word if len(word) <= LONGEST_SHOWN else f"{word[:LONGEST_SHOWN]}..."
            raise HeaderError(f"{place}: {title} {shown!r} is not {grammar}")
    raise HeaderError(f"{place}: {fields[len(words)][0]} is missing, a line has {REQUIRED} fields or more")


def read_header_text(path):
    """Read a header file's text, UTF-8 or else Latin-1, with line ends of whatever kind as newlines.

    Raises HeaderError where it cannot be read, and where it is in UTF-16 or UTF-32.
    """
    data = read_bytes(path, MOST_BYTES, HeaderError).removeprefix(BYTE_ORDER_MARK.encode())
    if encoding := _wide_encoding(data[:LOOKED_AT]):
        raise HeaderError(f"{Path(path).name}: {encoding} text, expected UTF-8, ASCII or Latin-1")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _wide_encoding(data: bytearray) -> str:
    """Name the encoding of text of two or four bytes a character, with or without a byte order mark.

    Args:
        data: the beginning of a file.

    Returns:
        `UTF-16` or `UTF-32`, or an empty string for any other content. Such text has no control characters and is
        at least a quarter ASCII, in one byte order.
    """
    if b"\0" not in data and not data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return ""
    for encoding in ("UTF-32", "UTF-16"):
        for order in ("LE", "BE"):
            try:
                text = codecs.getincrementaldecoder(f"{encoding}-{order}")().decode(bytes(data))
            except UnicodeDecodeError:
                continue
            body = text.removeprefix(BYTE_ORDER_MARK)
            controls = any(unicodedata.category(c) in NO_TEXT and not c.isspace() for c in body)
            if text and not controls and sum(map(str.isascii, body)) >= LEAST_ASCII * len(body):
                return encoding
    return ""


def read_header(path):
    """Read and parse a header file; HeaderError where it is bad or cannot be read."""
    return parse_header(read_header_text(path), Path(path).name)
