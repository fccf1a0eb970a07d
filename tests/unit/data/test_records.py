import os
import shutil
import timeit
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import wfdb
from helpers import LEAD_LINES, header_text

from ecg.data.headers import HeaderError, RecordError, read_header
from ecg.data.leads import LEADS
from ecg.data.matlab import MOST_BYTES
from ecg.data.records import (
    OTHER_FILE,
    OTHER_KEY,
    TRANSPOSED,
    UNREAD,
    SignalError,
    find_header,
    find_records,
    is_header,
    read_matrix,
    read_raw_signal,
    read_record,
)


def test_real_records_hold_the_integers_that_wfdb_reads(real_data):
    for path in find_records(real_data / "dialects"):
        header, recording = read_record(path)
        assert recording.shape == (12, header.samples)
        first_values = [int(line.split()[5]) for line in path.read_text().splitlines()[1:13]]
        assert recording[:, 0].tolist() == first_values
    digital = wfdb.rdrecord(str(real_data / "dialects/ptb-xl-raw/00003_hr"), physical=False).d_signal
    assert np.array_equal(read_record(real_data / "dialects/ptb-xl-raw/00003_hr.hea")[1], digital.T)


def test_find_records_sorts_recurses_and_skips_hidden_files(tmp_path):
    for name in ("b.hea", "a.hea", "a.mat", ".c.hea", "below/deeper/A.hea", ".git/x.hea", "d.hea.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert find_records(tmp_path) == [tmp_path / name for name in ("a.hea", "b.hea", "below/deeper/A.hea")]
    assert find_records(tmp_path / "below") == [tmp_path / "below/deeper/A.hea"]
    with pytest.raises(FileNotFoundError, match="nowhere"):
        find_records(tmp_path / "nowhere")


def test_a_subfolder_that_cannot_be_listed_is_skipped_and_reported(tmp_path, unlistable_folder):
    for name in ("a", "lost/b", "c/d"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).with_suffix(".hea").touch()
    unlistable_folder(tmp_path / "lost")
    unlisted = []
    assert find_records(tmp_path, unlisted) == find_records(tmp_path) == [tmp_path / "a.hea", tmp_path / "c/d.hea"]
    assert unlisted == [("lost/", "cannot be read: Permission denied")]
    with pytest.raises(PermissionError, match="lost"):
        find_records(tmp_path / "lost", [])


def test_a_matrix_comes_back_as_it_was_written(write_record):
    recording = np.random.default_rng(0).integers(-(2**15), 2**15, (2, 7500)).astype(np.int16)
    header, read = read_record(write_record(header_text(), recording))
    assert header.name == "A0001" and read.dtype == np.int16 and np.array_equal(read, recording)
    assert (
        read.flags.c_contiguous
        and read.flags.writeable
        and read_record(write_record(header_text(), recording.T))[1].flags.c_contiguous
    )
    unstated = write_record(header_text("A0001 2"), recording)
    assert read_record(unstated)[1].shape == (2, 7500)


def test_a_renamed_record_is_read_from_the_file_next_to_its_header(write_record):
    recording = np.arange(15000, dtype=np.int16).reshape(2, 7500)
    path = write_record(header_text(), recording, name="renamed")
    header, read = read_record(path)
    assert header.name == "A0001" and np.array_equal(read, recording)
    assert read_raw_signal(path, header).warnings == (OTHER_FILE,)


def test_samples_that_do_not_fit_the_header_are_reported(write_record):
    with pytest.raises(SignalError, match="A0001.mat: no such file beside A0001.hea, which names it"):
        read_record(write_record(header_text()))
    for recording in (np.zeros((2, 7499)), np.zeros((7499, 2)), np.zeros((1, 7500)), np.zeros((2, 0))):
        with pytest.raises(
            SignalError, match=r"A0001.mat: val is \(.*\) .*, expected \(2, 7500\) numbers by A0001.hea"
        ):
            read_record(write_record(header_text(), recording))
    with pytest.raises(SignalError, match=r"val is \(3, 7500\) numbers, expected \(2, T\) numbers"):
        read_record(write_record(header_text("A0001 2"), np.zeros((3, 7500))))
    with pytest.raises(SignalError, match=r"expected \(2, 100000000000000000\) numbers by A0001.hea"):
        read_record(write_record(header_text(f"A0001 2 500 {10**17}"), np.zeros((2, 7500))))


@pytest.mark.parametrize("format", ["4", "5"])
@pytest.mark.parametrize("val, kind", [(np.ones((2, 7500)) * 1j, "complex numbers"), ("text" * 1875, "text")])
def test_a_matrix_of_anything_but_numbers_is_reported(write_record, format, val, kind):
    path = write_record(header_text())
    scipy.io.savemat(path.with_suffix(".mat"), {"val": val, "other": np.ones((2, 7500))}, format=format)
    with pytest.raises(SignalError, match=rf"A0001.mat: val is \(\d, 7500\) {kind}, expected \(2, 7500\) numbers"):
        read_record(path)


@pytest.mark.parametrize("record, warnings", [("A0001 2 500 7500", (TRANSPOSED,)), ("A0001 2", (TRANSPOSED,))])
def test_a_transposed_matrix_is_transposed_and_reported(write_record, record, warnings):
    recording = np.arange(15000, dtype=np.int16).reshape(2, 7500)
    path = write_record(header_text(record), recording.T)
    stored = read_raw_signal(path, read_header(path))
    assert np.array_equal(stored.samples, recording) and stored.warnings == warnings
    assert np.array_equal(read_record(path)[1], recording)


def test_a_square_matrix_stays_as_it_is(write_record):
    square = np.array([[1, 2], [3, 4]], np.int16)
    path = write_record(header_text("A0001 2 500 2"), square)
    assert np.array_equal(read_record(path)[1], square) and read_raw_signal(path, read_header(path)).warnings == ()


def test_numbers_of_every_type_come_as_they_are(write_record):
    recording = np.random.default_rng(0).integers(0, 100, (2, 7500))
    path = write_record(header_text())
    for type in ("u1", "i2", "i4", "f4", "f8", "i8"):
        for version, packed in (("4", False), ("5", False), ("5", True))[type == "i8" :]:
            val = {"val": recording.astype(type)}
            scipy.io.savemat(path.with_suffix(".mat"), val, format=version, do_compression=packed)
            read = read_record(path)[1]
            assert read.dtype == type and np.array_equal(read, recording)
    broken = recording.astype(float)
    broken[0, :3] = np.nan, np.inf, -np.inf
    assert np.array_equal(read_record(write_record(header_text(), broken))[1], broken, equal_nan=True)


def test_the_only_matrix_that_fits_stands_in_for_a_missing_one(write_record):
    recording = np.arange(15000, dtype=np.int16).reshape(2, 7500)
    unusable = {"fs": np.array([[500.0]]), "note": "A0001", "short": recording[:, :100]}
    for matrix, expected in ((recording, (OTHER_KEY,)), (recording.T, (OTHER_KEY, TRANSPOSED))):
        path = write_record(header_text(), **unusable, ecg=matrix)
        stored = read_raw_signal(path, read_header(path))
        assert np.array_equal(stored.samples, recording) and stored.warnings == expected
        with pytest.raises(
            SignalError, match=r"no matrix val in it, but fs of \(1, 1\) numbers, note of \(1, 5\) text"
        ):
            read_matrix(path.with_suffix(".mat"))
    with pytest.raises(SignalError, match=r"A0001.mat: no matrix val in it, but ecg of \(2, 7500\) numbers, raw of"):
        read_record(write_record(header_text(), ecg=recording, raw=recording))
    with pytest.raises(SignalError, match="no matrix val in it, but .*short"):
        read_record(write_record(header_text(), **unusable))
    with pytest.raises(SignalError, match=r"no matrix val in it, but a of .*e of \(1, 1\) numbers, \.\.\."):
        read_record(write_record(header_text(), **dict.fromkeys("abcdefg", np.ones((1, 1)))))
    assert np.array_equal(read_record(write_record(header_text(), val=recording, ecg=recording + 1))[1], recording)


def test_a_file_that_is_damaged_or_of_another_kind_is_reported(write_record):
    path = write_record(header_text(), np.ones((2, 7500), np.int16))
    file = path.with_suffix(".mat")
    content = file.read_bytes()
    for damaged in (b"", bytes(100), content[:19], content[:2000], b"text" * 100, b"\x89HDF\r\n\x1a\n" + bytes(600)):
        file.write_bytes(damaged)
        for function in (lambda: read_record(path), lambda: read_matrix(file)):
            with pytest.raises(SignalError, match="A0001.mat: not to be read as a MATLAB file: "):
                function()
    assert issubclass(SignalError, RecordError) and issubclass(HeaderError, RecordError)


def test_what_is_no_file_of_its_size_is_refused_unread(write_record, unprivileged):
    path = write_record(header_text(), np.ones((2, 7500), np.int16))
    file = path.with_suffix(".mat")

    def check_refused(reason):
        with pytest.raises(SignalError, match=f"A0001.mat: {reason}"):
            read_record(path)
        file.unlink() if not file.is_dir() else file.rmdir()

    file.chmod(0)
    header = read_header(path)
    with unprivileged(), pytest.raises(SignalError, match="A0001.mat: .*"):
        read_raw_signal(path, header)
    with open(file, "r+b") as stream:
        stream.truncate(MOST_BYTES + 1)
    check_refused("209,715,201 bytes, expected 209,715,200 or fewer")
    file.mkdir()
    check_refused("a folder, expected a file")
    os.mkfifo(file)  # opening it would wait for a writer
    check_refused("no regular file, expected a file")
    file.symlink_to("/dev/zero")
    check_refused("no regular file, expected a file")
    file.symlink_to("nowhere")
    check_refused("cannot be read: No such file or directory")


def test_leads_in_several_mat_files_are_reported(write_record):
    lines = (LEAD_LINES[0], LEAD_LINES[1].replace("A0001.mat", "other.mat"))
    path = write_record(header_text(leads=lines), np.zeros((2, 7500)))
    with pytest.raises(SignalError, match="other.mat: no such file beside A0001.hea"):
        read_record(path)
    shutil.copy(path.with_suffix(".mat"), path.with_name("other.mat"))
    with pytest.raises(SignalError, match="A0001.hea: leads in A0001.mat and other.mat, expected all of them in one"):
        read_record(path)


@pytest.mark.parametrize(
    "file", ["..", "../x.dat", "/etc/passwd", "http://a.b/x.dat", "..\\x.dat", "a::b.dat", "x\0.dat"]
)
def test_no_file_outside_the_folder_of_the_header_is_read(tmp_path, file):
    below = tmp_path / "below"
    below.mkdir()
    (tmp_path / "x.dat").write_bytes(bytes(100))
    (below / "x.hea").write_text(f"x 1 500 10\n{file} 16 200 16 0 0 0 0 I\n")
    with pytest.raises(HeaderError, match="x.hea line 2: file .* is not the name of a FILE in the header's folder"):
        read_record(below / "x.hea")
    # Other readers take these characters for line ends; here they are neither lines nor names.
    for end in "\v\f\x1c\x85\u2028":
        (below / "x.hea").write_text(f"x 1 500 10 {end}../x.dat 16\nmissing.dat 16 200 16 0 0 0 0 I\n")
        with pytest.raises(SignalError, match="missing.dat: no such file beside x.hea"):
            read_record(below / "x.hea")


def write_dat(folder, kind, recording):
    """Write a record by wfdb."""
    with warnings.catch_warnings(action="ignore"):  # pandas warns about wfdb's tables
        wfdb.wrsamp(
            "x", 500, ["mV"] * len(recording), ["I", "II", "V2"][: len(recording)], d_signal=recording.T,
            fmt=[kind] * len(recording), adc_gain=[200.0] * len(recording), baseline=[0] * len(recording),
            write_dir=str(folder),
        )  # fmt: skip
    return folder / "x.hea"


@pytest.mark.parametrize("kind", ["16", "24", "32", "80", "508", "516", "524"])
def test_other_formats_hold_what_wfdb_has_written(tmp_path, kind):
    recording = np.random.default_rng(0).integers(-128, 128, (3, 1001))
    path = write_dat(tmp_path, kind, recording)
    assert np.array_equal(read_record(path)[1], recording)
    path.write_text(path.read_text().replace("x 3 500 1001", "x 3 500"))
    if kind[0] != "5":
        assert np.array_equal(read_record(path)[1], recording)
    else:
        with pytest.raises(SignalError, match="x.hea: no number of samples, which files of format 508, 516, 524 need"):
            read_record(path)


@pytest.mark.parametrize("kind", ["8", "16", "24", "32", "61", "80", "160", "212", "310", "311"])
@pytest.mark.parametrize("samples", [" 100", ""])
def test_other_formats_are_read_as_wfdb_reads_them(tmp_path, kind, samples):
    (tmp_path / "x.dat").write_bytes(np.random.default_rng(0).bytes(1200))
    path = tmp_path / "x.hea"
    path.write_text(f"x 3 500{samples}\n" + f"x.dat {kind} 200 12 0 5 0 0 I\n" * 3)
    read = read_record(path)[1]
    assert np.array_equal(read, wfdb.rdrecord(str(path.with_suffix("")), physical=False).d_signal.T)
    assert read.shape[1] == 100 if samples else read.shape[1] >= 100


def test_frames_skews_offsets_and_several_files_are_as_wfdb_reads_them(tmp_path):
    random = np.random.default_rng(0)
    (tmp_path / "x.dat").write_bytes(random.integers(-99, 99, 512 + 1000 * 3).astype("<i2").tobytes())
    (tmp_path / "y.dat").write_bytes(random.integers(-9, 9, 1000, np.int8).tobytes())
    lines = ("x.dat 16x2+1024 200 16 0 0 0 0 I", "x.dat 16:5+1024 200 16 0 0 0 0 II", "y.dat 8 200 16 0 7 0 0 V2")
    path = tmp_path / "x.hea"
    path.write_text("\n".join(("x 3 500 1000", *lines)) + "\n")
    assert np.array_equal(read_record(path)[1], wfdb.rdrecord(str(tmp_path / "x"), physical=False).d_signal.T)


def test_one_grammar_reads_headers_of_all_formats(tmp_path):
    """wfdb refuses an extension or two full stops in a name, and such a time."""
    recording = np.random.default_rng(0).integers(-99, 99, (2, 100))
    path = write_dat(tmp_path, "16", recording)
    (tmp_path / "x.dat").rename(tmp_path / "x.1.dat")
    lines = ("x.1.dat 16 200 16 0 0 0 0 I", "x.1.dat\t16 200 16 0 0 0 0 II ")
    path.write_text("\ufeff" + "\r\n".join(("x.dat 2 500 100 25:61:61", *lines)))
    assert np.array_equal(read_record(path)[1], recording)
    with pytest.raises(ValueError):
        wfdb.rdrecord(str(path.with_suffix("")))


@pytest.mark.parametrize(
    "record, lead, reason",
    [
        ("x 1 500 501", "x.dat 16", "x.dat: 1,000 bytes, expected 1,002 for x.hea"),
        ("x 1 500 500", "x.dat 16+1", "x.dat: 1,000 bytes, expected 1,001 for x.hea"),
        ("x 1 500 500", "x.dat 16x3", "x.dat: 1,000 bytes, expected 3,000 for x.hea"),
        ("x 1 500 667", "x.dat 212", "x.dat: 1,000 bytes, expected 1,001 for x.hea"),
        ("x 1 500 751", "x.dat 311", "x.dat: 1,000 bytes, expected 1,002 for x.hea"),
        ("x 1 500", "x.dat 16+2000", "x.dat: 1,000 bytes, expected 2,002 for x.hea"),
        (f"x 1 500 {10**17}", "x.dat 16", "x.dat: 1,000 bytes, expected 200,000,000,000,000,000 for"),
        (f"x 1 500 {10**17}", "x.dat 516", "x.hea: 100,000,000,000,000,000 samples of all leads, expected 26,214,400"),
        ("x 1 500 10", f"x.dat 16:{10**17}", "x.hea: 100,000,000,000,000,010 samples of all leads, expected"),
        ("x 1 500 10", f"x.dat 16x{10**17}", "x.dat: 1,000 bytes, expected 2,000,000,000,000,000,000 for x.hea"),
        ("x 1 500 500", "x.dat 516", "x.dat: not to be read with x.hea by wfdb: .*not a FLAC file"),
        ("x 1 500 500", "x.dat 999", "x.dat: format 999 by x.hea, expected one of 8, 16, 24"),
        ("x 1 500 500", "x.dat 0", "x.dat: format 0 by x.hea, expected one of 8, 16, 24"),
        ("x 2 500 100", "x.dat 16\nx.dat 212", "x.dat: format 16 and 212 by x.hea, expected one of"),
        ("x 1 500 500", "missing.dat 16", "missing.dat: no such file beside x.hea"),
        ("x 2 500 100", "x.dat 16\nmissing.dat 16", "missing.dat: no such file beside x.hea"),
        ("x 2 500 100", "x.dat 16\nfolder 16", "folder: a folder, expected a file"),
        ("x 1 500 100", "pipe 16", "pipe: no regular file, expected a file"),
        ("x 1 500 100", "~ 16", "~: no such file beside x.hea"),
    ],
)  # fmt: skip
def test_a_file_that_does_not_hold_what_its_header_declares_is_reported(tmp_path, record, lead, reason):
    (tmp_path / "x.dat").write_bytes(bytes(1000))
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "x.hea").write_text(f"{record}\n{lead}\n")
    tracemalloc.start()
    with pytest.raises(SignalError, match=reason):
        read_record(tmp_path / "x.hea")
    assert tracemalloc.get_traced_memory()[1] < 100 * 2**20  # wfdb itself takes some
    tracemalloc.stop()


