import copy
import pickle
import warnings
from dataclasses import replace

import numpy as np
import pytest
from helpers import capture_log, read_millivolts
from result_helpers import WindowNetwork, make_bundle
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.exceptions import NotFittedError, SkipTestWarning
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MultiLabelBinarizer
from sklearn.utils.estimator_checks import check_estimator, parametrize_with_checks

from ecg import ECGClassifier, predict
from ecg.data.class_files import load_weights
from ecg.data.class_tables import ClassTable, Diagnosis
from ecg.data.headers import RecordError
from ecg.data.labels import ABBREVIATIONS, CHALLENGE_CLASSES, LETTERS, TRAINED
from ecg.data.leads import LEAD_SETS, LEADS
from ecg.data.resampling import DEFAULT_PREPROCESSING
from ecg.evaluation.metrics import challenge_score
from ecg.models.network_settings import DCNetSettings
from ecg.runtime.cache import ResultCache
from ecg.runtime.executors import ONE_PROCESS
from ecg.runtime.limits import TimeBudget
from ecg.runtime.locks import lock_folder
from ecg.systems.label_cleaning import CleaningSettings
from ecg.systems.method import train_system
from ecg.systems.plan import split_recordings
from ecg.systems.recipes import AS_LABELLED, RECIPES, Settings
from ecg.systems.stage_runner import StageRunner
from ecg.training.settings import TrainingSettings
from ecg.training.trainer import TrainingError

CLASSES = ("PRWP", "NSR", "AF")  # of these, the default system does not predict the first
TABLE = "its X is a table of features, of which no row is a recording"
UNREACHED = f"{TABLE}; what it looks for is tested here with recordings"
EXPECTED_FAILURES = {
    "check_fit_score_takes_y": TABLE,
    "check_estimators_overwrite_params": UNREACHED,
    "check_dont_overwrite_parameters": UNREACHED,
    "check_estimators_fit_returns_self": UNREACHED,
    "check_readonly_memmap_input": UNREACHED,
    "check_n_features_in_after_fitting": "a recording has no number of features: lengths and leads may differ",
    "check_positive_only_tag_during_fit": TABLE,
    "check_estimators_dtypes": TABLE,
    "check_dtype_object": TABLE,
    "check_estimators_empty_data_messages": "it expects the number of features of a table in the message",
    "check_pipeline_consistency": UNREACHED,
    "check_estimators_pickle": UNREACHED,
    "check_f_contiguous_array_estimator": TABLE,
    "check_classifier_data_not_an_array": "its X is no list and cannot be iterated",
    "check_classifiers_one_label": TABLE,
    "check_classifiers_classes": "its y has one class for each recording, not a column for each class",
    "check_classifiers_train": "its y has one class for each recording, not a column for each class",
    "check_classifiers_multilabel_representation_invariance": TABLE,
    "check_classifiers_multilabel_output_format_predict": UNREACHED,
    "check_classifiers_multilabel_output_format_predict_proba": UNREACHED,
    "check_classifiers_multilabel_output_format_decision_function": TABLE,
    "check_classifier_not_supporting_multiclass": "it expects a classifier of one binary label",
    "check_methods_sample_order_invariance": UNREACHED,
    "check_methods_subset_invariance": UNREACHED,
    "check_fit2d_1sample": TABLE,
    "check_fit2d_1feature": "it expects a number of features in the message",
    "check_dict_unchanged": UNREACHED,
    "check_fit_idempotent": UNREACHED,
    "check_fit_check_is_fitted": UNREACHED,
    "check_n_features_in": "a recording has no number of features: lengths and leads may differ",
    "check_fit2d_predict1d": TABLE,
}


