import zlib
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from helpers import capture_log
from result_helpers import predict_stage
from result_helpers import stage_titles as titles_of

import team_code
from ecg.commands.holdout import predict_held_out, predict_members, predict_stores
from ecg.commands.train import train
from ecg.data.batches import DEFAULT_VIEW, REPEATED, ZEROS_IN_FRONT, View, Window
from ecg.data.class_files import load_weights
from ecg.data.headers import RecordError
from ecg.data.labels import CHALLENGE_CLASSES, CLASS_INDEX, CPSC_LABELS
from ecg.data.leads import LEAD_SETS, LEADS
from ecg.data.records import read_record
from ecg.data.resampling import DEFAULT_PREPROCESSING
from ecg.data.wave_peaks import WavePeaks
from ecg.evaluation.calibration import fit_calibration
from ecg.evaluation.expected_credit import choose_classes
from ecg.evaluation.metrics import challenge_score
from ecg.evaluation.thresholds import evolve_thresholds, search_thresholds
from ecg.models.bundle import Bundle, load_bundle, save_bundle
from ecg.models.network_settings import (
    AttentionSettings,
    DCNetSettings,
    LeadWeightedSettings,
    LiSettings,
    RhythmSettings,
)
from ecg.reports.training_tables import member_threshold_table, training_tables
from ecg.runtime.limits import TimeBudget
from ecg.systems.decisions import ValidationScorer
from ecg.systems.label_cleaning import CleaningSettings, PartiallyLabelledSource, source_masks
from ecg.systems.label_comparison import label_masks
from ecg.systems.method import apply_rules, drop_untrainable_gate, train_system
from ecg.systems.plan import split_recordings, split_validation, stage_keys
from ecg.systems.recipes import SYSTEMS, Gate, Settings
from ecg.systems.stage_runner import Outcome, StageRunner
from ecg.training.losses import AsymmetricLoss, CategoricalCrossEntropy, CrossEntropy, FocalLoss, MarginLoss
from ecg.training.settings import TrainingSettings
from ecg.training.trainer import seeds

LI = LiSettings(stages=(1,), width=4, squeeze_ratio=None, peaks=True, peak_units=4)
GATE = LiSettings(stages=(1,), width=2, squeeze_ratio=None)
QUICK = TrainingSettings(epochs=1, steps=2, averaging=0.0)
# Recipes shaped like the systems', of small networks that see signals as the default does.
GATED = replace(
    SYSTEMS["li2021"], views=(View(window=Window(992)), View(window=Window(1504))), network=LI, training=QUICK,
    gate=replace(SYSTEMS["li2021"].gate, network=GATE), peak_training=replace(QUICK, rate=2e-3), lead_sets=(12, 4, 2),
)  # fmt: skip
FOLDED = replace(
    SYSTEMS["zhao2022"], views=(View(window=Window(1000, overlap=100)),), folds=3, lead_sets=(6, 2), training=QUICK,
    network=LeadWeightedSettings(widths=(4,), squeeze_ratio=None),
)  # fmt: skip
EXCLUSIVE = replace(
    SYSTEMS["xie2022"], views=(View(window=Window(1500, REPEATED)),), network=DCNetSettings((2,), 1, False),
    training=QUICK, lead_sets=(12, 2),
)  # fmt: skip
VOTING = replace(
    SYSTEMS["nejedly2021"], views=(View(window=Window(1000, ZEROS_IN_FRONT, first_only=True, standardised=True)),),
    network=AttentionSettings(width=4, blocks=2, heads=2),
    training=replace(SYSTEMS["nejedly2021"].training, epochs=1, steps=2),
)  # fmt: skip
ONE_LEAD = replace(SYSTEMS["se_resnet_rhythm"], views=(DEFAULT_VIEW,), network=RhythmSettings(18), training=QUICK)


def regular(store):
    """An R wave in every 200th sample of each recording: made by hand."""
    samples = [np.arange(100, length, 200) for length in store.lengths]
    starts = np.cumsum([0, *map(len, samples)])
    return WavePeaks(starts, np.concatenate(samples).astype(np.int32), np.full(starts[-1], 2, np.int8))


def random_probabilities(title, records, classes):
    """Predictions of a stage for each recording, which depend on its title alone: (records, classes)."""
    return np.random.default_rng(zlib.crc32(title.encode())).random((records, classes)).astype(np.float32)


