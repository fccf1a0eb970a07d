"""The routes: what the page and programs get."""

import asyncio
import json
import os
import re
import shutil
from concurrent.futures import Future
from urllib.parse import urlencode

import numpy as np
import pytest
import scipy.io
from sklearn.metrics import cohen_kappa_score
from web.conftest import StandInRunner, make_prediction

import ecg
from ecg.data.headers import parse_header
from ecg.data.labels import ABBREVIATIONS, CLASS_INDEX, SCORED
from ecg.data.leads import LEADS
from ecg.data.records import read_record
from ecg.data.reviews import Review, Verdict, append_review, read_reviews
from ecg.evaluation.calibration import Calibration
from ecg.models.decision import Rule
from ecg.runtime.executors import ONE_PROCESS
from ecg.web.app import ANSWER_SECONDS
from ecg.web.catalogue import MOST_ORDERS, ListQuery, load_catalogue
from ecg.web.prediction_worker import TASK_SECONDS, PackedEvidence, RecordingTooLong, TaskError
from ecg.web.predictions import failed_prediction
from ecg.web.requests import MOST_DIAGNOSES, MOST_HEADER_BYTES


def get(client, path, status=200, **parameters):
    answer = client.get(path, params=parameters)
    assert answer.status_code == status, answer.text
    return answer.json()


def review(client, name, status=201, **fields):
    content = {"record": name, "class": "LAD", "verdict": "absent", "comment": ""} | fields
    answer = client.post("/api/reviews", json=content)
    assert answer.status_code == status, answer.text
    return answer.json()


def test_the_session_describes_model_and_data(make_client, make_bench, catalogue):
    session = get(make_client(make_bench(reviewer="Ann")), "/api/session")
    assert (session["reviewer"], session["default_reviewer"], session["blinded"]) == ("Ann", "Ann", False)
    assert session["model"] == {"system": "cai2021"}
    assert [item["abbreviation"] for item in session["classes"]] == list(ABBREVIATIONS)
    assert [item["name"] for item in session["classes"]] == [diagnosis.name for diagnosis in SCORED]
    assert not session["classes"][CLASS_INDEX["Brady"]]["predicted"] and session["classes"][0]["predicted"]
    assert session["sources"] == sorted(set(catalogue.sources))
    assert session["counts"] == {"recordings": 60, "predicted": 0, "failed": 0}


def test_a_reviewer_logs_in_and_out(make_client, make_bench, catalogue):
    bench = make_bench(reviewer="Ann")
    client = make_client(bench, logs_in=False)
    session = get(client, "/api/session")
    assert session["reviewer"] is None and session["default_reviewer"] == "Ann"
    review(client, catalogue.keys[0], 409)
    assert client.post("/api/login", json={"reviewer": "  Błażej "}).json() == {"reviewer": "Błażej"}
    cookie = client.cookies.jar._cookies["127.0.0.1"]["/"]["reviewer-8000"]
    assert cookie.has_nonstandard_attr("HttpOnly") and cookie.get_nonstandard_attr("SameSite") == "strict"
    assert get(client, "/api/session")["reviewer"] == "Błażej"
    assert client.post("/api/logout", json={}).status_code == 200
    assert get(client, "/api/session")["reviewer"] is None
    review(client, catalogue.keys[0], 409)
    assert not bench.reviews.compared_reviews()
    for name in ("", ".", "../x", "a/b", "x" * 61, "<b>", "a\nb", "\ud800"):
        answer = client.post("/api/login", content=json.dumps({"reviewer": name}),
                             headers={"content-type": "application/json"})  # fmt: skip
        assert answer.status_code == 400 and set(answer.json()) == {"error"}, name


def test_a_name_in_another_case_is_the_same_reviewer(make_client, make_bench, catalogue):
    bench = make_bench()
    first, second = make_client(bench), make_client(bench)
    first.post("/api/login", json={"reviewer": "Ann"})
    review(first, catalogue.keys[0])
    assert second.post("/api/login", json={"reviewer": "ANN"}).json() == {"reviewer": "Ann"}
    assert len(get(second, "/api/reviews")["reviews"]) == 1


def test_pages_of_the_list_hold_each_recording_once(client, catalogue):
    names = []
    for offset in range(0, 60, 25):
        page = get(client, "/api/recordings", sort="name", offset=offset, limit=25)
        assert (page["total"], page["offset"]) == (60, offset)
        names += [item["record"] for item in page["items"]]
    assert names == catalogue.keys
    assert get(client, "/api/recordings", offset=60)["items"] == []


