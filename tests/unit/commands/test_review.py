import csv
import os
import weakref
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from helpers import capture_log, write_reviews
from matplotlib.figure import Figure
from result_helpers import make_bundle

from ecg.commands.review import review
from ecg.data.headers import RecordError
from ecg.data.labels import (
    ABBREVIATIONS,
    ADDITIONAL_CLASSES,
    CHALLENGE_CLASSES,
    CHALLENGE_SOURCES,
    CLASS_INDEX,
    DROPPED,
    SCORED,
    TRAINED,
)
from ecg.data.leads import LEAD_SETS, LEADS
from ecg.data.records import read_record
from ecg.models.bundle import Prediction, save_bundle
from ecg.models.config import ModelError
from ecg.models.decision import Rule
from ecg.reports.training_charts import draw_disagreements
from ecg.reports.training_tables import disagreement_table
from ecg.systems.label_cleaning import CleaningSettings, PartiallyLabelledSource
from ecg.systems.label_comparison import SURE_ABSENT, SURE_PRESENT, Disagreement, ReviewSources
from ecg.training.losses import AsymmetricLoss, FocalLoss

CODE = {diagnosis.abbreviation: diagnosis.codes[0] for diagnosis in (*SCORED, *ADDITIONAL_CLASSES)}


def write(folder, name, classes=("NSR",), leads=LEADS[:2], codes=None):
    """Write a record of a second with these labels; return its header's path."""
    folder.mkdir(parents=True, exist_ok=True)
    codes = ",".join(CODE[name] for name in classes) if codes is None else codes
    lines = [f"{name} {len(leads)} 100 100", *(f"{name}.mat 16+24 1000/mV 16 0 0 0 0 {lead}" for lead in leads)]
    (folder / f"{name}.hea").write_text("\n".join([*lines, f"#Dx: {codes}", ""]))
    signal = np.random.default_rng(len(name)).integers(-500, 500, (len(leads), 100))
    scipy.io.savemat(folder / f"{name}.mat", {"val": signal.astype(np.int16)}, format="4")
    return folder / f"{name}.hea"


class Model:
    """Predicts given probabilities, and 0.5 for other classes; NaN is a class that it does not cover.

    Its classes exclude each other where there are such.
    """

    early_gains, classes = False, CHALLENGE_CLASSES

    def __init__(self, predictions, leads, exclusive):
        self.predictions, self.leads, self.thresholds = predictions, leads, np.full(26, len(leads) / 20)
        self.rule, self.exclusive = Rule(self.thresholds), bool(exclusive)
        self.columns = CHALLENGE_CLASSES.indices(exclusive or ABBREVIATIONS)

    def predict_recording(self, header, recording):
        assert recording.shape == (len(header.leads), 100)
        probabilities = np.full(26, 0.5, np.float32)
        for name, probability in self.predictions.get(header.name, {}).items():
            probabilities[CLASS_INDEX[name]] = probability
        return Prediction(
            np.nan_to_num(probabilities),
            probabilities == probabilities.max(),
            self.thresholds,
            ~np.isnan(probabilities),
        )


@pytest.fixture
def model(monkeypatch):
    """A folder of models in place of trained ones: what they say, and the lead sets there are and were loaded."""

    class Folder:
        predictions, has, loaded, exclusive = {}, (12, 2), [], ()

    folder = Folder()

    def load(where, leads):
        assert where is folder
        count = next(count for count, chosen in LEAD_SETS.items() if set(chosen) <= set(leads))
        folder.loaded = [*folder.loaded, count]
        if count not in folder.has:
            raise ModelError(f"no model for {count} leads")
        return Model(folder.predictions, LEAD_SETS[count], folder.exclusive)

    monkeypatch.setattr("ecg.models.bundle_cache.load_bundle", load)
    return folder


def listed_rows(folder):
    with open(folder / "disagreements.csv", newline="") as file:
        return list(csv.DictReader(file))


def read_rows(folder):
    return [(row["record"], row["class"], row["label"]) for row in listed_rows(folder)]