class FakeRunner(StageRunner):
    """A runner that trains nothing: each stage predicts at random.

    It records the stages and the scores of their validation sets, by title.
    """

    def __init__(self, store, settings, folder):
        super().__init__({DEFAULT_PREPROCESSING: store}, folder, settings.seed, TimeBudget(None))
        self.store, self.stages, self.scores = store, {}, {}

    def train_or_load(self, stage):
        assert list(self.costs).index(stage.key) >= len(self.stages)
        self.stages[stage.title] = stage
        probabilities = random_probabilities(stage.title, len(self.store), stage.targets.shape[1])
        self.scores[stage.title] = self.compute_scores(stage, probabilities[stage.records[stage.validation]])
        weights = [np.array(stage.title)]
        predicted = probabilities[stage.to_predict]
        if stage.lead_sets:
            predicted = np.array([
                random_probabilities(f"{stage.title} {leads}", *probabilities.shape)[stage.to_predict]
                for leads in stage.lead_sets
            ])  # fmt: skip
        return Outcome([stage.title], weights, predicted, f"end of {stage.title}", 2.0)

    def predict_peaks(self, stage, weights, indices):
        assert weights == [np.array(stage.title)]
        return [(stage.title, index) for index in indices]


@pytest.fixture
def train_fake(store, monkeypatch, tmp_path):
    """A function that trains a system on the synthetic store with a FakeRunner.

    It returns the trained system, the stages by their titles, the log messages and the scores by stage.
    """

    def train_settings(settings, fewest=4):
        monkeypatch.setattr("ecg.systems.method.FEWEST", fewest)  # because the recordings are few
        lines, runner = capture_log(), FakeRunner(store, settings, tmp_path)
        peaks = {DEFAULT_PREPROCESSING: regular(store)} if settings.peaks else {}
        trained = train_system(settings, runner, peaks, tmp_path)
        assert list(runner.costs) == stage_keys(trained.results.settings)
        return trained, runner.stages, lines, runner.scores

    return train_settings


def targets_of(settings, store):
    reason = CHALLENGE_CLASSES.add_implied_labels(store.labels, settings.implies)
    return np.hstack([reason, store.additional])[:, CHALLENGE_CLASSES.indices(settings.classes)]


def test_the_stages_of_a_recipe_with_gate_peaks_and_source_masks(train_fake, store):
    trained, stages, _, _ = train_fake(GATED)
    assert list(stages) == titles_of(GATED) and len(stages) == 3 * (2 * 2 * 2 + 1)
    targets, cpsc = targets_of(GATED, store), store.sources == "CPSC"
    bundle = targets[:, [GATED.classes.index(name) for name in ("LBBB", "RBBB", "BBB")]]
    assert (bundle[:, 2] == bundle.any(axis=1)).all() and not store.labels[bundle[:, 2], CLASS_INDEX["BBB"]].all()
    masks = source_masks(
        targets, store.sources, CHALLENGE_CLASSES.indices(GATED.classes), GATED.cleaning.partially_labelled
    )
    training, validation = split_validation(len(store), GATED, "split")
    places = [GATED.classes.index(name) for name in GATED.gate.classes]
    for title, stage in stages.items():
        assert stage.leads == {"8": GATED.leads_of(12), "3": LEAD_SETS[3], "2": LEAD_SETS[2]}[title[0]]
        assert sorted(stage.to_predict) == ([] if title.endswith("peaks") else sorted(validation))
        assert stage.configurations == {
            "8": (tuple(range(8)), (0, 1), (0, 1, 3)), "3": ((0, 1), (0, 1, 2)), "2": ()}[title[0]]  # fmt: skip
        if "CPSC or not" in title:
            np.testing.assert_array_equal(stage.targets[:, 0], cpsc)
            assert (stage.masks == 1).all() and isinstance(stage.loss, CrossEntropy)
            assert (stage.network, stage.view, stage.peaks) == (GATE, GATED.views[0], None)
        else:
            assert (stage.network, stage.output_activation) == (LI, "sigmoid") and isinstance(stage.loss, MarginLoss)
            assert stage.view == GATED.views["6 s" in title]
            chosen = places if "CPSC" in title else slice(None)
            np.testing.assert_array_equal(stage.targets, targets[:, chosen])
            np.testing.assert_array_equal(stage.masks, masks[:, chosen])
        rows = cpsc if "CPSC, " in title else np.ones(len(store), bool)
        np.testing.assert_array_equal(stage.training, training[rows[training]])
        np.testing.assert_array_equal(stage.validation, validation[rows[validation]])
    groups = Counter((network.stage.leads, network.group) for network in trained.networks)
    leads = GATED.leads_of(12), LEAD_SETS[3], LEAD_SETS[2]
    assert groups == {
        (names, group): 1 + (group != "gate") for names in leads for group in ("general", "special", "gate")
    }
    assert trained.seconds == dict.fromkeys(stage_keys(GATED), 2.0)
    assert trained.results.ends == {stage.key: f"end of {title}" for title, stage in stages.items()}
    assert trained.results.epochs == list(stages)