@pytest.mark.parametrize("kind", ["16", "24", "212", "310", "311", "8", "516"])
def test_any_content_of_a_signal_file_gives_numbers_or_a_signal_error(tmp_path, kind):
    random, outcomes = np.random.default_rng(0), set()
    for samples in range(40):
        (tmp_path / "x.dat").write_bytes(random.bytes(int(random.integers(80))))
        offset = random.choice(["", "+1", "+24", "x2", ":3"])
        (tmp_path / "x.hea").write_text(f"x 2 500 {samples}\nx.dat {kind}{offset}\nx.dat {kind}{offset}\n")
        try:
            outcomes.add(len(read_record(tmp_path / "x.hea")[1]))
        except SignalError:
            outcomes.add("refused")
    assert outcomes == ({"refused"} if kind == "516" else {2, "refused"})


def test_a_record_reads_in_a_fraction_of_a_millisecond(real_data):
    path = real_data / "dialects/challenge-2021/A0689.hea"
    assert min(timeit.repeat(lambda: read_record(path), number=20, repeat=5)) / 20 < 2e-3


def test_a_compressed_file_takes_at_most_twice_the_memory_of_its_matrix(write_record):
    recording = (
        np.random.default_rng(0).integers(-(2**15), 2**15, (12, 200_000)).astype(np.int16)
    )  # hardly compressible
    lines = [f"A0001.mat 16+24 1000/mV 16 0 0 0 0 {lead}" for lead in LEADS]
    path = write_record("\n".join(["A0001 12 500 200000", *lines]))
    scipy.io.savemat(path.with_suffix(".mat"), {"val": recording}, do_compression=True)
    tracemalloc.start()
    _, read = read_record(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.array_equal(read, recording) and peak < 2.2 * recording.nbytes


def save(path, recording):
    scipy.io.savemat(path, {"val": recording}, format="4", appendmat=False)


@pytest.mark.parametrize(("header", "signal"), [("A1.HEA", "A1.MAT"), ("A1.Hea", "A1.mAt"), ("A1.hea", "A1.MAT")])
def test_extensions_may_be_in_any_case(tmp_path, header, signal):
    (tmp_path / header).write_text(header_text().replace("A0001", "A1"))
    recording = np.arange(15000, dtype=np.int16).reshape(2, 7500)
    save(tmp_path / signal, recording)
    excluded = []
    assert find_records(tmp_path, excluded) == [tmp_path / header] and excluded == []
    assert np.array_equal(read_record(tmp_path / header)[1], recording)
    assert is_header(header) and not is_header(signal) and not is_header("." + header)


def test_of_two_headers_of_one_recording_one_is_read_and_the_other_listed(tmp_path):
    for name in ("a.HEA", "a.hea", "b.HEA", "b.Hea"):
        (tmp_path / name).touch()
    excluded = []
    assert [path.name for path in find_records(tmp_path, excluded)] == ["a.hea", "b.HEA"]
    assert excluded == [("a.HEA", "the header of this recording is a.hea"),
                        ("b.Hea", "the header of this recording is b.HEA")]  # fmt: skip


def test_links_to_folders_are_followed_once_and_links_to_nothing_listed(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    data = tmp_path / "data"
    (data / "own").mkdir(parents=True)
    for path in (tmp_path / "elsewhere/E1.hea", data / "own/A1.hea"):
        path.touch()
    (data / "georgia").symlink_to(tmp_path / "elsewhere")
    (data / "again").symlink_to(data / "own")
    (data / "own" / "loop").symlink_to(data)
    (data / "gone").symlink_to(tmp_path / "nowhere")
    excluded = []
    assert find_records(data, excluded) == [data / "georgia/E1.hea", data / "own/A1.hea"]
    assert excluded == [("gone", "a link that leads nowhere")]


def test_signals_that_no_header_names_are_listed(tmp_path):
    for name in ("a.hea", "a.mat", "lonely.mat", "below/b.MAT", "below/c.hea", "other.mat", ".hidden.mat"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "d.hea").write_text(header_text().replace("A0001.mat", "other.mat"))
    excluded = []
    find_records(tmp_path, excluded)
    assert excluded == [("below/b.MAT", "no header names it"), ("lonely.mat", "no header names it")]


RESP = "{file} 16+24 1000/ohm 16 0 0 0 0 RESP"


@pytest.mark.parametrize("content", [None, b"", b"\0" * 24])
@pytest.mark.parametrize("file", ["resp.mat", "resp.dat"])
def test_a_file_that_holds_no_standard_lead_need_not_be_readable(write_record, file, content):
    recording = np.arange(15000, dtype=np.int16).reshape(2, 7500)
    path = write_record(header_text("A0001 3 500 7500", (RESP.format(file=file), *LEAD_LINES)), recording)
    if content is not None:
        (path.parent / file).write_bytes(content)
    stored = read_raw_signal(path, read_header(path))
    assert np.array_equal(stored.samples[1:], recording) and stored.samples.dtype == np.int16
    assert (stored.samples[0] == -32768).all() and stored.warnings == (UNREAD,)
    path.write_text(header_text(leads=(LEAD_LINES[0], LEAD_LINES[1].replace("A0001.mat", "gone.mat"))))
    with pytest.raises(SignalError):
        read_raw_signal(path, read_header(path))


def test_a_readable_file_without_standard_leads_is_read(tmp_path):
    signals = np.arange(1000, dtype=np.int16).reshape(2, 500)
    for file, row in (("A1.dat", 0), ("resp.DAT", 1)):
        signals[row].tofile(tmp_path / file)
    lines = ["A1 2 500 500", "A1.dat 16 1000/mV 16 0 0 0 0 I", "resp.dat 16 1000/mV 16 0 0 0 0 RESP"]
    (tmp_path / "A1.hea").write_text("\n".join(lines) + "\n")
    stored = read_raw_signal(tmp_path / "A1.hea", read_header(tmp_path / "A1.hea"))
    assert np.array_equal(stored.samples, signals) and stored.warnings == ()


@pytest.mark.parametrize("header", ["a.b.hea", "a.b.HEA", "a.b.Hea", "x.mat.hea", "心 1.hea", ".b.hea", "a..hea"])
def test_a_header_is_found_by_every_name_of_its_recording(tmp_path, header):
    (tmp_path / header).touch()
    stem = header[:-4]
    for name in ("a", "a.c.hea", "b.hea", "a.b.mat", "A.B", "a.b.hea.bak"):
        (tmp_path / name).touch()
    for ending in ("", ".hea", ".HEA", ".mat", ".MAT", ".Mat"):
        assert find_header(tmp_path / f"{stem}{ending}") == tmp_path / header
        assert find_header(str(tmp_path / f"{stem}{ending}")) == tmp_path / header


def test_of_several_headers_the_named_one_is_found(tmp_path):
    for name in ("R.hea", "R.HEA", "R.Hea", "R.mat.hea"):
        (tmp_path / name).touch()
    if len(list(tmp_path.iterdir())) == 4:  # the file system distinguishes case
        headers = {name: find_header(tmp_path / name).name for name in ("R", "R.HEA", "R.Hea", "R.MAT", "R.mat.hea")}
        assert headers == {"R": "R.hea", "R.HEA": "R.HEA", "R.Hea": "R.Hea", "R.MAT": "R.hea", "R.mat.hea": "R.mat.hea"}


def test_a_missing_header_is_named_by_its_expected_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for record in ("A", "A.hea", "A.HEA", "A.mat", "A.MAT"):
        assert find_header(record) == Path("A.hea")
    assert find_header("A.dat") == Path("A.dat.hea")
    assert [find_header(path) for path in (".", "/", "..")] == [Path(".hea"), Path("/.hea"), Path("...hea")]
    assert find_header(tmp_path / "nowhere/A.b") == tmp_path / "nowhere/A.b.hea"