def test_each_confident_disagreement_is_listed_the_most_confident_first(model, tmp_path):
    random, expected = np.random.default_rng(0), []
    for number in range(1, 31):
        name = f"E{number:05}"
        labels, probabilities = random.random(26) < 0.3, random.random(26).astype(np.float32)
        write(tmp_path / "data", name, [ABBREVIATIONS[column] for column in np.flatnonzero(labels)] or ["NSR"])
        labels[CLASS_INDEX["NSR"]] |= not labels.any()
        model.predictions[name] = dict(zip(ABBREVIATIONS, probabilities, strict=True))
        for column, abbreviation in enumerate(ABBREVIATIONS):
            label = "present" if labels[column] else "absent"
            sure = probabilities[column] < 0.1 if labels[column] else probabilities[column] > 0.9
            if sure and abbreviation not in DROPPED:
                expected.append((name, abbreviation, label, float(probabilities[column])))
    assert review(model, tmp_path / "data", tmp_path / "out", figures=0) == len(expected) > 50
    expected.sort(key=lambda row: min(row[3], 1 - row[3]))
    rows = listed_rows(tmp_path / "out")
    assert read_rows(tmp_path / "out") == [row[:3] for row in expected]
    assert [int(row["rank"]) for row in rows] == list(range(1, len(expected) + 1))
    assert [float(row["probability"]) for row in rows] == pytest.approx([row[3] for row in expected], rel=1e-5)
    assert {row["source"] for row in rows} == {"Georgia"}
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["disagreements.csv"]


def test_an_absent_class_that_a_source_does_not_label_is_no_disagreement(model, tmp_path):
    names = ("A0001", "E00001", "X1")
    for name in names:
        write(tmp_path / "data", name, ("NSR", "TInv"))
        model.predictions[name] = {"AF": 0.99, "SB": 0.99, "TInv": 0.01}  # all three label AF, and TInv is present
    for omissions, labelling in (
        (CleaningSettings().partially_labelled, {"E00001", "X1"}),
        ((), set(names)),
        ((PartiallyLabelledSource(("X", "Georgia"), ("AF", "NSR")),), {"A0001"}),
    ):
        review(model, tmp_path / "data", tmp_path / "out", ReviewSources(CHALLENGE_SOURCES, omissions), figures=0)
        assert {record for record, name, _ in read_rows(tmp_path / "out") if name == "SB"} == labelling
        remaining = sorted(row for row in read_rows(tmp_path / "out") if row[1] != "SB")
        assert remaining == sorted(
            (record, *kind) for record in names for kind in (("AF", "absent"), ("TInv", "present"))
        )


def test_labels_that_reviewers_have_decided_on_are_not_listed(model, tmp_path):
    for name in ("E00001", "E00002"):
        write(tmp_path / "data", name, ("NSR",))
        model.predictions[name] = {"AF": 0.99, "SB": 0.99, "LAD": 0.99, "NSR": 0.01}
    reviews = write_reviews(
        tmp_path / "reviews", ("Anna", "E00001", "AF", "absent"), ("Anna", "E00001", "NSR", "absent"),
        ("Anna", "E00001", "LAD", "present"), ("Anna", "E00001", "SB", "unsure"),
    )  # fmt: skip
    lines = capture_log()
    review(model, tmp_path / "data", tmp_path / "out", figures=0, corrections=reviews)
    assert "Corrections: 4 labels of 1 recording reviewed; 1 present, 1 of them not so labelled;" in " ".join(lines)
    table = (tmp_path / "out" / "corrected_labels.csv").read_text().splitlines()
    assert table[0] == "record,class,label of the header,verdict,present,absent,unsure" and len(table) == 5
    assert set(table[1:]) >= {"E00001,LAD,absent,present,1,0,0", "E00001,NSR,present,absent,0,1,0"}
    rows = read_rows(tmp_path / "out")
    assert [row for row in rows if row[0] == "E00001"] == [("E00001", "SB", "absent")]
    assert len(rows) == 5
    review(model, tmp_path / "data", tmp_path / "out", figures=0)  # replaces it
    assert not (tmp_path / "out" / "corrected_labels.csv").exists()