def test_peaks_are_trained_alone_first_and_then_with_the_labels_from_these_weights(train_fake, store):
    trained, stages, _, scores = train_fake(replace(GATED, lead_sets=(2,)))
    first = stages["2 leads, 250 Hz, 4 s"]
    assert len(stages) == 9 and trained.results.peaks == [(first.title, place) for place in first.validation[:4]]
    for title, stage in stages.items():
        if title.endswith("peaks"):
            then = stages[title.removesuffix(", peaks")]
            assert (stage.loss_weights, stage.learning, stage.initial_weights) == ((0.0, 1.0), GATED.peak_training, ())
            assert (then.loss_weights, then.learning, then.initial_weights) == ((1.0, 0.1), QUICK, (np.array(title),))
            assert then.peaks is stage.peaks and len(stage.peaks.starts) == len(store) + 1
            np.testing.assert_array_equal(then.targets, stage.targets)
            assert scores[title] == {} and scores[then.title] != {}


def test_peaks_may_be_trained_with_the_labels_from_the_first_step_on(train_fake):
    _, stages, _, _ = train_fake(replace(GATED, lead_sets=(2,), peak_training=None))
    assert {
        title: (stage.peaks is None, stage.loss_weights, stage.initial_weights) for title, stage in stages.items()
    } == {
        **{
            f"2 leads{suffix}, 250 Hz, {seconds} s": (False, (1.0, 0.1), ())
            for suffix in ("", ", CPSC")
            for seconds in (4, 6)
        },
        "2 leads, CPSC or not": (True, (1.0, 0.0), ()),
    }


def test_the_gate_chooses_the_group_of_each_recording(train_fake, store):
    trained, stages, _, _ = train_fake(GATED)
    results, sixth = trained.results, [GATED.classes.index(name) for name in GATED.gate.classes]
    assert results.validation.tolist() == split_validation(len(store), GATED, "split")[1].tolist()
    chosen = []
    for count, leads in ((12, "8 leads"), (4, "3 leads"), (2, "2 leads")):
        general, special = (
            np.mean(
                [random_probabilities(f"{leads}{suffix}, 250 Hz, {view} s", len(store), classes) for view in (4, 6)],
                axis=0,
            )
            for suffix, classes in (("", 26), (", CPSC", 6))
        )
        gate = random_probabilities(f"{leads}, CPSC or not", len(store), 1)[:, 0]
        for row, record in enumerate(results.validation):
            expected = np.zeros(26) if gate[record] > 0.5 else general[record]
            if gate[record] > 0.5:
                expected[sixth] = special[record]
            chosen.append(gate[record] > 0.5)
            np.testing.assert_allclose(results.validated[count][row], expected, rtol=1e-6)
        assert (results.searches[count].thresholds == 0.5).all()
    assert 0 < np.mean(chosen) < 1
    answers = results.predictions(2)
    assert (answers[:, CLASS_INDEX["TAb"]] >= answers[:, CLASS_INDEX["TInv"]]).all() and answers.any(axis=1).all()


def test_a_gate_with_too_few_recordings_is_dropped_and_logged(train_fake, store):
    trained, stages, lines, _ = train_fake(replace(GATED, lead_sets=(2,)), fewest=20)
    assert lines[0].startswith("no networks for CPSC alone: ") and lines[0].endswith("20 of either kind needed")
    assert not [title for title in stages if "CPSC" in title] and trained.results.settings.gate is None
    assert {network.group for network in trained.networks} == {"general"}


def test_a_source_gate_needs_recordings_of_the_source_and_of_others_in_each_split(monkeypatch):
    monkeypatch.setattr("ecg.systems.method.FEWEST", 3)
    sources = np.array(["CPSC"] * 4 + ["Georgia"] * 4)
    good = (np.array([0, 1, 2, 4, 5, 6]), np.array([3, 7]))
    lines, settings = capture_log(), replace(SYSTEMS["li2021"], gate=Gate())
    assert drop_untrainable_gate(settings, sources, [good]) == settings and not lines
    for training, validation in (([0, 1, 4, 5, 6], [3]), ([0, 1, 2, 4, 5], [3]), ([0, 1, 2, 4, 5, 6], [7])):
        split = (np.array(training), np.array(validation))
        assert drop_untrainable_gate(settings, sources, [split]) == replace(settings, gate=None)
        assert lines[-1] == f"no networks for CPSC alone: {sum(p < 4 for p in training)} of {len(training)} training " \
                            f"recordings are of CPSC, 3 of either kind needed"  # fmt: skip
    assert drop_untrainable_gate(settings, sources, [good, (good[0], good[0][:0])]).gate is None