def test_filters_leave_the_recordings_that_fit(make_client, make_bench, catalogue):
    bench = make_bench(reviewer="Ann")
    client = make_client(bench)
    for row in range(30):
        bench.predictions.store(row, make_prediction(NSR=0.95 if row % 2 else 0.5))
    labelled = {name for name, labels in zip(catalogue.keys, catalogue.diagnoses, strict=True) if "NSR" in labels}

    def records(**parameters):
        return {item["record"] for item in get(client, "/api/recordings", limit=200, **parameters)["items"]}

    assert records(label="NSR") == labelled and labelled
    assert records(predicted="NSR") == set(catalogue.keys[1:30:2])
    assert records(suspected=1) == set(catalogue.keys[1:30:2]) - labelled
    assert records(source="Georgia") == {
        name for name, source in zip(catalogue.keys, catalogue.sources, strict=True) if source == "Georgia"
    }
    assert records(search=catalogue.keys[7].lower()) == {catalogue.keys[7]}
    assert records(search="georgia e") == {name for name in records(source="Georgia") if "E" in name}
    for parameters in ({"label": "no"}, {"predicted": "no"}, {"source": "no"}, {"search": "§"}):
        assert records(**parameters) == set()
    review(client, catalogue.keys[3])
    assert records(unreviewed=1) == set(catalogue.keys) - {catalogue.keys[3]}
    assert records(label="NSR", predicted="NSR") == labelled & set(catalogue.keys[1:30:2])


@pytest.mark.parametrize("sort", ["source", "age", "sex", "seconds", "suspicion"])
@pytest.mark.parametrize("descending", [0, 1])
def test_the_list_is_sorted_with_unknown_values_last(make_client, make_bench, sort, descending):
    bench = make_bench()
    for row in range(0, 60, 2):
        bench.predictions.store(row, make_prediction(NSR=row / 60))
    items = get(make_client(bench), "/api/recordings", sort=sort, descending=descending, limit=200)["items"]
    values = [None if item[sort] == "Unknown" else item[sort] for item in items]
    known = [value for value in values if value is not None]
    assert known == sorted(known, reverse=bool(descending)) and len(items) == 60
    assert values[: len(known)] == known, "unknown values come last"


def test_the_most_suspicious_recording_comes_first_unless_told_otherwise(make_client, make_bench, catalogue):
    bench = make_bench()
    row = next(row for row, labels in enumerate(catalogue.diagnoses) if "NSR" in labels)
    for index in range(60):
        bench.predictions.store(index, make_prediction())
    bench.predictions.store(row, make_prediction(NSR=0.01))
    item = get(make_client(bench), "/api/recordings")["items"][0]
    assert item["record"] == catalogue.keys[row]
    assert item["suspected"] == [{"class": "NSR", "labelled": True, "probability": 0.01}]
    assert item["suspicion"] == pytest.approx(0.99)


def test_wrong_parameters_are_refused(client, catalogue):
    for name, value in (("limit", 201), ("limit", -1), ("limit", "x"), ("offset", "1e3"), ("sort", "labels"),
                        ("suspected", 2), ("descending", "yes"), ("offset", "9" * 400), ("limit", "²")):  # fmt: skip
        assert "error" in get(client, "/api/recordings", 400, **{name: value}), (name, value)
    get(client, "/api/signal", 400, record=catalogue.keys[0], kind="x")
    for path in ("/api/recording", "/api/signal", "/api/reviews"):
        assert get(client, path, 404, record="nobody") == {"error": "There is no recording of this name."}
    assert client.get("/nothing").status_code == 404 and "error" in client.get("/nothing").json()
    assert client.post("/api/session").status_code == 405 and "error" in client.post("/api/session").json()


def test_a_recording_has_facts_labels_and_predictions(make_client, make_bench, catalogue):
    client, row = make_client(make_bench()), catalogue.index["A0001"] if "A0001" in catalogue.index else 0
    header, samples = read_record(catalogue.path(row))
    recording = get(client, "/api/recording", record=catalogue.keys[row])
    assert recording["leads"] == list(header.lead_names) and recording["samples"] == samples.shape[1]
    assert recording["seconds"] == samples.shape[1] / header.sampling_frequency
    assert [label["code"] for label in recording["labels"]] == list(header.codes)
    assert recording["probabilities"]["NSR"] == pytest.approx(0.7) and "Brady" not in recording["probabilities"]
    assert recording["predicted"]["NSR"] and not recording["predicted"]["AF"]
    assert recording["thresholds"]["AF"] == 0.6 and recording["calibrated"] is None
    assert (recording["unusable"], recording["reviews"], recording["other_reviews"]) == (None, [], 0)


def test_programs_get_calibrated_probabilities_if_they_decide(make_client, make_bench, synthetic_recordings):
    rule = Rule(np.full(26, 0.6), decision="expected_credit", calibration=Calibration(0.5, (0.0,) * 26))
    client, path = make_client(make_bench(rule=rule)), sorted(synthetic_recordings.rglob("*.hea"))[0]
    answer = client.post("/api/predict", files={"header": path.read_bytes(), "signal": b"x"}).json()
    [sinus] = [item for item in answer["classes"] if item["abbreviation"] == "NSR"]
    calibrated = rule.calibrate(make_prediction(NSR=0.7).probabilities)[CLASS_INDEX["NSR"]]
    assert answer["decision"] == "expected_credit" and (sinus["probability"], sinus["threshold"]) == (0.7, None)
    assert sinus["calibrated"] == pytest.approx(calibrated, abs=1e-5) != 0.7


