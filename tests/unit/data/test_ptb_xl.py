"""PTB-XL as it is published: records, labels, demographics, patients and folds."""

from pathlib import Path

import numpy as np
import pytest

from ecg.data.headers import HeaderError, RecordError, read_header, read_header_text
from ecg.data.labels import ABBREVIATIONS, CHALLENGE_CLASSES, LETTERS, code_of, code_status, load_own_classes, source_of
from ecg.data.patients import add_folds, add_patients, find_patients, find_published_folds
from ecg.data.ptb_xl import load_meanings
from ecg.data.records import find_records, read_record
from ecg.data.store import build_store
from ecg.evaluation.outputs import find_files, load_labels
from ecg.runtime.executors import ONE_PROCESS
from tests.ptb_xl_files import COLUMNS, REAL_STATEMENTS, ROWS, record_path, write_ptb_xl, write_table

REAL = Path(__file__).parents[4] / "shared" / "data" / "train"
SUPERCLASSES = {"NORM", "MI", "STTC", "CD", "HYP"}


@pytest.fixture
def ptb_xl(tmp_path):
    return write_ptb_xl(tmp_path / "ptb-xl")


def header_of(folder, number, rate=500):
    return read_header(folder / f"{record_path(number, rate)}.hea")


def classes_of(header):
    return {
        name
        for name, is_labelled in zip(ABBREVIATIONS, CHALLENGE_CLASSES.encode(header.codes), strict=True)
        if is_labelled
    }


def test_a_header_gets_labels_age_and_sex_from_the_table(ptb_xl):
    header = header_of(ptb_xl, 8)
    assert (header.age, header.sex) == (48, "Male") and classes_of(header) == {"NSR", "LAD"}
    assert header.codes == ("164865005", "164951009", "39732003", "426783006",
                            "SCP:IMI", "SCP:ABQRS", "SCP:SR", "PTB-XL:MI")  # fmt: skip
    assert header.evaluator_codes == header.codes
    assert (header.lead_names[3], header.sampling_frequency, header.samples) == ("aVR", 500, 5000)
    assert classes_of(header_of(ptb_xl, 17)) == {"AF", "AFL", "LAD"}
    assert classes_of(header_of(ptb_xl, 730)) == {"LBBB", "IAVB", "NSR"}


def test_ages_above_89_and_empty_cells_are_read(ptb_xl):
    assert header_of(ptb_xl, 108).age == 90 and header_of(ptb_xl, 108).sex == "Female"
    assert np.isnan(header_of(ptb_xl, 730).age) and header_of(ptb_xl, 730).sex == "Female"
    last = header_of(ptb_xl, 999)
    assert np.isnan(last.age) and last.sex == "Unknown"
    assert last.codes == ("67741000119109", "SCP:LAO/LAE", "SCP:PRC(S)", "SCP:NEWONE", "PTB-XL:HYP")


def test_statements_and_superclasses_are_known_codes(ptb_xl):
    header = header_of(ptb_xl, 999)
    assert {code_status(code) for code in header.codes} == {"unscored"}
    store = build_store(ptb_xl, ptb_xl.parent / "store", ONE_PROCESS)
    assert store.unknown_codes == () and set(store.sources) == {"PTB-XL"} and not store.undiagnosed.any()
    assert source_of("00001_hr") == source_of("HR00001") == "PTB-XL" and source_of("00001_hrx") == "unknown"


def test_recordings_are_found_once_at_500_hz(ptb_xl):
    excluded = []
    paths = find_records(ptb_xl, excluded)
    assert [path.relative_to(ptb_xl).as_posix() for path in paths] == [f"{record_path(n, 500)}.hea" for n in ROWS]
    assert excluded == []
    slow = find_records(ptb_xl / "records100")
    assert [path.stem for path in slow] == [f"{number:05d}_lr" for number in ROWS]
    assert read_header(slow[1]).codes == header_of(ptb_xl, 8).codes and read_header(slow[1]).sampling_frequency == 100
    (ptb_xl / f"{record_path(8, 500)}.hea").unlink()
    assert "00008_lr" in [path.stem for path in find_records(ptb_xl)]  # it is there at 100 Hz alone


def test_samples_are_read_with_their_gain(ptb_xl):
    header, samples = read_record(ptb_xl / f"{record_path(1, 500)}.hea")
    stored = np.fromfile(ptb_xl / f"{record_path(1, 500)}.dat", "<i2").reshape(5000, 12)
    np.testing.assert_array_equal(samples, stored.T)
    assert {lead.gain for lead in header.leads} == {1000}