def test_each_recording_is_predicted_by_the_network_of_the_fold_that_held_it_out(train_fake, store):
    trained, stages, lines, _ = train_fake(FOLDED)
    results, parts = trained.results, split_recordings(targets_of(FOLDED, store), FOLDED)
    assert "3 times" in lines[0]
    assert list(stages) == [f"{count} leads, fold {fold} of 3" for count in (6, 2) for fold in (1, 2, 3)]
    for (training, validation), stage in zip(parts, list(stages.values())[:3], strict=True):
        np.testing.assert_array_equal(stage.training, training)
        np.testing.assert_array_equal(stage.validation, validation)
        np.testing.assert_array_equal(stage.to_predict, validation)
        assert (stage.masks == 1).all() and isinstance(stage.loss, CrossEntropy)
    np.testing.assert_array_equal(results.validation, np.arange(len(store)))
    np.testing.assert_array_equal(results.training, np.arange(len(store)))
    for count in (6, 2):
        for fold, (_, validation) in enumerate(parts, 1):
            probabilities = random_probabilities(f"{count} leads, fold {fold} of 3", len(store), 24)
            np.testing.assert_array_equal(results.validated[count][validation], probabilities[validation])
        wide = CHALLENGE_CLASSES.expand(results.validated[count], CHALLENGE_CLASSES.indices(FOLDED.classes))
        search = search_thresholds(store.labels, wide, load_weights()[1], 0, FOLDED.seed)
        np.testing.assert_array_equal(results.searches[count].thresholds, search.thresholds)
        assert search.thresholds.std() > 0
    assert [len(network.stage.leads) for network in trained.networks] == [6] * 3 + [2] * 3


def test_of_exclusive_classes_recordings_with_exactly_one_are_used(train_fake, store):
    trained, stages, lines, scores = train_fake(EXCLUSIVE)
    targets, results = targets_of(EXCLUSIVE, store), trained.results
    usable = np.flatnonzero(targets.sum(axis=1) == 1)
    assert 5 < len(usable) < len(store) and (targets[usable, 7:] == store.additional[usable]).all()
    assert sorted([*results.training, *results.validation]) == usable.tolist()
    for stage in stages.values():
        assert (stage.output_activation, stage.network) == ("softmax", EXCLUSIVE.network)
        assert isinstance(stage.loss, CategoricalCrossEntropy) and stage.targets.shape == (len(store), 9)
        np.testing.assert_array_equal(stage.training, results.training)
    columns = CHALLENGE_CLASSES.indices(EXCLUSIVE.classes)
    for count in (12, 2):
        answers = results.predictions(count)
        likeliest = columns[results.validated[count].argmax(axis=1)]
        for answer, column in zip(answers, likeliest, strict=True):
            assert np.flatnonzero(answer).tolist() == ([column] if column < 26 else [])
        score = challenge_score(store.labels[results.validation], answers, load_weights()[1])
        assert scores[f"{count} leads"] == {"argmax": score}
        line = lines[-2 if count == 12 else -1]
        assert line.startswith(f"{count} leads: score") and line.endswith(f"{score:.3f} as predicted")
        assert "at 0.5" not in line


@pytest.mark.parametrize("system", [GATED, FOLDED, EXCLUSIVE], ids=lambda system: system.system)
def test_any_system_can_decide_by_expected_credit_with_own_weights(train_fake, store, system):
    weights = load_weights()[1].copy()
    weights[CLASS_INDEX["AF"]] *= 4
    settings = replace(system, decision="expected_credit", weights=tuple(map(tuple, weights.tolist())))
    trained, _, lines, scores = train_fake(settings)
    plain, _, _, _ = train_fake(system)
    columns = CHALLENGE_CLASSES.indices(settings.classes)
    for count in settings.lead_sets:
        results = trained.results
        np.testing.assert_array_equal(results.validated[count], plain.results.validated[count])
        wide = CHALLENGE_CLASSES.expand(results.validated[count], columns)
        known = wide > 0  # all but those of a class that the chosen group lacks
        labels = results.labels[results.validation]
        by_headers = store.labels[results.validation]
        assert results.calibrations[count] == fit_calibration(by_headers, wide, known)
        calibrated = np.where(known, results.calibrations[count].apply(wide), 0)
        expected = CHALLENGE_CLASSES.add_implied_labels(choose_classes(calibrated, weights), settings.answer_pairs)
        expected[~expected.any(axis=1), CLASS_INDEX[settings.fallback or "NSR"]] |= settings.fallback is not None
        np.testing.assert_array_equal(results.predictions(count), expected)
        score = challenge_score(labels, expected, weights)
        assert any(f"{score:.3f} by expected credit, {score:.3f} as predicted" in line for line in lines)
        assert not np.array_equal(plain.results.predictions(count), expected)
        search = search_thresholds(labels, wide, weights, settings.resamples, settings.seed)
        np.testing.assert_array_equal(results.searches[count].thresholds, search.thresholds)
    assert any("expected credit" in logged for logged in scores.values())


