"""The command on agreement: what is compared, and what is refused."""

import shutil

import numpy as np
import pytest
from helpers import capture_log, write_reviews

from ecg.commands import agreement as module
from ecg.commands.agreement import AgreementSources, agreement
from ecg.commands.review import ReviewPredictions
from ecg.data.corrections import load_corrections
from ecg.data.headers import RecordError, read_header
from ecg.data.labels import ABBREVIATIONS, CHALLENGE_CLASSES, CLASS_INDEX, SCORED
from ecg.data.reviews import ABSENT, PRESENT, UNDECIDED, Review, Verdict, append_review
from ecg.data.source_tables import DeclaredSource, SourceTable

COLUMN = CLASS_INDEX["LAD"]


@pytest.fixture
def names(headers):
    return [path.stem for path in headers]


@pytest.fixture
def reviews(names, tmp_path):
    """A folder of the reviews of two people on twenty recordings."""
    rows = [(reviewer, name, "LAD", "present" if index % 3 else "absent")
            for reviewer in ("Anna", "Ben") for index, name in enumerate(names[:20])]  # fmt: skip
    return write_reviews(tmp_path / "reviews", *rows)


def write_outputs(folder, names):
    """Write an output file of each name in which every second recording has LAD; return the folder."""
    folder.mkdir()
    codes = [diagnosis.codes[0] for diagnosis in SCORED]
    for index, name in enumerate(names):
        binary = [int(abbreviation == "LAD" and index % 2 == 0) for abbreviation in ABBREVIATIONS]
        lines = (f"#{name}", ",".join(codes), ",".join(map(str, binary)), ",".join(map(str, binary)))
        (folder / f"{name}.csv").write_text("\n".join([*lines, ""]))
    return folder


def test_reviewers_are_compared_with_each_other(reviews, tmp_path):
    log = capture_log()
    study = agreement(reviews, tmp_path / "out")
    assert [pair.kappa[0] for pair in study.pairs] == [1.0]
    assert log[-2].startswith("Anna and Ben: kappa 1.000") and log[-1].endswith(
        "2 reviewers, 20 recordings, 0 contested"
    )
    agreement(reviews, tmp_path / "out")  # replaces it
    (tmp_path / "out" / "mine.txt").write_text("")
    with pytest.raises(FileExistsError, match="mine.txt"):
        agreement(reviews, tmp_path / "out")


def test_the_last_blinded_verdict_of_a_reviewer_is_compared(names, tmp_path):
    for reviewer, verdicts in {"Anna": ("absent", "present"), "Ben": ("absent",)}.items():
        for verdict in verdicts:
            review = Review(names[0], "LAD", Verdict(verdict), blinded=verdict == "absent")
            append_review(tmp_path / "reviews", reviewer, review)
    study = agreement(tmp_path / "reviews", tmp_path / "out")
    assert [rater.verdicts[0, COLUMN] for rater in study.reviewers] == [ABSENT, ABSENT] and not study.list_contested()


def test_a_file_with_semicolons_is_an_error_that_names_its_line(names, tmp_path):
    reviews = write_reviews(tmp_path / "reviews", ("Anna", names[0], "LAD", "present"))
    path = reviews / "Anna.csv"
    path.write_text(path.read_text().replace(",", ";"))
    for call in (lambda: agreement(reviews, tmp_path / "out"), lambda: load_corrections(reviews, names)):
        with pytest.raises(RecordError, match=r"Anna\.csv, line 1: semicolons .* expected commas"):
            call()


def test_labels_are_those_of_the_headers_where_the_source_labels_the_class(
    reviews, synthetic_recordings, headers, tmp_path
):
    study = agreement(reviews, tmp_path / "out", AgreementSources(synthetic_recordings))
    compared = study.labels.verdicts[:, COLUMN]
    for name, verdict in zip(study.names, compared, strict=True):
        (path,) = (path for path in headers if path.stem == name)
        label = CHALLENGE_CLASSES.encode(read_header(path).codes)[COLUMN]
        assert verdict == (UNDECIDED if name.startswith("A") and not label else label)


def test_headers_without_a_diagnosis_have_no_labels(reviews, synthetic_recordings, names, tmp_path):
    for name in names[:20]:
        text = (synthetic_recordings / f"{name}.hea").read_text()
        (tmp_path / f"{name}.hea").write_text("\n".join(line for line in text.splitlines() if "Dx" not in line))
    study = agreement(reviews, tmp_path / "out", AgreementSources(tmp_path))
    assert (study.labels.verdicts == UNDECIDED).all()


def test_a_table_of_sources_says_which_labels_are_compared(reviews, synthetic_recordings, names, tmp_path):
    sources = SourceTable((DeclaredSource("Georgia", "E", ("AF", "NSR")), DeclaredSource("Rest", ".", ("LAD",))))
    study = agreement(reviews, tmp_path / "out", AgreementSources(synthetic_recordings, source_table=sources))
    assert study.names and any(name.startswith("E") for name in study.names)
    for name, verdict in zip(study.names, study.labels.verdicts[:, COLUMN].tolist(), strict=True):
        codes = read_header(synthetic_recordings / f"{name}.hea").codes
        if_absent = UNDECIDED if name.startswith("E") else ABSENT
        assert verdict == (PRESENT if SCORED[COLUMN].codes[0] in codes else if_absent), name
    with pytest.raises(ValueError, match="A: labels Mine, expected some of"):
        AgreementSources(synthetic_recordings, source_table=SourceTable((DeclaredSource("A", ".", ("Mine",)),)))
    with pytest.raises(ValueError, match="a table of sources needs the recordings .*: --data DATA"):
        AgreementSources(source_table=sources)


