"""Damage records on purpose: headers, samples and files.

Each function of DAMAGE changes a Draft with draws of a `random.Random`. A long run gives it a generator with a seed;
the tests give it one of hypothesis, which shrinks failing cases.
"""

import struct
from functools import partial

import numpy as np

from benchmarks.drafts import Draft, compress_zeros, interleave, matlab_4, matlab_5, size_of_zeros
from ecg.data.leads import LEADS

INTEGERS = (0, 1, 2, 3, -1, 7, 24, 255, 1000, 65535, 65536, 10**6, 2**24, 10**9, 2**31 - 1, -(2**31), 2**31, 2**32 - 1)
NUMBERS = (
    *map(str, INTEGERS),
    *"0.0 -0 +1 .5 5. 1e3 1e-3 1e-30 1e-300 1e30 1e300 1e400 -1e300 nan NaN inf -Infinity 1e 0x10 1_000 1,5".split(),
    *"9223372036854775807 99999999999999999999 -9 \N{ARABIC-INDIC DIGIT FIVE} \N{SUPERSCRIPT TWO}".split(),
)
GAINS = "0 -1000 200 4880 2e+06 1e-300 1e300 1000(0) 1000(-5) 1000() 1000(1e9) 1000(999999999999999999) (0)".split()
UNITS = ("", "/mV", "/uV", "/\N{GREEK SMALL LETTER MU}V", "/\N{MICRO SIGN}V", "/V", "/MV", "/mmHg", "/", "//mV")
FREQUENCIES = "0 1e-9 0.001 1 10 99 100 128 257 360 499.9999 500/500(0) 500/x 1999 2000 2001 1e5 1e9 1e18".split()
FORMATS = "8 16 24 32 61 80 160 212 310 311 508 516 524 0 1 999 16+0 16+24 16+99999999 16x1+24 16x4 16:2 x +24".split()
NAMES = ("", ".", "..", "~", "-", "con", "A0001", "a b", "../../x", "/etc/passwd", "/dev/zero", "C:\\x", "x.mat", "*",
         "\N{LATIN SMALL LETTER E WITH ACUTE}", "%s", "{0}", "x" * 300, "http://127.0.0.1/x.mat")  # fmt: skip
LEAD_NAMES = (*LEADS, *"avr AVR i ii v2 MLII X Y Z vx D1 III- 12".split(), "", "I II", "V\N{SUBSCRIPT TWO}")
CHARACTERS = "\0\a\t\v\f\r\x1a\x1c\x7f\x85\xa0\xb5\xe9#/\\:,()%+-\u200b\u2028\ufeff\uffff\U0001f493"
CONTENTS = (b"", bytes(1000), b"#!/bin/sh\n", b"\x89HDF\r\n\x1a\n" * 9)
CODES = "RBBB Normal NSR 59118001 426783006 164889003 0 -1 NaN Unknown 99999999999999999999 164889003.0 AF|AFL".split()
TYPES = "i1 u1 u2 i4 u4 f4 f8 i8 u8 c8 ? U O text cell table".split()
OTHER_MATRICES = {
    "text": np.array("val"),
    "cell": np.array([{"val": 1}]),
    "table": np.zeros(3, [("a", "i2"), ("b", "f8")]),
}
ENORMOUS = (10_000_000, 90_000_000, *[300_000_000] * 6)  # 16-bit integers
RUN_LENGTH = 100_000  # characters; a regular expression of quadratic time does not end in time


def damage_record(record, damage, rng):
    """Return the Case of a record after these kinds of damage, in turn."""
    draft = Draft(record.name, record.text.splitlines(), record.recording, f"{record.name}.mat")
    with np.errstate(all="ignore"):  # conversions may overflow
        for name in damage:
            DAMAGE[name](draft, rng)
        return draft.to_case()


# The header, by its grammar.


def replace_field(draft, rng):
    """Replace a field."""
    words = draft.fields(row := rng.randrange(len(draft.lines)))
    draft.set_field(rng.randrange(len(words)), rng.choice((*NUMBERS, *NAMES, *GAINS)), [row])