def test_a_calibration_is_fitted_whatever_decides(train_fake):
    trained, _, _, _ = train_fake(FOLDED)
    for count in FOLDED.lead_sets:
        assert trained.results.rule(count).calibration == trained.results.calibrations[count]
        assert trained.results.calibrations[count].slope != 1


def test_one_network_of_one_lead_predicts_all_lead_sets(train_fake, store):
    trained, stages, _, _ = train_fake(ONE_LEAD)
    assert list(stages) == ["lead II"] and stages["lead II"].leads == ("II",)
    assert list(trained.results.searches) == [12, 6, 4, 3, 2] and [
        network.stage.leads for network in trained.networks
    ] == [("II",)]
    for count in LEAD_SETS:
        assert trained.results.validated[count] is trained.results.validated[12]


def test_the_default_can_have_a_gate_folds_and_masks_of_sources_too(train_fake, store):
    settings = Settings(gate=Gate(network=GATE), folds=2, source_masks=True, lead_sets=(3,), resamples=0,
                        cleaning=CleaningSettings(conflated_classes=()))  # fmt: skip
    trained, stages, _, _ = train_fake(settings)
    assert list(stages) == titles_of(settings) == [
        "classes omitted by CPSC", "round 1, 12 leads",
        *(f"round 2, 3 leads{group}, fold {fold} of 2" for group in ("", ", CPSC", ", CPSC or not") for fold in (1, 2)),
    ]  # fmt: skip
    first, second = stages["round 1, 12 leads"], stages["round 2, 3 leads, fold 2 of 2"]
    probabilities = random_probabilities("round 1, 12 leads", len(store), 22)
    reason = source_masks(
        first.targets, store.sources, CHALLENGE_CLASSES.indices(settings.classes), settings.cleaning.partially_labelled
    )
    assert isinstance(first.loss, FocalLoss) and isinstance(second.loss, AsymmetricLoss)
    np.testing.assert_array_equal(first.masks, reason)
    np.testing.assert_array_equal(second.masks, reason * label_masks(first.targets, probabilities))
    assert (reason == 0).any() and (label_masks(first.targets, probabilities) == 0).any()
    np.testing.assert_array_equal(first.training, stages["round 2, 3 leads, fold 1 of 2"].training)
    assert (first.to_predict == np.arange(len(store))).all()


def test_what_could_not_be_relabelled_is_masked_where_its_source_does_not_label_it(train_fake, store):
    """No network learns what CPSC omits where the sources that are left do not label all either."""
    rest = tuple(np.unique(store.sources[store.sources != "CPSC"]).tolist())
    cleaning = CleaningSettings(
        (), (PartiallyLabelledSource(), PartiallyLabelledSource(rest, ("AF", "NSR"))), masks=False
    )
    settings = Settings(source_masks=True, lead_sets=(2,), resamples=0, cleaning=cleaning)
    trained, stages, _, _ = train_fake(settings)
    assert all(relabelling.skip_reason for relabelling in trained.results.relabellings) and list(stages) == [
        "round 2, 2 leads"
    ]
    masks, cpsc = stages["round 2, 2 leads"].masks, store.sources == "CPSC"
    for rows, labelled in ((cpsc, CPSC_LABELS), (~cpsc, ("AF", "NSR"))):
        assert (masks[rows] == np.isin(settings.classes, labelled)).all()


def test_too_few_recordings_of_the_classes_are_reported_before_anything_is_trained(train_fake):
    with pytest.raises(RecordError, match="have exactly one of the classes"):
        train_fake(replace(EXCLUSIVE, folds=50))


