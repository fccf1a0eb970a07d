"""Ways of writing down the same recording: dialects of headers, gains, formats of files, frequencies, leads."""

import math
import struct
import tempfile
from functools import partial
from itertools import combinations, product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.signal import resample_poly

from benchmarks.drafts import MARK, interleaved, matlab_4, matlab_5
from ecg.data.leads import LEAD_SETS, LEADS, LIMB

LINE = "{kind} {gain} 16 0 {first} {checksum} 0 {lead}"  # of a lead, after the name of its file
DATE = " 12-May-2020 12:33:59"
DATES = ("", " 12:33:59", " 12:33:59 12/05/2020", " 12/05/2020 12:33:59", " 12:33:59.250 12/05/2020", " 9:05:00")
TEXTS_2020 = {"AF": "164889003", "I-AVB": "270492004", "LBBB": "164909002", "Normal": "426783006", "PAC": "284470004",
              "PVC": "427172004", "RBBB": "59118001", "STD": "429622005", "STE": "164931005"}  # fmt: skip
YEARS = {57.0: "57 057 57.0 57Y 57years", 0.5: "6months", math.nan: "NaN Unknown -1 300"}
SEXES = {"Male": "M m male Male MALE", "Female": "F f female Female FEMALE", "Unknown": "U Unknown NaN"}
GAINS = ("1000", "1000/mV", "1000(0)/mV", "1000.0(0)", "1e3/mV", "+1000./MV", "1/uV", "1(0)/UV", "1/\N{MICRO SIGN}V",
         "1/\N{GREEK SMALL LETTER MU}V", "1e6/V", "1000000(0)/V")  # fmt: skip
FREQUENCIES = (100, 128, 250, 257, 360, 400, 500, 1000, 2000)  # Hz
FLAC = ("508", "516", "524")  # formats that hold eight leads at the most in a file
ORDERS = LEAD_SETS | {f"{count} backwards": leads[::-1] for count, leads in LEAD_SETS.items()} | {
    "with others between": tuple(name for lead in LEADS for name in ("MLII", lead, "X"))}  # fmt: skip
PAIRS = {" ".join((*pair, *chest)): (*pair, *chest)
         for pair in combinations(LIMB, 2) for chest in ((), ("V2",), LEADS[6:])}  # fmt: skip


class Plain(NamedTuple):
    """A recording for the Challenge's own header of 2021: (12, T) 16-bit integers, in microvolts, and facts."""

    name: str
    frequency: int
    integers: np.ndarray
    facts: dict

    @property
    def comments(self):
        """Return the header's lines of age, sex and diagnoses."""
        return "#Age: {age:g}\n#Sex: {sex}\n#Dx: {}\n".format(",".join(self.facts["codes"]), **self.facts)

    def rows(self, leads):
        """Return the integers of leads, (L, T); one that is not of the twelve has those of V6 the other way round."""
        known = dict(zip(LEADS, self.integers, strict=True))
        return np.array([known.get(lead, self.integers[-1, ::-1]) for lead in leads])


class Written(NamedTuple):
    """A recording as it is written: the header's bytes, the files beside it, and the facts that the header tells."""

    header: bytes
    files: dict[str, bytes]
    facts: dict


def write(plain, *changes, integers=None, leads=LEADS, frequency=None, kind="16+24", gain="1000/mV", line=LINE,
          save=matlab_4, end="mat", files=1, encoding="utf-8", **facts):  # fmt: skip
    """Return a recording as Written: as the Challenge of 2021 does, but for what is given.

    changes: pairs of what is replaced in the header's text, and by what; kind and gain: of all leads, or of each; save:
    turns the integers (L, T) of a file into bytes; files: over how many the leads are spread; facts: which are others.
    """
    integers = plain.rows(leads) if integers is None else integers
    place = np.arange(len(leads)) * files // len(leads)
    names = [f"{plain.name}{f'_{number}' * (files > 1)}.{end}" for number in range(files)]
    text = f"{plain.name} {len(leads)} {frequency or plain.frequency:g} {integers.shape[1]}{DATE}\n"
    for number, row, *said in zip(place, integers, *np.broadcast_arrays(kind, gain, leads), strict=True):
        fields = dict(zip(("kind", "gain", "lead"), said, strict=True))
        checksum = int(row.sum(dtype=np.float64)) % 2**16
        text += f"{names[number]} {line.format(first=int(row[0]), checksum=checksum, **fields)}\n"
    text += f"{plain.comments}#Rx: Unknown\n#Hx: Unknown\n#Sx: Unknown\n"
    for old, new in changes:
        assert old in text, f"{old!r} is not in the header"
        text = text.replace(old, new)
    content = {name: save(integers[place == number]) for number, name in enumerate(names)}
    return Written(text.encode(encoding), content, plain.facts | facts)


