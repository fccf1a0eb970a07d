"""Write the same recording with other headers, gains, formats, rates and leads."""

import math
import struct
import tempfile
from functools import partial
from itertools import combinations, product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.signal import resample_poly

from benchmarks.drafts import MARK, interleave, matlab_4, matlab_5
from ecg.data.leads import LEAD_SETS, LEADS, LIMB

LINE = "{kind} {gain} 16 0 {first} {checksum} 0 {lead}"  # line of a lead, after the name of its file
DATE = " 12-May-2020 12:33:59"
DATES = ("", " 12:33:59", " 12:33:59 12/05/2020", " 12/05/2020 12:33:59", " 12:33:59.250 12/05/2020", " 9:05:00")
TEXTS_2020 = {"AF": "164889003", "I-AVB": "270492004", "LBBB": "164909002", "Normal": "426783006", "PAC": "284470004",
              "PVC": "427172004", "RBBB": "59118001", "STD": "429622005", "STE": "164931005"}  # fmt: skip
YEARS = {57.0: "57 057 57.0 57Y 57years", 0.5: "6months", math.nan: "NaN Unknown -1 300"}
SEXES = {"Male": "M m male Male MALE", "Female": "F f female Female FEMALE", "Unknown": "U Unknown NaN"}
GAINS = ("1000", "1000/mV", "1000(0)/mV", "1000.0(0)", "1e3/mV", "+1000./MV", "1/uV", "1(0)/UV", "1/\N{MICRO SIGN}V",
         "1/\N{GREEK SMALL LETTER MU}V", "1e6/V", "1000000(0)/V")  # fmt: skip
FREQUENCIES = (100, 128, 250, 257, 360, 400, 500, 1000, 2000)  # Hz
FLAC = ("508", "516", "524")  # formats with at most eight leads in a file
ORDERS = LEAD_SETS | {f"{count} backwards": leads[::-1] for count, leads in LEAD_SETS.items()} | {
    "with others between": tuple(name for lead in LEADS for name in ("MLII", lead, "X"))}  # fmt: skip
PAIRS = {" ".join((*pair, *chest)): (*pair, *chest)
         for pair in combinations(LIMB, 2) for chest in ((), ("V2",), LEADS[6:])}  # fmt: skip


class PlainRecording(NamedTuple):
    """A recording as in the Challenge: (12, T) 16-bit integers in uV, and facts."""

    name: str
    frequency: int
    integers: np.ndarray
    facts: dict

    @property
    def comments(self):
        """Return the header's lines of age, sex and diagnoses."""
        return "#Age: {age:g}\n#Sex: {sex}\n#Dx: {}\n".format(",".join(self.facts["codes"]), **self.facts)

    def rows(self, leads):
        """Return the integers of leads, (L, T); leads beyond the twelve have V6 reversed."""
        known = dict(zip(LEADS, self.integers, strict=True))
        return np.array([known.get(lead, self.integers[-1, ::-1]) for lead in leads])


class WrittenRecording(NamedTuple):
    """A written recording: the header's bytes, its files and its facts."""

    header: bytes
    files: dict[str, bytes]
    facts: dict


def write_recording(
    plain,
    *changes,
    integers=None,
    leads=LEADS,
    frequency=None,
    kind="16+24",
    gain="1000/mV",
    line=LINE,
    save=matlab_4,
    end="mat",
    files=1,
    encoding="utf-8",
    **facts,
):
    """Return a WrittenRecording in the Challenge's format of 2021, with these changes.

    Args:
        plain: The recording.
        changes: Pairs of an old and a new string in the header.
        integers: Samples, (L, T).
        leads: Names of the leads.
        frequency: Sampling frequency in Hz.
        kind: WFDB's format, of all leads or of each.
        gain: Gain, of all leads or of each.
        line: Template of a lead line.
        save: Function that turns the integers (L, T) of a file into bytes.
        end: Extension of the signal files.
        files: Number of signal files.
        encoding: Encoding of the header.
        facts: Facts that differ from the plain recording's.
    """
    integers = plain.rows(leads) if integers is None else integers
    file_numbers = np.arange(len(leads)) * files // len(leads)
    names = [f"{plain.name}{f'_{number}' * (files > 1)}.{end}" for number in range(files)]
    text = f"{plain.name} {len(leads)} {frequency or plain.frequency:g} {integers.shape[1]}{DATE}\n"
    for number, row, *values in zip(file_numbers, integers, *np.broadcast_arrays(kind, gain, leads), strict=True):
        fields = dict(zip(("kind", "gain", "lead"), values, strict=True))
        checksum = int(row.sum(dtype=np.float64)) % 2**16
        text += f"{names[number]} {line.format(first=int(row[0]), checksum=checksum, **fields)}\n"
    text += f"{plain.comments}#Rx: Unknown\n#Hx: Unknown\n#Sx: Unknown\n"
    for old, new in changes:
        assert old in text, f"{old!r} is not in the header"
        text = text.replace(old, new)
    content = {name: save(integers[file_numbers == number]) for number, name in enumerate(names)}
    return WrittenRecording(text.encode(encoding), content, plain.facts | facts)


