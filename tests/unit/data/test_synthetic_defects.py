from collections import Counter

import numpy as np
import pytest

from ecg.commands import audit as audited
from ecg.data import labels, synthetic
from ecg.data.headers import read_header, read_header_text
from ecg.data.leads import LEAD_SETS, LEADS
from ecg.data.preprocessing import FLAT, INVALID_VALUE, LARGEST, SPIKE, preprocess
from ecg.data.records import read_record
from ecg.data.synthetic_defects import (
    CONSTANT,
    DEFECTS,
    GUARANTEED_WITHIN,
    MARK,
    UNKNOWN_AGES,
    UNKNOWN_CODES,
    HeaderFields,
    choose_targets,
    damage_header,
    damage_samples,
    draw_defects,
)

NAMES = [defect.name for defect in DEFECTS]
SPIKES = [name for name in NAMES if name.startswith("spike")]
DIALECT = "PhysioNet's header"


@pytest.fixture(scope="module")
def damaged_folder(tmp_path_factory):
    """A folder of 60 recordings of all sources, and their true facts."""
    folder = tmp_path_factory.mktemp("dirty")
    return folder, synthetic.synthesize(folder, GUARANTEED_WITHIN, seed=11)


@pytest.fixture(scope="module")
def clean_folder(tmp_path_factory):
    """The same recordings without defects, and their true facts."""
    folder, settings = tmp_path_factory.mktemp("clean"), synthetic.SyntheticSettings(clean=True)
    return folder, synthetic.synthesize(folder, GUARANTEED_WITHIN, seed=11, settings=settings)


@pytest.mark.parametrize(
    "seeds", [[*range(40), 2**32 - 1], pytest.param(range(40, 200), marks=pytest.mark.slow)], ids=["some", "others"]
)
def test_any_sixty_recordings_have_at_least_one_of_each_kind(seeds):
    for seed in seeds:
        for leads in LEAD_SETS.values():
            drawn = [draw_defects(seed, index, leads)[0] for index in range(GUARANTEED_WITHIN)]
            seen = Counter(name for names in drawn for name in names)
            assert set(seen) == set(NAMES)
            # Both dialects occur: some recordings have the Challenge's own.
            assert seen[DIALECT] < GUARANTEED_WITHIN


QUICK_SOURCES = ("CPSC", "Georgia", "PTB-XL")  # of 10 s or little more, each with another lead set


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK_SOURCES))
        for name in synthetic.SYNTHETIC_SOURCES
    ],
)
def test_sixty_recordings_of_one_source_have_each_kind_too(tmp_path, source):
    count = len(LEAD_SETS) + len(source)  # another lead set and another seed for each
    leads = list(LEAD_SETS.values())[count % len(LEAD_SETS)]
    patients = synthetic.synthesize(
        tmp_path, GUARANTEED_WITHIN, seed=count, settings=synthetic.SyntheticSettings(sources={source: 1}, leads=leads)
    )
    assert {name for patient in patients for name in patient.defects} == set(NAMES)
    for patient in patients:
        check_defects(tmp_path, patient, leads)


def test_kinds_are_drawn_at_their_rates():
    count = 40_000
    drawn = (draw_defects(3, GUARANTEED_WITHIN + index)[0] for index in range(count))
    seen = Counter(name for names in drawn for name in names)
    for defect in DEFECTS:
        deviation = np.sqrt(count * defect.rate * (1 - defect.rate))
        assert abs(seen[defect.name] - count * defect.rate) < 4 * deviation + 1, defect.name


def test_clean_recordings_have_none_and_recordings_without_a_defect_are_the_same(damaged_folder, clean_folder):
    folder, patients = damaged_folder
    without_defects, clean_patients = clean_folder
    free = 0
    for patient, clean_patient in zip(patients, clean_patients, strict=True):
        assert (patient.name, clean_patient.defects) == (clean_patient.name, ())
        np.testing.assert_array_equal(patient.classes, clean_patient.classes)
        header, integers = read_record(without_defects / f"{patient.name}.hea")
        source = synthetic.SYNTHETIC_SOURCES[labels.source_of(patient.name)]
        assert header.sampling_frequency == source.frequency and not np.isnan(header.age) and header.sex != "Unknown"
        assert source.shortest - 0.01 <= header.samples / source.frequency <= source.longest + 0.01
        assert np.abs(integers.astype(int)).max() < 1000 * LARGEST and np.ptp(integers, axis=1).min() > 0
        text = read_header_text(without_defects / f"{patient.name}.hea")
        assert "\n#Dx: " in text and ",," not in text and ",\n" not in text
        assert not preprocess(header, integers, LEADS).repairs
        if not patient.defects:
            free += 1
            assert patient.codes == clean_patient.codes
            for suffix in (".hea", ".mat"):
                name = f"{patient.name}{suffix}"
                assert (folder / name).read_bytes() == (without_defects / name).read_bytes()
    assert free > 10


