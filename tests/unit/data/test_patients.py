"""Tables of patients: what is read, what is refused with its line, and what the log reports."""

import csv
import io
import logging

import numpy as np
import pytest
from helpers import capture_log
from hypothesis import given, settings
from hypothesis import strategies as st

from ecg.data.headers import RecordError
from ecg.data.patients import (
    PatientRow,
    add_patients,
    count_patients,
    load_patients,
    number_groups,
    number_patients,
    read_patient_rows,
    record_names,
)
from ecg.data.records import find_records
from ecg.data.resampling import DEFAULT_PREPROCESSING
from ecg.data.wave_peaks import intersect_stores

NAMES = ["A0001", "a/HR01", "b/HR01", "b/HR02"]


@pytest.fixture
def write_table(tmp_path):
    def write(content):
        path = tmp_path / "groups.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.mark.parametrize(
    "content",
    [
        "record,patient\nA0001,one\nb/HR02,two\n",
        "record,patient\nA0001,one\nb/HR02,two",
        "\ufeffrecord,patient\r\nA0001,one\r\nb/HR02,two\r\n",
        "record;patient\r\nA0001;one\r\nb/HR02;two\r\n",
        "record\tpatient\rA0001\tone\rb/HR02\ttwo\r",
        '"record","patient"\n"A0001","one"\n"b/HR02","two"\n',
        " Record , PATIENT \n A0001 , one \n b/HR02 , two \n",
        "patient;age, years;record;;\r\none;50;A0001;;\r\ntwo;;b/HR02;;\r\n",
        "sep=;\r\nrecord;patient\r\nA0001;one\r\nb/HR02;two\r\n",
        '\ufeff"SEP=,"\nrecord,patient\nA0001,one\nb/HR02,two\n',
    ],
)
def test_all_that_spreadsheets_write_is_the_same_table(write_table, content):
    rows, first = read_patient_rows(write_table(content)), 2 + ("sep=" in content.casefold())
    assert [row[1:] for row in rows] == [("A0001", "one"), ("b/HR02", "two")]
    assert [row.line for row in rows] == [first, first + 1]


def test_empty_rows_are_skipped_and_lines_are_those_of_the_file(write_table):
    rows = read_patient_rows(write_table("record;patient\n\n;;\nA0001;one\n \nHR02;two\n"))
    assert rows == [PatientRow(4, "A0001", "one"), PatientRow(6, "HR02", "two")]


CELLS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@settings(deadline=None)
@given(st.lists(st.tuples(CELLS, CELLS), max_size=8), st.sampled_from(",;\t"), st.sampled_from(["\n", "\r\n"]))
def test_what_the_csv_module_writes_is_read_again(tmp_path_factory, pairs, delimiter, end):
    path = tmp_path_factory.getbasetemp() / "written.csv"
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerows([("record", "patient"), *pairs])
    path.write_bytes(text.getvalue().encode())
    stripped = [(record.strip(), patient.strip()) for record, patient in pairs]
    if any(bool(record) != bool(patient) for record, patient in stripped):
        with pytest.raises(RecordError, match="written.csv, line [0-9]+: no (record|patient)"):
            read_patient_rows(path)
    else:
        assert [row[1:] for row in read_patient_rows(path)] == [pair for pair in stripped if any(pair)]


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_other_content_is_refused_with_the_line(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "other.csv"
    for start in (b"", b"record,patient\n"):
        path.write_bytes(start + content)
        try:
            rows = read_patient_rows(path)
        except RecordError as error:
            assert str(error).startswith(f"{path}, line ")
        else:
            assert all(row.record and row.patient for row in rows)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "line 1: expected the columns record and patient, each once, received an empty file"),
        ("sep=;\nrecord;person\n", "line 2: expected the columns .* received 'record;person'"),
        ("sep=;\nrecord;patient\nA0001;\n", "line 3: no patient"),
        ("A0001,one\n", "line 1: expected the columns .* received 'A0001,one'"),
        ("record,person\nA0001,one\n", "line 1: expected the columns .* received 'record,person'"),
        ("record,patient,patient\n", "line 1: expected the columns"),
        ("record,patient\nA0001,one\nA0002,\n", "line 3: no patient"),
        ("record,patient\nA0001,one\n\n,two\n", "line 4: no record"),
        ("record,patient\nA0001\n", "line 2: expected 2 values, received 1"),
        ("record,patient\nA0001,1,5\n", "line 2: expected 2 values, received 3"),
        ('record,patient\nA0001,one\n"A0002,two\n', "line 3: unexpected end of data"),
        (b"record,patient\nA0001,one\nA0002,M\xfcller\n", "line 3: not UTF-8, byte 0xfc"),
        ("record,patient\nA0001,one\n".encode("utf-16"), "line 1: not UTF-8, byte 0xff"),
        ("record,patient\nA0001,one\nHR02,two\nA0001.hea,two\n",
         "line 4: A0001.hea is of patient two, but in line 2 of patient one"),
        ("record,patient\nA0001,one\nHR01,two\n",
         "line 3: HR01 is the name of 2 recordings, a/HR01, b/HR01; give the path"),
        ("record,patient\n", "lists none of 4 recordings, such as A0001"),
        ("record,patient\nB1,one\n", "lists none of 4 recordings"),
    ],
)  # fmt: skip
def test_a_table_that_is_wrong_is_refused_with_file_line_and_reason(write_table, content, message):
    with pytest.raises(RecordError, match=f"groups.csv(, |: ){message}"):
        load_patients(write_table(content), NAMES)