def move_fields(draft, rng):
    """Drop or double a field, or swap two, in one line or in all lead lines."""
    first_index, second_index, choice = rng.randrange(9), rng.randrange(9), rng.randrange(3)
    for row in rng.choice(([rng.randrange(len(draft.lines))], draft.leads)):
        words = draft.fields(row)
        a, b = first_index % len(words), second_index % len(words)
        if choice == 2:
            words[a], words[b] = words[b], words[a]
        else:
            words[a : a + 1] = [words[a]] * (2 * choice)
        draft.lines[row] = " ".join(words)


def move_lines(draft, rng):
    """Drop or double lines, swap two, or truncate one."""
    a, b = (rng.randrange(len(draft.lines)) for _ in range(2))
    choice = rng.randrange(4)
    if choice == 0:
        del draft.lines[a : a + rng.choice((1, 1, 2, 100))]
        draft.lines = draft.lines or [""]
    elif choice == 1:
        draft.lines.insert(b, draft.lines[a])
    elif choice == 2:
        draft.lines[a], draft.lines[b] = draft.lines[b], draft.lines[a]
    else:
        draft.lines[a] = draft.lines[a][: rng.randrange(len(draft.lines[a]) + 1)]
        draft.lines = draft.lines[: a + 1] if rng.random() < 0.5 else draft.lines


def rename_leads(draft, rng):
    """Give some leads other names: known, unknown or used."""
    for row in draft.leads:
        if rng.random() < 0.3:
            draft.set_field(8, rng.choice(LEAD_NAMES), [row])


def replace_gains(draft, rng):
    """Write other gains, baselines and units, in one lead or in all."""
    gain = rng.choice(rng.choice((GAINS, NUMBERS)))
    draft.set_field(2, gain + rng.choice(UNITS), rng.choice((draft.leads, list(draft.leads)[:1])))


def replace_counts(draft, rng):
    """Write other numbers of leads, of samples or another sampling frequency."""
    index = rng.choice((1, 2, 2, 3))
    draft.set_field(index, rng.choice(FREQUENCIES if index == 2 else NUMBERS))


def replace_comments(draft, rng):
    """Write other ages, sexes and diagnoses, zero or more times, in other syntax."""
    key = rng.choice(("Age", "Sex", "Dx", "AGE", "dx", "Hx", "Dxx"))
    values = [rng.choice((*NUMBERS, *NAMES, *CODES, "57Y", "M", "FEMALE", "male ")) for _ in range(rng.randrange(6))]
    line = rng.choice(("#", "# ", "#\t", "##", " #", "")) + key + rng.choice((":", ": ", " :", "", "=", "::"))
    line += rng.choice((",", ",,", ", ", " ", ";")).join(values)
    draft.lines = [text for text in draft.lines if rng.random() < 0.7 or not text.startswith("#")]
    draft.lines.insert(rng.randrange(len(draft.lines) + 1), line)


def replace_blanks(draft, rng):
    """Write other line ends and other blanks between, before and after the fields."""
    draft.end = rng.choice(("\n", "\r\n", "\r", "\n\n", " \n", "\t\r\n", "\n\r", "\v", "\x85", "\u2028", ""))
    blank = rng.choice((" ", "\t", "  ", " \t ", "\v", "\xa0", "\u3000"))
    around = rng.choice(("", " ", "\t", "\f"))
    draft.lines = [around + line.replace(" ", blank) + around for line in draft.lines]


def insert_characters(draft, rng):
    """Insert control and non-ASCII characters, or use another encoding."""
    row = rng.randrange(len(draft.lines))
    for _ in range(rng.randrange(1, 4)):
        index = rng.randrange(len(draft.lines[row]) + 1)
        draft.lines[row] = draft.lines[row][:index] + rng.choice(CHARACTERS) + draft.lines[row][index:]
    encoding = rng.choice(("utf-8", "utf-8-sig", "latin-1", "utf-16", "cp1252", "utf-7"))
    draft.encode = partial(str.encode, encoding=encoding, errors="replace")


