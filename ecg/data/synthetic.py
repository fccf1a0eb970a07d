"""Synthetic recordings in the Challenge's format.

`ecg.data.synthetic_heart` makes the patients. This module models the source databases: names, lengths, sampling
frequencies, header dialects, mains hum and labelling habits. `ecg.data.synthetic_defects` adds the defects of the real
databases.
"""

from collections.abc import Collection, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ecg.data import labels
from ecg.data import synthetic_heart as heart
from ecg.data.leads import LEADS
from ecg.data.record_writer import pack_matrix
from ecg.data.synthetic_defects import HeaderFields, damage_header, damage_samples, draw_defects, length_and_frequency
from ecg.data.synthetic_evidence import Evidence, find_evidence
from ecg.data.synthetic_noise import RECORDERS, draw_noise, draw_realistic_noise
from ecg.data.synthetic_style import draw_burden, make_realistic
from ecg.runtime.executors import ONE_PROCESS, Executor
from ecg.runtime.limits import check_limits


class Source(NamedTuple):
    """How a source database records and writes.

    Attributes:
        letters: Letters that record names begin with.
        digits: Number of digits that follow.
        share: Share of all recordings.
        codes: Code written for a class, if it is not the first of its codes.
        frequency: Sampling frequency in Hz.
        mains: Mains frequency in Hz.
        shortest: Shortest recording in s.
        longest: Longest recording in s.
    """

    letters: str
    digits: int
    share: float
    codes: Mapping[str, str] = {}
    frequency: int = 500
    mains: int = 50
    shortest: float = 10.0
    longest: float = 10.0

    def code(self, name: str) -> str:
        """Return the code written for a class, given by its abbreviation."""
        return self.codes.get(name, labels.SCORED[labels.CLASS_INDEX[name]].codes[0])


OLDER_CODES = {"LBBB": "164909002", "RBBB": "59118001"}
SYNTHETIC_SOURCES = {
    "CPSC": Source("A", 4, 0.08, {**OLDER_CODES, "PVC": "164884008"}, shortest=6, longest=60),
    "CPSC-Extra": Source("Q", 4, 0.04, OLDER_CODES, shortest=8, longest=60),
    "INCART": Source("I", 4, 0.004, {**OLDER_CODES, "PVC": "164884008"}, frequency=257, shortest=30, longest=30),
    "PTB": Source("S", 4, 0.006, OLDER_CODES, frequency=1000, shortest=30, longest=40),
    "PTB-XL": Source("HR", 5, 0.27, {"LBBB": "164909002", "PVC": "164884008"}),
    "Georgia": Source("E", 5, 0.16, {**OLDER_CODES, "PVC": "17338001"}, mains=60, shortest=5),
    "Chapman-Shaoxing": Source("JS", 5, 0.14, {**OLDER_CODES, "PVC": "17338001"}),
    "Ningbo": Source("JS", 5, 0.30),
}
# Unscored codes that often accompany a class: infarction, ST-T abnormality, ischaemia, hypertrophy.
ACCOMPANYING_CODES = {"QAb": "164865005", "TAb": "428750005", "TInv": "164861001", "LAD": "164873001"}
ACCOMPANYING_SHARE = 0.25

RHYTHM_SHARES = {"NSR": 0.42, "SB": 0.14, "STach": 0.13, "AF": 0.14, "AFL": 0.10, "PR": 0.07}
# The Challenge's own header, and PhysioNet's: record line, gain, comment mark, empty comments.
DIALECTS = (
    ("{name} {leads} {frequency} {samples} 12-May-2020 12:33:59", "16+24 1000/mV", "#", ("Rx", "Hx", "Sx")),
    ("{name} {leads} {frequency} {samples}", "16x1+24 1000.0(0)/mV", "# ", ("Rx", "Hx")),
)
MAX_MICROVOLTS = 2**15 - 1  # larger values are clipped to this one, as by a saturated converter


