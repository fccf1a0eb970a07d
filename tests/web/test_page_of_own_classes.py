"""The workbench with a model of classes and sources of your own."""

import csv
import shutil
from concurrent.futures import Future

import numpy as np
import pytest
from result_helpers import make_own_bundle

from ecg.commands.serve import ServerSettings, open_workbench
from ecg.data.labels import load_own_classes
from ecg.data.leads import LEADS
from ecg.data.records import find_records, read_record
from ecg.data.source_tables import DeclaredSource, SourceTable
from ecg.models.bundle import load_bundle, save_bundle
from ecg.models.bundle_cache import BundleCache
from ecg.systems.explanations import compute_shading, explain
from ecg.web.prediction_worker import WorkerState

pytestmark = pytest.mark.slow

NAMES = ["Sinusrhythm", "VES", "Scar", "AF"]
TABLE = """abbreviation,name,code
Sinusrhythm,Normal rhythm,426783006
VES,Extra beat,427172004
Scar,Scar of the heart,scar
AF,Flutter in words,own-flutter
"""
SOURCES = SourceTable((DeclaredSource("West", "W", ("Sinusrhythm", "VES")), DeclaredSource("East", ".")))
# The codes of each record. The Challenge calls 164889003 AF, which is another class here.
RECORDS = {
    "W1": ("426783006",), "W2": ("427172004", "scar"), "E1": ("scar",), "E2": ("own-flutter", "426783006"),
    "E3": ("164889003",), "E4": ("426783006", "427172004"),
}  # fmt: skip


class DirectPredictor:
    """Does tasks at once, in this process."""

    watch = None

    def __init__(self, state):
        self.state, self.find_background_task = state, lambda: None

    def submit(self, name, *arguments):
        future = Future()
        future.set_result(getattr(self.state, name)(*arguments))
        return future

    def wake(self):
        pass

    def close(self):
        pass