def test_a_recording_that_cannot_be_predicted_is_listed_with_the_reason(make_client, make_bench, catalogue):
    bench = make_bench()
    bench.predictions.store(0, failed_prediction("every lead is flat", 26))
    client = make_client(bench)
    [item] = get(client, "/api/recordings", search=catalogue.keys[0])["items"]
    assert item["failed"] is True and item["predicted"] is None and item["suspicion"] is None
    assert get(client, "/api/recording", record=catalogue.keys[0])["unusable"] == "every lead is flat"
    assert get(client, "/api/session")["counts"]["failed"] == 1


def test_a_file_that_is_not_called_in_utf8_is_answered(make_client, make_bench, synthetic_recordings, tmp_path):
    source = sorted(synthetic_recordings.rglob("*.hea"))[0]
    path = os.fsencode(tmp_path / "data") + b"/E\xff<1"
    (tmp_path / "data").mkdir()
    shutil.copy(source, path + b".hea")
    client = make_client(
        make_bench(load_catalogue(tmp_path / "data", tmp_path / "cache", executor=ONE_PROCESS), reviewer="Ann")
    )
    [item] = get(client, "/api/recordings")["items"]
    assert item["record"] == "E\\xff<1"
    assert "no such file" in get(client, "/api/recording", record=item["record"])["unusable"]
    get(client, "/api/signal", 422, record=item["record"])
    assert review(client, item["record"])["record"] == item["record"]
    assert len(get(client, "/api/recording", record=item["record"])["reviews"]) == 1


def test_names_that_look_alike_are_different_recordings(make_client, make_bench, synthetic_recordings, tmp_path):
    source = sorted(synthetic_recordings.rglob("*.hea"))[0]
    names = [b"E\xff", b"E\\xff", b"e\xff", b"a/A1", b"b/A1", b"b/a1", b"E\n1", b"E 1", b"E\t1", b"E\\u000a1"]
    for name in names:
        path = os.path.join(os.fsencode(tmp_path / "data"), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        shutil.copy(source, path + b".hea")
    bench = make_bench(load_catalogue(tmp_path / "data", tmp_path / "cache", executor=ONE_PROCESS), reviewer="Ann")
    client = make_client(bench)
    items = get(client, "/api/recordings", sort="name", descending=0)["items"]
    keys = [item["record"] for item in items]
    assert len(set(keys)) == len(names) and all(key.isprintable() for key in keys)
    for index, key in enumerate(keys):
        assert review(client, key, comment=f"number {index}")["record"] == key
    for index, key in enumerate(keys):
        [saved] = get(client, "/api/recording", record=key)["reviews"]
        assert (saved["record"], saved["comment"]) == (key, f"number {index}")
    reviewed = {review.record for review in read_reviews(tmp_path / "reviews")}
    assert reviewed == {os.fsdecode(name) for name in names}
    assert len((tmp_path / "reviews" / "Ann.csv").read_bytes().splitlines()) == 1 + len(names)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [1e308, -1e308, np.inf, np.nan, 1e200])
def test_samples_that_are_no_measurements_are_gaps(make_client, make_bench, tmp_path, value):
    signal = np.random.default_rng(0).normal(0, 500, (12, 5000))
    signal[0, 100:200], signal[1, ::2], signal[1, 1::2] = value, value, -value
    (tmp_path / "data").mkdir()
    scipy.io.savemat(tmp_path / "data" / "A1.mat", {"val": signal})
    lines = ["A1 12 500 5000", *(f"A1.mat 16 1000/mV 16 0 0 0 0 {lead}" for lead in LEADS)]
    (tmp_path / "data" / "A1.hea").write_text("\n".join(lines))
    client = make_client(make_bench(load_catalogue(tmp_path / "data", tmp_path / "cache", executor=ONE_PROCESS)))
    facts = get(client, "/api/recording", record="A1")
    assert {repair["kind"] for repair in facts["repairs"]} >= {"not finite", "lead rejected for its faults"}
    answer = client.get("/api/signal", params={"record": "A1"})
    shown = np.frombuffer(answer.content, "<i2").reshape(12, -1)
    units = np.array([float(unit) for unit in answer.headers["x-microvolts-per-unit"].split(",")])
    assert np.isfinite(units).all() and (shown[1] == -(2**15)).all()
    gap = shown[0] == -(2**15)
    assert gap[100:200].all() and gap.sum() == 100
    microvolts = shown[0][~gap] * units[0]
    expected = np.delete(signal[0], slice(100, 200))
    np.testing.assert_allclose(microvolts, expected - np.quantile(expected, 0.5, method="lower"), atol=units[0])
    assert client.get("/api/signal", params={"record": "A1", "kind": "filtered"}).status_code == 200


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("gain", ["1e308", "-1e308", "1e999", "1e-308"])
def test_a_gain_that_no_recorder_has_is_said(make_client, make_bench, tmp_path, gain):
    (tmp_path / "data").mkdir()
    scipy.io.savemat(tmp_path / "data" / "A1.mat", {"val": np.arange(24000, dtype=np.int16).reshape(12, 2000)})
    lines = ["A1 12 500 2000", *(f"A1.mat 16 {gain}/mV 16 0 0 0 0 {lead}" for lead in LEADS)]
    (tmp_path / "data" / "A1.hea").write_text("\n".join(lines))
    client = make_client(make_bench(load_catalogue(tmp_path / "data", tmp_path / "cache", executor=ONE_PROCESS)))
    reasons = [get(client, "/api/recording", record="A1")["unusable"]]
    reasons += [get(client, "/api/signal", 422, record="A1", kind=kind)["error"] for kind in ("raw", "filtered")]
    assert all(f"gain {float(gain):g} is not within" in reason for reason in reasons)