@pytest.mark.parametrize("rule", CleaningSettings().rules, ids=lambda rule: rule.title)
def test_a_rule_is_applied_by_a_network_of_the_other_sources(rule, tmp_path):
    rng = np.random.default_rng(0)
    sources = rng.choice(["CPSC", "Ningbo", "Georgia"], 400)
    labels = rng.random((400, 26)) < 0.3
    stages = []

    class Runner(StageRunner):
        def train_or_load(self, stage):
            stages.append(stage)
            scores = self.compute_scores(stage, rng.random((len(stage.validation), stage.targets.shape[1])))
            assert 0 <= scores["AUROC"] <= 1
            return Outcome([], [], predict_stage(stage), "")

    cleaning = CleaningSettings((), (rule,))
    if not isinstance(rule, PartiallyLabelledSource):
        cleaning = CleaningSettings((rule,), ())
    runner = Runner({}, tmp_path, 0, TimeBudget(None))
    after, (made,) = apply_rules(labels, sources, replace(Settings(), cleaning=cleaning), runner)
    (stage,) = stages
    assert stage.title == rule.title and stage.leads == LEADS
    assert not set(sources[stage.records]) & set(rule.sources) and set(sources[stage.to_predict]) == set(rule.sources)
    assert sorted([*stage.training, *stage.validation]) == list(range(len(stage.records)))
    assert len(stage.training) == round(0.8 * len(stage.records))
    np.testing.assert_array_equal(after[made.records], made.after)
    np.testing.assert_array_equal(labels[made.records], made.before)
    untouched = np.delete(np.arange(400), made.records)
    np.testing.assert_array_equal(after[untouched], labels[untouched])
    np.testing.assert_array_equal(after, rule.update_labels(labels, sources, made.probabilities))
    assert (after != labels).any()


def test_a_judge_takes_half_where_thresholds_are_not_searched_and_scores_on_both_labels():
    rng = np.random.default_rng(0)
    labels, probabilities = rng.random((60, 26)) < 0.2, rng.random((60, 26)).astype(np.float32)
    before, sources, weights = labels.copy(), np.full(60, "Georgia"), load_weights()[1]
    before[:30] = False
    settings, validation = replace(GATED, proxy_least=None), np.arange(0, 60, 2)
    assert settings.decision == "half"
    scorer = ValidationScorer(settings, sources, labels, before)
    half = scorer.search(validation, probabilities[validation])
    scores = scorer.scores(validation, probabilities[validation])
    assert (half.thresholds == 0.5).all() and half.score == half.score_at_half
    searching = ValidationScorer(replace(settings, decision="thresholds"), sources, labels, before)
    search = searching.search(validation, probabilities[validation])
    assert (search.thresholds != 0.5).any() and search.score > half.score
    predictions = probabilities[validation] >= 0.5
    assert scores["score at 0.5"] == pytest.approx(challenge_score(labels[validation], predictions, weights))
    assert scores["at 0.5 as labelled"] == pytest.approx(challenge_score(before[validation], predictions, weights))


def test_thresholds_fit_cleaned_labels_and_a_calibration_fits_those_of_the_headers():
    rng = np.random.default_rng(0)
    original, probabilities = rng.random((80, 26)) < 0.2, rng.random((80, 26)).astype(np.float32)
    cleaned, validation = original.copy(), np.arange(40, 80)
    cleaned[60:, 3] = True
    settings = replace(GATED, proxy_least=None, decision="thresholds")
    scorer = ValidationScorer(settings, np.full(80, "CPSC"), cleaned, original)
    everywhere = np.ones((40, 26), bool)
    calibration = scorer.calibrate(validation, probabilities[validation])
    by_headers, by_cleaned = (
        fit_calibration(labels[validation], probabilities[validation], everywhere) for labels in (original, cleaned)
    )
    assert calibration == by_headers != by_cleaned
    search = scorer.search(validation, probabilities[validation])
    assert search.score == search_thresholds(cleaned[validation], probabilities[validation], load_weights()[1]).score