# The groups: functions of a PlainRecording that return a WrittenRecording for each way: name -> WrittenRecording.


def write_dialects(plain):
    """Vary the headers as the databases do."""
    written = ",".join(plain.facts["codes"])
    return {
        "Challenge 2021": write_recording(plain),
        "PhysioNet 1.0.3": write_recording(plain, ("#", "# "), (DATE, ""), kind="16x1+24", gain="1000.0(0)/mV"),
        "texts of 2020": write_recording(plain, (written, ",".join(TEXTS_2020)), codes=tuple(TEXTS_2020.values())),
        "raw PTB-XL": write_recording(
            plain,
            (plain.comments, ""),
            (DATE, ""),
            ("aV", "AV"),
            kind="16",
            gain="1000.0(0)/mV",
            save=interleave,
            end="dat",
            age=math.nan,
            sex="Unknown",
            codes=(),
        ),
    }


def write_texts(plain):
    """Vary line ends, blanks, encodings, case, dates, names and diagnoses."""
    name, codes, last, foreign = f"{plain.name} 12", plain.facts["codes"], "#Sx: Unknown", "#Sx: Schwäche, 37 °C"
    codes_text = ",".join(codes)
    dx = f"#Dx: {codes_text}"
    lists = (
        f"#Dx:{codes_text}",
        f"# Dx: {codes_text}",
        f"#Dx : {codes_text}",
        f"#DX:\t{codes_text}",
        f"#dx: ,{codes_text}",
        f"{dx},",
        f"{dx},{codes[0]}",
        dx.replace(",", ",,"),
        dx.replace(",", " , "),
        dx.replace(",", "\n#Dx: "),
    )
    changes = [
        *[(DATE, date) for date in DATES],
        *[(name, name.replace(" ", f".{end} ")) for end in ("mat", "hea")],
        *[(dx, variant) for variant in lists],
        ("\n", "\r\n"),
        ("\n", "\r"),
        (" ", "\t"),
        (" ", "   "),
        ("\n", " \t \n"),
        ("\n", "\n\n"),
        ("#", " \t#"),
        (f"{last}\n", last),
        (last, foreign),
        ("aV", "AV"),
        ("aV", "av"),
        (" V", " v"),
        ("Age", "AGE"),
        ("Sex", "sex"),
        (plain.comments + "#Rx: Unknown\n", "#Rx: Unknown\n" + plain.comments),
    ]
    return {f"change {number}": write_recording(plain, change) for number, change in enumerate(changes)} | {
        "byte order mark": write_recording(plain, encoding="utf-8-sig"),
        "Latin-1": write_recording(plain, (last, foreign), encoding="latin-1"),
        "comments first": write_recording(plain, (plain.comments, ""), (name, plain.comments + name)),
        "no diagnoses": write_recording(plain, (f"{dx}\n", ""), codes=()),
    }


def write_demographics(plain):
    """Vary age and sex."""
    age, sex, _ = plain.comments.splitlines()
    changes = [(age, "Age", text, years) for years in YEARS for text in YEARS[years].split()]
    changes += [(sex, "Sex", text, meant) for meant in SEXES for text in SEXES[meant].split()]
    return {f"{key} {text}": write_recording(plain, (line, f"#{key}: {text}"), **{key.lower(): meant})
            for line, key, text, meant in changes}  # fmt: skip


def write_gains(plain):
    """Vary gains, units and baselines without rounding."""
    signs, shifts, wide = np.resize([1, -1], 12), np.arange(12) * 57 - 300, plain.integers.astype(int)
    return {gain: write_recording(plain, gain=gain) for gain in GAINS} | {
        "-1000/mV": write_recording(plain, integers=-wide, gain="-1000/mV"),
        "of either sign": write_recording(plain, integers=wide * signs[:, None], gain=[f"{sign}/uV" for sign in signs]),
        "ADC zero": write_recording(plain, integers=wide + 512, line=LINE.replace("16 0", "16 512")),
        "baselines": write_recording(
            plain, integers=wide + shifts[:, None], gain=[f"1e3({shift})/mV" for shift in shifts]
        ),
    }


