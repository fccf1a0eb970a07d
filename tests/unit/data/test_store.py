import os
import re
import shutil

import numpy as np
import pytest
import scipy.io
from helpers import read_samples

from ecg.data.headers import RecordError
from ecg.data.labels import ABBREVIATIONS, CHALLENGE_CLASSES, CLASS_INDEX, source_of
from ecg.data.leads import LEADS
from ecg.data.loading import load_recording, load_training_recording
from ecg.data.preprocessing import FLAT, INVALID_VALUE, MAX_DURATION, SPIKE, preprocess
from ecg.data.records import read_record
from ecg.data.resampling import DEFAULT_PREPROCESSING, RATE, Preprocessing
from ecg.data.store import INDEX, build_store, open_store
from ecg.runtime.executors import ONE_PROCESS, LocalExecutor


def test_holds_every_record_of_the_trained_sources_in_order(store, headers):
    expected = [path.stem for path in headers if source_of(path.stem) not in ("INCART", "PTB")]
    assert list(store.names) == expected
    assert list(store.sources) == [source_of(name) for name in expected]
    assert {name for name, _ in store.excluded} == {path.stem for path in headers} - set(expected)


def test_signals_equal_those_of_preprocess_to_the_bit(store, headers):
    paths = {path.stem: path for path in headers}
    for record, name in enumerate(store.names):
        header, recording = read_record(paths[name])
        np.testing.assert_array_equal(store.signal(record), preprocess(header, recording, LEADS).signal)
        np.testing.assert_array_equal(store.labels[record], CHALLENGE_CLASSES.encode(header.codes))
        np.testing.assert_array_equal(store.as_scored[record], CHALLENGE_CLASSES.encode_as_scored(header.codes))


def test_leads_by_other_names_are_kept_as_the_standard_ones(store, headers, synthetic_recordings, tmp_path):
    names = (
        "DI",
        "Lead II",
        "MDC_ECG_LEAD_III",
        "lead avr",
        "AVL",
        "ECG aVF",
        *(f"C{number}" for number in range(1, 7)),
    )
    shutil.copytree(synthetic_recordings, tmp_path / "data")
    for path in (tmp_path / "data").glob("*.hea"):
        text = path.read_text()
        for lead, name in zip(LEADS, names, strict=True):
            text = text.replace(f" {lead}\n", f" {name}\n")
        path.write_text(text)
    renamed = build_store(tmp_path / "data", tmp_path / "store", executor=ONE_PROCESS)
    np.testing.assert_array_equal(read_samples(renamed), read_samples(store))
    assert renamed.excluded == store.excluded


def test_a_crop_of_a_recording_is_a_slice_of_the_recording(store):
    leads = (0, 1, 7)
    all_leads = store.signal(3)
    np.testing.assert_array_equal(store.signal(3, leads, 100, 250), all_leads[100:350, leads])
    assert len(all_leads) == store.lengths[3]


def test_does_not_depend_on_the_number_of_processes(store, synthetic_recordings, tmp_path):
    of_two_processes = build_store(synthetic_recordings, tmp_path, executor=LocalExecutor(2))
    np.testing.assert_array_equal(read_samples(of_two_processes), read_samples(store))
    np.testing.assert_array_equal(of_two_processes.names, store.names)
    assert of_two_processes.digest == store.digest == open_store(tmp_path).digest
    assert of_two_processes.excluded == store.excluded


