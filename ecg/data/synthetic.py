"""Made-up recordings in the Challenge's format, for trying, testing and measuring.

The patients are those of ``ecg.data.synthetic_heart``; here are the databases they come from: names, lengths, sampling frequencies,
header dialects, mains hum and habits of labelling. The defects of the real databases are those of
``ecg.data.synthetic_defects``.
"""

import struct
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ecg.data import labels
from ecg.data import synthetic_heart as heart
from ecg.data.leads import LEADS
from ecg.data.synthetic_defects import HeaderFields, damage_header, damage_samples, draw_defects, length_and_frequency
from ecg.runtime.limits import check_limits
from ecg.runtime.processes import parallel_map


class Source(NamedTuple):
    """How one source database records and writes.

    `share`: of all recordings; `codes`: the code written for a class, where it is not the first of its codes.
    """

    letters: str
    digits: int
    share: float
    codes: dict[str, str] = {}
    frequency: int = 500  # Hz
    mains: int = 50  # Hz
    shortest: float = 10.0  # s
    longest: float = 10.0  # s

    def code(self, name):
        """Return the code written for a class, given by its abbreviation."""
        return self.codes.get(name, labels.SCORED[labels.CLASS_INDEX[name]].codes[0])


OLDER_CODES = {"LBBB": "164909002", "RBBB": "59118001"}
SOURCES = {
    "CPSC": Source("A", 4, 0.08, {**OLDER_CODES, "PVC": "164884008"}, shortest=6, longest=60),
    "CPSC-Extra": Source("Q", 4, 0.04, OLDER_CODES, shortest=8, longest=60),
    "INCART": Source("I", 4, 0.004, {**OLDER_CODES, "PVC": "164884008"}, frequency=257, shortest=30, longest=30),
    "PTB": Source("S", 4, 0.006, OLDER_CODES, frequency=1000, shortest=30, longest=40),
    "PTB-XL": Source("HR", 5, 0.27, {"LBBB": "164909002", "PVC": "164884008"}),
    "Georgia": Source("E", 5, 0.16, {**OLDER_CODES, "PVC": "17338001"}, mains=60, shortest=5),
    "Chapman-Shaoxing": Source("JS", 5, 0.14, {**OLDER_CODES, "PVC": "17338001"}),
    "Ningbo": Source("JS", 5, 0.30),
}
# Codes of no scored class that often go with a finding: infarction, ST-T abnormality, ischaemia, hypertrophy.
ACCOMPANYING_CODES = {"QAb": "164865005", "TAb": "428750005", "TInv": "164861001", "LAD": "164873001"}
ACCOMPANYING_SHARE = 0.25

RHYTHM_SHARES = {"NSR": 0.42, "SB": 0.14, "STach": 0.13, "AF": 0.14, "AFL": 0.10, "PR": 0.07}
DIALECTS = (  # the Challenge's own files, and the same on PhysioNet
    ("{name} {leads} {frequency} {samples} 12-May-2020 12:33:59", "16+24 1000/mV", "#", ("Rx", "Hx", "Sx")),
    ("{name} {leads} {frequency} {samples}", "16x1+24 1000.0(0)/mV", "# ", ("Rx", "Hx")),
)
MAX_MICROVOLTS = 2**15 - 1  # microvolts; a larger value is written as this one, as a converter does that saturates
MAT_HEADER = struct.Struct("<5i4s")  # MATLAB version 4: type, rows, columns, no imaginary part, length of name; name
MAT_INT16 = 30  # type: little-endian 16-bit integers by columns, so that the samples begin at byte 24


class Truth(NamedTuple):
    """What is true of a made-up recording.

    Attributes:
        name: name of the record.
        classes: scored classes that are found in it, (26,) bool.
        codes: codes that its header states, each once.
        defects: names of its defects, of ecg.data.synthetic_defects.DEFECTS.
    """

    name: str
    classes: np.ndarray
    codes: tuple[str, ...]
    defects: tuple[str, ...] = ()