def test_classes_that_no_network_predicts_are_not_compared(model, tmp_path):
    """A gate's networks tell some of the classes only, and which, the recording decides."""
    for name in ("E00001", "E00002"):
        write(tmp_path / "data", name, ("NSR", "TInv"))
        model.predictions[name] = {"AF": 0.99, "SB": 0.99, "TInv": 0.0, "NSR": 0.0}
    compared, every = [], {"AF", "SB", "TInv", "NSR"}
    for silent in ((), ("SB", "TInv")):
        model.predictions["E00002"] |= dict.fromkeys(silent, np.nan)
        lines = capture_log()
        review(model, tmp_path / "data", tmp_path / "out", figures=0)
        assert sorted((record, name) for record, name, _ in read_rows(tmp_path / "out")) == sorted(
            [("E00001", name) for name in every] + [("E00002", name) for name in every - set(silent)])  # fmt: skip
        compared += [int(line.split()[0]) for line in lines if "labels compared" in line]
    assert compared == [44, 42]


def test_with_exclusive_classes_only_recordings_with_one_of_them_are_compared(model, tmp_path):
    """STE is one of the model's classes, though not a scored one, and SB is none."""
    model.exclusive = ("NSR", "AF", "STE")
    for number, classes in enumerate((("AF",), ("AF", "SB"), ("AF", "NSR"), ("SB",), ("AF", "STE")), 1):
        codes = ",".join(CODE[name] for name in classes)
        write(tmp_path / "data", f"E0000{number}", codes=codes)
        model.predictions[f"E0000{number}"] = dict.fromkeys(ABBREVIATIONS, np.nan) | {"AF": 0.01, "NSR": 0.5}
    lines = capture_log()
    review(model, tmp_path / "data", tmp_path / "out", figures=0)
    assert read_rows(tmp_path / "out") == [("E00001", "AF", "present"), ("E00002", "AF", "present")]
    assert "3 have none or several of the model's exclusive classes" in lines
    assert "4 labels compared, 2 disagreements in 2 recordings" in lines
    for number in (1, 2):
        (tmp_path / "data" / f"E0000{number}.hea").unlink()
    with pytest.raises(RecordError, match="their headers have none or several of the model's exclusive classes"):
        review(model, tmp_path / "data", tmp_path / "out")


def test_sources_that_are_not_trained_on_are_reviewed(model, tmp_path):
    for name in ("S0001", "I0001"):
        write(tmp_path / "data", name)
        model.predictions[name] = {"NSR": 0.0}
    review(model, tmp_path / "data", tmp_path / "out", figures=0)
    assert sorted(read_rows(tmp_path / "out")) == [("I0001", "NSR", "present"), ("S0001", "NSR", "present")]


def test_headers_without_a_diagnosis_are_excluded_and_counted(model, tmp_path):
    headers = {"E00001": "", "E00002": "Unknown", "E00003": "nonsense", "E00004": "164865005", "E00005": CODE["AF"]}
    for name, codes in headers.items():
        write(tmp_path / "data", name, codes=codes)
        model.predictions[name] = {"SB": 0.95}
    lines = capture_log()
    review(model, tmp_path / "data", tmp_path / "out", figures=0)
    assert {row[0] for row in read_rows(tmp_path / "out")} == {"E00004", "E00005"}
    assert "2 recordings reviewed, 3 have no diagnosis, 0 cannot be read or predicted" in lines


def test_recordings_that_cannot_be_read_or_predicted_are_logged_and_excluded(model, tmp_path):
    data, model.has = tmp_path / "data", (2,)
    for number in range(1, 8):
        path = write(data / "deep", f"E{number:05}", leads=LEAD_SETS[4] if number in (2, 3, 4) else ("II", "I", "V6"))
        model.predictions[path.stem] = {"AF": 0.97}
    (data / "deep" / "E00005.mat").unlink()
    (data / "deep" / "E00006.hea").write_text("E00006 nonsense\n")
    (data / "deep" / "E00007.hea").unlink()
    (data / "deep" / "E00007.hea").mkdir()
    (data / "deep" / "E00008.hea").symlink_to("nowhere")
    lines = capture_log()
    assert review(model, data, tmp_path / "out", figures=0) == 1
    assert read_rows(tmp_path / "out") == [("deep/E00001", "AF", "absent")]
    failures = [line for line in lines if line.startswith("deep/")]
    assert [line.split(": ")[0] for line in failures] == ["deep/E00002 and 2 more", "deep/E00005", "deep/E00006",
                                                          "deep/E00008.hea", "deep/E00007.mat"]  # fmt: skip
    assert failures[0].endswith(": no model for 4 leads") and "E00006.hea line 1" in failures[2]
    assert "1 recordings reviewed, 0 have no diagnosis, 5 cannot be read or predicted" in lines
    assert sorted(model.loaded) == [2, 4]