@dataclass(frozen=True)
class SyntheticSettings:
    """What synthetic recordings are like.

    Attributes:
        cpsc_omits: Whether CPSC's headers contain only seven classes, as the real ones do.
        ningbo_flutter: Whether Ningbo's headers call fibrillation flutter, as the real ones do.
        wrong_labels: Probability that a label in a header is replaced by a wrong one. Nothing else changes.
        noise: Factor of noise, wander and hum.
        sources: Shares of the recordings by source database, in any case; None for the Challenge's.
        leads: Leads that are written.
        clean: Whether to omit the defects of the real databases. Recordings without a defect do not change.
        realistic: Whether waves, rates, noise and numbers of findings vary as in real recordings; see
            `ecg.data.synthetic_style`. The default varies them less, so that the findings are easy to see.

    Raises:
        ValueError: A value is invalid or out of range.
    """

    cpsc_omits: bool = True
    ningbo_flutter: bool = True
    wrong_labels: float = 0.0
    noise: float = 1.0
    sources: Mapping[str, float] | None = None
    leads: tuple[str, ...] = LEADS
    clean: bool = False
    realistic: bool = False

    def __post_init__(self) -> None:
        check_limits(wrong_labels=self.wrong_labels, noise=self.noise)
        if not self.leads or len(set(self.leads)) < len(self.leads) or not set(self.leads) <= set(LEADS):
            raise ValueError(f"leads: expected some of {', '.join(LEADS)}, each once, received {', '.join(self.leads)}")


DEFAULT_SETTINGS = SyntheticSettings()


class Truth(NamedTuple):
    """The truth about a synthetic recording.

    Attributes:
        name: Name of the record.
        classes: Scored classes that are present, (26,) bool.
        codes: Distinct codes in its header.
        defects: Names of its defects (ecg.data.synthetic_defects.DEFECTS).
        evidence: Where each class that is present shows, if an interval of the beats shows it
            (ecg.data.synthetic_evidence).
    """

    name: str
    classes: np.ndarray
    codes: tuple[str, ...]
    defects: tuple[str, ...] = ()
    evidence: Mapping[str, Evidence] = {}


def synthesize(
    folder: Path | str,
    records: int,
    seed: int = 0,
    settings: SyntheticSettings = DEFAULT_SETTINGS,
    executor: Executor = ONE_PROCESS,
) -> list[Truth]:
    """Write synthetic recordings NAME.hea and NAME.mat into a folder.

    Recording i depends on `seed`, i and `settings`, but neither on `records` nor on `executor`. Patients, labels and
    defects do not depend on the leads.

    Args:
        folder: Folder for the recordings; created if missing.
        records: Number of recordings.
        seed: Seed of all random draws.
        settings: What the recordings are like.
        executor: Makes the recordings.

    Returns:
        The truth about each recording.

    Raises:
        ValueError: An argument is invalid or out of range.
    """
    check_limits(records=records, seed=seed)
    plan = list(enumerate(plan_recordings(records, seed, settings)))
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    executor.check_shared(folder)
    with closing(executor.map(partial(_write_recording, folder, seed, settings), plan, "synthesized")) as truths:
        return list(truths)


