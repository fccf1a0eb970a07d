import csv
import logging

import numpy as np
import pytest

from ecg.commands.convert import PATIENTS, TABLE, convert
from ecg.data.hospital_formats import HospitalFormatError, read_hospital_file
from ecg.data.labels import code_of
from ecg.data.records import SignalError, find_header, find_records, read_record, require_records
from ecg.data.unread_files import name_format
from ecg.runtime.executors import ONE_PROCESS
from tests.device_files import FORMATS, HIDDEN, write_ishne
from tests.hospital_files import FREQUENCY, LEADS, MILLIVOLTS, NAMES, STATEMENTS, WRITERS, aecg_xml, muse_xml


def read_rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


ALL_FORMATS = (*WRITERS, *FORMATS)


@pytest.fixture
def hospital_file(tmp_path):
    """Write a file of a format, whose name is that of its patient."""

    def write(kind):
        writer, ending, leads = WRITERS[kind] if kind in WRITERS else FORMATS[kind][:3]
        path = tmp_path / f"{NAMES[0]}_{kind.replace(' ', '')}{ending}"
        return path, writer(path), leads

    return write


@pytest.mark.parametrize("kind", ALL_FORMATS)
def test_a_record_has_the_millivolts_of_the_file(kind, hospital_file, tmp_path):
    path, step, leads = hospital_file(kind)
    assert name_format(path) == kind.split(",")[0]
    assert convert([path], tmp_path / "out", executor=ONE_PROCESS)
    (header_path,) = find_records(tmp_path / "out")
    header, samples = read_record(header_path)
    assert (header.lead_names, header.sampling_frequency, samples.dtype) == (leads, FREQUENCY, np.int16)
    expected = MILLIVOLTS[:, [LEADS.index(lead) for lead in leads]]
    gains, baselines = (np.array([getattr(lead, name) for lead in header.leads]) for name in ("gain", "baseline"))
    # pyedflib cuts off digits, and zero lies between two of its integers.
    steps = 1.51 if kind == "EDF" else 0.51
    np.testing.assert_allclose((samples.T - baselines) / gains, expected, atol=steps * step)
    assert header.sex == (FORMATS[kind].sex if kind in FORMATS else "Female")
    if kind in FORMATS:
        assert header.age == FORMATS[kind].age or (FORMATS[kind].age is None and np.isnan(header.age))
    if kind.startswith(("DICOM", "GE MUSE XML", "SCP-ECG", "Philips", "Mortara")):
        assert header.age == 63 and header.codes == (code_of("NSR"), code_of("IAVB"))


def test_a_fault_of_a_recorder_is_no_value(tmp_path):
    step = write_ishne(tmp_path / "a.ecg", fault=True)
    assert convert([tmp_path / "a.ecg"], tmp_path / "out", executor=ONE_PROCESS)
    (header_path,) = find_records(tmp_path / "out")
    header, samples = read_record(header_path)
    assert (samples[1, :7] == np.iinfo(samples.dtype).min).all() and samples.dtype == np.int16
    rest = (samples[1, 7:] - header.leads[1].baseline) / header.leads[1].gain
    np.testing.assert_allclose(rest, MILLIVOLTS[7:, 1], atol=0.51 * step)


@pytest.mark.parametrize("change", [None, 0, 2500, 30_000, 2000])
def test_an_ishne_header_may_count_the_samples_of_a_lead_or_of_all(change, tmp_path):
    write_ishne(tmp_path / "a.ecg")
    if change is not None:
        content = bytearray((tmp_path / "a.ecg").read_bytes())
        content[14:18] = change.to_bytes(4, "little")
        (tmp_path / "a.ecg").write_bytes(content)
    assert read_hospital_file(tmp_path / "a.ecg").integers.shape == (2500, 12)


def test_a_12_lead_recording_of_kardia_gives_a_clear_error(tmp_path):
    (tmp_path / "a.json").write_text('{"recordedAt": "2024-01-02T03:04:05Z", "data12L": {}}')
    with pytest.raises(HospitalFormatError, match="Kardia 12L recordings are not supported") as caught:
        read_hospital_file(tmp_path / "a.json")
    assert caught.value.reason == "damaged Kardia JSON"