def test_a_recording_in_capitals_is_named_without_its_extension(model, tmp_path):
    write(tmp_path / "data", "A1")
    write(tmp_path / "data", "A2")
    (tmp_path / "data/A2.hea").rename(tmp_path / "data/A2.HEA")
    (tmp_path / "data/A2.mat").unlink()
    lines = capture_log()
    review(model, tmp_path / "data", tmp_path / "review")
    assert lines[0].startswith("A2: A2.mat: no such file")


def test_every_network_is_loaded_once_and_a_recording_goes_through_that_of_its_leads(model, tmp_path, drawn):
    for number, leads in enumerate((LEADS, LEADS[1::-1], LEADS[::-1], LEADS[:2]), 1):
        path = write(tmp_path / "data", f"E{number:05}", leads=leads)
        model.predictions[path.stem] = {"AF": 1 - number / 100}
    review(model, tmp_path / "data", tmp_path / "out")
    assert sorted(model.loaded) == [2, 12]
    assert [arguments["thresholds"][0] for arguments in drawn] == [0.6, 0.1, 0.6, 0.1]


def test_one_recording_is_in_memory_at_a_time(model, tmp_path, monkeypatch):
    alive = []

    def predict_recording(self, header, recording):
        assert not any(earlier() is not None for earlier in alive)
        alive.append(weakref.ref(recording))
        nothing = np.zeros(26, bool)
        return Prediction(np.zeros(26, np.float32), nothing, np.zeros(26), nothing)

    monkeypatch.setattr(Model, "predict_recording", predict_recording)
    for number in range(1, 5):
        write(tmp_path / "data", f"E{number:05}")
    review(model, tmp_path / "data", tmp_path / "out", figures=0)
    assert len(alive) == 4


def test_if_nothing_can_be_reviewed_there_is_one_error_and_no_folder(model, tmp_path):
    data, out = tmp_path / "data", tmp_path / "out"
    with pytest.raises(FileNotFoundError, match="data"):
        review(model, data, out)
    data.mkdir()
    with pytest.raises(FileNotFoundError, match="no header"):
        review(model, data, out)
    write(data, "E00001", codes="")
    with pytest.raises(RecordError, match="none of 1 recordings can be reviewed, their headers have no diagnosis"):
        review(model, data, out)
    write(data, "E00002", leads=LEAD_SETS[3])
    write(data, "E00003", leads=LEAD_SETS[3])
    lines = capture_log()
    with pytest.raises(RecordError, match="none of 3 .*, E00002 and 1 more: no model for 3 leads"):
        review(model, data, out)
    assert lines == []
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_damaged_network_is_not_tried_again_for_every_recording(model, tmp_path, monkeypatch):
    loaded = []

    def load(*_):
        loaded.append(1)
        raise OSError("file signature not found")

    monkeypatch.setattr("ecg.models.bundle_cache.load_bundle", load)
    for number in range(1, 4):
        write(tmp_path / "data", f"E{number:05}")
    with pytest.raises(RecordError, match="E00001 and 2 more: file signature not found"):
        review(model, tmp_path / "data", tmp_path / "out")
    assert loaded == [1]


@pytest.fixture
def drawn(monkeypatch):
    """The panel and caption of every page, which is not drawn."""
    pages = []

    def draw(header, recording, start, model, caption):
        outputs = model.probabilities >= model.thresholds if model.outputs is None else model.outputs
        pages.append(model._asdict() | {"caption": caption, "outputs": outputs})
        return Figure((1, 1))

    monkeypatch.setattr("ecg.reports.training_charts.draw_record", draw)
    return pages