def test_header_defects_leave_the_signal_clean(damaged_folder, clean_folder):
    folder, patients = damaged_folder
    without_defects, _ = clean_folder
    of_header = set(NAMES[NAMES.index("age unknown") : NAMES.index("5 s")]) | {DIALECT}
    chosen = [patient for patient in patients if patient.defects and set(patient.defects) <= of_header]
    assert len(chosen) >= len(of_header)
    for patient in chosen:
        name = f"{patient.name}.mat"
        assert (folder / name).read_bytes() == (without_defects / name).read_bytes()


def find_repairs(header, integers, leads):
    """Return the repairs of a recording by kind: the leads and the count."""
    return {repair.kind: (repair.leads, repair.count) for repair in preprocess(header, integers, leads).repairs}


def check_defects(folder, patient, leads=LEADS):
    """Check that exactly a recording's defects are found by reader and audit."""
    path = folder / f"{patient.name}.hea"
    header, integers = read_record(path)
    integers = integers.astype(int)
    text, names = read_header_text(path), set(patient.defects)
    seconds, source = (
        integers.shape[1] / header.sampling_frequency,
        synthetic.SYNTHETIC_SOURCES[labels.source_of(patient.name)],
    )
    repairs = find_repairs(header, integers, leads)
    assert repairs.keys() == {
        kind
        for kind, seen in (
            (FLAT, CONSTANT in names),
            (INVALID_VALUE, "marked samples" in names),
            (SPIKE, bool(names & set(SPIKES))),
        )
        if seen
    }
    spiked = np.abs(integers - np.median(integers, axis=1, keepdims=True)) > 1000 * LARGEST
    spiked &= integers != MARK
    assert spiked[:, 0].any() == ("spike at the first sample" in names)
    assert spiked[:, -1].any() == ("spike at the last sample" in names)
    assert spiked[:, 1:-1].any() == ("spike at inner samples" in names)
    if FLAT in repairs:
        assert (
            1 <= repairs[FLAT][1] <= max(1, len(leads) - 1)
            and repairs[FLAT][1] == (np.ptp(integers, axis=1) == 0).sum()
        )
    for kind in repairs.keys() & {INVALID_VALUE, SPIKE}:
        assert repairs[kind][1] < integers.shape[1] / 20 and len(repairs[kind][0]) == 1
    assert np.isnan(header.age) == ("age unknown" in names)
    assert (header.sex == "Unknown") == ("sex unknown" in names)
    assert header.codes == patient.codes
    assert (",," in text) == ("duplicated comma" in names)
    assert (",\n" in text) == ("trailing comma" in names or ("duplicated comma" in names and len(patient.codes) == 1))
    assert ("\n# Dx: " in text) == (DIALECT in names)
    assert bool(set(header.codes) & set(UNKNOWN_CODES)) == ("unknown code" in names)
    for name in names & {"5 s", "30 s", "144 s"}:
        assert len(names & {"5 s", "30 s", "144 s"}) > 1 or round(seconds) == int(name.removesuffix(" s"))
    for name in names & {"257 Hz", "1000 Hz"}:
        assert len(names & {"257 Hz", "1000 Hz"}) > 1 or header.sampling_frequency == int(name.removesuffix(" Hz"))
    if not names & {"257 Hz", "1000 Hz"}:
        assert header.sampling_frequency == source.frequency
    if leads != LEADS:
        return  # an audit looks for twelve leads
    kinds = {kind for kind, _ in audited.audit_recording(folder, path).defects}
    expected = {
        FLAT: CONSTANT,
        INVALID_VALUE: "marked samples",
        audited.AGE: "age unknown",
        audited.SEX: "sex unknown",
        audited.REPEATED: "repeated code",
        audited.UNKNOWN_CODE: "unknown code",
    }
    for kind, name in expected.items():
        assert (kind in kinds) == (name in names), (kind, patient)
    assert (SPIKE in kinds) == bool(names & set(SPIKES))
    assert audited.CHECKSUM not in kinds and not kinds & set(audited.FATAL)


