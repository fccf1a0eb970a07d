import csv
import os
import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from helpers import capture_log

from ecg.commands import audit
from ecg.commands import audit as defects
from ecg.commands.audit import audit as audit_folder
from ecg.data.headers import read_header
from ecg.data.labels import CLASS_OF_CODE, DISCARDED_SOURCES, source_of
from ecg.data.leads import LEADS
from ecg.data.records import find_records
from ecg.data.synthetic import SyntheticSettings, synthesize
from ecg.runtime.console import WIDTH
from ecg.runtime.executors import ONE_PROCESS, LocalExecutor


def table(folder, name):
    with open(folder / f"{name}.csv", newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.DictReader(file))


def details_of(folder, kind):
    """Details of the defects of a kind, by the path of the record."""
    return {row["path"]: row["detail"] for row in table(folder, "defects") if row["kind"] == kind}


def write(folder, name, integers, dx="426783006", leads=LEADS, gain="1000/mV", key="#Dx"):
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{name} {len(leads)} 250 {integers.shape[1]}"]
    lines += [
        f"{name}.mat 16+24 {gain} 16 0 {row[0]} {row.sum()} 0 {lead}" for lead, row in zip(leads, integers, strict=True)
    ]
    (folder / f"{name}.hea").write_text("\n".join([*lines, "#Age: 60", "#Sex: Female", f"{key}: {dx}"]) + "\n")
    scipy.io.savemat(folder / f"{name}.mat", {"val": integers.astype(np.int16)}, format="4")


