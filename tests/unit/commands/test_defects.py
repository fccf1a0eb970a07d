import pickle
import shutil

import numpy as np
import pytest
import scipy.io
import wfdb

from ecg.commands import audit as defects
from ecg.commands.audit import audit_recording
from ecg.data.labels import DISCARDED_SOURCES, source_of
from ecg.data.leads import LEADS
from ecg.data.records import find_records, read_record
from ecg.data.resampling import RATE
from ecg.data.synthetic import SyntheticSettings, synthesize

COMMENTS = {"Age": "57", "Sex": "Male", "Dx": "426783006,164865005"}
SAMPLES = 2 * RATE


@pytest.fixture
def heard(tmp_path):
    """A function that writes a recording of two seconds with changes and audits it."""

    def hear(name="E00001", leads=LEADS, samples=SAMPLES, frequency=RATE, checksums=None, change=None, key="val",
             header=None, **comments):  # fmt: skip
        integers = np.random.default_rng(0).normal(0, 300, (len(leads), samples)).astype(np.int16)
        if change:
            change(integers)
        checksums = integers.sum(axis=1) if checksums is None else checksums
        lines = [f"{header or name} {len(leads)} {frequency} {samples}"]
        lines += [
            f"{name}.mat 16+24 1000/mV 16 0 {row[0]} {checksum} 0 {lead}"
            for lead, row, checksum in zip(leads, integers, checksums, strict=True)
        ]
        lines += [f"#{word}: {text}" for word, text in (COMMENTS | comments).items()]
        (tmp_path / f"{name}.hea").write_text("\n".join(lines) + "\n")
        scipy.io.savemat(tmp_path / f"{name}.mat", {key: integers}, format="4")
        return audit_recording(tmp_path, tmp_path / f"{name}.hea")

    return hear


def test_a_sound_recording_has_its_facts_and_no_defect(tmp_path):
    # Clean; tests/unit/data/test_synthetic_defects.py has recordings with defects.
    synthesize(tmp_path, 60, seed=5, settings=SyntheticSettings(clean=True))
    for path in find_records(tmp_path):
        audited = audit_recording(tmp_path, path)
        header, recording = read_record(path)
        assert (audited.path, audited.name, audited.source) == (path.name, path.stem, source_of(path.stem))
        assert audited.seconds == recording.shape[1] / header.sampling_frequency
        assert (audited.frequency, audited.sex, audited.codes) == (header.sampling_frequency, header.sex, header.codes)
        assert audited.age == header.age
        assert audited.leads == " ".join(LEADS)
        discarded = audited.source in DISCARDED_SOURCES
        assert audited.usable == (defects.DISCARDED if discarded else "yes")
        assert audited.digest
        assert dict(audited.defects).keys() == ({defects.DISCARDED} if discarded else set())


def assign(row, column, value):
    return lambda integers: integers.__setitem__((row, column), value)


@pytest.mark.parametrize(
    ("changes", "kind", "detail"),
    [
        ({"Age": "NaN"}, defects.AGE, "NaN"),
        ({"Age": ""}, defects.AGE, ""),
        ({"Age": "300"}, defects.AGE, "300"),
        ({"Sex": "x"}, defects.SEX, "x"),
        ({"Sex": "0"}, defects.SEX, "0"),
        ({"Sex": "?" * 1000}, defects.SEX, "?" * 40 + "..."),
        ({"Dx": ""}, defects.NO_DIAGNOSIS, ""),
        ({"Dx": "Unknown"}, defects.NO_DIAGNOSIS, ""),
        ({"Dx": "164865005"}, defects.NOT_SCORED, "164865005"),
        ({"Dx": "AF,426783006"}, defects.IN_WORDS, "AF"),
        ({"Dx": "426783006,164865005,,426783006"}, defects.REPEATED, "426783006"),
        ({"header": "E9"}, defects.OTHER_NAME, "E9"),
        ({"Dx": "426783006,12345,nonsense"}, defects.UNKNOWN_CODE, "12345 nonsense"),
        ({"leads": (*LEADS, "MLII", "X")}, defects.LEAD_NAME, "MLII, X"),
        ({"leads": (*LEADS, "-aVR", "V7")}, defects.LEAD_NAME, "-aVR, V7"),
        ({"leads": (*LEADS, "C1", "lead ii")}, defects.REPEATED_LEAD, "II, V1, C1, lead ii"),
        ({"leads": LEADS[:5] + LEADS[6:]}, defects.COMPUTED, "aVF"),
        ({"change": assign(7, slice(None), 5)}, defects.FLAT, "V2"),
        ({"change": assign(6, slice(10, 13), -32768)}, defects.INVALID_VALUE, "V1: 3 samples"),
        ({"change": assign(11, 400, 30000)}, defects.SPIKE, "V6: 1 samples"),
        ({"checksums": [1] * 12}, defects.CHECKSUM, " ".join(LEADS)),
        ({"frequency": 100, "samples": 14_500}, defects.LONG, "145.0 s"),
        ({"key": "ecg"}, defects.OTHER_KEY, ""),
    ],
)
def test_one_fault_is_one_kind_of_defect_and_leaves_the_recording_usable(heard, changes, kind, detail):
    recording = heard(**changes)
    assert (recording.usable, recording.defects) == ("yes", ((kind, detail),))
    assert recording.digest


def test_standard_leads_by_other_names_are_no_defect(heard):
    recording = heard(leads=("DI", "Lead II", "MDC_ECG_LEAD_III", *LEADS[3:6], "C1", "c2", "Lead V3", *LEADS[9:]))
    assert (recording.usable, recording.defects, recording.leads) == ("yes", (), " ".join(LEADS))