def scale_recording(plain, gain, baseline=0, **how):
    """Write a recording with another gain, or with one for each lead."""
    gain = np.broadcast_to(gain, 12)
    integers = np.rint(plain.integers * (gain[:, None] / 1000)).astype(np.int32) + baseline
    return write_recording(
        plain, integers=integers, gain=[f"{lead_gain:.9g}({baseline})/mV" for lead_gain in gain], **how
    )


def write_rounded_gains(plain):
    """Vary gains with rounding to at most 5 uV, and write millivolts."""
    return {f"{gain}/mV": scale_recording(plain, gain) for gain in (200, 204.8, 400, 819.2, 4880)} | {
        "one for each lead": scale_recording(plain, 250 + 73 * np.arange(12)),
        "millivolts": write_recording(plain, integers=plain.integers / 1000, gain="1/mV"),
    }


def encode_by_wfdb(kind, integers):
    """Return a file in a format that wfdb writes, for integers (L, T)."""
    from wfdb.io._signal import wr_dat_file

    with tempfile.TemporaryDirectory() as folder:
        wr_dat_file("x", kind, integers.T.astype(np.int64), 0, write_dir=folder)
        return (Path(folder) / "x").read_bytes()


def encode_by_threes(layout, integers):
    """Return integers (L, T) of 10 bits, three of them in 32 bits.

    `layout` has tuples: which of the three, its first bit, number of bits, first bit of the 32.
    """
    threes = np.pad(integers.T.ravel() & 0x3FF, (0, -integers.size % 3)).reshape(-1, 3).T
    return sum((threes[index] >> start) % 2**bits << to for index, start, bits, to in layout).astype("<u4").tobytes()


WIDE = {kind: partial(encode_by_wfdb, kind) for kind in ("16", "24", "32", "516", "524")} | {
    "61": lambda integers: integers.T.astype(">i2").tobytes(),
    "160": lambda integers: (integers.T + np.int32(2**15)).astype("<u2").tobytes(),
}
NARROW = {  # with the largest integer of each format
    "8": (127, lambda integers: np.diff(integers.T, axis=0, prepend=integers.T[:1]).astype(np.int8).tobytes()),
    **{kind: (largest, partial(encode_by_wfdb, kind)) for kind, largest in (("80", 127), ("508", 127), ("212", 2047))},
    "310": (511, partial(encode_by_threes, ((0, 0, 10, 1), (1, 0, 10, 17), (2, 0, 5, 11), (2, 5, 5, 27)))),
    "311": (511, partial(encode_by_threes, ((0, 0, 10, 0), (1, 0, 10, 10), (2, 0, 10, 20)))),
}


def convert_type(save, kind):
    """Return a function that converts integers (L, T) to a type before `save`."""
    return lambda integers: save(integers.astype(kind))


def write_wide_formats(plain):
    """Vary WFDB's formats that hold microvolts, offsets, frames and files."""
    dat = partial(write_recording, plain, kind="16", end="dat", save=interleave)
    twice = interleave(plain.integers.repeat(2, axis=0))  # both samples of a frame are consecutive
    return {kind: dat(kind=kind, save=save, files=1 + (kind in FLAC)) for kind, save in WIDE.items()} | {
        "offset": dat(kind="16+512", save=lambda integers: bytes(512) + interleave(integers)),
        "frames of a sample twice": dat(kind="16x2", save=lambda _: twice),
        "twelve files": dat(files=12),
        "no number of samples": dat((f" {plain.integers.shape[1]}{DATE}", "")),
    }