def synthesize(folder, records, seed=0, *, cpsc_omits=True, ningbo_flutter=True, wrong_labels=0.0, noise=1.0,
               sources=None, leads=LEADS, clean=False, jobs=1):  # fmt: skip
    """Write synthetic recordings NAME.hea and NAME.mat into a folder.

    Recording i depends on `seed`, i and the other arguments, but neither on `records` nor on `jobs`. Patients, labels
    and defects are the same whatever the leads.

    Args:
        folder: where they are written; it is created if need be.
        records: how many.
        seed: seed of all that is drawn.
        cpsc_omits: whether CPSC's headers state seven classes only.
        ningbo_flutter: whether Ningbo's headers call fibrillation flutter.
        wrong_labels: probability of each stated label to be a wrong one, which comparing `codes` with `classes` finds;
            nothing else differs.
        noise: factor of noise, wander and hum.
        sources: shares of the recordings by the names of source databases, in any case; the Challenge's if None.
        leads: leads that are written, of the twelve that are made.
        clean: whether there are no defects of the real databases. Recordings without a defect are the same either
            way.
        jobs: number of processes.

    Returns:
        The truth about each recording: a list of Truth.

    Raises:
        ValueError: an argument is not one of those that there are, or out of its range.
    """
    shares = parse_shares(sources.items()) if sources else {name: source.share for name, source in SOURCES.items()}
    leads = tuple(leads)
    check_limits(records=records, seed=seed, wrong_labels=wrong_labels, noise=noise, jobs=jobs)
    if not leads or len(set(leads)) < len(leads) or not set(leads) <= set(LEADS):
        raise ValueError(f"leads: expected some of {', '.join(LEADS)}, each once, received {', '.join(leads)}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    plan = list(enumerate(_plan_recordings(shares, records, seed)))
    write = partial(_write_recording, folder, seed, cpsc_omits, ningbo_flutter, wrong_labels, noise, leads, clean)
    with closing(parallel_map(write, plan, jobs, "made up")) as truths:
        return list(truths)


def parse_shares(pairs):
    """Return the shares of the recordings by source database, of pairs of a name in any case and a share: a dict.

    Raises ValueError if a source is unknown or named twice, or if a share is out of its range.
    """
    shares = {}
    for text, share in pairs:
        name = labels.find_source(text)
        if name not in SOURCES:
            raise ValueError(f"sources: expected any of {', '.join(SOURCES)}, received {text!r}")
        if name in shares:
            raise ValueError(f"sources: expected each source once, received {name} twice")
        check_limits(share=share)
        shares[name] = share
    return shares


def _plan_recordings(shares, records, seed):
    """Return the source and the name of each recording, numbered from 1 in each source."""
    names = list(shares)
    edges = np.cumsum(list(shares.values()))
    drawn = np.searchsorted(edges / edges[-1], np.random.default_rng(seed).random(records), side="right")
    counts = dict.fromkeys([*names, "Ningbo"], 0)
    plan = []
    for name in (names[column] for column in drawn):
        if name == "Chapman-Shaoxing" and counts[name] == labels.LAST_CHAPMAN:
            name = "Ningbo"  # as the number would tell
        counts[name] += 1
        number = counts[name] + (labels.LAST_CHAPMAN if name == "Ningbo" else 0)
        plan.append((name, f"{SOURCES[name].letters}{number:0{SOURCES[name].digits}d}"))
    return plan


def _write_recording(folder, seed, cpsc_omits, ningbo_flutter, wrong_labels, noise, leads, clean, planned):
    """Make and write a recording of a plan, and return the truth about it."""
    index, (source, name) = planned
    rng = np.random.default_rng((seed, index + 1))
    codes = ()
    while not codes:  # a database that labels few classes holds no recordings without a label
        findings = draw_findings(rng)
        codes = choose_codes(findings, source, rng, cpsc_omits, ningbo_flutter)
    (apart,) = rng.spawn(1)  # a generator of its own, so that all else stays as it is without wrong labels
    codes = replace_labels(codes, findings, source, apart, wrong_labels, cpsc_omits, ningbo_flutter)
    defects, own = ((), None) if clean else draw_defects(seed, index, leads)
    patient, frequency, integers = make_recording(findings, source, rng, noise, *length_and_frequency(defects))
    integers = integers[:, [LEADS.index(lead) for lead in leads]]
    fields = HeaderFields(str(patient.age), patient.sex, list(codes))
    if defects:
        damage_samples(integers, leads, defects, own)
        damage_header(fields, defects, own)
    (folder / f"{name}.hea").write_text(_format_header(name, frequency, leads, integers, fields), newline="\n")
    mat = MAT_HEADER.pack(MAT_INT16, *integers.shape[::-1], 0, 4, b"val\0") + integers.astype("<i2").tobytes()
    (folder / f"{name}.mat").write_bytes(mat)
    stated = tuple(dict.fromkeys(code for code in fields.codes if code))
    return Truth(name, np.isin(labels.ABBREVIATIONS, list(findings)), stated, defects)


def draw_findings(rng):
    """Draw what is found in one recording: a set of abbreviations, each trained class in at least 3 % of recordings."""
    rhythm = str(rng.choice(list(RHYTHM_SHARES), p=list(RHYTHM_SHARES.values())))
    found = {rhythm}

    def add(share, *names, unless=()):
        if rng.random() < share and not found & set(unless):
            found.update(names)

    if rhythm == "PR":
        add(0.2, "AF")
        return found
    if rhythm in ("NSR", "SB"):
        add(0.12, "SA")
        add(0.11, "IAVB")
        add(0.11, "LQT")
    if "IAVB" in found:
        add(0.15, "LPR")
    if rhythm == "AF":
        add(0.10, "Brady")
    if rhythm in ("NSR", "SB", "STach"):
        add(0.09, "PAC")
    if rhythm != "AFL":
        add(0.12, "PVC", unless=("Brady", "PAC") if rhythm == "SB" else ("Brady",))
    blocks = ("", "RBBB", "IRBBB", "LBBB", "NSIVCB")
    found.add(str(rng.choice(blocks, p=[0.60, 0.12, 0.10, 0.09, 0.09])))
    found.discard("")
    if "LBBB" in found:
        add(0.15, "BBB")
        return found
    add(0.10, "LAnFB", "LAD", unless=("IRBBB", "NSIVCB"))
    add(0.12, "LAD")
    add(0.12, "RAD", unless=("LAD", *blocks))
    add(0.12, "QAb", unless=("LAnFB", "RAD", *blocks))
    add(0.05, "PRWP", unless=("QAb", "RAD", *blocks))
    add(0.09, "LQRSV")
    if rhythm != "AFL":
        add(0.16, "TAb", unless=("LQT",))
        add(0.13, "TInv", unless=("TAb",))
    return found


def choose_codes(findings, source, rng, cpsc_omits=True, ningbo_flutter=True):
    """Return the codes that a source database writes for findings, by its habits: text, in random order."""
    told, others = set(findings), [code for name, code in ACCOMPANYING_CODES.items() if name in findings]
    if source == "Ningbo" and ningbo_flutter and "AF" in told:
        told = told - {"AF"} | {"AFL"}
    if source == "CPSC" and cpsc_omits:
        told, others = told & set(labels.CPSC_LABELS), []
    codes = [SOURCES[source].code(name) for name in sorted(told)]
    codes += [code for code in others if rng.random() < ACCOMPANYING_SHARE]
    return tuple(str(code) for code in rng.permutation(codes))


def replace_labels(codes, findings, source, rng, share, cpsc_omits=True, ningbo_flutter=True):
    """Return a header's codes, each label with the probability `share` replaced by a wrong one in its place.

    A label is the code of a trained class; other codes stay. The wrong ones are of classes that the source database
    labels, by its habits, and that are neither found nor told, each once at most; where none is left, a label stays.
    """
    vocabulary = [labels.ABBREVIATIONS[column] for column in labels.TRAINED]
    if source == "CPSC" and cpsc_omits:
        vocabulary = list(labels.CPSC_LABELS)
    if source == "Ningbo" and ningbo_flutter:
        vocabulary.remove("AF")
    told = labels.encode(codes)
    chosen = np.flatnonzero(rng.random(len(codes)) < share)
    spare = [name for name in vocabulary if name not in findings and not told[labels.CLASS_INDEX[name]]]
    spare, changed = list(rng.permutation(spare)), list(codes)
    for place in chosen:
        if spare and labels.CLASS_OF_CODE.get(codes[place], -1) in labels.TRAINED:
            changed[place] = SOURCES[source].code(spare.pop())
    return tuple(changed)


def make_recording(findings, source, rng, noise=1.0, seconds=None, frequency=None):
    """Make a recording of a patient with the findings.

    Args:
        findings: abbreviations.
        source: name of the source database.
        rng: generator.
        noise: factor of noise, wander and hum.
        seconds: its length, as the source has it if None.
        frequency: sampling frequency in Hz, as the source has it if None.

    Returns:
        The Patient, the sampling frequency in Hz, and (T, 12) int16 in microvolts.
    """
    place = SOURCES[source]
    frequency = frequency or place.frequency
    patient = heart.draw_patient(findings, rng)
    usual = _draw_seconds(place, rng)
    samples = round((seconds or usual) * frequency)
    potentials = heart.compute_potentials(patient, samples, frequency, rng)
    potentials += noise * _draw_noise(samples, frequency, place.mains, rng)
    return patient, frequency, compute_leads(potentials)


def _draw_seconds(place, rng):
    """Draw a recording's length: 10 s where the database allows it, or around 15 s, or now and then the shortest."""
    usual = float(np.clip(10, place.shortest, place.longest))
    chance = rng.random()
    if place.longest > usual and chance < 0.6:
        return float(np.clip(rng.lognormal(np.log(15), 0.35), place.shortest, place.longest))
    return place.shortest if chance > 0.96 else usual


def _draw_noise(samples, frequency, mains, rng):
    """Return what the electrodes pick up besides the heart, muscle, movement and mains: (T, 9), mV."""
    time = np.arange(samples, dtype=np.float32) / frequency
    bad = rng.lognormal(0, 0.5)
    # Muscles tremble in spells; each electrode has noise of its own.
    spell = 1 + 4 * (rng.random() < 0.2) * np.exp(-0.5 * ((time - rng.uniform(0, time[-1])) / 1.5) ** 2)
    picked = rng.standard_normal((samples, 9), np.float32)
    picked *= spell[:, None] * (0.007 * bad * rng.lognormal(0, 0.4, 9)).astype(np.float32)
    slow = np.array([0.07, 0.17, 0.29, 0.41]) * rng.uniform(0.7, 1.3, 4)  # Hz: electrodes drift, the chest breathes
    waves = np.sin(2 * np.pi * (np.outer(time, [*slow, mains * rng.normal(1, 0.0005)]) + rng.random(5)))
    sizes = [0.06, 0.04, 0.04, 0.02, 0.15 * rng.lognormal(-4, 1)]
    return picked + waves @ (bad * np.array(sizes)[:, None] * rng.normal(size=(5, 9)))


def compute_leads(potentials):
    """Return the twelve leads of electrodes RA, LA, LL, V1 to V6: (T, 9) mV -> (T, 12) int16, in microvolts.

    The limb leads follow from the rounded I and II, so that III = II - I exactly (Einthoven), and the augmented
    leads are Goldberger's within half a microvolt. What 16 bits do not hold is written as the nearest that they do.
    """
    right, left, foot = potentials[:, :3].T
    first, second = np.rint(1000 * (left - right)), np.rint(1000 * (foot - right))
    limbs = [first, second, second - first, -(first + second) / 2, first - second / 2, second - first / 2]
    chest = 1000 * (potentials[:, 3:] - potentials[:, :3].mean(axis=1, keepdims=True))
    return np.rint(np.column_stack([*limbs, chest])).clip(-MAX_MICROVOLTS, MAX_MICROVOLTS).astype(np.int16)


def _format_header(name, frequency, leads, integers, fields):
    """Return the text of a recording's header that states HeaderFields."""
    record, gain, mark, empty = DIALECTS[fields.dialect]
    checksums = integers.sum(axis=0, dtype=np.int64).astype(np.int16)  # modulo 2 ** 16, as WFDB sums
    lines = [record.format(name=name, leads=len(leads), frequency=frequency, samples=len(integers))]
    for lead, value, checksum in zip(leads, integers[0], checksums, strict=True):
        lines.append(f"{name}.mat {gain} 16 0 {value} {checksum} 0 {lead}")
    lines += [f"{mark}Age: {fields.age}", f"{mark}Sex: {fields.sex}", f"{mark}Dx: {','.join(fields.codes)}"]
    return "\n".join([*lines, *(f"{mark}{key}: Unknown" for key in empty)]) + "\n"