def test_unusable_recordings_are_excluded_with_their_reason(headers, tmp_path):
    data = tmp_path / "data" / "nested"
    data.mkdir(parents=True)
    chosen = [path for path in headers if path.stem.startswith("HR")][:6]
    for path in chosen:
        shutil.copy(path, data)
        shutil.copy(path.with_suffix(".mat"), data)
    broken = [data / path.name for path in chosen]
    broken[0].with_suffix(".mat").unlink()
    broken[1].write_text("not a header")
    broken[2].with_suffix(".mat").write_bytes(b"")
    broken[3].write_text(broken[3].read_text().replace(" V6", " V9"))
    store = build_store(tmp_path / "data", tmp_path / "store", executor=ONE_PROCESS)
    assert list(store.names) == [f"nested/{path.stem}" for path in chosen[4:]]
    reasons = {name.removeprefix("nested/"): reason for name, reason in store.excluded}
    assert set(reasons) == {path.stem for path in chosen[:4]}
    assert "line 1" in reasons[chosen[1].stem] and "no lead V6" in reasons[chosen[3].stem]
    assert all(path.stem in reasons[path.stem] for path in chosen[:4])
    assert open_store(tmp_path / "store").excluded == store.excluded


def test_the_digest_changes_with_a_sample_a_label_a_name_or_a_length(headers, tmp_path):
    source = next(path for path in headers if path.stem.startswith("HR"))
    text, signal = source.read_text(), source.with_suffix(".mat").read_bytes()
    moved = signal[:4000] + bytes([signal[4000] ^ 64]) + signal[4001:]
    shorter = (text.replace("500 5000", "500 4900"), signal[:8] + (4900).to_bytes(4, "little") + signal[12 : -12 * 200])
    variants = {
        "as it was": ("A", text, signal), "again": ("A", text, signal), "sample": ("A", text, moved),
        "label": ("A", text.replace("Dx: ", "Dx: 164934002,59931005,251146004,"), signal),
        "name": ("B", text, signal), "length": ("A", *shorter),
    }  # fmt: skip
    digests = {}
    for kind, (name, header, integers) in variants.items():
        data = tmp_path / kind
        data.mkdir()
        (data / f"{name}.hea").write_text(header.replace(source.stem, name))
        (data / f"{name}.mat").write_bytes(integers)
        digests[kind] = build_store(data, data / "store", executor=ONE_PROCESS).digest
    assert digests.pop("again") == digests["as it was"]
    assert len(set(digests.values())) == len(digests)


def test_paths_lead_to_the_headers_below_the_data_folder(headers, tmp_path):
    folders = [tmp_path / "data" / name for name in ("one", "two/three")]
    for folder in folders:
        folder.mkdir(parents=True)
        for path in (headers[0], headers[0].with_suffix(".mat")):
            shutil.copy(path, folder)
    store = build_store(tmp_path / "data", tmp_path / "store", executor=ONE_PROCESS)
    assert store.paths.tolist() == [f"one/{headers[0].name}", f"two/three/{headers[0].name}"]


def test_long_recordings_are_cropped_to_the_maximum(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    lines = [f"LONG1.mat 16+24 1000/mV 16 0 0 0 0 {lead}\n" for lead in LEADS]
    for name, seconds in (("LONG1", 150), ("LONG2", 0.5)):
        text = f"{name} 12 100 {round(seconds * 100)}\n" + "".join(lines).replace("LONG1", name)
        (data / f"{name}.hea").write_text(text)
        scipy.io.savemat(
            data / f"{name}.mat",
            {"val": np.tile(np.arange(round(seconds * 100)), (12, 1)).astype(np.int16)},
            format="4",
        )
    store = build_store(data, tmp_path / "store", executor=ONE_PROCESS)
    assert list(store.lengths) == [MAX_DURATION * RATE]
    assert store.excluded == (("LONG2", "LONG2: 0.50 s is shorter than 1 s"),)


def test_an_empty_folder_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="no header"):
        build_store(tmp_path, tmp_path / "store")
    (tmp_path / "X1.hea").write_text("X1 nonsense")
    with pytest.raises(RecordError, match="none of 1 recordings can be used"):
        build_store(tmp_path, tmp_path / "store", executor=ONE_PROCESS)
    with pytest.raises(FileNotFoundError):
        open_store(tmp_path / "store")


def copy_recordings(headers, folder, count=4):
    """Copy the first PTB-XL recordings into a folder, and return it."""
    folder.mkdir(parents=True)
    for path in [path for path in headers if path.stem.startswith("HR")][:count]:
        shutil.copy(path, folder)
        shutil.copy(path.with_suffix(".mat"), folder)
    return folder