def write_narrow_formats(plain):
    """Vary formats with a range too small for microvolts; gains fit each lead."""
    sizes = dict.fromkeys(NARROW, np.abs(plain.integers / 1000).max(axis=1))
    sizes["8"] = np.abs(np.diff(plain.integers / 1000)).max(axis=1)  # this format stores differences
    fitting = {kind: np.minimum((largest - 1) // sizes[kind], 1000) for kind, (largest, _) in NARROW.items()}
    mats = {"4 u1": (128, matlab_4), "5 u1": (128, matlab_5), "5 i1": (0, matlab_5)}
    return {kind: scale_recording(plain, fitting[kind], kind=kind, save=save, end="dat", files=1 + (kind in FLAC))
            for kind, (_, save) in NARROW.items()} | {
        f"MATLAB {kind}": scale_recording(plain, fitting["80"], zero, save=convert_type(save, kind[2:]))
        for kind, (zero, save) in mats.items()
    }  # fmt: skip


def write_frames_and_skews(plain):
    """Write frames of two samples, which are read as their mean, and late leads."""
    pairs = plain.integers[:, : plain.integers.shape[1] // 2 * 2].reshape(12, -1, 2)
    data = {"frames": interleave(pairs.transpose(0, 2, 1).reshape(24, -1))}
    skews = {"one skew": np.arange(12) % 2 * 4, "several skews": np.arange(12) % 5}
    for name, lead_skews in skews.items():
        late = [
            np.pad(row, (skew, 4 - skew), mode="edge") for row, skew in zip(plain.integers, lead_skews, strict=True)
        ]
        data[name] = interleave(np.array(late))
    dat = {
        name: partial(write_recording, plain, end="dat", save=lambda _, content=data[name]: content) for name in data
    }
    ways = {name: dat[name](kind=[f"16:{skew}" for skew in lead_skews]) for name, lead_skews in skews.items()}
    return ways | {"frames": dat["frames"](integers=pairs[:, :, 0], frequency=plain.frequency / 2, kind="16x2")}


def encode_matlab_5(order, flags, integers):
    """Return a MATLAB file of version 5 that stores numbers as 16-bit integers."""

    def element(kind, content):
        return struct.pack(f"{order}2I", kind, len(content)) + content + bytes(-len(content) % 8)

    head = element(6, struct.pack(f"{order}2I", flags, 0)) + element(5, struct.pack(f"{order}2i", *integers.shape))
    numbers = element(3, integers.astype(f"{order}i2").tobytes(order="F"))
    mark = MARK.ljust(124) + struct.pack(f"{order}2H", 0x100, 0x4D49)
    return mark + element(14, head + element(1, b"val") + numbers)


def write_matlab_files(plain):
    """Vary MATLAB's files, of versions 4 and 5 to 7."""
    savers = {"4": matlab_4, "5": matlab_5, "5 compressed": partial(matlab_5, compressed=True)}
    more = {f"{version} transposed": lambda x, save=save: save(x.T) for version, save in savers.items()} | {
        "4 big-endian": lambda x: struct.pack(">5i4s", 1030, *x.shape, 0, 4, b"val") + x.astype(">i2").tobytes("F"),
        "5 big-endian": partial(encode_matlab_5, ">", 10),
        "5 f8 as 16 bits": partial(encode_matlab_5, "<", 6),
        "4 of another name": partial(matlab_4, key="ECG"),
        "5 of another name": partial(matlab_5, key="ECG", other_matrices={"fs": np.array([[500.0]])}),
        "5 after others": partial(matlab_5, other_matrices={"note": np.array("ECG")}),
    }
    for (version, save), kind in product(savers.items(), "i2 i4 f4 f8 i8".split()):
        if (version, kind) != ("4", "i8"):  # version 4 does not have it
            more[f"{version} {kind}"] = convert_type(save, kind)
    ways = {name: write_recording(plain, save=save) for name, save in more.items()}
    unsigned = [("4", "u2"), *product(("5", "5 compressed"), ("u2", "u4", "u8"))]
    above = plain.integers.astype(int) + 2**15
    for version, kind in unsigned:
        save = convert_type(savers[version], kind)
        ways[f"{version} {kind}"] = write_recording(plain, integers=above, gain="1e3(32768)/mV", save=save)
    return ways


def write_at_frequency(frequency, plain):
    """Write another sampling frequency, in integers of 10 nV to avoid rounding."""
    second = plain.frequency  # samples by which both ends are extended, since ends are not measured
    signal = np.pad(plain.integers * 100.0, ((0, 0), (second, second)), mode="reflect", reflect_type="odd")
    samples = -(-plain.integers.shape[1] * frequency // plain.frequency)
    signal = resample_poly(signal, frequency, plain.frequency, axis=1, padtype="line")[:, frequency:][:, :samples]
    return {"so": write_recording(plain, integers=np.rint(signal).astype(np.int32), frequency=frequency, gain="100/uV")}


def write_lead_sets(orders, plain):
    """Write other leads, given by the name of each way."""
    return {name: write_recording(plain, leads=leads) for name, leads in orders.items()}


def write_wrong(plain):
    """Write wrong recordings, which give a scale for differences."""
    exchanged = plain.rows((*LEADS[:6], "V2", "V1", *LEADS[8:]))
    return {
        "a gain that is 5 % off": write_recording(plain, gain="1050/mV"),
        "a sampling frequency that is 5 % off": write_recording(plain, frequency=1.05 * plain.frequency),
        "V1 and V2 exchanged": write_recording(plain, integers=exchanged),
        "I upside down": write_recording(plain, gain=["-1000/mV", *["1000/mV"] * 11]),
    }