class TableClassifier(ECGClassifier):
    """The classifier with the false claim that it takes tables, without which scikit-learn checks next to nothing."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.one_d_array = True, False
        return tags


@parametrize_with_checks(
    [TableClassifier()], expected_failed_checks=lambda estimator: EXPECTED_FAILURES, xfail_strict=True
)
def test_the_classifier_fails_only_the_checks_of_scikit_learn_that_need_tables(estimator, check):
    with warnings.catch_warnings(action="ignore"):
        check(estimator)


def test_the_classifier_itself_claims_no_tables():
    with pytest.warns(SkipTestWarning, match="Can't test estimator ECGClassifier which requires input"):
        results = check_estimator(ECGClassifier())
    assert [result["status"] for result in results] == ["passed"]


@pytest.fixture(scope="module")
def small(small_network):
    """Settings of a small system whose training ends at once."""
    return Settings(
        network=small_network, cleaning=AS_LABELLED, training=TrainingSettings(epochs=1, steps=2), resamples=2
    )


@pytest.fixture(scope="module")
def recordings(headers):
    """Recordings in memory with leads I and II at 500 Hz."""
    candidates = [read_millivolts(path, LEAD_SETS[2]) for path in headers]
    return [item for item in candidates if item.frequency == 500 and np.isfinite(item.signal).all()][:16]


@pytest.fixture(scope="module")
def labels(recordings):
    """Labels of CLASSES, each of them with both values."""
    return np.random.default_rng(0).random((len(recordings), len(CLASSES))) < 0.5


@pytest.fixture(scope="module")
def trained(small, recordings, labels):
    """A classifier that was trained on arrays."""
    classifier = ECGClassifier(small, CLASSES, 2, 500)
    assert classifier.fit([recording.signal for recording in recordings], labels.astype(int)) is classifier
    return classifier


@pytest.fixture(scope="module")
def signals(recordings):
    return [recording.signal for recording in recordings]


@pytest.fixture
def untrained(small_network, monkeypatch):
    """A function that returns the inputs of the trainings. None of them takes place."""
    calls = []

    def train(inputs, checkpoint_folder):
        calls.append(inputs)
        assert checkpoint_folder is None
        network = WindowNetwork(len(calls), len(TRAINED))
        return make_bundle(LEAD_SETS[inputs.n_leads], small_network, np.full(26, 0.5), network, fallback="NSR")

    monkeypatch.setattr("ecg.classifier.train_bundle", train)
    return lambda: calls


@pytest.mark.slow
@pytest.mark.parametrize("masks", [False, True])
def test_training_on_records_gives_the_weights_of_the_systems_own_training(
    masks, small, store, synthetic_recordings, tmp_path
):
    """The records, labels and sources are those of a data folder."""
    settings = replace(small, cleaning=CleaningSettings() if masks else AS_LABELLED, lead_sets=(12,), seed=7)
    runner = StageRunner({DEFAULT_PREPROCESSING: store}, tmp_path, 7, TimeBudget(None), ONE_PROCESS)
    expected = train_system(settings, runner, {}, synthetic_recordings)
    paths = [synthetic_recordings / path for path in store.paths]
    classifier = ECGClassifier(replace(settings, lead_sets=(6, 2), seed=1), random_state=7).fit(paths, store.labels)
    for name in ("thresholds", "calibration"):
        np.testing.assert_array_equal(getattr(classifier.bundle_.rule, name), getattr(expected.results.rule(12), name))
    members = (bundle.general.members[0] for bundle in (classifier.bundle_.ensemble, expected.ensemble(LEADS)))
    for weights, expected_weights in zip(*(member.network.get_weights() for member in members), strict=True):
        np.testing.assert_array_equal(weights, expected_weights)


@pytest.mark.slow
def test_predictions_have_a_column_for_each_class_in_the_order_of_the_classes(trained, signals, recordings):
    probabilities, outputs = trained.predict_proba(signals), trained.predict(signals)
    assert probabilities.shape == outputs.shape == (len(signals), len(CLASSES)) and probabilities.dtype == np.float32
    assert trained.classes_.tolist() == list(CLASSES) and set(np.unique(outputs)) <= {0, 1}
    for row, prediction in enumerate(predict(trained.bundle_, signals, 2, 500)):
        assert set(prediction.by_class) == {"NSR", "AF"}
        assert probabilities[row].tolist() == [0.0, prediction.by_class["NSR"], prediction.by_class["AF"]]
        assert outputs[row].tolist() == [name in prediction.predicted_classes for name in CLASSES]
    np.testing.assert_allclose(trained.predict_proba(recordings), probabilities, atol=1e-6)
    equal = [signal[:2500] for signal in signals]
    np.testing.assert_array_equal(trained.predict_proba(np.array(equal)), trained.predict_proba(equal))


@pytest.mark.slow
def test_a_prediction_does_not_depend_on_the_other_recordings(trained, signals):
    probabilities = trained.predict_proba(signals)
    np.testing.assert_allclose(trained.predict_proba(signals[::-1])[::-1], probabilities, atol=1e-6)
    np.testing.assert_allclose(trained.predict_proba(signals[3:4]), probabilities[3:4], atol=1e-6)


@pytest.mark.slow
def test_the_score_is_the_challenge_metric(trained, signals, labels):
    names, weights = load_weights()
    wide = {}
    for name, array in (("labels", labels), ("outputs", trained.predict(signals) > 0)):
        wide[name] = np.zeros((len(signals), 26), bool)
        for column, abbreviation in enumerate(CLASSES):
            wide[name][:, ABBREVIATIONS.index(abbreviation)] = array[:, column]
    assert trained.score(signals, labels) == challenge_score(wide["labels"], wide["outputs"], weights)
    assert trained.score(signals, labels.astype(float)) == trained.score(signals, labels.tolist())
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        trained.score(signals, labels[1:])


@pytest.mark.slow
def test_a_copy_by_pickle_predicts_the_same(trained, signals, tmp_path):
    expected = trained.predict_proba(signals)
    before = set(vars(trained))
    copies = [pickle.loads(pickle.dumps(trained)), copy.deepcopy(trained)]
    for copied in copies:
        np.testing.assert_array_equal(copied.predict_proba(signals), expected)
        np.testing.assert_array_equal(copied.predict(signals), trained.predict(signals))
        assert set(vars(copied)) == before and copied.get_params() == trained.get_params()
    with pytest.raises(NotFittedError):
        clone(trained).predict(signals)


def test_a_classifier_that_is_not_trained_says_so(signals, labels):
    classifier = ECGClassifier(classes=CLASSES, leads=2, frequency=500)
    for call in (lambda: classifier.predict(signals), lambda: classifier.predict_proba(signals),
                 lambda: classifier.score(signals, labels)):  # fmt: skip
        with pytest.raises(NotFittedError, match="This ECGClassifier instance is not fitted yet"):
            call()
    assert pickle.loads(pickle.dumps(classifier)).get_params() == classifier.get_params()


def test_training_gets_the_settings_recordings_and_labels(untrained, signals, labels, headers):
    classifier = ECGClassifier("li2021", ["AF", "NSR", "PRWP"], ["II", "I"], 500, 3, 16, 4)
    parameters = copy.deepcopy(classifier.get_params())
    classifier.fit(signals, labels)
    assert classifier.get_params() == parameters and vars(classifier).keys() - parameters == {"bundle_", "classes_"}
    (inputs,) = untrained()
    settings, labelled = inputs.settings, inputs.labelled
    assert inputs.n_leads == 2 and inputs.patients is None and settings.lead_sets == (2,) and settings.seed == 4
    assert settings.leads_of(12) == settings.leads_of(2) == ("I", "II")
    assert (settings.training.epochs, settings.training.batch, settings.peak_training.epochs) == (3, 16, 3)
    assert settings.classes == ("AF", "NSR", "PRWP") and settings.gate is None and settings.fallback == "NSR"
    assert settings.implies == settings.answer_pairs == () and not settings.source_masks
    for item, signal, row in zip(labelled, signals, labels, strict=True):
        assert item.recording.signal is signal and item.recording.leads == ["II", "I"]
        assert [item.labels[ABBREVIATIONS.index(name)] for name in ("AF", "NSR", "PRWP")] == row.tolist()
        assert item.labels.sum() == row.sum()
    ECGClassifier("apprentice", epochs=1).fit(headers[:4], np.eye(26)[:4])
    inputs = untrained()[-1]
    settings = inputs.settings
    assert inputs.n_leads == 12 and [item.recording for item in inputs.labelled] == headers[:4]
    expected = RECIPES["apprentice"]
    assert settings.classes == expected.classes and settings.cleaning == expected.cleaning
    assert settings.pretraining.training.epochs == 1 and settings.seed == expected.seed


def test_scikit_learn_can_validate_search_and_join_it(untrained, signals, labels):
    classifier = ECGClassifier(classes=CLASSES, leads=2, frequency=500)
    assert cross_val_predict(classifier, signals, labels, cv=4, method="predict_proba").shape == labels.shape
    assert [len(inputs.labelled) for inputs in untrained()] == [12] * 4
    search = GridSearchCV(classifier, {"random_state": [1, 2], "batch": [4]}, cv=2).fit(signals, labels)
    assert {inputs.settings.seed for inputs in untrained()[4:]} == {1, 2}
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    first_half = FunctionTransformer(lambda X: [signal[: len(signal) // 2] for signal in X])
    joined = make_pipeline(first_half, classifier).fit(signals, labels)
    assert len(untrained()[-1].labelled[0].recording.signal) == len(signals[0]) // 2
    np.testing.assert_array_equal(joined.predict(signals), joined[-1].predict(first_half.transform(signals)))


def test_inputs_and_the_trained_classifier_are_not_changed(untrained, signals, labels, tmp_path):
    stacked = np.array([signal[:1500] for signal in signals])
    np.save(tmp_path / "signals.npy", stacked)
    mapped = np.load(tmp_path / "signals.npy", mmap_mode="r")
    classifier = ECGClassifier(classes=CLASSES, leads=2, frequency=500).fit(mapped, labels)
    before = dict(vars(classifier))
    np.testing.assert_array_equal(classifier.predict_proba(mapped), classifier.predict_proba(stacked))
    classifier.score(mapped, labels)
    assert vars(classifier).keys() == before.keys()
    assert all(value is before[name] for name, value in vars(classifier).items())
    np.testing.assert_array_equal(np.load(tmp_path / "signals.npy"), stacked)


@pytest.mark.parametrize(("changes", "message"), [
    ({"system": "cai"}, "expected a system, one of cai2021, "),
    ({"classes": ["AF", "STD", "x y"]}, "classes: abbreviation 'x y': expected up to 12"),
    ({"classes": ["AF", "AF", "NSR"]}, "classes: AF, AF, NSR has a class twice"),
    ({"classes": "nowhere.csv"}, "nowhere.csv: "),
    ({"weights": np.eye(2)}, r"weights: expected 3 rows of 3 numbers, .* received the shape \(2, 2\)"),
    ({"classes": ["AF", "NSR"]}, r"y: expected the shape \(recordings, 2\), .* received \(16, 3\)"),
    ({"classes": None}, r"y: expected the shape \(recordings, 26\)"),
    ({"leads": 5}, "leads: expected names or one of 12, 6, 4, 3, 2, received 5"),
    ({"leads": ["I", "V2"]}, "leads I, V2 fill none of the lead sets: 1 of II, III"),
    ({"epochs": 0}, "epochs"),
    ({"batch": -1}, "batch"),
    ({"random_state": -1}, "seed"),
])  # fmt: skip
def test_an_invalid_parameter_is_an_error(changes, message, untrained, signals, labels):
    parameters = {"classes": CLASSES, "leads": 2, "frequency": 500}
    with pytest.raises(ValueError, match=message):
        ECGClassifier(**(parameters | changes)).fit(signals, labels)
    assert not untrained()


def test_invalid_recordings_and_labels_are_errors(untrained, signals, labels):
    classifier = ECGClassifier(classes=CLASSES, leads=2, frequency=500)
    for X in (signals[0], "data", np.zeros((2, 3, 4, 5))):
        with pytest.raises(ValueError, match="X: expected a list of recordings"):
            classifier.fit(X, labels)
    with pytest.raises(TypeError, match="sparse input is not supported"):
        classifier.fit(csr_array(signals[0]), labels)
    with pytest.raises(ValueError, match="X: expected at least one recording"):
        classifier.fit([], labels)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        classifier.fit(signals[1:], labels)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        classifier.fit(signals, labels, groups=[1, 2])
    with pytest.raises(ValueError, match=r"y\[0\]: PVC not among the classes PRWP, NSR, AF"):
        classifier.fit(signals, [["PVC"]] * len(signals))
    for y in (np.where(labels, 2, 0), labels[:, 0], np.where(labels, "1", "0")):
        with pytest.raises(ValueError, match="y: expected|Unknown label type"):
            classifier.fit(signals, y)
    assert not untrained()


def test_an_unusable_recording_ends_the_training(signals, labels):
    classifier = ECGClassifier(classes=CLASSES, leads=2, frequency=500)
    broken = [*signals[:3], np.zeros((5000, 2)), *signals[4:]]
    with pytest.raises(RecordError, match=r"^recordings\[3\]: every lead is flat"):
        classifier.fit(broken, labels)
    with pytest.raises(RecordError, match="alone can be used, and training needs another to validate"):
        classifier.fit(signals[:1], labels[:1])
    with pytest.raises(RecordError, match="expected a sampling frequency .* received None"):
        clone(classifier).set_params(frequency=None).fit(signals, labels)


@pytest.mark.slow
def test_a_system_of_exclusive_classes_can_be_trained(recordings):
    """DCNet predicts the most probable of its classes; recordings with two of them are not trained on."""
    settings = replace(
        RECIPES["xie2022"], network=DCNetSettings((2,), 1, False), training=TrainingSettings(epochs=1, steps=2)
    )
    indices = [ABBREVIATIONS.index(name) for name in ("AF", "NSR")]
    y = np.eye(26, dtype=int)[np.resize(indices, len(recordings))]
    classifier = ECGClassifier(settings, leads=2).fit(recordings, y)
    probabilities, outputs = classifier.predict_proba(recordings), classifier.predict(recordings)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(outputs.argmax(axis=1), probabilities.argmax(axis=1))
    assert (outputs.sum(axis=1) == 1).all()


def test_labels_can_be_sets_of_names_and_sparse(untrained, signals, labels):
    classifier = ECGClassifier(classes=CLASSES, leads=2, frequency=500)
    sets = [{name for name, is_labelled in zip(CLASSES, row, strict=True) if is_labelled} for row in labels]
    for y in (
        sets,
        list(map(sorted, sets)),
        csr_array(labels),
        MultiLabelBinarizer(classes=CLASSES).fit_transform(sets),
    ):
        classifier.fit(signals, y)
        rows = [item.labels for item in untrained()[-1].labelled]
        np.testing.assert_array_equal(np.array(rows)[:, CHALLENGE_CLASSES.indices(CLASSES)], labels)
    assert classifier.score(signals, sets) == classifier.score(signals, labels)


def test_training_gets_your_own_classes_and_weights(untrained, signals, tmp_path):
    y, weights = np.resize(np.eye(2), (len(signals), 2)), [[1, 0.5], [0, 1]]
    table = ClassTable((Diagnosis("infarct", ("I21",), "infarct"), Diagnosis("block", ("I45",), "block")))
    path = tmp_path / "classes.csv"
    path.write_text("abbreviation,code\ninfarct,I21\nblock,I45\n")
    for classes, codes in (
        (["infarct", "block"], ["infarct", "block"]),
        (table, ["I21", "I45"]),
        (path, ["I21", "I45"]),
    ):
        classifier = clone(ECGClassifier(classes=classes, leads=2, frequency=500, weights=weights)).fit(signals, y)
        inputs = untrained()[-1]
        assert classifier.classes_.tolist() == ["infarct", "block"] == list(inputs.settings.classes)
        assert inputs.settings.class_table.code_lists == tuple(codes) and inputs.settings.sources == LETTERS
        assert inputs.settings.weight_array.tolist() == weights
        assert [item.labels.tolist() for item in inputs.labelled[:2]] == [[True, False], [False, True]]


def test_training_gets_the_patients_also_in_a_cross_validation(untrained, signals, labels):
    classifier = ECGClassifier(classes=CLASSES, leads=2, frequency=500)
    groups = np.array([f"patient {index // 3}" for index in range(len(signals))])
    classifier.fit(signals, labels, groups)
    assert untrained()[0].patients.tolist() == [index // 3 for index in range(len(signals))]
    cross_val_predict(classifier, signals, labels, groups=groups, cv=GroupKFold(2), params={"groups": groups})
    for (training, _), inputs in zip(GroupKFold(2).split(signals, labels, groups), untrained()[1:], strict=True):
        expected = np.unique(groups[training], return_inverse=True)[1]
        assert len(np.unique(np.stack([expected, inputs.patients]), axis=1).T) == len(set(expected))


def test_recordings_of_one_patient_cannot_be_split(signals, labels):
    classifier = ECGClassifier(classes=CLASSES, leads=2, frequency=500)
    with pytest.raises(
        RecordError, match="16 recordings are of 1 patient; training needs 2, to keep the recordings of"
    ):
        classifier.fit(signals, labels, groups=["a"] * 16)


def test_a_checkpoint_folder_that_is_in_use_or_of_no_fit_is_refused(signals, labels, tmp_path):
    classifier = ECGClassifier(classes=CLASSES, leads=2, frequency=500, checkpoint_folder=tmp_path)
    with lock_folder(tmp_path), pytest.raises(BlockingIOError, match="another process is at work in this folder"):
        classifier.fit(signals, labels)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(TrainingError, match=f"^{tmp_path}: holds notes.txt, which is of no fit; give an empty folder"):
        classifier.fit(signals, labels)


@pytest.mark.slow
def test_an_interrupted_fit_goes_on_to_the_same_result_and_its_folder_refuses_others(
    small, signals, tmp_path, monkeypatch
):
    """The fit is for your own classes, labelled by sets of names, with several recordings of a patient."""
    system = replace(small, training=TrainingSettings(epochs=2, steps=2), folds=2)
    names = ("infarct", "NSR", "block")
    matrix = np.random.default_rng(1).random((len(signals), 3)) < 0.5
    sets = [{name for name, is_labelled in zip(names, row, strict=True) if is_labelled} for row in matrix]
    groups = [f"patient {index // 3}" for index in range(len(signals))]
    classifier = ECGClassifier(system, names, 2, 500, random_state=5, weights=[[1, 0, 0], [0, 1, 0], [0.5, 0, 1]])
    splits = []

    def split(*arguments):
        splits.append(split_recordings(*arguments))
        return splits[-1]

    monkeypatch.setattr("ecg.systems.method.split_recordings", split)
    expected = clone(classifier).fit(signals, sets, groups)
    for training, validation in splits[0]:
        assert not {groups[index] for index in training} & {groups[index] for index in validation}
    probabilities, outputs = expected.predict_proba(signals), expected.predict(signals)
    assert probabilities.shape == (len(signals), 3) and expected.classes_.tolist() == list(names)
    weights = np.array(classifier.weights)
    assert expected.score(signals, sets) == challenge_score(matrix, outputs > 0, weights, sinus=1)
    copied = pickle.loads(pickle.dumps(expected))
    np.testing.assert_array_equal(copied.predict_proba(signals), probabilities)
    assert copied.score(signals, matrix) == expected.score(signals, sets)

    folder = tmp_path / "fit"
    classifier.set_params(checkpoint_folder=folder)
    save, saved = ResultCache.save, []

    def interrupt(cache, name, arrays):
        save(cache, name, arrays)
        saved.append(name)
        if saved[-2:] == ["result", "progress"]:  # after the first epoch of the second network
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ResultCache, "save", interrupt)
        with pytest.raises(KeyboardInterrupt):
            clone(classifier).fit(signals, sets, groups)
    monkeypatch.setattr("ecg.data.memory_stores.prepare_recording", None)  # no recording is read again
    for ends in (["loaded from cache", "resumed after epoch 1"], ["loaded from cache"] * 2):
        lines = capture_log()
        resumed = clone(classifier).fit(signals, matrix, groups)
        assert [line.partition(": ")[2] for line in lines if "resumed" in line or "cache" in line] == ends
        np.testing.assert_array_equal(resumed.predict_proba(signals), probabilities)
        for name in ("thresholds", "calibration"):
            np.testing.assert_array_equal(getattr(resumed.bundle_.rule, name), getattr(expected.bundle_.rule, name))

    def refuse(reason, X=signals, y=matrix, groups=groups, **changes):
        message = (
            f"^{folder}: holds a training of .*{reason}.*; give an empty folder, or the same recordings and settings"
        )
        with pytest.raises(TrainingError, match=message):
            clone(classifier).set_params(**changes).fit(X, y, groups)

    refuse("other recordings", X=[signals[0] / 2, *signals[1:]])
    refuse("other recordings", X=signals[1:], y=matrix[1:], groups=groups[1:])
    refuse("other labels", y=~matrix)
    refuse("other groups of recordings", groups=None)
    refuse("seed 5, not 6", random_state=6)
    refuse("training.epochs 2, not 3", epochs=3)
    refuse("other weights of the metric", weights=None)
    refuse("other classes", classes=("infarct", "NSR", "other"))
    assert clone(classifier).fit(signals, matrix, groups).predict_proba(signals).tolist() == probabilities.tolist()