@pytest.fixture
def read_paths(monkeypatch):
    """The paths of the recordings that are read."""
    paths = []
    monkeypatch.setattr(
        "ecg.data.store.load_training_recording",
        lambda path, **arguments: paths.append(path) or load_training_recording(path, **arguments),
    )
    return paths


def test_files_that_are_the_same_are_not_read_again(headers, tmp_path, read_paths):
    data = copy_recordings(headers, tmp_path / "data")
    first = build_store(data, tmp_path / "store", executor=ONE_PROCESS)
    assert len(read_paths) == 4
    again = build_store(data, tmp_path / "store", executor=ONE_PROCESS)
    assert len(read_paths) == 4 and again.digest == first.digest and again.repaired == first.repaired
    np.testing.assert_array_equal(read_samples(again), read_samples(first))


def test_files_that_changed_are_read_again(headers, tmp_path, read_paths):
    data = copy_recordings(headers, tmp_path / "data")
    first = build_store(data, tmp_path / "store", executor=ONE_PROCESS)
    path = sorted(data.glob("*.mat"))[0]
    os.utime(path, ns=(1, 1))
    touched = build_store(data, tmp_path / "store", executor=ONE_PROCESS)
    assert len(read_paths) == 5 and touched.digest == first.digest
    header = path.with_suffix(".hea")
    header.write_text(header.read_text().replace("Dx: ", "Dx: 164934002,"))
    assert build_store(data, tmp_path / "store", executor=ONE_PROCESS).digest != first.digest
    status = header.stat()
    header.write_text(header.read_text().replace("Dx: 164934002,", "Dx: 164917005,"))  # same size
    os.utime(header, ns=(status.st_atime_ns, status.st_mtime_ns))  # same time of change
    assert (
        "QAb" in np.array(ABBREVIATIONS)[build_store(data, tmp_path / "store", executor=ONE_PROCESS).labels.any(axis=0)]
    )
    header.unlink()
    assert len(build_store(data, tmp_path / "store", executor=ONE_PROCESS)) == 3


@pytest.mark.parametrize("moment", [1, 3])
def test_an_interrupted_store_cannot_be_opened(headers, tmp_path, monkeypatch, moment):
    data = copy_recordings(headers, tmp_path / "data")
    paths = []

    def interrupt(path, **arguments):
        paths.append(path)
        if len(paths) == moment:
            raise KeyboardInterrupt
        return load_training_recording(path, **arguments)

    monkeypatch.setattr("ecg.data.store.load_training_recording", interrupt)
    with pytest.raises(KeyboardInterrupt):
        build_store(data, tmp_path / "store", executor=ONE_PROCESS)
    with pytest.raises(FileNotFoundError):
        open_store(tmp_path / "store")
    assert len(build_store(data, tmp_path / "store", executor=ONE_PROCESS)) == 4


def test_repairs_come_back_from_the_store_as_preprocess_gave_them(headers, tmp_path):
    data = copy_recordings(headers, tmp_path / "data", 3)
    paths = sorted(data.glob("*.hea"))
    for path, damage in zip(paths, ({(1, 9): -32768}, {(0, 0): 32000, (7, 40): -32000}, {}), strict=True):
        recording = read_record(path)[1].copy()
        for index, value in damage.items():
            recording[index] = value
        recording[5] = 3 if not damage else recording[5]
        scipy.io.savemat(path.with_suffix(".mat"), {"val": recording}, format="4")
    store = build_store(data, tmp_path / "store", executor=ONE_PROCESS)
    expected = [(path.stem, repair) for path in paths
                for repair in preprocess(*read_record(path), LEADS).repairs]  # fmt: skip
    repairs = [(INVALID_VALUE, ("II",), 1), (SPIKE, ("I", "V2"), 2), (FLAT, ("aVF",), 1)]
    assert [tuple(repair) for _, repair in expected] == repairs
    assert store.repaired == tuple(expected) and open_store(tmp_path / "store").repaired == store.repaired