@pytest.fixture
def integers():
    return np.random.default_rng(0).normal(0, 300, (12, 500)).astype(int)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder of synthetic recordings, some discarded, some without age, one damaged."""
    folder = tmp_path_factory.mktemp("data")
    synthesize(folder, 40, seed=3, settings=SyntheticSettings(sources={"CPSC": 4, "Ningbo": 4, "PTB": 1, "INCART": 1}))
    for path, age, sex in zip(find_records(folder), ("NaN", "-1", "33"), ("Male", "?", ""), strict=False):
        text = re.sub("Age: .*", f"Age: {age}", re.sub("Sex: .*", f"Sex: {sex}", path.read_text()))
        path.write_text(text)
    find_records(folder)[5].with_suffix(".mat").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def audited(data, tmp_path_factory):
    """The folder of an audit of these recordings, its log, and its result."""
    output, lines = tmp_path_factory.mktemp("audited") / "out", capture_log()
    return output, lines, audit_folder(data, output, ONE_PROCESS)


def test_every_recording_has_its_row_with_the_facts_of_its_header(audited, data):
    rows = table(audited[0], "recordings")
    paths = find_records(data)
    assert [row["record"] for row in rows] == [path.stem for path in paths]
    for place, (row, path) in enumerate(zip(rows, paths, strict=True)):
        header = read_header(path)
        assert float(row["sampling frequency"]) == header.sampling_frequency
        assert float(row["seconds"]) == pytest.approx(header.samples / header.sampling_frequency, abs=1e-3)
        assert row["age"] == ("" if np.isnan(header.age) else f"{header.age:g}")
        assert (row["source"], row["sex"], row["leads"]) == (source_of(path.stem), header.sex, " ".join(LEADS))
        scored = [code for code in header.codes if code in CLASS_OF_CODE]
        assert row["scored codes"].split() == scored
        assert row["other codes"].split() == [code for code in header.codes if code not in scored]
        left_out = source_of(path.stem) in DISCARDED_SOURCES
        assert row["usable"] == (defects.DISCARDED if left_out else "no" if place == 5 else "yes")


def test_codes_are_counted_by_recording_and_sorted_by_status_and_count(audited, data):
    counts = Counter(code for path in find_records(data) for code in read_header(path).codes)
    rows = table(audited[0], "codes")
    assert {row["code"]: int(row["recordings"]) for row in rows} == counts
    assert [row["status"] for row in rows] == sorted(row["status"] for row in rows)  # scored before unscored
    for status in ("scored", "unscored"):
        numbers = [int(row["recordings"]) for row in rows if row["status"] == status]
        assert numbers == sorted(numbers, reverse=True)
    assert all((row["status"] == "scored") == (row["code"] in CLASS_OF_CODE) for row in rows)
    assert all(bool(row["name"]) == (row["status"] != "unknown") for row in rows)


def test_the_summary_counts_the_recordings_of_each_kind_of_defect_zeros_included(audited):
    rows = {row["kind"]: int(row["recordings"]) for row in table(audited[0], "summary")}
    assert tuple(rows) == defects.KINDS
    pairs = {(row["path"], row["kind"]) for row in table(audited[0], "defects")}
    counts = Counter(kind for _, kind in pairs)
    assert {kind: count for kind, count in rows.items() if count} == counts
    assert {defects.SIGNAL, defects.DISCARDED, defects.AGE, defects.SEX} <= counts.keys()


def test_the_log_has_sources_codes_defects_and_the_files(audited, data):
    output, lines, _ = audited
    sources = Counter(source_of(path.stem) for path in find_records(data))
    left_out = sources["INCART"] + sources["PTB"]
    usable = f"{39 - left_out} usable, 1 not, {left_out} of sources that the method does not train on"
    assert lines[0] == f"40 recordings, {usable}"
    counted = Counter()  # a source has a line for each of its sampling frequencies
    for line in lines:
        source, *words = line.split() or [""]
        if source in sources:
            counted[source] += int(words[1])
    assert counted == sources
    assert any(line.startswith("scored diagnoses: ") for line in lines)
    assert lines[-1] == f"{output}: summary.csv, recordings.csv, defects.csv, codes.csv"
    assert all(len(line) <= WIDTH for line in lines[:-1])


def test_the_result_does_not_depend_on_the_number_of_processes(audited, data, tmp_path):
    output, lines, usable = audited
    again = capture_log()
    assert audit_folder(data, tmp_path / "out", LocalExecutor(2)) == usable
    assert again[:-1] == lines[:-1]
    assert [(tmp_path / "out" / path.name).read_bytes() for path in sorted(output.iterdir())] == [
        path.read_bytes() for path in sorted(output.iterdir())
    ]


def test_copies_are_found_under_other_names_headers_orders_of_leads_and_gains(tmp_path, integers):
    data = tmp_path / "data"
    write(data, "E00001", integers)
    write(data / "b", "E00002", integers, dx="164889003", gain="1000.0(0)/mV", key="# Dx")
    write(data, "Q0001", integers[::-1], leads=LEADS[::-1])
    write(data, "Q0002", 2 * integers, gain="2000/mV")
    write(data, "Q0003", integers + 7, dx="426783006,164865005", gain="1000(7)/mV")  # no other label is scored
    changed = integers.copy()
    changed[7, 250] += 40
    write(data, "A0001", changed)
    audit_folder(data, tmp_path / "out", ONE_PROCESS)
    copies = details_of(tmp_path / "out", defects.COPY)
    assert copies == {
        "E00001.hea": "Q0001.hea, Q0002.hea, Q0003.hea and 1 more",
        "Q0001.hea": "E00001.hea, Q0002.hea, Q0003.hea and 1 more",
        "Q0002.hea": "E00001.hea, Q0001.hea, Q0003.hea and 1 more",
        "Q0003.hea": "E00001.hea, Q0001.hea, Q0002.hea and 1 more",
        "b/E00002.hea": ", ".join(f"{name}.hea with other labels" for name in ("E00001", "Q0001", "Q0002"))
        + " and 1 more",
    }


def test_recordings_of_another_length_or_of_zeros_are_no_copies(tmp_path, integers):
    write(tmp_path / "data", "E00001", integers)
    write(tmp_path / "data", "E00002", integers[:, :-1])
    for name in ("E00003", "E00004"):
        write(tmp_path / "data", name, np.zeros((12, 500), int))
    audit_folder(tmp_path / "data", tmp_path / "out", ONE_PROCESS)
    assert not details_of(tmp_path / "out", defects.COPY)


def test_a_name_in_two_folders_is_a_defect_of_both(tmp_path, integers):
    data = tmp_path / "data"
    write(data / "a", "E00001", integers)
    write(data / "b", "E00001", integers + np.arange(500) % 9)
    write(data / "b", "E00002", integers - np.arange(500) % 9)
    audit_folder(data, tmp_path / "out", ONE_PROCESS)
    assert details_of(tmp_path / "out", defects.SAME_NAME) == {
        "a/E00001.hea": "b/E00001.hea",
        "b/E00001.hea": "a/E00001.hea",
    }
    assert not details_of(tmp_path / "out", defects.COPY)


def test_only_unusable_recordings_fail_the_audit_and_their_reasons_are_grouped(tmp_path, integers):
    data, output, lines = tmp_path / "data", tmp_path / "out", capture_log()
    write(data, "S0001", integers)
    assert not audit_folder(data, output, ONE_PROCESS)  # nothing is left to train on
    assert lines[0] == "1 recordings, 0 usable, 0 not, 1 of sources that the method does not train on"
    write(data, "E00001", integers, dx="Unknown")
    assert audit_folder(data, output, ONE_PROCESS)
    for name in ("E00002", "E00003"):
        write(data, name, integers)
        (data / f"{name}.mat").unlink()
    write(data, "E00004", integers[:, :100])
    lines.clear()
    assert not audit_folder(data, output, ONE_PROCESS)
    assert lines[0] == "5 recordings, 1 usable, 3 not, 1 of sources that the method does not train on"
    message = " ".join(" ".join(lines).split())
    assert "2 not usable: no such file beside NAME.hea, which names it (E00002, E00003)" in message
    assert "1 not usable: 0.40 s is shorter than 1 s (E00004)" in message
    assert {row["record"]: row["usable"] for row in table(output, "recordings")} == {
        "E00001": "yes", "E00002": "no", "E00003": "no", "E00004": "no", "S0001": defects.DISCARDED}  # fmt: skip


def test_an_audit_replaces_an_earlier_one_and_nothing_else(tmp_path, integers):
    data, output = tmp_path / "data", tmp_path / "out"
    write(data, "E00001", integers)
    audit_folder(data, output, ONE_PROCESS)
    write(data, "E00002", integers[:, ::-1])
    audit_folder(data, output, ONE_PROCESS)
    assert len(table(output, "recordings")) == 2
    (output / "mine.txt").write_text("mine")
    before = {path.name: path.read_bytes() for path in output.iterdir()}
    with pytest.raises(FileExistsError, match=r"mine\.txt, which is not from an audit"):
        audit_folder(data, output, ONE_PROCESS)
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before
    with pytest.raises(FileNotFoundError, match="no header"):
        audit_folder(output, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_an_interrupted_audit_leaves_the_earlier_one(tmp_path, integers, monkeypatch):
    data, output = tmp_path / "data", tmp_path / "out"
    write(data, "E00001", integers)
    audit_folder(data, output, ONE_PROCESS)
    before = {path.name: path.read_bytes() for path in output.iterdir()}

    def cut(*arguments, **tables):
        raise KeyboardInterrupt

    monkeypatch.setattr(audit, "audit_recording", cut)
    with pytest.raises(KeyboardInterrupt):
        audit_folder(data, output, ONE_PROCESS)
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "out"]


def test_a_name_that_is_not_utf_8_is_listed_and_printed(tmp_path, integers):
    data, output, lines = tmp_path / "data", tmp_path / "out", capture_log()
    write(data, "E00001", integers, dx="Unknown")
    strange = Path(os.fsdecode(b"E\xff1"))
    for ending in (".hea", ".mat"):
        shutil.copy(data / f"E00001{ending}", data / f"{strange}{ending}")
    audit_folder(data, output, ONE_PROCESS)
    assert {row["record"] for row in table(output, "recordings")} == {"E00001", str(strange)}
    assert "E\\udcff1" in "\n".join(lines) and "\n".join(lines).encode()


def test_real_recordings_and_their_counterparts_in_other_dialects(real_data, tmp_path):
    data = tmp_path / "data"
    for folder in (real_data / "dialects" / "challenge-2021", real_data / "dialects" / "early-2020-gain"):
        shutil.copytree(folder, data / folder.name)
    source = real_data / "dialects" / "challenge-2021"
    shutil.copy(source / "A0689.mat", data / "copy.mat")
    text = (source / "A0689.hea").read_text().replace("A0689", "copy").replace("16+24 1000/mV", "16x1+24 1000.0(0)/mV")
    (data / "copy.hea").write_text(text.replace("#Dx:", "# Dx:"))
    assert audit_folder(data, tmp_path / "out", LocalExecutor(2))
    assert details_of(tmp_path / "out", defects.COPY) == {
        "challenge-2021/A0689.hea": "copy.hea",
        "copy.hea": "challenge-2021/A0689.hea",
    }
    assert set(details_of(tmp_path / "out", defects.EARLY_GAIN)) == {"early-2020-gain/E00015.hea"}


def test_a_folder_that_cannot_be_listed_is_listed_as_not_usable(tmp_path, integers, unlistable_folder):
    data, output, lines = tmp_path / "data", tmp_path / "out", capture_log()
    write(data, "A0001", integers)
    (data / "lost").mkdir()
    unlistable_folder(data / "lost")
    assert not audit_folder(data, output, ONE_PROCESS)
    assert details_of(output, defects.UNLISTED) == {"lost/": "cannot be read: Permission denied"}
    assert lines[0] == "2 recordings, 1 usable, 1 not"
    assert "1 not usable: cannot be read: Permission denied (lost)" in lines


def test_recordings_without_a_patient_are_listed_only_if_there_is_a_table_of_patients(audited, data, tmp_path):
    paths = find_records(data)
    groups = tmp_path / "groups.csv"
    groups.write_text("record,patient\nX,1\n" + "".join(f"{path.stem},1\n" for path in paths[3:]))
    lines = capture_log()
    usable = audit_folder(data, tmp_path / "out", ONE_PROCESS, groups)
    assert set(details_of(tmp_path / "out", defects.NO_PATIENT)) == {path.name for path in paths[:3]}
    assert not details_of(audited[0], defects.NO_PATIENT)
    assert usable == audited[2]
    assert any("1 names are of no recording (X)" in line for line in lines)
    rows = {row["kind"]: row["recordings"] for row in table(tmp_path / "out", "summary")}
    assert rows.pop(defects.NO_PATIENT) == "3"
    assert rows == {row["kind"]: row["recordings"] for row in table(audited[0], "summary")}