def test_a_table_that_cannot_be_read_is_refused_with_its_name(tmp_path):
    with pytest.raises(RecordError, match="missing.csv: cannot be read: No such file"):
        load_patients(tmp_path / "missing.csv", NAMES)
    with pytest.raises(RecordError, match="a folder, expected a file"):
        load_patients(tmp_path, NAMES)


def test_records_are_found_by_path_and_by_a_unique_name_with_or_without_extension(write_table):
    path = write_table("record,patient\nA0001.mat,1\na/HR01,2\nb/HR01.HEA,1\nHR02,3\nHR02.hea,3\n")
    assert load_patients(path, NAMES) == {"A0001": "1", "a/HR01": "2", "b/HR01": "1", "b/HR02": "3"}
    # A name that is a whole path is that recording, even if others in folders have it, too.
    assert load_patients(write_table("record,patient\nHR01,1\n"), [*NAMES, "HR01"]) == {"HR01": "1"}
    # A recording may itself be called so.
    assert load_patients(write_table("record,patient\nA1.mat,1\n"), ["A1", "A1.mat"]) == {"A1.mat": "1"}
    assert load_patients(write_table("record,patient\na\\r1,1\n"), ["a/r1", "a\\r1"]) == {"a\\r1": "1"}


@pytest.mark.parametrize("name", ["a\\b\\r1", "./a/b/r1", ".\\a\\b\\r1.mat", "././a/b/r1.hea", "./r1", "r1"])
def test_paths_may_be_those_of_another_system_or_begin_with_the_current_folder(write_table, name):
    names = ["a/b/r1", "a/b/r2"]
    assert load_patients(write_table(f"record,patient\n{name},1\na/b/r2,1\n"), names) == dict.fromkeys(names, "1")


def test_the_log_counts_recordings_without_a_patient_and_names_without_a_recording(write_table):
    lines = capture_log()
    load_patients(write_table("record,patient\nA0001,1\na/HR01,1\nX,1\nY,2\nX,3\n"), NAMES)
    text = " ".join(line.strip() for line in lines)
    assert "2 recordings of 1 patient" in text
    assert "2 recordings are not listed and count as a patient each (b/HR01, b/HR02)" in text
    assert "2 names are of no recording (X, Y)" in text
    lines = capture_log()
    load_patients(write_table("record,patient\nA0001,1\nHR02,1\na/HR01,1\nb/HR01,3\n"), NAMES)
    assert len(lines) == 1


@pytest.mark.parametrize(
    ("rows", "warns"),
    [
        ("A0001,1\na\\HR1,1\nb/HR,2\n", True),
        ("A0001,1\na/HR01,1\n", False),  # recordings are not listed
        ("A0001,1\na/HR01,1\nb/HR01,2\nb/HR02,2\nX,3\n", False),  # the list is longer than the folder
    ],
)
def test_names_that_may_be_misspelt_are_a_warning_with_counts_and_examples(write_table, caplog, rows, warns):
    capture_log()
    logging.getLogger("ecg").handlers = [caplog.handler]
    load_patients(write_table(f"record,patient\n{rows}"), NAMES)
    warning = " ".join(record.getMessage().strip() for record in caplog.records if record.levelno == logging.WARNING)
    assert bool(warning) == warns
    if warns:
        assert "2 names such as a\\HR1 are of no recording" in warning
        assert "3 recordings such as a/HR01 are not listed" in warning


@settings(deadline=None)
@given(st.lists(st.sampled_from(["p", "q", "r", None]), max_size=12))
def test_recordings_have_the_same_number_if_and_only_if_they_share_a_patient(known):
    names = [f"R{index}" for index in range(len(known))]
    patients = {name: patient for name, patient in zip(names, known, strict=True) if patient}
    numbers = number_patients(names, patients)
    keys = [patient or name for name, patient in zip(names, known, strict=True)]
    expected = [[first == second for second in keys] for first in keys]
    assert (numbers[:, np.newaxis] == numbers).tolist() == expected
    assert count_patients(numbers) == len(set(keys))
    assert all(np.diff(np.unique(numbers, return_index=True)[1]) > 0)  # in the order of the first recording


def test_a_patient_may_be_called_as_a_recording_that_is_not_listed():
    assert number_patients(["A", "B"], {"A": "B"}).tolist() == [0, 1]


def test_stores_and_their_subsets_have_the_patients_of_their_recordings(store, synthetic_recordings):
    names = record_names(synthetic_recordings, find_records(synthetic_recordings))
    assert set(store.names) <= set(names)
    patients = {name: name[-1] for name in names[::2]}
    stores = add_patients({DEFAULT_PREPROCESSING: store}, patients)
    assert add_patients(stores, None) == stores and store.patients is None
    grouped = stores[DEFAULT_PREPROCESSING]
    np.testing.assert_array_equal(grouped.patients, number_patients(store.names, patients))
    assert grouped.digest == store.digest
    chosen = np.arange(1, len(store), 3)
    np.testing.assert_array_equal(grouped.subset(chosen).patients, grouped.patients[chosen])
    assert store.subset(chosen).patients is None
    fewer = {DEFAULT_PREPROCESSING: grouped, None: grouped.subset(chosen)}
    for shared in intersect_stores(fewer, {})[0].values():
        np.testing.assert_array_equal(shared.patients, grouped.patients[chosen])


@pytest.mark.parametrize("groups", [
    [7, 3, 7, None, None, 3], ["b", "a", "b", None, None, "a"], np.array([7, 3, 7, np.nan, np.nan, 3])
])  # fmt: skip
def test_groups_are_numbered_and_a_missing_one_is_a_patient_of_its_own(groups):
    assert number_groups(groups).tolist() == [0, 1, 0, 2, 3, 1]
    assert number_groups(iter(groups)).tolist() == [0, 1, 0, 2, 3, 1]