@pytest.mark.parametrize("kind", ALL_FORMATS)
def test_no_name_of_a_patient_reaches_the_output_or_the_log(kind, hospital_file, tmp_path, caplog, capfd):
    path, _, _ = hospital_file(kind)
    broken = path.with_name(f"{NAMES[1]}_broken{path.suffix}")
    broken.write_bytes(path.read_bytes()[:-2000])
    with caplog.at_level(logging.DEBUG):
        convert([path, broken], tmp_path / "out", executor=ONE_PROCESS)
    texts = [caplog.text, *capfd.readouterr()]
    for file in (tmp_path / "out").iterdir():
        texts += [file.name, file.read_bytes().decode("latin-1")]
    for text in texts:
        assert not any(name.casefold() in text.casefold() for name in HIDDEN)
    first, second = read_rows(tmp_path / "out" / TABLE)
    assert first["file"] == "file 1" and first["reason"] == "" and second["file"] == "file 2"


def test_with_identity_files_keep_their_names(hospital_file, tmp_path):
    path, _, _ = hospital_file("GE MUSE XML")
    namesake = tmp_path / "below" / path.name
    namesake.parent.mkdir()
    namesake.write_text(muse_xml().replace("<PatientAge>63", "<PatientAge>64"), encoding="latin-1")
    assert convert([path, namesake], tmp_path / "out", executor=ONE_PROCESS, keep_identity=True)
    assert [file.stem for file in find_records(tmp_path / "out")] == [path.stem, f"{path.stem}_2"]
    assert [row["file"] for row in read_rows(tmp_path / "out" / TABLE)] == [str(path), str(namesake)]


def test_the_tables_list_what_is_lost_copies_and_patients(hospital_file, tmp_path, caplog):
    files = [hospital_file(kind)[0] for kind in WRITERS]
    copy = tmp_path / "copy.xml"
    copy.write_bytes(files[2].read_bytes())
    text = tmp_path / "notes.txt"
    text.write_text("no recording")
    with caplog.at_level(logging.INFO):
        assert not convert([*files, copy, text, tmp_path / "missing.dcm"], tmp_path / "out", executor=ONE_PROCESS)
    rows = read_rows(tmp_path / "out" / TABLE)
    assert [row["reason"] for row in rows] == [
        "", "", "", "", "the same as file 3", "not in a format that is known, or damaged",
        "cannot be read: No such file or directory",
    ]  # fmt: skip
    assert rows[0]["statements without a code"] == STATEMENTS[1]
    assert "leads without a unit of volts: Resp" in rows[1]["not carried over"]
    assert "time of the recording" in rows[0]["not carried over"]
    assert (rows[2]["diagnoses"], rows[2]["leads"], rows[2]["seconds"]) == ("NSR IAVB", "I II V1 V2 V3 V4 V5 V6", "5.0")
    patients = {row["record"]: row["patient"] for row in read_rows(tmp_path / "out" / PATIENTS)}
    assert list(patients) == [row["record"] for row in rows[:4]]
    assert patients[rows[0]["record"]] == patients[rows[2]["record"]] == "1"
    assert "5 of 7 files converted: 2 GE MUSE XML" in caplog.text
    assert f"1 statement without a code: '{STATEMENTS[1]}' (3)" in caplog.text


def test_a_folder_is_converted_with_what_lies_below(hospital_file, tmp_path):
    path, _, _ = hospital_file("HL7 aECG")
    folder = tmp_path / "archive" / "2024"
    folder.mkdir(parents=True)
    path.rename(folder / "a.xml")
    (folder / "B0001.hea").write_text("B0001 1 500 10\n")
    assert convert([tmp_path / "archive"], tmp_path / "out", executor=ONE_PROCESS)
    with pytest.raises(FileNotFoundError, match="no file in it"):
        convert([tmp_path / "out" / "nothing"] and [make_empty(tmp_path)], tmp_path / "out", executor=ONE_PROCESS)


def make_empty(folder):
    (folder / "empty").mkdir()
    return folder / "empty"


def bomb():
    levels = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12))
    return f'<!DOCTYPE RestingECG [<!ENTITY a0 "ha">{levels}]>'