def test_the_first_disagreements_are_drawn_under_rank_record_and_class(model, tmp_path, drawn):
    for folder in ("a", "b"):  # twice the same name
        write(tmp_path / "data" / folder, "E00001", ("NSR", "AF"))
    model.predictions["E00001"] = {"AF": 0.02, "RBBB": 0.99, "NSR": 0.05}
    assert review(model, tmp_path / "data", tmp_path / "out", figures=4) == 6
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == [
        "01_a_E00001_RBBB.png", "02_b_E00001_RBBB.png", "03_a_E00001_AF.png", "04_b_E00001_AF.png"]  # fmt: skip
    assert [row[:2] for row in read_rows(tmp_path / "out")] == [
        (f"{folder}/E00001", name) for name in ("RBBB", "AF", "NSR") for folder in ("a", "b")]  # fmt: skip
    assert [page["highlighted"] for page in drawn] == [CLASS_INDEX["RBBB"]] * 2 + [CLASS_INDEX["AF"]] * 2
    assert [page["caption"] for page in drawn[1:3]] == [
        "RBBB is not labelled, and the network gives it 0.99", "AF is labelled, and the network gives it 0.02",
    ]  # fmt: skip
    assert drawn[0]["probabilities"][CLASS_INDEX["RBBB"]] == np.float32(0.99)
    assert all(
        np.flatnonzero(page["outputs"]) == [CLASS_INDEX["RBBB"]] for page in drawn
    )  # the model's, of no threshold


def disagreement(path, name="AF", labelled=True, probability=0.05):
    return Disagreement(
        Path(path),
        Path(path).stem,
        "Georgia",
        CLASS_INDEX[name],
        labelled,
        probability,
        np.full(26, probability, np.float32),
    )


def test_the_table_has_rank_record_source_class_label_and_probability():
    first, two = disagreement("data/E00001.hea"), disagreement("data/deep/x.y.hea", "SB", False, 0.95)
    head = ("rank", "record", "source", "class", "label", "probability")
    rows = [(1, "E00001", "Georgia", "AF", "present", 0.05), (2, "x.y", "Georgia", "SB", "absent", 0.95)]
    assert disagreement_table([first, two]) == [head, *rows]
    assert disagreement_table([]) == [head]


def test_a_caption_marks_relabelled_labels_and_rounds_probabilities(tmp_path, drawn):
    path = write(tmp_path, "JS20001", ("AFL",))
    cases = {
        ("AFL", True, 0.0123): "AFL is labelled, and the network gives it 0.01",
        ("AF", True, 0.0999): "AF is labelled after relabelling, and the network gives it 0.10",
        ("AFL", False, 0.9): "AFL is not labelled after relabelling, and the network gives it 0.90",
        ("SB", False, 0.99997): "SB is not labelled, and the network gives it more than 0.99",
        ("AFL", True, 1e-5): "AFL is labelled, and the network gives it less than 0.01",
    }
    assert draw_disagreements(tmp_path, [disagreement(path, *case) for case in cases], np.full(26, 0.5)) == 5
    assert [page["caption"] for page in drawn] == list(cases.values())
    assert all(np.array_equal(page["thresholds"], np.full(26, 0.5)) for page in drawn)
    assert [page["outputs"].all() for page in drawn] == [page["outputs"].any() for page in drawn] == [
        False, False, True, True, False]  # fmt: skip


def test_a_recording_that_cannot_be_drawn_is_logged_and_the_others_are_drawn(tmp_path, drawn):
    paths = [write(tmp_path, f"E0000{number}") for number in range(1, 5)]
    paths[0].unlink()
    paths[2].with_suffix(".mat").write_bytes(b"")
    lines = capture_log()
    assert draw_disagreements(tmp_path, [disagreement(path) for path in paths], np.ones(26)) == 2
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["02_E00002_AF.png", "04_E00004_AF.png"]
    assert [line.split(":")[0] for line in lines] == ["E00001 cannot be drawn", "E00003 cannot be drawn"]