def enlarge_header(draft, rng):
    """Write a run of many digits, blanks, letters, lead lines or comments."""
    words = draft.fields(row := rng.randrange(len(draft.lines)))
    run = rng.choice(("1", "1", "0", " ", "\t", "x", ",", "1 ", "#Dx:")) * RUN_LENGTH
    choice = rng.randrange(3)
    if choice == 0:
        draft.set_field(rng.randrange(len(words)), run + rng.choice(("", "x", "(", ".", "/mV")), [row])
    elif choice == 1:
        draft.lines[row] += " " + run
    else:
        draft.lines[1:1] = [line[:1000] for line in draft.lines[1:2]] * rng.choice((1000, 20_000))  # 20 MB at most


def change_header_bytes(draft, rng):
    """Change, insert or drop bytes of the header wherever they are."""
    draft.header_bytes.append(_draw_byte_changes(rng, rng.choice((1, 1, 4))))


# The samples.


def replace_values(draft, rng):
    """Write invalid, not finite, enormous or constant values."""
    dtype = rng.choice((np.int16, np.int16, np.float64, np.float32))
    words = (-32768, 32767, -32767, 0, 20001, -20001)
    if dtype is not np.int16:
        words += (np.nan, np.inf, -np.inf, 1e30, -1e38, 1e-40, 32768.5)
    recording = draft.recording.astype(dtype) if draft.recording.dtype.kind in "iuf" else draft.recording
    if recording.ndim == 2 and recording.size:
        leads, samples = recording.shape
        for _ in range(rng.randrange(1, 4)):
            rows = rng.choice((slice(None), rng.randrange(leads)))
            first = rng.choice((0, 0, samples - 1, rng.randrange(samples)))
            length = rng.choice((1, 1, 3, 300, samples))
            recording[rows, first : first + length] = rng.choice(words)
    draft.recording = recording