@pytest.mark.parametrize(
    ("changes", "kind", "reason"),
    [
        ({"leads": LEADS[:11]}, defects.MISSING, "no lead V6"),
        ({"samples": 200}, defects.SHORT, "0.80 s is shorter than 1 s"),
        ({"change": assign(slice(None), slice(None), -32768)}, defects.UNUSABLE, "no sample was recorded"),
    ],
)
def test_fatal_defects_have_the_reason_that_training_gives(heard, changes, kind, reason):
    recording = heard(**changes)
    ((defect, detail),) = recording.defects
    assert (recording.usable, defect, recording.digest) == ("no", kind, None)
    assert reason in detail


def test_unreadable_headers_and_signals_are_different_kinds(heard, tmp_path):
    heard()
    (tmp_path / "E00001.mat").write_bytes(b"")
    recording = audit_recording(tmp_path, tmp_path / "E00001.hea")
    ((kind, reason),) = recording.defects
    assert (kind, recording.usable, recording.digest) == (defects.SIGNAL, "no", None)
    assert reason.startswith("E00001.mat: ")
    assert (recording.frequency, recording.seconds, recording.age) == (RATE, 2, 57)  # as the header says

    (tmp_path / "E00001.hea").write_text("E00001 12 x\n")
    recording = audit_recording(tmp_path, tmp_path / "E00001.hea")
    ((kind, reason),) = recording.defects
    assert (kind, recording.usable, recording.frequency, recording.seconds, recording.codes) == (
        defects.HEADER,
        "no",
        None,
        None,
        (),
    )
    assert "sampling frequency 'x'" in reason


def test_a_discarded_source_is_read_and_need_not_be_usable(heard, tmp_path):
    defect = (defects.DISCARDED, "source PTB is not trained on")
    recording = heard(name="S0001", Age="NaN", change=assign(7, slice(None), 5))
    assert recording.defects == (defect, (defects.FLAT, "V2"), (defects.AGE, "NaN")) and recording.digest
    assert (recording.usable, recording.frequency, recording.seconds) == (defects.DISCARDED, RATE, 2)
    assert recording.codes == ("426783006", "164865005")
    (tmp_path / "S0001.mat").unlink()
    recording = audit_recording(tmp_path, tmp_path / "S0001.hea")
    assert [kind for kind, _ in recording.defects] == [defects.DISCARDED, defects.SIGNAL, defects.AGE]
    (tmp_path / "S0001.hea").write_text("S0001\n")
    recording = audit_recording(tmp_path, tmp_path / "S0001.hea")
    assert recording.usable == defects.DISCARDED and [kind for kind, _ in recording.defects] == [
        defects.DISCARDED,
        defects.HEADER,
    ]


def test_the_gains_of_early_2020_are_warned_of_in_every_source(heard, tmp_path):
    for name, gain in (("E00009", "4880/mV"), ("HR00009", "200/mV"), ("S0009", "2000000/mV")):
        heard(name=name)
        path = tmp_path / f"{name}.hea"
        path.write_text(path.read_text().replace("1000/mV", gain))
        assert (defects.EARLY_GAIN, " ".join(LEADS)) in audit_recording(tmp_path, path).defects


@pytest.mark.filterwarnings("ignore:The inplace keyword in DataFrame:DeprecationWarning")  # wfdb, when it writes
def test_checksums_are_those_that_wfdb_writes(tmp_path):
    signal = np.random.default_rng(0).integers(-2000, 2000, (1000, 12))
    for kind in ("16", "212", "80"):
        wfdb.wrsamp(f"W{kind}", 500, ["mV"] * 12, list(LEADS), d_signal=signal % 200 - 100, fmt=[kind] * 12,
                    adc_gain=[1000.0] * 12, baseline=[0] * 12, write_dir=str(tmp_path))  # fmt: skip
        assert defects.CHECKSUM not in dict(audit_recording(tmp_path, tmp_path / f"W{kind}.hea").defects)
    data = bytearray((tmp_path / "W16.dat").read_bytes())
    data[2 * (12 * 500 + 7)] ^= 1  # sample 500 of V2
    (tmp_path / "W16.dat").write_bytes(data)
    assert dict(audit_recording(tmp_path, tmp_path / "W16.hea").defects)[defects.CHECKSUM] == "V2"


def test_missing_checksums_do_not_differ(heard, tmp_path):
    assert heard(checksums=[0] * 12).defects == ()
    heard()
    text = (tmp_path / "E00001.hea").read_text()
    lines = [" ".join(line.split()[:3]) if ".mat" in line else line for line in text.splitlines()]
    (tmp_path / "E00001.hea").write_text("\n".join(lines))
    assert defects.CHECKSUM not in dict(audit_recording(tmp_path, tmp_path / "E00001.hea").defects)


def test_the_result_does_not_grow_with_the_signal(heard):
    short, long = (len(pickle.dumps(heard(samples=samples))) for samples in (SAMPLES, 100 * RATE))
    assert abs(long - short) < 20 and long < 1000


def test_a_nested_name_includes_its_path(heard, tmp_path):
    heard()
    (tmp_path / "below").mkdir()
    for ending in (".hea", ".mat"):
        shutil.move(tmp_path / f"E00001{ending}", tmp_path / "below")
    assert audit_recording(tmp_path, tmp_path / "below" / "E00001.hea").path == "below/E00001.hea"


def test_constant_leads_of_real_recordings_are_found(real_data):
    train = real_data / "train"
    for name in ("JS45542", "JS45544", "JS45551", "JS20004", "JS20008"):
        recording = audit_recording(train, train / f"{name}.hea")
        _, integers = read_record(train / f"{name}.hea")
        constant = [lead for lead, row in zip(LEADS, integers, strict=True) if np.ptp(row) == 0]
        assert constant and dict(recording.defects)[defects.FLAT] == " ".join(constant)