def test_a_page_that_cannot_be_written_is_an_error(tmp_path):
    path = write(tmp_path, "E00001")
    with pytest.raises(FileNotFoundError):
        draw_disagreements(tmp_path / "nowhere", [disagreement(path)], np.ones(26))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_an_earlier_review_is_replaced_only_by_a_complete_one(model, tmp_path, drawn, monkeypatch):
    data, out = tmp_path / "data", tmp_path / "reviews" / "out"
    write(data, "E00001")
    model.predictions["E00001"] = {"AF": 0.99}
    review(model, data, out)
    before = contents(out)
    assert set(before) == {"disagreements.csv", "01_E00001_AF.png"}
    model.predictions["E00001"] = {"SB": 0.99}

    def fails(*_):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr("ecg.commands.review.draw_disagreements", fails)
        with pytest.raises(OSError, match="disk full"):
            review(model, data, out)
    assert contents(out) == before
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    review(model, data, out)
    assert set(contents(out)) == {"disagreements.csv", "01_E00001_SB.png"}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("thesis.tex",), "has thesis.tex, which is not from a review"),
        (("disagreements.csv", "report.json"), "has report.json, which is not from a review"),
        (("01_E00001_AF.png",), "has 01_E00001_AF.png, but no disagreements.csv"),
    ],
)
def test_a_folder_with_other_files_is_not_replaced(model, tmp_path, names, message):
    write(tmp_path / "data", "E00001")
    (tmp_path / "out").mkdir()
    for name in names:
        (tmp_path / "out" / name).write_text("dear")
    with pytest.raises(FileExistsError, match=message):
        review(model, tmp_path / "data", tmp_path / "out")
    assert contents(tmp_path / "out") == dict.fromkeys(names, b"dear")
    assert model.loaded == []


def test_neither_a_file_nor_the_data_are_replaced(model, tmp_path):
    path = write(tmp_path / "data", "E00001")
    with pytest.raises(NotADirectoryError):
        review(model, tmp_path / "data", path)
    with pytest.raises(FileExistsError, match="has E00001.hea"):
        review(model, tmp_path / "data", tmp_path / "data")
    assert read_record(path)[1].shape == (2, 100)


def test_an_empty_folder_and_the_current_one_can_be_written_to(model, tmp_path, monkeypatch):
    write(tmp_path / "data", "E00001")
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    review(model, tmp_path / "data", ".")
    assert list(contents(tmp_path / "out")) == ["disagreements.csv"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "out"]


def test_the_console_gets_a_summary_by_class(model, tmp_path):
    for name in ("A0001", "E00001", "E00002"):
        write(tmp_path / "data", name, ("NSR", "AF"))
    model.predictions["A0001"] = {"AF": 0.01, "SB": 0.99}
    model.predictions["E00002"] = {"AF": 0.01, "SB": 0.99}
    lines = capture_log()
    review(model, tmp_path / "data", tmp_path / "out", figures=0)
    omitted = len(PartiallyLabelledSource().find_columns())
    assert f"{3 * len(TRAINED) - omitted} labels compared, 3 disagreements in 2 recordings" in lines
    table = [line.split() for line in lines if line.split()[0] in ("class", *ABBREVIATIONS)]
    assert table == [["class", "present", "doubted", "absent", "doubted"], ["AF", "3", "2", "0", "0"],
                     ["SB", "0", "0", "2", "1"]]  # fmt: skip
    assert lines[-1] == f"{tmp_path / 'out'}: disagreements.csv and 0 figures"


def test_labels_that_all_agree_leave_an_empty_list(model, tmp_path):
    write(tmp_path / "data", "E00001")
    lines = capture_log()
    assert review(model, tmp_path / "data", tmp_path / "out") == 0
    assert listed_rows(tmp_path / "out") == []
    assert "22 labels compared, 0 disagreements in 0 recordings" in lines
    assert not any(line.startswith("class") for line in lines)


@pytest.mark.parametrize(
    ("loss", "likelier_present", "likelier_absent"), [(FocalLoss(), 38, 3800), (AsymmetricLoss(), 42, 1300)]
)
def test_the_confidence_limits_suit_the_losses_of_both_rounds(loss, likelier_present, likelier_absent):
    """The prediction with the least expected loss at these odds is the limit of the rule."""
    probabilities = np.linspace(0.01, 0.99, 981)
    present, absent_loss = (np.asarray(function(probabilities)) for function in (loss.positive, loss.negative))
    for odds, sure in ((likelier_present, SURE_PRESENT), (1 / likelier_absent, SURE_ABSENT)):
        assert probabilities[np.argmin(odds * present + absent_loss)] == pytest.approx(sure, abs=0.002)