# The groups: functions of a Plain, which return it as Written in each way of the group: name -> Written.


def dialects(plain):
    """Return the ways of the databases' own headers."""
    written = ",".join(plain.facts["codes"])
    return {
        "Challenge 2021": write(plain),
        "PhysioNet 1.0.3": write(plain, ("#", "# "), (DATE, ""), kind="16x1+24", gain="1000.0(0)/mV"),
        "texts of 2020": write(plain, (written, ",".join(TEXTS_2020)), codes=tuple(TEXTS_2020.values())),
        "raw PTB-XL": write(plain, (plain.comments, ""), (DATE, ""), ("aV", "AV"), kind="16", gain="1000.0(0)/mV",
                            save=interleaved, end="dat", age=math.nan, sex="Unknown", codes=()),
    }  # fmt: skip


def texts(plain):
    """Return the ways of line ends, blanks, encodings, case, dates, the record's name and the list of diagnoses."""
    name, codes, last, foreign = f"{plain.name} 12", plain.facts["codes"], "#Sx: Unknown", "#Sx: Schwäche, 37 °C"
    listed = ",".join(codes)
    dx = f"#Dx: {listed}"
    lists = (f"#Dx:{listed}", f"# Dx: {listed}", f"#Dx : {listed}", f"#DX:\t{listed}", f"#dx: ,{listed}", f"{dx},",
             f"{dx},{codes[0]}", dx.replace(",", ",,"), dx.replace(",", " , "), dx.replace(",", "\n#Dx: "))  # fmt: skip
    changes = [
        *[(DATE, date) for date in DATES], *[(name, name.replace(" ", f".{end} ")) for end in ("mat", "hea")],
        *[(dx, each) for each in lists], ("\n", "\r\n"), ("\n", "\r"), (" ", "\t"), (" ", "   "), ("\n", " \t \n"),
        ("\n", "\n\n"), ("#", " \t#"), (f"{last}\n", last), (last, foreign), ("aV", "AV"), ("aV", "av"), (" V", " v"),
        ("Age", "AGE"), ("Sex", "sex"), (plain.comments + "#Rx: Unknown\n", "#Rx: Unknown\n" + plain.comments),
    ]  # fmt: skip
    return {f"change {number}": write(plain, change) for number, change in enumerate(changes)} | {
        "byte order mark": write(plain, encoding="utf-8-sig"),
        "Latin-1": write(plain, (last, foreign), encoding="latin-1"),
        "comments first": write(plain, (plain.comments, ""), (name, plain.comments + name)),
        "no diagnoses": write(plain, (f"{dx}\n", ""), codes=()),
    }


def ages_and_sexes(plain):
    """Return the ways of age and sex."""
    age, sex, _ = plain.comments.splitlines()
    changes = [(age, "Age", text, years) for years in YEARS for text in YEARS[years].split()]
    changes += [(sex, "Sex", text, meant) for meant in SEXES for text in SEXES[meant].split()]
    return {f"{key} {text}": write(plain, (line, f"#{key}: {text}"), **{key.lower(): meant})
            for line, key, text, meant in changes}  # fmt: skip


def gains(plain):
    """Return the ways of gains, units and baselines for which no integer is rounded."""
    signs, shifts, wide = np.resize([1, -1], 12), np.arange(12) * 57 - 300, plain.integers.astype(int)
    return {gain: write(plain, gain=gain) for gain in GAINS} | {
        "-1000/mV": write(plain, integers=-wide, gain="-1000/mV"),
        "of either sign": write(plain, integers=wide * signs[:, None], gain=[f"{sign}/uV" for sign in signs]),
        "ADC zero": write(plain, integers=wide + 512, line=LINE.replace("16 0", "16 512")),
        "baselines": write(plain, integers=wide + shifts[:, None], gain=[f"1e3({shift})/mV" for shift in shifts]),
    }