def test_calibrated_probabilities_are_shown_if_they_decide(make_client, make_bench, catalogue):
    bench = make_bench(rule=Rule(np.full(26, 0.6), decision="expected_credit"))
    recording = get(make_client(bench), "/api/recording", record=catalogue.keys[0])
    assert recording["decision"] == "expected_credit" and recording["thresholds"] is None
    assert recording["calibrated"]["NSR"] == pytest.approx(0.7)


def test_the_signal_is_the_recording_in_microvolts(client, catalogue):
    header, samples = read_record(catalogue.path(0))
    answer = client.get("/api/signal", params={"record": catalogue.keys[0], "kind": "raw"})
    leads = answer.headers["X-Leads"].split(",")
    integers = np.frombuffer(answer.content, "<i2").reshape(len(leads), int(answer.headers["X-Samples"]))
    units = np.array(answer.headers["X-Microvolts-Per-Unit"].split(","), float)
    assert float(answer.headers["X-Frequency"]) == header.sampling_frequency
    for row, lead in enumerate(leads):
        index = header.lead_names.index(lead)
        invalid = samples[index] == header.leads[index].invalid
        expected = samples[index].astype(float) * 1000 / header.leads[index].per_millivolt
        received = integers[row] * units[row]
        assert np.array_equal(integers[row] == int(answer.headers["X-Invalid"]), invalid)
        shift = (received - expected)[~invalid]
        assert np.ptp(shift) <= units[row] + 1e-9, "equal but for a constant and rounding"


def test_a_filtered_signal_has_250_samples_per_second(client, catalogue):
    answer = client.get("/api/signal", params={"record": catalogue.keys[0], "kind": "filtered"})
    seconds = get(client, "/api/recording", record=catalogue.keys[0])["seconds"]
    assert float(answer.headers["X-Frequency"]) == 250
    assert int(answer.headers["X-Samples"]) == pytest.approx(250 * seconds, abs=1)


def test_a_review_is_on_the_disk_before_the_answer(make_client, make_bench, catalogue):
    bench = make_bench(reviewer="Ann")
    client = make_client(bench)
    saved = review(client, catalogue.keys[5], verdict="unsure", comment='a "b", c\nd')
    [stored] = read_reviews(bench.reviews.folder)
    assert saved == {"record": catalogue.keys[5], "class": "LAD", "verdict": "unsure", "comment": 'a "b", c d',
                     "time": stored.time, "version": stored.version, "blinded": False, "reviewer": "Ann"}  # fmt: skip
    assert get(client, "/api/reviews", record=catalogue.keys[5])["reviews"] == [saved]
    review(client, catalogue.keys[5], verdict="present")
    assert [item["verdict"] for item in get(client, "/api/reviews")["reviews"]] == ["present"], "the last one counts"
    assert get(client, "/api/recording", record=catalogue.keys[5])["reviews"][0]["verdict"] == "present"


@pytest.mark.parametrize("given", [True, False])
def test_the_server_and_not_the_browser_says_whether_a_verdict_is_blinded(make_client, make_bench, catalogue, given):
    for blinded in (True, False):
        client = make_client(make_bench(reviewer="Ann", blinded=blinded))
        assert review(client, catalogue.keys[blinded], blinded=given)["blinded"] == blinded


def test_malformed_reviews_are_refused_and_leave_nothing(make_client, make_bench, catalogue):
    bench = make_bench(reviewer="Ann")
    client, record = make_client(bench), catalogue.keys[0]
    for fields in ({"class": "XYZ"}, {"class": 3}, {"verdict": "maybe"}, {"verdict": None}, {"comment": "x" * 1001},
                   {"comment": ["x"]}, {"record": 7}):  # fmt: skip
        assert "error" in review(client, record, 400, **fields), fields
    review(client, "nobody", 404)
    review(make_client(make_bench()), record, 409)
    assert not list(bench.reviews.folder.glob("*.csv"))