@pytest.mark.slow
def test_a_trained_network_reviews_a_folder_and_draws_its_pages(small_network, tmp_path):
    """From files to files: a network that is sure of atrial fibrillation, and unsure of all else."""
    network = small_network.build(2, None, len(TRAINED))
    bias = np.where(TRAINED == CLASS_INDEX["AF"], 5.0, 0.0)
    weights = network.layers[-1].get_weights()
    network.layers[-1].set_weights([np.zeros_like(weights[0]), bias.astype(np.float32)])
    save_bundle(make_bundle(LEAD_SETS[2], small_network, np.full(26, 0.5), network), tmp_path / "model")
    write(tmp_path / "data", "E00001", ("NSR",))
    write(tmp_path / "data", "E00002", ("AF",))
    review(tmp_path / "model", tmp_path / "data", tmp_path / "out")
    (row,) = listed_rows(tmp_path / "out")
    assert (row["record"], row["class"], row["label"]) == ("E00001", "AF", "absent")
    assert float(row["probability"]) == pytest.approx(1 / (1 + np.exp(-5.0)), abs=1e-5)
    assert (tmp_path / "out" / "01_E00001_AF.png").read_bytes().startswith(b"\x89PNG")


def test_a_name_that_is_not_utf_8_is_listed_with_its_bytes_and_escaped_on_the_console(model, tmp_path, drawn):
    names = [os.fsdecode(name) for name in (b"HR\xff1", b"HR\xff2", b"HR\xff3")]
    for name in names:
        path = write(tmp_path / "data", "E1")
        path.rename(path.with_name(f"{name}.hea"))
    (tmp_path / "data" / f"{names[1]}.hea").write_text("nonsense")
    model.predictions["E1"], lines = {"AF": 0.99}, capture_log()
    assert review(model, tmp_path / "data", tmp_path / names[2]) == 2
    files = sorted(os.listdir(os.fsencode(tmp_path / names[2])))
    assert files == [b"01_HR\xff1_AF.png", b"02_HR\xff3_AF.png", b"disagreements.csv"]
    assert (tmp_path / names[2] / "disagreements.csv").read_bytes().count(b",HR\xff") == 2
    text = "\n".join(lines).encode()
    assert rb"HR\udcff2" in text and rb"HR\udcff3: disagreements.csv" in text
    review(model, tmp_path / "data", tmp_path / names[2])  # recognises its own figures


def test_the_figure_of_a_record_with_a_very_long_name_has_a_name_that_fits(tmp_path, drawn):
    path = write(tmp_path, "E1")
    paths = [path.rename(path.with_name(f"{'E' * 251}.hea"))]
    paths.append(write(tmp_path, "E1").rename(tmp_path / f"{chr(0x1F493) * 62}.hea"))
    disagreements = [disagreement(path, "NSIVCB") for path in paths]
    assert draw_disagreements(tmp_path, disagreements, np.full(26, 0.5)) == 2
    expected = [f"01_{'E' * 50}_NSIVCB.png", f"02_{chr(0x1F493) * 50}_NSIVCB.png"]
    assert sorted(path.name for path in tmp_path.glob("*.png")) == expected


def test_a_folder_that_cannot_be_listed_is_logged(model, tmp_path, drawn, unlistable_folder):
    write(tmp_path / "data" / "a", "E00001")
    (tmp_path / "data" / "lost").mkdir()
    unlistable_folder(tmp_path / "data" / "lost")
    lines = capture_log()
    review(model, tmp_path / "data", tmp_path / "out")
    assert "lost/: cannot be read: Permission denied" in lines


@pytest.mark.parametrize(("trained", "option"), [(False, False), (True, False), (False, True)])
def test_early_gains_are_corrected_as_in_the_training_or_on_request(
    model, tmp_path, drawn, monkeypatch, trained, option
):
    corrected = []
    for module in ("commands.review", "reports.training_charts"):
        monkeypatch.setattr(
            f"ecg.{module}.correct_gains", lambda header, _: (corrected.append(header.name) or header, ())
        )
    monkeypatch.setattr(Model, "early_gains", trained)
    write(tmp_path / "data", "E00001")
    model.predictions["E00001"] = {"AF": 0.99}
    review(model, tmp_path / "data", tmp_path / "out", early_gains=option)
    assert len(corrected) == 2 * (trained or option)  # for the prediction and for the drawing
