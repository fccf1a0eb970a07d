import shutil

import numpy as np
import pytest

from ecg.labels import LEADS, encode, source_of
from ecg.records import RecordError, read_record
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