def test_a_full_disk_is_an_error_of_the_review(make_client, make_bench, catalogue, monkeypatch):
    client = make_client(make_bench(reviewer="Ann"))

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.write", fail)
    answer = review(client, catalogue.keys[0], 503)
    assert answer == {"error": "The review could not be saved: No space left on device"}
    monkeypatch.undo()
    assert get(client, "/api/reviews")["reviews"] == []


def test_two_reviewers_see_their_own_reviews(make_client, make_bench, catalogue):
    bench = make_bench()
    ann, bob = make_client(bench), make_client(bench)
    ann.post("/api/login", json={"reviewer": "Ann"})
    bob.post("/api/login", json={"reviewer": "Bob"})
    review(ann, catalogue.keys[0], verdict="present")
    review(bob, catalogue.keys[0], verdict="absent")
    review(bob, catalogue.keys[0], **{"class": "AF"})
    assert [item["verdict"] for item in get(ann, "/api/reviews")["reviews"]] == ["present"]
    assert get(ann, "/api/recording", record=catalogue.keys[0])["other_reviews"] == 2
    assert get(bob, "/api/recording", record=catalogue.keys[0])["other_reviews"] == 1


def test_a_program_gets_predictions_of_its_recording(make_client, make_bench, synthetic_recordings):
    runner = StandInRunner()
    client, path = make_client(make_bench(runner=runner)), sorted(synthetic_recordings.rglob("*.hea"))[0]
    content = path.with_suffix(".mat").read_bytes()
    answer = client.post("/api/predict", files={"header": path.read_bytes(), "signal": content})
    assert answer.status_code == 200
    expected = {"record": path.stem, "system": "cai2021", "version": ecg.__version__, "lead_set": 12,
                "decision": "thresholds", "repairs": []}  # fmt: skip
    assert {name: value for name, value in answer.json().items() if name != "classes"} == expected
    [sinus] = [item for item in answer.json()["classes"] if item["abbreviation"] == "NSR"]
    assert sinus == {"abbreviation": "NSR", "name": "sinus rhythm", "codes": ["426783006"], "predicted": True,
                     "probability": 0.7, "threshold": 0.6, "calibrated": None}  # fmt: skip
    assert runner.tasks == [("predict_upload", path.read_text(), content)]


def test_a_recording_that_cannot_be_predicted_is_an_error(make_client, make_bench):
    def fail(name, *arguments):
        raise TaskError("every lead is flat")

    client = make_client(make_bench(runner=StandInRunner(fail)))
    files = {"header": b"x 1 500 5\nx.mat 16 1000/mV 16 0 0 0 0 I\n", "signal": b"x"}
    answer = client.post("/api/predict", files=files)
    assert (answer.status_code, answer.json()) == (
        422, {"error": "The recording cannot be predicted: every lead is flat"}
    )  # fmt: skip
    answer = client.post("/api/predict", files=files | {"header": b"nonsense"})
    assert answer.status_code == 422 and "The header cannot be used" in answer.json()["error"]


@pytest.mark.parametrize("samples", ["1800000", "1800001", "", "90000000"])
def test_recordings_of_programs_last_an_hour_at_most(make_client, make_bench, samples):
    def fail(name, *arguments):
        raise RecordingTooLong("The recording lasts more than 1 h.")

    runner = StandInRunner(fail if not samples else lambda name, *arguments: make_prediction())
    header = f"x 1 500 {samples}\nx.mat 16 1000/mV 16 0 0 0 0 I\n"
    files = {"header": header.encode(), "signal": b"x"}
    answer = make_client(make_bench(runner=runner)).post("/api/predict", files=files)
    if samples == "1800000":
        assert answer.status_code == 200
    else:
        assert (answer.status_code, answer.json()) == (413, {"error": "The recording lasts more than 1 h."})
        assert len(runner.tasks) == (not samples), "what its header says is known before"


def test_headers_of_programs_are_bounded_and_parsed_beside_the_loop(make_client, make_bench, monkeypatch):
    def parse(text):
        with pytest.raises(RuntimeError, match="no running event loop"):
            asyncio.get_running_loop()
        return parse_header(text)

    monkeypatch.setattr("ecg.web.requests.parse_header", parse)
    client = make_client(make_bench())

    def send(lines):
        header = "\n".join(["x 1 500 5", "x.mat 16 1000/mV 16 0 0 0 0 I", *lines, ""])
        return client.post("/api/predict", files={"header": header.encode(), "signal": b"x"})

    codes = [str(10**8 + number) for number in range(MOST_DIAGNOSES + 1)]
    assert send([f"#Dx: {','.join(codes[1:])}"]).status_code == 200
    answer = send([f"#Dx: {','.join(codes)}"])
    assert answer.status_code == 422 and "1,001 diagnoses, expected 1,000 or fewer" in answer.json()["error"]
    assert send([f"# {'x' * (MOST_HEADER_BYTES - 100)}"]).status_code == 200
    answer = send([f"# {'x' * MOST_HEADER_BYTES}"])
    assert answer.status_code == 422 and "expected 65,536 or fewer" in answer.json()["error"]