def test_a_recording_is_loaded_as_far_as_it_can_be_read(headers, tmp_path):
    data = copy_recordings(headers, tmp_path / "data", 1)
    (path,) = data.glob("*.hea")
    loaded = load_recording(path)
    assert loaded.reason is None and loaded.header.name == path.stem and loaded.microvolts.dtype == np.int16
    for_training = load_training_recording(path)
    assert for_training.header == loaded.header
    np.testing.assert_array_equal(for_training.microvolts, loaded.microvolts)
    path.with_suffix(".mat").unlink()
    without_signal = load_recording(path)
    assert (
        without_signal.header == loaded.header
        and without_signal.microvolts is None
        and path.stem in without_signal.reason
    )
    path.write_text("nonsense")
    assert load_recording(path).header is None and "line 1" in load_recording(path).reason


def test_a_recording_without_any_signal_is_excluded(headers, tmp_path):
    data = copy_recordings(headers, tmp_path / "data", 2)
    path = sorted(data.glob("*.mat"))[0]
    scipy.io.savemat(path, {"val": np.full((12, 5000), 7, np.int16)}, format="4")
    store = build_store(data, tmp_path / "store", executor=ONE_PROCESS)
    assert store.excluded == ((path.stem, f"{path.stem}: every lead is flat"),) and len(store) == 1


def test_files_in_other_folders_do_not_change_the_fingerprint(headers, tmp_path, read_paths):
    data = copy_recordings(headers, tmp_path / "data")
    build_store(data, data / "model" / "store", executor=ONE_PROCESS)
    (data / "model" / "progress").write_text("more")
    build_store(data, data / "model" / "store", executor=ONE_PROCESS)
    assert len(read_paths) == 4


def test_a_folder_that_cannot_be_listed_is_excluded_with_its_reason(headers, tmp_path, unlistable_folder):
    data = tmp_path / "data"
    shutil.copytree(headers[0].parent, data)
    complete = build_store(data, tmp_path / "whole", executor=ONE_PROCESS)
    (data / "lost+found").mkdir()
    unlistable_folder(data / "lost+found")
    store = build_store(data, tmp_path / "store", executor=ONE_PROCESS)
    assert store.digest == complete.digest
    assert store.excluded == (("lost+found/", "cannot be read: Permission denied"), *complete.excluded)