def scaled(plain, gain, baseline=0, **how):
    """Return a recording as Written with other integers for a millivolt: a number, or one for each lead."""
    gain = np.broadcast_to(gain, 12)
    integers = np.rint(plain.integers * (gain[:, None] / 1000)).astype(np.int32) + baseline
    return write(plain, integers=integers, gain=[f"{each:.9g}({baseline})/mV" for each in gain], **how)


def rounded_gains(plain):
    """Return the ways of gains for which integers are rounded, to 5 uV at the most, or are numbers in millivolts."""
    return {f"{gain}/mV": scaled(plain, gain) for gain in (200, 204.8, 400, 819.2, 4880)} | {
        "one for each lead": scaled(plain, 250 + 73 * np.arange(12)),
        "millivolts": write(plain, integers=plain.integers / 1000, gain="1/mV"),
    }


def by_wfdb(kind, integers):
    """Return the bytes of a file in a format that wfdb writes, for integers (L, T)."""
    from wfdb.io._signal import wr_dat_file

    with tempfile.TemporaryDirectory() as folder:
        wr_dat_file("x", kind, integers.T.astype(np.int64), 0, write_dir=folder)
        return (Path(folder) / "x").read_bytes()


def by_threes(parts, integers):
    """Return integers (L, T) of 10 bits, three in 32; parts: of which the bits from where, how many, come to where."""
    threes = np.pad(integers.T.ravel() & 0x3FF, (0, -integers.size % 3)).reshape(-1, 3).T
    return sum((threes[which] >> start) % 2**bits << to for which, start, bits, to in parts).astype("<u4").tobytes()


WIDE = {kind: partial(by_wfdb, kind) for kind in ("16", "24", "32", "516", "524")} | {
    "61": lambda integers: integers.T.astype(">i2").tobytes(),
    "160": lambda integers: (integers.T + np.int32(2**15)).astype("<u2").tobytes(),
}
NARROW = {  # each with its largest integer
    "8": (127, lambda integers: np.diff(integers.T, axis=0, prepend=integers.T[:1]).astype(np.int8).tobytes()),
    **{kind: (largest, partial(by_wfdb, kind)) for kind, largest in (("80", 127), ("508", 127), ("212", 2047))},
    "310": (511, partial(by_threes, ((0, 0, 10, 1), (1, 0, 10, 17), (2, 0, 5, 11), (2, 5, 5, 27)))),
    "311": (511, partial(by_threes, ((0, 0, 10, 0), (1, 0, 10, 10), (2, 0, 10, 20)))),
}


def typed(save, kind):
    """Return a function that turns integers (L, T) into bytes as `save` does numbers of another type."""
    return lambda integers: save(integers.astype(kind))


def wide_formats(plain):
    """Return the ways of WFDB's formats that hold microvolts, with an offset, frames and several files."""
    dat = partial(write, plain, kind="16", end="dat", save=interleaved)
    twice = interleaved(plain.integers.repeat(2, axis=0))  # both samples of a frame, which come one after the other
    return {kind: dat(kind=kind, save=save, files=1 + (kind in FLAC)) for kind, save in WIDE.items()} | {
        "offset": dat(kind="16+512", save=lambda integers: bytes(512) + interleaved(integers)),
        "frames of a sample twice": dat(kind="16x2", save=lambda _: twice),
        "twelve files": dat(files=12),
        "no number of samples": dat((f" {plain.integers.shape[1]}{DATE}", "")),
    }