def test_the_evidence_is_sent_by_lead_and_time_and_kept(make_client, make_bench, catalogue):
    strengths = np.arange(24, dtype=np.uint8).reshape(2, 12)
    shading = PackedEvidence(("I", "II"), strengths, 0.02, np.array([1.5, -0.25]))
    runner = StandInRunner(lambda name, *arguments: shading)
    client, record = make_client(make_bench(runner=runner)), catalogue.keys[4]
    for _ in range(2):
        parameters = {"record": record, "class": "NSR", "method": "occlusion"}
        answer = client.get("/api/explanation", params=parameters)
        assert answer.status_code == 200 and answer.content == strengths.tobytes()
        names = ("X-Leads", "X-Bins", "X-Seconds-Per-Bin", "X-By-Lead")
        assert [answer.headers[name] for name in names] == ["I,II", "12", "0.02", "1.5,-0.25"]
    assert runner.tasks == [("explain_record", catalogue.path(4), "NSR", "occlusion")], "the second time from memory"


def test_only_offered_methods_explain(make_client, make_bench, catalogue):
    def fail(name, *arguments):
        raise TaskError("it is flat")

    client, record = make_client(make_bench(runner=StandInRunner(fail))), catalogue.keys[0]
    for parameters in ({"class": "AF", "method": "occlusion"}, {"class": "NSR", "method": "x"}, {"class": "NSR"}, {}):
        get(client, "/api/explanation", 400, record=record, **parameters)
    get(client, "/api/explanation", 404, record="nobody", **{"class": "NSR", "method": "occlusion"})
    answer = get(client, "/api/explanation", 422, record=record, **{"class": "NSR", "method": "occlusion"})
    assert answer == {"error": "The recording cannot be explained: it is flat"}


def test_the_task_of_a_client_that_leaves_is_cancelled(make_client, make_bench, catalogue):
    future, runner = Future(), StandInRunner()
    runner.submit = lambda *task: future
    app = make_client(make_bench(runner=runner)).app
    messages = [{"type": "http.request", "body": b"", "more_body": False}, {"type": "http.disconnect"}]
    query = urlencode({"record": catalogue.keys[0], "class": "NSR", "method": "occlusion"}).encode()
    scope = {"type": "http", "method": "GET", "path": "/api/explanation", "query_string": query, "scheme": "http",
             "headers": [(b"host", b"127.0.0.1:8000")]}  # fmt: skip

    async def receive():
        return messages.pop(0)

    async def send(message):
        pass

    asyncio.run(app(scope, receive, send))
    assert future.cancelled()


def test_the_page_waits_longer_than_the_server(client):
    [seconds] = re.findall(r"TIMEOUT = ([\d_]+)", client.get("/static/api.js").text)
    assert TASK_SECONDS < ANSWER_SECONDS < int(seconds) / 1000


def test_the_agreement_is_that_of_reviewers_labels_and_model(make_client, make_bench, catalogue):
    bench = make_bench()
    for row in range(60):
        bench.predictions.store(row, make_prediction(NSR=0.9))
    ann, bob = make_client(bench), make_client(bench)
    assert get(ann, "/api/agreement") == {
        "recordings": 0, "raters": [], "pairs": [], "contested": [], "caveats": []
    }  # fmt: skip
    ann.post("/api/login", json={"reviewer": "Ann"})
    bob.post("/api/login", json={"reviewer": "Bob"})
    for row in range(20):
        verdict = "present" if row % 2 else "absent"
        review(ann, catalogue.keys[row], verdict=verdict, **{"class": "NSR"})
        review(bob, catalogue.keys[row], verdict=verdict if row else "present", comment="!", **{"class": "NSR"})
    agreement = get(bob, "/api/agreement")
    assert [(rater["name"], rater["kind"]) for rater in agreement["raters"]] == [
        ("Ann", "reviewer"), ("Bob", "reviewer"), ("labels", "labels"), ("model", "model")
    ]  # fmt: skip
    [pair] = [pair for pair in agreement["pairs"] if {pair["first"], pair["second"]} == {"Ann", "Bob"}]
    assert (agreement["recordings"], pair["decisions"], pair["agreed"]) == (20, 20, 19)
    first, second = [row % 2 for row in range(20)], [1, *(row % 2 for row in range(1, 20))]
    assert pair["kappa"] == pytest.approx(cohen_kappa_score(first, second), abs=1e-6)
    assert pair["low"] <= pair["kappa"] <= pair["high"]
    assert [item["class"] for item in pair["classes"]] == ["NSR"]
    [with_model] = [pair for pair in agreement["pairs"] if {pair["first"], pair["second"]} == {"Ann", "model"}]
    assert with_model["kappa"] in (None, 0), "the model says always the same"
    [contested] = agreement["contested"]
    assert (contested["record"], contested["class"]) == (catalogue.keys[0], "NSR")
    assert contested["verdicts"][:2] == ["absent", "present"] and contested["verdicts"][3] == "present"
    assert contested["comments"] == [{"reviewer": "Bob", "comment": "!"}]