def test_each_kind_is_recognised_by_reader_preprocessing_and_audit(damaged_folder):
    folder, patients = damaged_folder
    assert {name for patient in patients for name in patient.defects} == set(NAMES)
    for patient in patients:
        check_defects(folder, patient)
        assert audited.audit_recording(folder, folder / f"{patient.name}.hea").usable != "no"


def test_two_leads_have_the_patients_labels_and_defects_of_twelve(damaged_folder, tmp_path):
    folder, patients = damaged_folder
    for twelve, two in zip(
        patients,
        synthetic.synthesize(tmp_path, 60, seed=11, settings=synthetic.SyntheticSettings(leads=LEAD_SETS[2])),
        strict=True,
    ):
        assert (twelve.name, twelve.codes, twelve.defects) == (two.name, two.codes, two.defects)
        headers = [read_header(data / f"{two.name}.hea") for data in (folder, tmp_path)]
        facts = [
            (header.age, header.sex, header.codes, header.samples, header.sampling_frequency) for header in headers
        ]
        np.testing.assert_equal(*facts)
        check_defects(tmp_path, two, LEAD_SETS[2])


def test_a_single_lead_never_becomes_constant(tmp_path):
    patients = synthetic.synthesize(
        tmp_path, GUARANTEED_WITHIN, seed=11, settings=synthetic.SyntheticSettings(leads=("V1",))
    )
    assert {name for patient in patients for name in patient.defects} == set(NAMES) - {CONSTANT}
    for patient in patients:
        assert len(np.unique(read_record(tmp_path / f"{patient.name}.hea")[1])) > 1


@pytest.mark.parametrize("leads", [*LEAD_SETS.values(), ("V1", "V2"), LEADS[6:]])
def test_all_defects_together_damage_less_than_a_twentieth_of_a_lead(leads):
    rng = np.random.default_rng(4)
    for _ in range(200):
        integers = rng.integers(-1000, 1000, (round(5 * 257), len(leads))).astype(np.int16)
        before = integers.copy()
        damage_samples(integers, leads, NAMES, rng)
        constant = np.ptp(integers, axis=0) == 0
        assert 1 <= constant.sum() < len(leads)
        assert (integers[:, ~constant] != before[:, ~constant]).sum(axis=0).max() < len(integers) / 20
        changed = (integers != before)[:, ~constant].any(axis=1)
        assert changed[0] and changed[-1] and (integers == MARK).any() and (np.abs(integers[1:-1, :]) > 20_000).any()


def test_chest_leads_become_constant_if_there_are_some():
    rng = np.random.default_rng(5)
    chosen = [choose_targets(LEADS, rng) for _ in range(300)]
    assert {len(constant) for _, constant in chosen} == {1, 2, 3, 4, 5, 6}
    assert {column for _, constant in chosen for column in constant} == set(range(6, 12))
    assert {lead for lead, _ in chosen} == set(range(12))
    assert not any(lead in constant for lead, constant in chosen)
    assert {choose_targets(("I", "II"), rng) for _ in range(50)} == {(0, (1,)), (1, (0,))}


@pytest.mark.parametrize("codes", [["1"], ["1", "2"], ["1", "2", "3"]])
def test_headers_state_diagnoses_with_commas_too_many(codes):
    rng = np.random.default_rng(6)
    for _ in range(20):
        written = {}
        for name in ("duplicated comma", "trailing comma"):
            fields = HeaderFields("50", "Male", list(codes))
            damage_header(fields, [name], rng)
            written[name] = ",".join(fields.codes)
            assert [code for code in fields.codes if code] == codes
        assert ",," in written["duplicated comma"] and not written["duplicated comma"].startswith(",")
        assert written["trailing comma"] == f"{','.join(codes)},"


def test_the_table_is_sound():
    assert len(set(NAMES)) == len(NAMES) < GUARANTEED_WITHIN
    for defect in DEFECTS:
        assert 0 < defect.rate < 1
    assert {labels.code_status(code) for code in UNKNOWN_CODES} == {"unknown"}


def test_unknown_codes_and_ages_are_those_of_real_headers(real_data):
    texts = [path.read_text() for path in (real_data / "train").glob("*.hea")]
    assert any(code in text for code in UNKNOWN_CODES for text in texts)
    for age in UNKNOWN_AGES:
        assert any(f"#Age: {age}\n" in text for text in texts)
    tables = [path.read_text() for path in (real_data / "challenge").glob("*.csv")]
    assert len(tables) == 3 and not any(code in table for code in UNKNOWN_CODES for table in tables)