@pytest.mark.parametrize("xml", [muse_xml(), aecg_xml()], ids=["muse", "aecg"])
@pytest.mark.parametrize("doctype, entity", [
    (bomb(), "&a11;"), ('<!DOCTYPE RestingECG [<!ENTITY x SYSTEM "file:///etc/passwd">]>', "&x;"),
])  # fmt: skip
def test_hostile_xml_is_refused(xml, doctype, entity, tmp_path):
    start = xml.index("?>") + 2
    attack = xml[:start] + doctype + xml[start:].replace(NAMES[0], entity)
    (tmp_path / "a.xml").write_text(attack)
    with pytest.raises(HospitalFormatError, match="a.xml: damaged"):
        read_hospital_file(tmp_path / "a.xml")


@pytest.mark.parametrize("kind", ALL_FORMATS)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.9, 0.999])
def test_a_truncated_file_gives_one_clear_error(kind, share, hospital_file):
    path, _, _ = hospital_file(kind)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    if kind == "EDF" and share > 0.1:  # whole blocks are left, which is said
        assert "only" in " ".join(read_hospital_file(path).lost)
        return
    with pytest.raises(HospitalFormatError) as caught:
        read_hospital_file(path)
    assert f"damaged {kind.split(',')[0]}" in caught.value.reason and NAMES[0] not in caught.value.reason


def test_a_lead_with_values_between_integers_keeps_them(tmp_path):
    from ecgdatakit import ECGRecord, Lead

    from ecg.data.hospital_formats import convert_record

    samples = np.array([0.0, 0.12345, np.nan, -2.5])
    lead = Lead("II", samples, 500, 1.0, "mV", units="mV", is_raw=False)
    raw = Lead("V1", np.array([0.0, 1e6, 5.0, 7.0]), 500, 0.5, "uV", offset=3.0)
    recording = convert_record("x", ECGRecord(leads=[lead, raw]))
    assert recording.integers.dtype == np.int32
    gains = np.array([scale.gain for scale in recording.leads])
    baselines = np.array([scale.baseline for scale in recording.leads])
    millivolts = np.where(recording.integers == -(2**31), np.nan, (recording.integers - baselines) / gains)
    np.testing.assert_allclose(millivolts[:, 0], samples, atol=6e-6)
    np.testing.assert_allclose(millivolts[:, 1], (np.array([0.0, 1e6, 5.0, 7.0]) * 0.5 + 3) / 1000, rtol=1e-12)


def test_leads_that_differ_in_frequency_are_named():
    from ecgdatakit import ECGRecord, Lead

    from ecg.data.hospital_formats import convert_record

    leads = [Lead(name, np.zeros(100), rate, 1.0, "uV") for name, rate in (("I", 500), ("II", 500), ("V1", 250))]
    recording = convert_record("x", ECGRecord(leads=leads))
    assert [scale.name for scale in recording.leads] == ["I", "II"]
    assert recording.lost == ("leads of another sampling frequency or length: V1",)
    with pytest.raises(HospitalFormatError, match="none of 1 leads is in volts: Resp"):
        convert_record("x", ECGRecord(leads=[Lead("Resp", np.zeros(9), 500)]))


@pytest.mark.parametrize("kind", ALL_FORMATS)
def test_a_file_that_is_met_elsewhere_is_named_with_the_command_that_converts_it(kind, hospital_file, tmp_path):
    path, _, _ = hospital_file(kind)
    folder = tmp_path / "data" / "below"
    folder.mkdir(parents=True)
    name = f"a{path.suffix.upper()}"
    path.rename(folder / name)
    hint = f"{kind.split(',')[0]}: `python -m ecg convert` makes a WFDB record of it"
    with pytest.raises(FileNotFoundError, match=f"no header .*; below/{name} is {hint}"):
        require_records(tmp_path / "data")
    with pytest.raises(SignalError, match=f"{name}: {hint}"):
        find_header(folder / name)
    (folder / "B0001.hea").write_text("B0001 1 500 10\n")
    excluded = []
    find_records(tmp_path / "data", excluded)
    assert excluded == [(f"below/{name}", hint)]