def test_outputs_are_compared_with_or_without_labels(reviews, synthetic_recordings, names, tmp_path):
    outputs = write_outputs(tmp_path / "outputs", names[:15])
    for data in (None, synthetic_recordings):
        study = agreement(reviews, tmp_path / "out", AgreementSources(data, outputs=(outputs,)))
        verdicts = dict(zip(study.names, study.models[0].verdicts[:, COLUMN].tolist(), strict=True))
        assert [verdicts[name] for name in names[:15]] == [int(index % 2 == 0) for index in range(15)]
        assert {verdicts[name] for name in names[15:20]} == {UNDECIDED}
        assert (study.labels is None) == (data is None)


def test_a_model_predicts_reviewed_recordings_only(reviews, synthetic_recordings, names, tmp_path, monkeypatch):
    asked = []

    def predict(model, data, paths, only_comparable):
        assert not only_comparable
        asked.extend(path.stem for path in paths)
        made = [path.relative_to(data).as_posix() for path in paths[1:]]
        shape = len(made), 26
        covered = np.ones(shape, bool)
        covered[0] = False
        return ReviewPredictions(made, np.zeros(shape, bool), np.ones(shape), np.ones(shape, bool), np.ones(shape),
                                 covered, False, 0, 0, {"damaged": [paths[0].stem]})  # fmt: skip

    monkeypatch.setattr(module, "predict_records", predict)
    study = agreement(reviews, tmp_path / "out", AgreementSources(synthetic_recordings, (tmp_path / "model",)))
    assert sorted(asked) == sorted(names[:20])
    verdicts = dict(zip(study.names, study.models[0].verdicts[:, COLUMN].tolist(), strict=True))
    assert [verdicts[name] for name in asked] == [UNDECIDED, UNDECIDED, *[PRESENT] * 18]


def test_a_model_that_was_trained_on_reviewed_recordings_is_warned_of(
    reviews, synthetic_recordings, names, tmp_path, monkeypatch
):
    def predict(model, data, paths, only_comparable):
        made, shape = [path.relative_to(data).as_posix() for path in paths], (len(paths), 26)
        return ReviewPredictions(made, np.zeros(shape, bool), np.ones(shape), np.ones(shape, bool), np.ones(shape),
                                 np.ones(shape, bool), False, 0, 0, {})  # fmt: skip

    monkeypatch.setattr(module, "predict_records", predict)
    report = tmp_path / "mine" / "report"
    report.mkdir(parents=True)
    splits = "".join(f"{name},x,{'training' if row < 4 else 'validation'},0\n" for row, name in enumerate(names[:5]))
    (report / "split.csv").write_text(f"record,source,split,scored\n{splits}")
    (report / "corrected_labels.csv").write_text(f"record,class\n{names[1]},LAD\n{names[2]},AF\n")
    log = capture_log()
    models = (tmp_path / "mine", tmp_path / "unknown")
    agreement(reviews, tmp_path / "out", AgreementSources(synthetic_recordings, models))
    text, page = (" ".join(text.split()) for text in (" ".join(log), (tmp_path / "out" / "agreement.html").read_text()))
    for content in (text, page):
        assert "mine was trained on 4 and validated on 1 of the 20 reviewed recordings." in content
        assert "verdicts of reviewers on 1 of the 20 reviewed labels" in content
        assert "It is not known whether unknown was trained on reviewed recordings" in content


def test_several_models_are_raters_with_the_names_of_their_folders(reviews, names, tmp_path):
    folders = [tmp_path / path for path in ("first/out", "second/out", "labels", "ANNA", "third")]
    for index, folder in enumerate(folders):
        folder.parent.mkdir(exist_ok=True)
        write_outputs(folder, names[index:20])
    study = agreement(reviews, tmp_path / "report", AgreementSources(outputs=tuple(folders)))
    expected = ["first/out", "second/out", "labels (model)", "ANNA (model)", "third"]
    assert [rater.name for rater in study.models] == expected and len(study.pairs) == 7 * 6 / 2
    for index, rater in enumerate(study.models):
        predicted = dict(zip(study.names, rater.verdicts[:, COLUMN].tolist(), strict=True))
        assert [predicted[name] for name in names[index:20]] == [int(row % 2 == 0) for row in range(20 - index)]
    page = (tmp_path / "report" / "agreement.html").read_text("utf-8")
    assert "2 reviewers, 5 models" in page and all(name in page for name in expected)


def test_what_cannot_be_compared_is_an_error(reviews, synthetic_recordings, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(RecordError, match="no reviews in this folder"):
        agreement(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(FileNotFoundError):
        agreement(tmp_path / "nowhere", tmp_path / "out")
    shutil.copy(next(synthetic_recordings.glob("*.hea")), tmp_path / "empty" / "X1.hea")
    with pytest.raises(RecordError, match="has none of 20 reviewed recordings"):
        agreement(reviews, tmp_path / "out", AgreementSources(tmp_path / "empty"))
    with pytest.raises(FileNotFoundError, match="no output file"):
        agreement(reviews, tmp_path / "out", AgreementSources(outputs=(tmp_path / "empty",)))
    assert not (tmp_path / "out").exists()
    for given in ({"models": (tmp_path,)}, {"data": tmp_path, "models": (tmp_path,), "outputs": (tmp_path / ".",)}):
        with pytest.raises(ValueError):
            AgreementSources(**given)