def narrow_formats(plain):
    """Return the ways of formats whose range is too small for microvolts, each lead with the gain that fits."""
    sizes = dict.fromkeys(NARROW, np.abs(plain.integers / 1000).max(axis=1))
    sizes["8"] = np.abs(np.diff(plain.integers / 1000)).max(axis=1)  # it holds differences
    fitting = {kind: np.minimum((largest - 1) // sizes[kind], 1000) for kind, (largest, _) in NARROW.items()}
    mats = {"4 u1": (128, matlab_4), "5 u1": (128, matlab_5), "5 i1": (0, matlab_5)}
    return {kind: scaled(plain, fitting[kind], kind=kind, save=save, end="dat", files=1 + (kind in FLAC))
            for kind, (_, save) in NARROW.items()} | {
        f"MATLAB {kind}": scaled(plain, fitting["80"], zero, save=typed(save, kind[2:]))
        for kind, (zero, save) in mats.items()
    }  # fmt: skip


def frames_and_skews(plain):
    """Return the ways of frames of two successive samples, whose mean is read, and of leads that come late."""
    pairs = plain.integers[:, : plain.integers.shape[1] // 2 * 2].reshape(12, -1, 2)
    data = {"frames": interleaved(pairs.transpose(0, 2, 1).reshape(24, -1))}
    skews = {"one skew": np.arange(12) % 2 * 4, "several skews": np.arange(12) % 5}
    for name, each in skews.items():
        late = [np.pad(row, (skew, 4 - skew), mode="edge") for row, skew in zip(plain.integers, each, strict=True)]
        data[name] = interleaved(np.array(late))
    dat = {name: partial(write, plain, end="dat", save=lambda _, content=data[name]: content) for name in data}
    ways = {name: dat[name](kind=[f"16:{skew}" for skew in each]) for name, each in skews.items()}
    return ways | {"frames": dat["frames"](integers=pairs[:, :, 0], frequency=plain.frequency / 2, kind="16x2")}


def by_hand(order, flags, integers):
    """Return a MATLAB file of version 5 of a class of numbers, kept in 16 bits as MATLAB keeps whole ones."""

    def element(kind, content):
        return struct.pack(f"{order}2I", kind, len(content)) + content + bytes(-len(content) % 8)

    head = element(6, struct.pack(f"{order}2I", flags, 0)) + element(5, struct.pack(f"{order}2i", *integers.shape))
    numbers = element(3, integers.astype(f"{order}i2").tobytes(order="F"))
    mark = MARK.ljust(124) + struct.pack(f"{order}2H", 0x100, 0x4D49)
    return mark + element(14, head + element(1, b"val") + numbers)


def matlab_files(plain):
    """Return the ways of MATLAB's files, of versions 4 and 5 to 7."""
    savers = {"4": matlab_4, "5": matlab_5, "5 packed": partial(matlab_5, packed=True)}
    more = {f"{version} transposed": lambda x, save=save: save(x.T) for version, save in savers.items()} | {
        "4 big-endian": lambda x: struct.pack(">5i4s", 1030, *x.shape, 0, 4, b"val") + x.astype(">i2").tobytes("F"),
        "5 big-endian": partial(by_hand, ">", 10),
        "5 f8 as 16 bits": partial(by_hand, "<", 6),
        "4 of another name": partial(matlab_4, key="ECG"),
        "5 of another name": partial(matlab_5, key="ECG", others={"fs": np.array([[500.0]])}),
        "5 after others": partial(matlab_5, others={"note": np.array("ECG")}),
    }
    for (version, save), kind in product(savers.items(), "i2 i4 f4 f8 i8".split()):
        if (version, kind) != ("4", "i8"):  # which version 4 has not
            more[f"{version} {kind}"] = typed(save, kind)
    ways = {name: write(plain, save=save) for name, save in more.items()}
    unsigned = [("4", "u2"), *product(("5", "5 packed"), ("u2", "u4", "u8"))]
    above = plain.integers.astype(int) + 2**15
    for version, kind in unsigned:
        save = typed(savers[version], kind)
        ways[f"{version} {kind}"] = write(plain, integers=above, gain="1e3(32768)/mV", save=save)
    return ways


def at(frequency, plain):
    """Return the way of another sampling frequency, in integers of 10 nV, whose rounding is not what is measured."""
    second = plain.frequency  # in samples, by which the ends go on, for they are not what is measured either
    signal = np.pad(plain.integers * 100.0, ((0, 0), (second, second)), mode="reflect", reflect_type="odd")
    there = -(-plain.integers.shape[1] * frequency // plain.frequency)
    signal = resample_poly(signal, frequency, plain.frequency, axis=1, padtype="line")[:, frequency:][:, :there]
    return {"so": write(plain, integers=np.rint(signal).astype(np.int32), frequency=frequency, gain="100/uV")}


def with_leads(orders, plain):
    """Return the ways of other leads: name -> their names."""
    return {name: write(plain, leads=leads) for name, leads in orders.items()}


def wrong(plain):
    """Return the ways of what is not the same recording, which tell what a difference means."""
    exchanged = plain.rows((*LEADS[:6], "V2", "V1", *LEADS[8:]))
    return {
        "a gain that is 5 % off": write(plain, gain="1050/mV"),
        "a sampling frequency that is 5 % off": write(plain, frequency=1.05 * plain.frequency),
        "V1 and V2 exchanged": write(plain, integers=exchanged),
        "I upside down": write(plain, gain=["-1000/mV", *["1000/mV"] * 11]),
    }