def test_long_reasons_do_not_make_the_index_large(headers, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(headers[0].parent, data)
    (data / "E99999.hea").write_text(
        "\n".join(["E99999 900 500 100", *(f"E99999.mat 16 1000/mV 16 0 0 0 0 {'x' * 1000}" for _ in range(900))])
    )
    np.zeros(5).tofile(data / "E99999.mat")
    store = build_store(data, tmp_path / "store", executor=ONE_PROCESS)
    assert "E99999" in dict(store.excluded)
    size, rows = (tmp_path / "store" / INDEX).stat().st_size, len(store.excluded) + len(store.repaired)
    assert size < 100_000 + 5_000 * rows
    assert open_store(tmp_path / "store").excluded == store.excluded


def test_a_subset_is_a_store(store):
    records = np.array([7, 2, 30])
    subset = store.subset(records)
    assert len(subset) == 3 and subset.digest not in (store.digest, store.subset(records[::-1]).digest)
    assert subset.digest == store.subset(records).digest
    for index, record in enumerate(records):
        assert subset.names[index] == store.names[record] and subset.lengths[index] == store.lengths[record]
        np.testing.assert_array_equal(subset.signal(index), store.signal(record))
        np.testing.assert_array_equal(subset.signal(index, [1], 50, 100), store.signal(record, [1], 50, 100))
    np.testing.assert_array_equal(subset.labels, store.labels[records])
    np.testing.assert_array_equal(subset.subset(np.array([1])).signal(0), store.signal(2))


def test_a_store_has_one_preprocessing(headers, tmp_path):
    data, preparation = copy_recordings(headers, tmp_path / "data"), Preprocessing(200, None, linear=True)
    usual = build_store(data, tmp_path / "store", executor=ONE_PROCESS)
    store = build_store(data, tmp_path / "store", executor=ONE_PROCESS, preparation=preparation)
    assert (usual.preparation, store.preparation) == (DEFAULT_PREPROCESSING, preparation)
    assert open_store(tmp_path / "store").preparation == preparation
    assert (abs(store.lengths * 250 / 200 - usual.lengths) <= 1.25).all()
    for record, path in enumerate(store.paths):
        header, recording = read_record(data / path)
        expected = preprocess(header, recording, LEADS, preparation=preparation).signal
        np.testing.assert_array_equal(store.signal(record), expected)


def test_demographics_and_unscored_classes_are_stored(headers, tmp_path):
    data = copy_recordings(headers, tmp_path / "data")
    path = next(data.glob("*.hea"))
    text = path.read_text()
    lines = [line for line in text.splitlines() if not any(key in line for key in ("Age", "Sex", "Dx"))]
    path.write_text("\n".join([*lines, "# Age: 40", "# Sex: Male", "# Dx: 429622005,426783006,164884008"]) + "\n")
    store = build_store(data, tmp_path / "store", executor=ONE_PROCESS)
    index = store.names.tolist().index(path.stem)
    np.testing.assert_array_equal(store.demographics[index], np.array([0.4, 0, 1, 0, 0], np.float32))
    assert store.additional[index].tolist() == [True, False]
    classes = [np.flatnonzero(rows[index]).tolist() for rows in (store.labels, store.as_scored)]
    assert classes == [
        [CLASS_INDEX["NSR"], CLASS_INDEX["PVC"]],
        [CLASS_INDEX["NSR"]],
    ]  # ventricular ectopic beats are merged for training
    before = store.digest
    path.write_text(path.read_text().replace("Age: 40", "Age: 41"))
    assert build_store(data, tmp_path / "store", executor=ONE_PROCESS).digest != before


def test_nested_recordings_of_the_same_name_have_unique_names(headers, tmp_path):
    data = tmp_path / "data"
    chosen = [path for path in headers if path.stem.startswith("HR")][:3]
    for number, path in enumerate(chosen, 1):
        folder = data / f"p00{number}"
        folder.mkdir(parents=True)
        recording = read_record(path)[1].copy()
        recording[0, 5] = -32768
        (folder / "ecg.hea").write_text(path.read_text().replace(f"{path.stem}.mat", "ecg.mat"))
        scipy.io.savemat(folder / "ecg.mat", {"val": recording if number < 3 else recording[:3]}, format="4")
    store = build_store(data, tmp_path / "store", executor=ONE_PROCESS)
    assert store.names.tolist() == ["p001/ecg", "p002/ecg"] and [name for name, _ in store.excluded] == ["p003/ecg"]
    assert [name for name, repair in store.repaired if repair.kind == INVALID_VALUE] == ["p001/ecg", "p002/ecg"]


def test_diagnoses_that_the_challenge_does_not_know_are_counted(headers, tmp_path):
    data = copy_recordings(headers, tmp_path / "data", 5)
    lines = ("251238007,6180003", "59118001;251238007", "Unknown", "", "164934002 426783006")
    for path, line in zip(sorted(data.glob("*.hea")), lines, strict=True):
        path.write_text(re.sub("Dx:.*", f"Dx: {line}", path.read_text()))
    store = build_store(data, tmp_path / "store", executor=ONE_PROCESS)
    assert store.undiagnosed.tolist() == [True, False, True, True, False]
    assert store.unknown_codes == (("251238007", 2), ("6180003", 1))
    assert store.labels.sum(axis=1).tolist() == [0, 1, 0, 0, 2]
    assert store.as_scored.sum(axis=1).tolist() == [0, 0, 0, 0, 0]  # the evaluator splits at commas alone
    assert store.subset(np.array([1])).unknown_codes == ()