def test_patients_and_folds_are_those_of_the_table(ptb_xl):
    paths = find_records(ptb_xl)
    names = [record_path(number, 500) for number in ROWS]
    patients, folds = find_patients(None, ptb_xl, paths), find_published_folds(ptb_xl, paths)
    assert patients == {name: str(int(row[0])) for name, row in zip(names, ROWS.values(), strict=True) if row[0]}
    assert folds == {name: row[-1] for name, row in zip(names, ROWS.values(), strict=True) if row[-1]}
    store = build_store(ptb_xl, ptb_xl.parent / "store", ONE_PROCESS)
    (store,) = add_folds(add_patients({store.preparation: store}, patients), folds).values()
    assert store.folds.tolist() == [3, 9, 9, 9, 8, 7, 0]
    assert store.patients[2] == store.patients[3] and len(set(store.patients)) == 6
    part = store.subset(np.array([4, 0]))
    assert part.folds.tolist() == [8, 3]
    assert find_published_folds(ptb_xl / "records100", find_records(ptb_xl / "records100"))["00000/00008_lr"] == 9
    given = ptb_xl.parent / "groups.csv"
    given.write_text("record,patient\n00001_hr,A\n00008_hr,A\n")
    assert set(find_patients(given, ptb_xl, paths).values()) == {"A"}


def test_a_changed_table_changes_the_store(ptb_xl):
    first = build_store(ptb_xl, ptb_xl.parent / "store", ONE_PROCESS)
    rows = ROWS | {1: (*ROWS[1][:6], "{'AFIB': 100.0}", *ROWS[1][7:])}
    write_table(ptb_xl, rows)
    second = build_store(ptb_xl, ptb_xl.parent / "store", ONE_PROCESS)
    assert first.labels[0, ABBREVIATIONS.index("NSR")] and not second.labels[0, ABBREVIATIONS.index("NSR")]
    assert second.labels[0, ABBREVIATIONS.index("AF")] and first.digest != second.digest


def test_superclasses_are_classes_of_a_table_of_your_own(ptb_xl, tmp_path):
    page = (Path(__file__).parents[3] / "docs" / "ptb-xl.md").read_text()
    rows = page.partition("```text\n   abbreviation")[2].partition("```")[0]
    table = tmp_path / "superclasses.csv"
    table.write_text("abbreviation" + rows.replace("\n   ", "\n"))
    classes = load_own_classes(table)
    assert set(classes.abbreviations) == SUPERCLASSES
    store = build_store(ptb_xl, tmp_path / "store", ONE_PROCESS, classes=classes, sources=LETTERS)
    present = {name[-8:-3]: [classes.abbreviations[column] for column in np.flatnonzero(row)]
               for name, row in zip(store.names.tolist(), store.labels, strict=True)}  # fmt: skip
    assert (
        present["00001"] == present["00108"] == ["NORM"] and present["00008"] == ["MI"] and present["00730"] == ["CD"]
    )
    assert present["00017"] == present["00018"] == [] and present["00999"] == ["HYP"]


def test_outputs_are_scored_by_the_labels_of_the_table(ptb_xl, tmp_path):
    for number in ROWS:
        output = tmp_path / "out" / f"{record_path(number, 500)}.csv"
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text("")
    files, _ = find_files(ptb_xl, tmp_path / "out")
    assert len(files) == len(ROWS)
    labels = load_labels(files, {code_of("AFL"): 0, "PTB-XL:MI": 1, "PTB-XL:NORM": 2}, 3)
    assert labels.tolist() == [[False, False, True], [False, True, False], [True, False, False], [True, False, False],
                               [False, False, True], [False, False, False], [False, False, False]]  # fmt: skip


def test_a_header_with_diagnoses_or_without_a_row_stays_as_it_is(ptb_xl):
    path = ptb_xl / f"{record_path(8, 500)}.hea"
    path.write_text(path.read_text() + "#Age: 5\n# Dx: 164889003\n")
    assert classes_of(read_header(path)) == {"AF"} and read_header(path).age == 5
    write_table(ptb_xl, {1: ROWS[1]})
    assert header_of(ptb_xl, 17).codes == () and np.isnan(header_of(ptb_xl, 17).age)
    (ptb_xl / "ptbxl_database.csv").unlink()
    assert header_of(ptb_xl, 1).codes == ()
    assert "#" not in read_header_text(ptb_xl / f"{record_path(1, 500)}.hea")