@pytest.fixture(scope="module")
def model(small_network, tmp_path_factory):
    """The folder of a model of random weights for the own classes."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "classes.csv").write_text(TABLE)
    bundle = make_own_bundle(LEADS, small_network, load_own_classes(folder / "classes.csv"))
    save_bundle(bundle, folder / "model")
    return folder / "model"


@pytest.fixture(scope="module")
def data(synthetic_recordings, tmp_path_factory):
    """The records, with signals of the synthetic recordings of twelve leads."""
    folder = tmp_path_factory.mktemp("data")
    for path, (name, codes) in zip(find_records(synthetic_recordings), RECORDS.items(), strict=False):
        lines = path.read_text().replace(path.stem, name).splitlines()
        lines = [f"#Dx: {','.join(codes)}" if line.startswith("#Dx") or "Dx:" in line else line for line in lines]
        (folder / f"{name}.hea").write_text("\n".join(lines) + "\n")
        shutil.copy(path.with_suffix(".mat"), folder / f"{name}.mat")
    return folder


@pytest.fixture
def bench(model, data, tmp_path):
    """The workbench that the command `serve` opens, with all recordings predicted."""
    settings = ServerSettings(model, data, tmp_path / "reviews", "Ann", source_table=SOURCES)
    state = WorkerState(model, BundleCache(model))
    bench = open_workbench(settings, DirectPredictor(state))
    while task := bench.find_background_task():
        task.store(state.predict_record(task.path))
    yield bench
    bench.close()


@pytest.fixture
def get(make_client, bench):
    """A function that returns what the server answers, and the client as its attribute."""
    client = make_client(bench)

    def ask(path, **parameters):
        answer = client.get(path, params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()

    ask.client = client
    return ask


def test_the_session_has_the_classes_sources_and_methods_of_the_model(get):
    session = get("/api/session")
    assert [(item["abbreviation"], item["predicted"]) for item in session["classes"]] == [(n, True) for n in NAMES]
    assert session["classes"][2]["name"] == "Scar of the heart" and session["sources"] == ["East", "West"]
    assert session["counts"] == {"recordings": 6, "predicted": 6, "failed": 0}
    methods = session["methods"]
    assert list(methods) == NAMES and methods["Sinusrhythm"] == []
    assert len(methods["VES"]) == len(methods["Scar"]) == len(methods["AF"]) == 3
    assert session["untested_methods"] == ["Scar", "AF"]


def test_the_list_and_a_recording_have_labels_and_predictions_of_the_own_classes(get, model, data):
    items = {item["record"]: item for item in get("/api/recordings", limit=50)["items"]}
    assert items.keys() == RECORDS.keys()
    labels = {name: item["labels"] for name, item in items.items()}
    assert labels == {"W1": ["Sinusrhythm"], "W2": ["VES", "Scar"], "E1": ["Scar"], "E2": ["AF", "Sinusrhythm"],
                      "E3": ["164889003"], "E4": ["Sinusrhythm", "VES"]}  # fmt: skip
    assert {name: item["source"] for name, item in items.items()} == {
        name: "West" if name.startswith("W") else "East" for name in RECORDS
    }
    bundle = load_bundle(model, LEADS)
    for name, item in items.items():
        prediction = bundle.predict_recording(*read_record(data / f"{name}.hea"))
        facts = get("/api/recording", record=name)
        assert item["predicted"] == [n for n, chosen in zip(NAMES, prediction.outputs, strict=True) if chosen]
        assert facts["predicted"] == dict(zip(NAMES, prediction.outputs.tolist(), strict=True))
        expected = dict(zip(NAMES, prediction.probabilities.tolist(), strict=True))
        assert facts["probabilities"] == pytest.approx(expected, abs=1e-5)
        assert facts["thresholds"] == dict.fromkeys(NAMES, 0.5)
    assert [item["record"] for item in get("/api/recordings", label="AF")["items"]] == ["E2"]
    [unknown] = get("/api/recording", record="E3")["labels"]
    assert unknown == {"code": "164889003", "abbreviation": "164889003", "name": "atrial fibrillation", "scored": False}


def test_labels_are_suspected_only_where_their_source_labels_the_class(bench):
    table, rows = bench.predictions, bench.catalogue.index
    west, east = (table.labelled_mask(np.array([rows[name]]))[0].tolist() for name in ("W1", "E1"))
    assert west == [True, True, False, False] and east == [True] * 4
    assert table.labelled_mask(np.array([rows["W2"]]))[0].tolist() == [True, True, True, False], "Scar is labelled"


def test_evidence_is_shaded_for_the_own_classes(get, model, data):
    for name in ("Scar", "VES"):
        answer = get.client.get(
            "/api/explanation", params={"record": "E1", "class": name, "method": "integrated_gradients"}
        )
        assert answer.status_code == 200 and answer.headers["X-Leads"] == ",".join(LEADS)
        strengths = np.frombuffer(answer.content, np.uint8).reshape(12, int(answer.headers["X-Bins"]))
        explanation = explain(load_bundle(model, LEADS), *read_record(data / "E1.hea"), name, "integrated_gradients")
        shading = compute_shading(explanation)
        step = round(float(answer.headers["X-Seconds-Per-Bin"]) * explanation.rate)
        expected = np.array([shading[begin : begin + step].max(axis=0) for begin in range(0, len(shading), step)])
        np.testing.assert_allclose(strengths.T, 255 * expected, atol=1)
    for name in ("Sinusrhythm", "LAD"):
        parameters = {"record": "E1", "class": name, "method": "occlusion"}
        assert get.client.get("/api/explanation", params=parameters).status_code == 400


def test_reviews_and_agreement_are_of_the_own_classes(get, bench, tmp_path):
    for name, verdict in (("E1", "present"), ("E2", "absent"), ("W1", "absent")):
        content = {"record": name, "class": "Scar", "verdict": verdict, "comment": "seen"}
        assert get.client.post("/api/reviews", json=content).status_code == 201
    refused = get.client.post("/api/reviews", json=content | {"class": "LAD"})
    assert refused.status_code == 400
    [mine] = get("/api/recording", record="E1")["reviews"]
    assert (mine["class"], mine["verdict"]) == ("Scar", "present")
    with open(tmp_path / "reviews" / "Ann.csv", newline="", encoding="utf-8") as file:
        assert [(row["record"], row["class"]) for row in csv.DictReader(file)] == [
            (name, "Scar") for name in ("E1", "E2", "W1")
        ]
    study = get("/api/agreement")
    assert [rater["name"] for rater in study["raters"]] == ["Ann", "labels", "model"] and study["recordings"] == 3
    [labels] = [pair for pair in study["pairs"] if {pair["first"], pair["second"]} == {"Ann", "labels"}]
    # West does not label scars, so that W1 is not compared.
    assert (labels["decisions"], labels["agreed"], labels["kappa"]) == (2, 2, 1)
    assert [part["class"] for part in labels["classes"]] == ["Scar"]
    [predicted] = [pair for pair in study["pairs"] if {pair["first"], pair["second"]} == {"Ann", "model"}]
    rows = [bench.catalogue.index[name] for name in ("E1", "E2", "W1")]
    agreed = int((bench.predictions.outputs[rows, NAMES.index("Scar")] == [True, False, False]).sum())
    assert (predicted["decisions"], predicted["agreed"]) == (3, agreed)


def test_a_review_list_and_the_form_of_a_recording_ask_for_own_classes(model, data, tmp_path, make_client):
    (tmp_path / "list.csv").write_text("record,class\nE4,VES\nE1,scar\n")
    settings = ServerSettings(model, data, tmp_path / "reviews", "Ann", review_list=tmp_path / "list.csv")
    bench = open_workbench(settings, DirectPredictor(WorkerState(model, BundleCache(model))))
    client = make_client(bench)
    items = client.get("/api/recordings").json()["items"]
    assert [(item["record"], item["classes_to_review"]) for item in items] == [("E4", ["VES"]), ("E1", ["Scar"])]
    assert client.get("/api/recording", params={"record": "E1"}).json()["classes_to_review"] == ["Scar"]
    assert {item["source"] for item in items} == {"E"}, "no source of the Challenge is assumed"
    bench.close()