def change_length(draft, rng):
    """Write fewer or more samples; usually the header has their number."""
    samples = rng.choice((0, 1, 2, 3, 10, 100, 251, 1000, 2**15, 2**17, 2**20))
    if draft.recording.ndim == 2 and draft.recording.size:
        samples = min(samples, 2**25 // draft.recording[:, 0].nbytes)
        draft.recording = np.resize(draft.recording.T, (samples, len(draft.recording))).T
    if rng.random() < 0.8:
        draft.set_field(3, str(samples))


def change_shape(draft, rng):
    """Write the numbers in another shape: transposed, flat, with other leads."""
    shapes = (
        np.transpose, np.ravel, lambda x: x[None], lambda x: x[..., None], lambda x: x[:1], lambda x: x[:0],
        lambda x: x[:, :0], lambda x: np.tile(x, (2, 1)), lambda x: x[:1, :1], lambda x: x[::2],
    )  # fmt: skip
    if draft.recording.ndim == 2:
        draft.recording = rng.choice(shapes)(draft.recording)


def change_type(draft, rng):
    """Write numbers of another type, or text, cells or a structure."""
    kind = rng.choice(TYPES)
    if kind in OTHER_MATRICES:
        draft.recording = OTHER_MATRICES[kind]
    elif draft.recording.dtype.kind in "iuf":
        draft.recording = draft.recording[..., : 50 if kind in "UO" else None].astype(kind)


# The file.


def change_version(draft, rng):
    """Write MATLAB version 4 or 5, compressed or not, with other matrices or names."""
    key = rng.choice(("val", "val", "val", "VAL", "Val", "x", "v" * 31))
    other_matrices = rng.choice(({}, {}, {"other": np.arange(5)}, {"cell": np.array([1, "x"], object)}))
    newer = partial(matlab_5, key=key, compressed=rng.random() < 0.5, other_matrices=other_matrices)
    draft.save = rng.choice((partial(matlab_4, key=key), newer, newer))


def change_claimed_sizes(draft, rng):
    """Change types, rows, columns and lengths in the head of a MATLAB file."""
    offsets = rng.sample(range(0, 24, 4), 2) if rng.random() < 0.7 else rng.sample(range(128, 200, 4), 2)
    words = [(offset, struct.pack("<I", rng.choice(INTEGERS) & 0xFFFFFFFF)) for offset in offsets]

    def change(content):
        for offset, word in words:
            content = content[:offset] + word + content[offset + 4 :]
        return content

    draft.file_bytes.append(change)


def change_file_bytes(draft, rng):
    """Change, insert or drop bytes of the file."""
    draft.file_bytes.append(_draw_byte_changes(rng, rng.choice((1, 4, 16)), near=rng.choice((30, 200, 10**9))))


def cut_file(draft, rng):
    """Truncate the file, or lengthen it."""
    share, count, choice = rng.random(), rng.choice((0, 1, 3, 20, 24, 127, 128, 130, 200)), rng.randrange(3)
    cut = (lambda x: x[: int(share * len(x))], lambda x: x[:count], lambda x: x + x[:count] + bytes(count))[choice]
    draft.file_bytes.append(cut)


def replace_file(draft, rng):
    """Replace the file by nothing, a folder or other content, or name another one."""
    choice = rng.randrange(5)
    draft.missing, draft.folder = choice == 0, choice == 1
    if choice == 2:
        replacement = rng.choice(CONTENTS)
        draft.file_bytes.append(lambda content: replacement)
    elif choice > 2:
        draft.set_field(0, rng.choice((*NAMES, f"{draft.name}.hea", f"./{draft.name}.mat")), draft.leads)


def change_format(draft, rng):
    """Write a file without a MATLAB header, and name a WFDB format in the header."""
    draft.file = f"{draft.name}.{rng.choice(('dat', 'dat', 'bin', 'MAT'))}"
    draft.set_field(0, draft.file, draft.leads)
    draft.set_field(1, rng.choice(FORMATS), rng.choice((draft.leads, list(draft.leads)[:1])))
    draft.save = rng.choice((interleave, interleave, matlab_4))


def enlarge_file(draft, rng):
    """Write a file of 20 to 600 MB, mostly a hole or compressed zeros."""
    leads = max(len(draft.recording), 1) if draft.recording.ndim else 1
    samples = rng.choice(ENORMOUS) // leads
    draft.size, *saved = rng.choice((size_of_zeros, compress_zeros))(leads, samples)
    draft.save = lambda recording: saved[0]
    if rng.random() < 0.8:
        draft.set_field(3, str(samples))


DAMAGE = {
    "a header's field replaced": replace_field,
    "fields dropped, doubled, swapped": move_fields,
    "lines dropped, doubled, swapped, cut": move_lines,
    "leads renamed": rename_leads,
    "other gains, baselines, units": replace_gains,
    "other counts and frequencies": replace_counts,
    "other comments": replace_comments,
    "other blanks and line ends": replace_blanks,
    "control characters and encodings": insert_characters,
    "enormous headers": enlarge_header,
    "a header's bytes": change_header_bytes,
    "other values of samples": replace_values,
    "more or fewer samples": change_length,
    "other shapes": change_shape,
    "other types of numbers": change_type,
    "other versions and keys of MATLAB": change_version,
    "other sizes claimed": change_claimed_sizes,
    "a file's bytes": change_file_bytes,
    "a file cut or lengthened": cut_file,
    "no such file, or another": replace_file,
    "formats of WFDB": change_format,
    "enormous files": enlarge_file,
}


def _draw_byte_changes(rng, count, near=10**9):
    """Return a function that changes, inserts or drops some of the first `near` bytes."""
    changes = [(rng.random(), rng.randrange(256), rng.randrange(4)) for _ in range(count)]

    def change(content):
        for share, value, choice in changes:
            offset = int(share * min(len(content), near))
            new = {0: b"", 1: bytes([value, value])}.get(choice, bytes([value]))
            content = content[:offset] + new + content[offset + 1 :]
        return content

    return change