@pytest.mark.parametrize("columns", [("ecg_id", "scp_codes"), ("scp_codes", "ecg_id", "sex", "age")])
def test_missing_columns_are_unknown(columns, ptb_xl):
    write_table(ptb_xl, columns=columns)
    header = header_of(ptb_xl, 8)
    assert "PTB-XL:MI" in header.codes and "39732003" not in header.codes
    assert find_patients(None, ptb_xl, find_records(ptb_xl)) is None
    assert find_published_folds(ptb_xl, find_records(ptb_xl)) == {}


@pytest.mark.parametrize("cell", ["NORM", "['NORM']", "{1: 2}", "{'NORM': ", "__import__('os')", "{" * 5000])
def test_a_row_that_cannot_be_read_is_named_and_hinders_no_other(cell, ptb_xl):
    write_table(ptb_xl, ROWS | {8: (*ROWS[8][:6], cell, *ROWS[8][7:])})
    with pytest.raises(HeaderError, match="ptbxl_database.csv, line 3: expected statements such as {'NORM': 100.0}"):
        header_of(ptb_xl, 8)
    assert header_of(ptb_xl, 1).age == 56
    store = build_store(ptb_xl, ptb_xl.parent / "store", ONE_PROCESS)
    assert [name for name, _ in store.excluded] == [record_path(8, 500)]


@pytest.mark.parametrize("text, reason", [
    ("ecg_id,age\n1,2\n", "line 1: expected the columns ecg_id and scp_codes, received 'ecg_id,age'"),
    ("ecg_id,scp_codes\n1,{}\nx,{}\n", "line 3: expected a number as ecg_id, received 'x'"),
    ("ecg_id,scp_codes\n1,{}\n1.0,{}\n", "line 3: recording 1 is also in line 2"),
    ("", "line 1: expected the columns ecg_id and scp_codes, received an empty file"),
])  # fmt: skip
def test_a_table_that_cannot_be_read_is_an_error(text, reason, ptb_xl):
    (ptb_xl / "ptbxl_database.csv").write_text(text)
    with pytest.raises(HeaderError, match=f"ptbxl_database.csv, {reason}"):
        header_of(ptb_xl, 1)
    with pytest.raises(RecordError, match=reason):
        find_patients(None, ptb_xl, find_records(ptb_xl))


def test_the_table_of_meanings_has_all_statements_and_codes_of_the_challenge():
    meanings = load_meanings()
    statements = [name for name in meanings if not name.startswith("axis ")]
    assert len(statements) == 71
    assert {meaning.superclass for meaning in meanings.values()} == {*SUPERCLASSES, ""}
    diagnostic = [name for name in statements if meanings[name].superclass]
    assert len(diagnostic) == 44
    for name, meaning in meanings.items():
        assert {code_status(code) for code in meaning.codes} <= {"scored", "unscored"}, name


@pytest.mark.skipif(not REAL.is_dir(), reason=f"{REAL} is missing")
def test_an_original_record_has_the_samples_and_labels_of_the_challenges(tmp_path):
    folder = tmp_path / "records500" / "00000"
    folder.mkdir(parents=True)
    for file in (REAL.parent / "dialects" / "ptb-xl-raw").iterdir():
        (folder / file.name).symlink_to(file)
    write_table(tmp_path, {3: (20372.0, 37.0, 1, "", 69.0, "", "{'NORM': 100.0, 'SR': 0.0}", "", "", True, "", 5)})
    (published, samples), (challenge, expected) = (
        read_record(folder / "00003_hr.hea"),
        read_record(REAL / "HR00003.hea"),
    )
    np.testing.assert_array_equal(samples, expected)
    assert (published.lead_names, published.age, published.sex) == (challenge.lead_names, challenge.age, challenge.sex)
    assert classes_of(published) == classes_of(challenge) == {"NSR"}


@pytest.mark.skipif(not REAL.is_dir(), reason=f"{REAL} is missing")
def test_the_scored_classes_are_those_of_the_challenges_headers_of_the_same_recordings(tmp_path):
    rows = {number: ("", "", "", "", "", "", str(dict.fromkeys(names.split(), 0.0)), axis, "", "", "", "")
            for number, (names, axis) in REAL_STATEMENTS.items()}  # fmt: skip
    write_table(tmp_path, rows)
    compared = 0
    for number in rows:
        path = tmp_path / f"{record_path(number, 500)}.hea"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{path.stem} 1 500 10\n{path.stem}.dat 16 1000/mV 16 0 0 0 0 I\n")
        published, challenge = read_header(path), read_header(REAL / f"HR{number:05d}.hea")
        assert classes_of(published) == classes_of(challenge), number
        compared += len(classes_of(challenge)) > 0
    assert compared > 95 and COLUMNS[0] == "ecg_id"