def test_the_agreement_warns_of_a_model_that_was_trained_on_what_is_reviewed(
    make_client, make_bench, catalogue, tmp_path
):
    bench = make_bench(reviewer="Ann")
    bench.model_folder = tmp_path / "model"
    (bench.model_folder / "report").mkdir(parents=True)
    rows = "".join(
        f"{name},x,{'training' if row < 3 else 'validation'},0\n" for row, name in enumerate(catalogue.names)
    )
    (bench.model_folder / "report" / "split.csv").write_text(f"record,source,split,scored\n{rows}")
    client = make_client(bench)
    for row in range(4):
        review(client, catalogue.keys[row])
    [caveat] = get(client, "/api/agreement")["caveats"]
    assert caveat.startswith("The model was trained on 3 and validated on 1 of the 4 reviewed recordings.")


class TestBlinded:
    """Labels and predictions are hidden until the reviewer has answered."""

    @pytest.fixture
    def bench(self, make_bench):
        bench = make_bench(reviewer="Ann", blinded=True, seed=3)
        for row in range(60):
            bench.predictions.store(row, make_prediction(NSR=0.95))
        return bench

    def test_nothing_is_shown_before_the_answer_and_all_after_it(self, make_client, bench, catalogue):
        client, record = make_client(bench), catalogue.keys[0]
        for item in get(client, "/api/recordings", limit=200)["items"]:
            assert [item[name] for name in ("labels", "predicted", "suspicion", "suspected")] == [None] * 4
        shown = get(client, "/api/recording", record=record)
        fields = ("labels", "probabilities", "predicted", "thresholds", "suspected", "other_reviews")
        assert [shown[name] for name in fields] == [None] * len(fields)
        assert review(client, record)["blinded"]
        shown = get(client, "/api/recording", record=record)
        assert None not in [shown[name] for name in fields]
        [item] = get(client, "/api/recordings", search=record)["items"]
        assert item["labels"] == catalogue.diagnoses[0]

    def test_a_verdict_is_blinded_until_labels_are_shown(self, make_client, bench, catalogue):
        client, record = make_client(bench), catalogue.keys[0]
        get(client, "/api/recordings")
        get(client, "/api/recording", record=record)
        assert review(client, record)["blinded"] and review(client, record, **{"class": "AF"})["blinded"]
        get(client, "/api/recording", record=record)
        assert not review(client, record, **{"class": "PVC"})["blinded"]
        assert not review(client, record)["blinded"], "also of a class that was answered before"

    @pytest.mark.parametrize(("path", "parameters"), [
        ("/api/recordings", {}), ("/api/recording", {}), ("/api/agreement", {}),
        ("/api/explanation", {"class": "NSR", "method": "occlusion"}),
    ])  # fmt: skip
    def test_whatever_shows_labels_or_predictions_ends_the_blinding(
        self, make_client, bench, catalogue, path, parameters
    ):
        evidence = PackedEvidence(("I",), np.zeros((1, 2), np.uint8), 1.0, np.ones(1))
        bench.runner.perform = lambda name, *arguments: evidence if name == "explain_record" else make_prediction()
        client, record = make_client(bench), catalogue.keys[0]
        assert review(client, record)["blinded"]
        assert client.get(path, params={"record": record} | parameters).status_code == 200
        assert not review(client, record, **{"class": "AF"})["blinded"]
        assert review(client, catalogue.keys[1])["blinded"], "other recordings are still hidden"

    def test_who_has_seen_labels_with_another_server_is_not_blinded(self, make_client, make_bench, catalogue):
        open_client = make_client(make_bench(reviewer="Ann"))
        get(open_client, "/api/recording", record=catalogue.keys[7])
        ann = make_client(make_bench(reviewer="ANN", blinded=True))
        assert not review(ann, catalogue.keys[7])["blinded"] and review(ann, catalogue.keys[8])["blinded"]
        bob = make_client(make_bench(reviewer="Bob", blinded=True))
        assert review(bob, catalogue.keys[7])["blinded"]

    def test_who_has_reviewed_without_blinding_is_not_blinded(self, make_client, make_bench, catalogue):
        bench = make_bench(reviewer="Ann", blinded=True, review_list=[(3, "AF"), (3, "LAD")])
        append_review(bench.reviews.folder, "Ann", Review(catalogue.names[3], "PVC", Verdict.PRESENT))
        assert not review(make_client(bench), catalogue.keys[3])["blinded"]

    def test_the_evidence_is_hidden_too(self, make_client, bench, catalogue):
        parameters = {"record": catalogue.keys[0], "class": "NSR", "method": "occlusion"}
        get(make_client(bench), "/api/explanation", 403, **parameters)

    def test_no_recording_is_predicted_for_programs(self, make_client, bench, catalogue):
        """A reviewer could send one that they have to review, under its name or another one."""
        path = catalogue.path(0)
        files = {"header": path.read_bytes(), "signal": path.with_suffix(".mat").read_bytes()}
        answer = make_client(bench).post("/api/predict", files=files)
        assert answer.status_code == 403 and "hidden" in answer.json()["error"] and bench.runner.tasks == []

    def test_nothing_tells_what_others_said_of_a_recording(self, make_client, bench, catalogue):
        ann, bob = make_client(bench), make_client(bench)
        record = catalogue.keys[3]
        before = [get(ann, "/api/recording", record=record), get(ann, "/api/recordings", search=record),
                  get(ann, "/api/reviews", record=record), get(ann, "/api/agreement")]  # fmt: skip
        bob.post("/api/login", json={"reviewer": "Bob"})
        review(bob, record, verdict="present", comment="clear")
        assert before == [get(ann, "/api/recording", record=record), get(ann, "/api/recordings", search=record),
                          get(ann, "/api/reviews", record=record), get(ann, "/api/agreement")]  # fmt: skip

    def test_the_verdicts_of_others_are_hidden_in_the_agreement(self, make_client, bench, catalogue):
        ann, bob = make_client(bench), make_client(bench)
        bob.post("/api/login", json={"reviewer": "Bob"})
        for row in range(5):
            review(bob, catalogue.keys[row], verdict="present")
        assert get(ann, "/api/agreement")["recordings"] == 0
        review(ann, catalogue.keys[1])
        agreement = get(ann, "/api/agreement")
        assert agreement["recordings"] == 1 and [item["record"] for item in agreement["contested"]] == [
            catalogue.keys[1]
        ]

    def test_recordings_cannot_be_chosen_by_what_is_hidden(self, make_client, bench):
        for parameters in ({"label": "NSR"}, {"predicted": "NSR"}, {"suspected": 1}):
            assert "error" in get(make_client(bench), "/api/recordings", 400, **parameters)

    def test_the_order_says_nothing_and_depends_on_seed_and_reviewer(self, make_client, make_bench, bench, catalogue):
        def order(bench, **parameters):
            items = get(make_client(bench), "/api/recordings", limit=200, **parameters)["items"]
            return [item["record"] for item in items]

        assert order(bench) == order(bench, sort="suspicion") == order(make_bench(reviewer="ANN", blinded=True, seed=3))
        assert order(bench) != order(make_bench(reviewer="Ann", blinded=True, seed=4))
        assert order(bench) != order(make_bench(reviewer="Bob", blinded=True, seed=3))
        assert order(bench, sort="name") == catalogue.keys

    def test_the_order_of_a_list_is_that_of_suspicion_for_nobody(self, make_client, make_bench, catalogue):
        by_suspicion = [(row, name) for row in range(40, 0, -1) for name in ("PVC", "AF")]

        def shown(reviewer, blinded):
            bench = make_bench(reviewer=reviewer, blinded=blinded, review_list=by_suspicion)
            items = get(make_client(bench), "/api/recordings", limit=200)["items"]
            return [catalogue.index[item["record"]] for item in items], {
                tuple(item["classes_to_review"]) for item in items
            }

        given = list(range(40, 0, -1))
        assert shown("Ann", blinded=False) == (given, {("PVC", "AF")})
        rows, classes = shown("Ann", blinded=True)
        assert sorted(rows) == given[::-1] and abs(np.corrcoef(rows, given)[0, 1]) < 0.5
        assert classes == {("AF", "PVC")}, "the order of the classes says nothing either"
        assert shown("Ann", blinded=True)[0] == rows != shown("Bob", blinded=True)[0]

    def test_orders_of_many_names_do_not_fill_the_memory(self, bench):
        for number in range(200):
            bench.list_rows(ListQuery(sort="random", descending=False), f"Reviewer {number}")
        assert bench.catalogue.cached_ranks.cache_info().currsize <= MOST_ORDERS < 200

    def test_a_listed_recording_is_answered_with_all_its_classes(self, make_client, make_bench, catalogue):
        bench = make_bench(reviewer="Ann", blinded=True, review_list=[(5, "LAD"), (2, "AF"), (5, "AF")])
        client = make_client(bench)
        items = get(client, "/api/recordings")["items"]
        assert {item["record"]: item["classes_to_review"] for item in items} == {
            catalogue.keys[5]: ["AF", "LAD"], catalogue.keys[2]: ["AF"]
        }  # fmt: skip
        review(client, catalogue.keys[5])
        assert get(client, "/api/recording", record=catalogue.keys[5])["labels"] is None
        assert get(client, "/api/recordings", unreviewed=1)["total"] == 2
        review(client, catalogue.keys[5], **{"class": "AF"})
        assert get(client, "/api/recording", record=catalogue.keys[5])["labels"] is not None
        assert get(client, "/api/recordings", unreviewed=1)["total"] == 1
