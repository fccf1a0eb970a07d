import shutil

import numpy as np
import pytest

from ecg.headers import RecordError
from ecg.labels import encode, source_of
from ecg.leads import LEADS
from ecg.records import read_record
from ecg.signals import preprocess
from ecg.store import LONGEST, build_store, open_store


def test_holds_every_record_of_the_trained_sources_in_order(store, headers):
    expected = [path.stem for path in headers if source_of(path.stem) not in ("INCART", "PTB")]
    assert list(store.names) == expected
    assert list(store.sources) == [source_of(name) for name in expected]
    assert {name for name, _ in store.dropped} == {path.stem for path in headers} - set(expected)


def test_gives_back_what_preprocess_gave_to_the_bit(store, headers):
    paths = {path.stem: path for path in headers}
    for record, name in enumerate(store.names):
        header, recording = read_record(paths[name])
        np.testing.assert_array_equal(store.signal(record), preprocess(header, recording, LEADS))
        np.testing.assert_array_equal(store.labels[record], encode(header.codes))


def test_a_cut_of_some_leads_is_that_part_of_the_whole(store):
    columns = (0, 1, 7)
    whole = store.signal(3)
    np.testing.assert_array_equal(store.signal(3, columns, 100, 250), whole[100:350, columns])
    assert len(whole) == store.lengths[3]


def test_does_not_depend_on_the_number_of_processes(store, made_up, tmp_path):
    other = build_store(made_up, tmp_path, jobs=2)
    np.testing.assert_array_equal(other.microvolts, store.microvolts)
    np.testing.assert_array_equal(other.names, store.names)
    assert other.digest == store.digest == open_store(tmp_path).digest
    assert other.dropped == store.dropped


def test_leaves_out_what_cannot_be_used_and_says_why(headers, tmp_path):
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
    store = build_store(tmp_path / "data", tmp_path / "store", jobs=1)
    assert list(store.names) == [path.stem for path in chosen[4:]]
    reasons = dict(store.dropped)
    assert set(reasons) == {path.stem for path in chosen[:4]}
    assert "line 1" in reasons[chosen[1].stem] and "no lead V6" in reasons[chosen[3].stem]
    assert all(path.stem in reasons[path.stem] for path in chosen[:4])
    assert open_store(tmp_path / "store").dropped == store.dropped


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
        digests[kind] = build_store(data, data / "store", jobs=1).digest
    assert digests.pop("again") == digests["as it was"]
    assert len(set(digests.values())) == len(digests)


def test_paths_lead_to_the_headers_below_the_data_folder(headers, tmp_path):
    folders = [tmp_path / "data" / name for name in ("one", "two/three")]
    for folder in folders:
        folder.mkdir(parents=True)
        for path in (headers[0], headers[0].with_suffix(".mat")):
            shutil.copy(path, folder)
    store = build_store(tmp_path / "data", tmp_path / "store", jobs=1)
    assert store.paths.tolist() == [f"one/{headers[0].name}", f"two/three/{headers[0].name}"]


def test_cuts_what_is_longer_than_the_longest(tmp_path):
    import scipy.io

    data = tmp_path / "data"
    data.mkdir()
    lines = [f"LONG1.mat 16+24 1000/mV 16 0 0 0 0 {lead}\n" for lead in LEADS]
    for name, seconds in (("LONG1", 150), ("LONG2", 0.5)):
        text = f"{name} 12 100 {round(seconds * 100)}\n" + "".join(lines).replace("LONG1", name)
        (data / f"{name}.hea").write_text(text)
        scipy.io.savemat(data / f"{name}.mat", {"val": np.ones((12, round(seconds * 100)), np.int16)}, format="4")
    store = build_store(data, tmp_path / "store", jobs=1)
    assert list(store.lengths) == [LONGEST]
    assert store.dropped == (("LONG2", "0.50 s is shorter than 1 s"),)


def test_errors_where_there_is_nothing(tmp_path):
    with pytest.raises(FileNotFoundError, match="no header"):
        build_store(tmp_path, tmp_path / "store")
    (tmp_path / "X1.hea").write_text("X1 nonsense")
    with pytest.raises(RecordError, match="none of 1 recordings can be used"):
        build_store(tmp_path, tmp_path / "store", jobs=1)
    with pytest.raises(FileNotFoundError):
        open_store(tmp_path / "store")