def parse_shares(pairs: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Return the shares of the recordings by source database.

    Args:
        pairs: Name of a source database, in any case, and its share.

    Raises:
        ValueError: A source is unknown or named twice, or a share is out of range.
    """
    shares: dict[str, float] = {}
    for text, share in pairs:
        name = labels.find_source(text)
        if name not in SYNTHETIC_SOURCES:
            raise ValueError(f"sources: expected any of {', '.join(SYNTHETIC_SOURCES)}, received {text!r}")
        if name in shares:
            raise ValueError(f"sources: expected each source once, received {name} twice")
        check_limits(share=share)
        shares[name] = share
    return shares


def plan_recordings(records: int, seed: int, settings: SyntheticSettings) -> list[tuple[str, str]]:
    """Return source and name of each recording, numbered from 1 in each source.

    Args:
        records: Number of recordings.
        seed: Seed of the draws.
        settings: What the recordings are like.

    Raises:
        ValueError: A source is unknown, or a share is out of range.
    """
    default = {name: source.share for name, source in SYNTHETIC_SOURCES.items()}
    shares = parse_shares((settings.sources or default).items())
    names = list(shares)
    edges = np.cumsum(list(shares.values()))
    drawn = np.searchsorted(edges / edges[-1], np.random.default_rng(seed).random(records), side="right")
    counts = dict.fromkeys([*names, "Ningbo"], 0)
    plan = []
    for name in (names[index] for index in drawn):
        if name == "Chapman-Shaoxing" and counts[name] == labels.LAST_CHAPMAN:
            name = "Ningbo"  # the next numbers are Ningbo's
        counts[name] += 1
        number = counts[name] + (labels.LAST_CHAPMAN if name == "Ningbo" else 0)
        plan.append((name, f"{SYNTHETIC_SOURCES[name].letters}{number:0{SYNTHETIC_SOURCES[name].digits}d}"))
    return plan


def _write_recording(folder: Path, seed: int, settings: SyntheticSettings, item: tuple[int, tuple[str, str]]) -> Truth:
    """Make and write a recording of a plan."""
    header, integers, facts = make_recording(seed, settings, item)
    (folder / f"{facts.name}.hea").write_text(header, newline="\n")
    (folder / f"{facts.name}.mat").write_bytes(pack_matrix(integers))
    return facts


def make_recording(
    seed: int, settings: SyntheticSettings, item: tuple[int, tuple[str, str]]
) -> tuple[str, np.ndarray, Truth]:
    """Make a recording of a plan.

    Args:
        seed: Seed of the recordings.
        settings: What the recordings are like.
        item: Index of the recording, and the source and name that `plan_recordings` gave it.

    Returns:
        The header's text, the integers (T, L), and the truth.
    """
    index, (source, name) = item
    rng = np.random.default_rng((seed, index + 1))
    codes: tuple[str, ...] = ()
    while not codes:  # a database that labels few classes holds no recordings without a label
        findings = draw_findings(rng, draw_burden(rng) if settings.realistic else 1.0)
        codes = choose_codes(findings, source, rng, settings)
    (label_rng,) = rng.spawn(1)  # separate, so that wrong labels do not change other draws
    codes = replace_labels(codes, findings, source, label_rng, settings)
    defects, defect_rng = draw_defects(seed, index, settings.leads)
    defects = () if settings.clean else defects
    database, (seconds, other_frequency) = SYNTHETIC_SOURCES[source], length_and_frequency(defects)
    frequency = other_frequency or database.frequency
    patient = heart.draw_patient(findings, rng)
    patient = make_realistic(patient, rng) if settings.realistic else patient
    usual = _draw_seconds(database, rng)
    samples = round((seconds or usual) * frequency)
    potentials, times = heart.compute_potentials(patient, samples, frequency, rng)
    recorder = RECORDERS[source] if settings.realistic else None
    if recorder:
        potentials += settings.noise * draw_realistic_noise(recorder, samples, frequency, database.mains, rng)
    else:
        potentials += settings.noise * draw_noise(samples, frequency, database.mains, rng)
    integers = compute_leads(potentials, recorder.step if recorder else 1.0)[
        :, [LEADS.index(lead) for lead in settings.leads]
    ]
    fields = HeaderFields(str(patient.age), patient.sex, list(codes))
    if defects:
        damage_samples(integers, settings.leads, defects, defect_rng)
        damage_header(fields, defects, defect_rng)
    header = _format_header(name, frequency, settings.leads, integers, fields)
    codes = tuple(dict.fromkeys(code for code in fields.codes if code))
    evidence = find_evidence(findings, times, samples / frequency)
    return header, integers, Truth(name, np.isin(labels.ABBREVIATIONS, list(findings)), codes, defects, evidence)


def draw_findings(rng: np.random.Generator, burden: float = 1.0) -> set[str]:
    """Draw the classes of a recording, each trained class in at least 3 % of them.

    Args:
        rng: Random generator.
        burden: Factor of the probabilities of all findings besides the rhythm, at most 2.
    """
    rhythm = str(rng.choice(list(RHYTHM_SHARES), p=list(RHYTHM_SHARES.values())))
    findings = {rhythm}

    def add(share: float, *names: str, unless: Collection[str] = ()) -> None:
        if rng.random() < share * burden and not findings & set(unless):
            findings.update(names)

    if rhythm == "PR":
        add(0.2, "AF")
        return findings
    if rhythm in ("NSR", "SB"):
        add(0.12, "SA")
        add(0.11, "IAVB")
        add(0.11, "LQT")
    if "IAVB" in findings:
        add(0.15, "LPR")
    if rhythm == "AF":
        add(0.10, "Brady")
    if rhythm in ("NSR", "SB", "STach"):
        add(0.09, "PAC")
    if rhythm != "AFL":
        add(0.12, "PVC", unless=("Brady", "PAC") if rhythm == "SB" else ("Brady",))
    blocks = ("", "RBBB", "IRBBB", "LBBB", "NSIVCB")
    shares = np.array([0.12, 0.10, 0.09, 0.09]) * burden
    findings.add(str(rng.choice(blocks, p=[0.60 + (0.40 - shares.sum()), *shares])))
    findings.discard("")
    if "LBBB" in findings:
        add(0.15, "BBB")
        return findings
    add(0.10, "LAnFB", "LAD", unless=("IRBBB", "NSIVCB"))
    add(0.12, "LAD")
    add(0.12, "RAD", unless=("LAD", *blocks))
    add(0.12, "QAb", unless=("LAnFB", "RAD", *blocks))
    add(0.05, "PRWP", unless=("QAb", "RAD", *blocks))
    add(0.09, "LQRSV")
    if rhythm != "AFL":
        add(0.16, "TAb", unless=("LQT",))
        add(0.13, "TInv", unless=("TAb",))
    return findings


def choose_codes(
    findings: set[str], source: str, rng: np.random.Generator, settings: SyntheticSettings = DEFAULT_SETTINGS
) -> tuple[str, ...]:
    """Return the codes that a source database writes for findings, in random order."""
    written, extra = findings, [code for name, code in ACCOMPANYING_CODES.items() if name in findings]
    if source == "Ningbo" and settings.ningbo_flutter and "AF" in written:
        written = written - {"AF"} | {"AFL"}
    if source == "CPSC" and settings.cpsc_omits:
        written, extra = written & set(labels.CPSC_LABELS), []
    codes = [SYNTHETIC_SOURCES[source].code(name) for name in sorted(written)]
    codes += [code for code in extra if rng.random() < ACCOMPANYING_SHARE]
    return tuple(str(code) for code in rng.permutation(codes))


def replace_labels(
    codes: tuple[str, ...], findings: set[str], source: str, rng: np.random.Generator, settings: SyntheticSettings
) -> tuple[str, ...]:
    """Replace labels of a header by wrong ones.

    Each is replaced with the probability `settings.wrong_labels`. A label is the code of a trained class; other codes
    stay. The wrong labels are distinct classes that the source database labels and that are neither present nor
    labelled. If none is left, a label stays.
    """
    vocabulary = [labels.ABBREVIATIONS[column] for column in labels.TRAINED]
    if source == "CPSC" and settings.cpsc_omits:
        vocabulary = list(labels.CPSC_LABELS)
    if source == "Ningbo" and settings.ningbo_flutter:
        vocabulary.remove("AF")
    labelled = labels.CHALLENGE_CLASSES.encode(codes)
    chosen = np.flatnonzero(rng.random(len(codes)) < settings.wrong_labels)
    unused = [name for name in vocabulary if name not in findings and not labelled[labels.CLASS_INDEX[name]]]
    wrong, replaced = list(rng.permutation(unused)), list(codes)
    for index in chosen:
        if wrong and labels.CLASS_OF_CODE.get(codes[index], -1) in labels.TRAINED:
            replaced[index] = SYNTHETIC_SOURCES[source].code(wrong.pop())
    return tuple(replaced)


def _draw_seconds(source: Source, rng: np.random.Generator) -> float:
    """Draw a length in s: 10 s if possible, about 15 s, or rarely the shortest."""
    usual = float(np.clip(10, source.shortest, source.longest))
    chance = rng.random()
    if source.longest > usual and chance < 0.6:
        return float(np.clip(rng.lognormal(np.log(15), 0.35), source.shortest, source.longest))
    return source.shortest if chance > 0.96 else usual


def compute_leads(potentials: np.ndarray, step: float = 1.0) -> np.ndarray:
    """Compute twelve leads in microvolts (T, 12) int16 from electrodes (T, 9) in mV.

    The electrodes are RA, LA, LL, V1 to V6. The leads I, II and V1 to V6 are multiples of `step` microvolts, rounded.
    The limb leads follow from the rounded I and II, so that III = II - I (Einthoven), exactly if the step is an
    integer. The augmented leads are Goldberger's within half a microvolt. Values beyond 16 bits are clipped.
    """
    right, left, foot = potentials[:, :3].T
    first, second = (step * np.rint(1000 * (end - right) / step) for end in (left, foot))
    limbs = [first, second, second - first, -(first + second) / 2, first - second / 2, second - first / 2]
    chest = 1000 * (potentials[:, 3:] - potentials[:, :3].mean(axis=1, keepdims=True))
    chest = step * np.rint(chest / step)
    return np.rint(np.column_stack([*limbs, chest])).clip(-MAX_MICROVOLTS, MAX_MICROVOLTS).astype(np.int16)


def _format_header(
    name: str, frequency: int, leads: tuple[str, ...], integers: np.ndarray, fields: HeaderFields
) -> str:
    record, gain, mark, unused = DIALECTS[fields.dialect]
    checksums = integers.sum(axis=0, dtype=np.int64).astype(np.int16)  # modulo 2 ** 16, as in WFDB
    lines = [record.format(name=name, leads=len(leads), frequency=frequency, samples=len(integers))]
    for lead, value, checksum in zip(leads, integers[0], checksums, strict=True):
        lines.append(f"{name}.mat {gain} 16 0 {value} {checksum} 0 {lead}")
    lines += [f"{mark}Age: {fields.age}", f"{mark}Sex: {fields.sex}", f"{mark}Dx: {','.join(fields.codes)}"]
    return "\n".join([*lines, *(f"{mark}{key}: Unknown" for key in unused)]) + "\n"