@pytest.fixture(scope="module")
def model(synthetic_recordings, tmp_path_factory):
    """A model folder of a gated recipe with peaks and masks of sources, trained on synthetic data, and its results."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ecg.systems.method.FEWEST", 4)
        patch.setattr(
            "ecg.commands.train.load_all_wave_peaks",
            lambda stores, *_: {preparation: regular(store) for preparation, store in stores.items()},
        )
        patch.setattr(
            "ecg.commands.train.write_report", lambda folder, results, *_: training_tables(results)
        )  # without its pictures
        folder = tmp_path_factory.mktemp("model")
        settings = replace(GATED, views=GATED.views[:1], lead_sets=(2,), peak_training=None)
        return folder, train(synthetic_recordings, folder, settings)


@pytest.mark.slow
def test_a_trained_recipe_predicts_through_the_challenges_scripts_what_its_results_report(model, headers):
    folder, results = model
    bundle = team_code.load_model(folder, ["II", "I"])
    assert bundle.system == "li2021" and list(bundle.ensemble.groups) == ["general", "special", "gate"]
    paths, gates = {path.stem: path for path in headers}, []
    for row, record in enumerate(results.validation):
        path = paths[results.store.names[record]]
        codes, outputs, probabilities = team_code.run_model(bundle, path.read_text(), read_record(path)[1])
        assert len(codes) == len(outputs) == 26
        np.testing.assert_allclose(probabilities, results.validated[2][row], atol=1e-5)
        near = np.abs(results.validated[2][row] - 0.5) < 1e-4
        assert (outputs == results.predictions(2)[row])[~near].all() or near.any()
        gates.append(not probabilities[CLASS_INDEX["SB"]])
    assert sorted(path.name for path in folder.glob("*.h5")) == [
        "2_leads.2.weights.h5", "2_leads.3.weights.h5", "2_leads.weights.h5"]  # fmt: skip


@pytest.mark.slow
def test_results_and_ensemble_agree_on_a_store(model):
    folder, results = model
    probabilities = predict_stores(
        team_code.load_model(folder, LEAD_SETS[2]).ensemble,
        {DEFAULT_PREPROCESSING: results.store},
        results.validation,
        "",
    )
    np.testing.assert_allclose(probabilities, results.validated[2], atol=1e-5)


@pytest.mark.parametrize("rule", CleaningSettings().rules, ids=lambda rule: rule.title)
def test_a_rules_network_is_not_validated_on_patients_that_it_is_trained_on(rule, tmp_path):
    rng = np.random.default_rng(0)
    sources, patients = rng.choice(["CPSC", "Ningbo", "Georgia"], 400), rng.integers(0, 60, 400)
    labels = rng.random((400, 26)) < 0.3
    stages = []

    class Runner(StageRunner):
        def train_or_load(self, stage):
            stages.append(stage)
            return Outcome([], [], predict_stage(stage), "")

    cleaning = CleaningSettings((), (rule,))
    if not isinstance(rule, PartiallyLabelledSource):
        cleaning = CleaningSettings((rule,), ())
    settings = replace(Settings(), cleaning=cleaning)
    apply_rules(labels, sources, settings, Runner({}, tmp_path, 0, TimeBudget(None)), patients)
    (stage,) = stages
    known = patients[stage.records]
    assert not set(known[stage.training]) & set(known[stage.validation])
    assert sorted([*stage.training, *stage.validation]) == list(range(len(stage.records)))
    runner = Runner({}, tmp_path, 0, TimeBudget(None))
    after, (made,) = apply_rules(labels, sources, settings, runner, np.zeros(400, int))
    assert made.skip_reason.endswith("recordings of other sources are of one patient") and len(stages) == 1
    np.testing.assert_array_equal(after, labels)


def test_networks_that_vote_decide_the_recordings_that_they_were_not_trained_on(train_fake, store):
    trained, stages, lines, _ = train_fake(VOTING)
    results, splits = trained.results, split_recordings(store.labels, VOTING)
    assert list(stages) == [f"all lead sets, split {split} of 3" for split in (1, 2, 3)]
    assert [network.leads for network in trained.networks] == 3 * [*LEAD_SETS.values()]
    columns = CHALLENGE_CLASSES.indices(VOTING.classes)
    validation = np.unique(np.concatenate([part for _, part in splits]))
    np.testing.assert_array_equal(results.validation, validation)
    assert len(validation) < len(store) and (np.bincount(np.concatenate([part for _, part in splits])) > 1).any()
    for count, leads in LEAD_SETS.items():
        thresholds, members = results.votes[count]
        expected = np.full((3, len(store), 26), np.nan, np.float32)
        for row, (title, (_, part)) in enumerate(zip(stages, splits, strict=True)):
            expected[row, part] = random_probabilities(f"{title} {leads}", len(store), 26)[part]
            labels, probabilities = store.labels[part], CHALLENGE_CLASSES.expand(expected[row, part], columns)
            seed = int(seeds(VOTING.seed, f"general/all/split{row + 1}/thresholds/{len(leads)}", 0, 1)[0])
            evolved = evolve_thresholds(labels, probabilities, load_weights()[1], seed)
            np.testing.assert_array_equal(thresholds[row], evolved)
        np.testing.assert_array_equal(members, expected[:, validation])
        np.testing.assert_allclose(results.validated[count], np.nanmean(expected[:, validation], axis=0), rtol=1e-6)
        known = np.isfinite(members[..., 0])
        yes = (np.nan_to_num(members, nan=-1)[..., np.argsort(columns)] >= thresholds[:, np.newaxis]).sum(axis=0)
        np.testing.assert_array_equal(results.predictions(count), 2 * yes > known.sum(axis=0)[:, np.newaxis])
        score = challenge_score(store.labels[validation], results.predictions(count), load_weights()[1])
        assert any(line.startswith(f"{count} leads: score") and f"{score:.3f} as predicted" in line for line in lines)
    table = member_threshold_table(results)
    assert table[0][:4] == ("class", "12 leads, network 1", "12 leads, network 2", "12 leads, network 3")
    assert table[5][2] == results.votes[12].thresholds[1, 4] and len(table[0]) == 16


def test_networks_of_a_voting_system_can_be_decided_by_expected_credit(train_fake, store):
    trained, *_ = train_fake(replace(VOTING, decision="expected_credit", lead_sets=(12,)))
    results = trained.results
    assert results.votes == {}
    calibrated = results.rule(12).calibrate(CHALLENGE_CLASSES.expand(results.validated[12], results.columns))
    np.testing.assert_array_equal(results.predictions(12), choose_classes(calibrated, load_weights()[1]))


def test_the_loss_of_a_voting_system_is_weighted_by_the_training_set_of_each_network(train_fake, store):
    _, stages, _, _ = train_fake(replace(VOTING, lead_sets=(2,)))
    columns = CHALLENGE_CLASSES.indices(VOTING.classes)
    for stage, (training, _) in zip(stages.values(), split_recordings(store.labels, VOTING), strict=True):
        positives = store.labels[training][:, columns].sum(axis=0)
        ratios = (len(training) - positives) / np.maximum(positives, 1)
        expected = np.where(positives > 0, ratios, ratios[positives > 0].max())
        np.testing.assert_allclose(stage.loss.positive_weights, expected, rtol=1e-6)
        np.testing.assert_allclose(stage.loss.weights, load_weights()[1][np.ix_(columns, columns)], rtol=1e-6)
        assert stage.lead_sets == (("I", "II"),) and stage.leads == LEADS and len(stage.configurations) == 6


def test_credit_is_given_for_scored_classes_alone():
    settings = replace(VOTING, classes=("AF", "STE", "NSR"), network=AttentionSettings())
    loss = settings.make_loss(settings.classes, np.eye(3), np.ones((3, 3)))
    weights = load_weights()[1]
    af, nsr = CLASS_INDEX["AF"], CLASS_INDEX["NSR"]
    expected = [[weights[af, af], 0, weights[af, nsr]], [0, 0, 0], [weights[nsr, af], 0, weights[nsr, nsr]]]
    np.testing.assert_allclose(loss.weights, expected, rtol=1e-6)


@pytest.mark.slow
def test_a_trained_voting_system_predicts_as_its_saved_models_do(store, tmp_path):
    settings = replace(VOTING, lead_sets=(12, 3, 2))
    runner = StageRunner({DEFAULT_PREPROCESSING: store}, tmp_path / "stages", settings.seed, TimeBudget(None))
    trained = train_system(settings, runner, {}, tmp_path)
    assert len(trained.seconds) == 3 and len(list((tmp_path / "stages").iterdir())) == 3
    held_out = np.arange(0, 60, 7)
    result = predict_held_out(trained, settings, {DEFAULT_PREPROCESSING: store}, held_out)
    for count, predictions in result.by_leads.items():
        leads, rule = LEAD_SETS[count], trained.results.rule(count)
        save_bundle(Bundle(leads, trained.ensemble(leads), rule, "voting"), tmp_path)
        bundle = load_bundle(tmp_path, leads)
        members = predict_members(bundle.ensemble.general, {DEFAULT_PREPROCESSING: store}, held_out, "checking")
        expected = bundle.rule.decide(members.mean(axis=0), bundle.columns, members)
        wide = CHALLENGE_CLASSES.expand(members.mean(axis=0), trained.results.columns)
        np.testing.assert_allclose(predictions.probabilities, wide, atol=1e-6)
        np.testing.assert_array_equal(predictions.predictions, expected)
        assert predictions.costs.networks == 3 and predictions.costs.epochs == 3
