"""Results of trainings of known content, and stages of networks, for several test files; they need Keras."""

from collections import deque
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from helpers import WEIGHTS

from ecg.data.corrections import LabelVotes
from ecg.data.labels import CHALLENGE_CLASSES, CLASS_INDEX, TRAINED, TRAINED_CLASSES
from ecg.data.leads import LEAD_SETS
from ecg.data.preprocessing import Repair, encode_demographics
from ecg.data.samples import Samples
from ecg.data.store import Store
from ecg.evaluation.calibration import Calibration, fit_calibration
from ecg.evaluation.thresholds import search_thresholds
from ecg.models.bundle import Bundle, save_bundle
from ecg.models.decision import Rule
from ecg.models.ensemble import Ensemble, Group, Member
from ecg.models.numpy_network import NumpyNetwork, Operation
from ecg.reports.training_tables import training_tables
from ecg.runtime.limits import TIME_LIMIT_REACHED
from ecg.systems.label_cleaning import ConflatedClasses, PartiallyLabelledSource, Relabelling
from ecg.systems.label_comparison import Disagreement
from ecg.systems.recipes import AS_LABELLED, Settings
from ecg.systems.results import Results, Votes
from ecg.training.checkpoint import Epoch

COUNT = 80
AS_IS = Settings(cleaning=AS_LABELLED)
REPAIRED = (
    ("R001", Repair("beyond 20 mV", ("I", "V2"), 17)),
    ("R001", Repair("flat lead", ("V6",), 1)),
    ("R002", Repair("flat lead", ("V1", "V2"), 2)),
)
ENDS = {"round 1": "no lower loss in 4 epochs", "round 2": TIME_LIMIT_REACHED}


def make_bundle(leads, settings, thresholds, network, fallback=None):
    """A bundle of one network for the default classes."""
    ensemble = Ensemble(Group(TRAINED_CLASSES, (Member(tuple(leads), settings, network),)))
    calibration = Calibration(0.9, tuple(np.linspace(-1, 1, 26).tolist()))
    return Bundle(tuple(leads), ensemble, Rule(thresholds, fallback=fallback, calibration=calibration))


def make_own_bundle(leads, settings, classes, seed=1):
    """A bundle of one network of random weights for a table of classes."""
    keras.utils.set_random_seed(seed)
    network = settings.build(len(leads), None, len(classes))
    ensemble = Ensemble(Group(classes.abbreviations, (Member(tuple(leads), settings, network),)))
    return Bundle(tuple(leads), ensemble, Rule(np.full(len(classes), 0.5), classes=classes))


def save_untrained_models(folder, settings):
    """Save models of random weights for 12 and 2 leads."""
    for count in (12, 2):
        keras.utils.set_random_seed(count)
        network = settings.build(count, None, len(TRAINED))
        save_bundle(make_bundle(LEAD_SETS[count], settings, np.full(26, 0.5), network), folder)


class StandInNetwork(NumpyNetwork):
    """A network that predicts by a function of its inputs.

    Attributes:
        function: Returns the outputs for a batch of each input.
        seen: The inputs of its predictions, or of the last ones.
    """

    def __init__(self, function, n_inputs=1, keep=None):
        super().__init__(n_inputs, (Operation("activation", (0,), {"activation": "linear"}),), [])
        vars(self).update(function=function, seen=deque(maxlen=keep))

    def predict(self, *inputs):
        assert len(inputs) == self.n_inputs and len({len(values) for values in inputs}) == 1
        self.seen.append(inputs)
        return np.asarray(self.function(*inputs), np.float32)


class WindowNetwork(StandInNetwork):
    """A network that predicts from the mean of each window, and from demographics."""

    def __init__(self, seed, n_outputs, sees_demographics=False):
        scale = np.random.default_rng(seed).normal(0, 2, n_outputs)

        def predict(signals, demographics=None):
            levels = np.abs(signals).mean(axis=(1, 2)) + (0 if demographics is None else demographics.sum(axis=1))
            return 1 / (1 + np.exp(-np.outer(levels, scale)))

        super().__init__(predict, 1 + sees_demographics)


def get_network(bundle):
    """The network of a bundle that has one."""
    (member,) = bundle.ensemble.general.members
    return member.network


def stage_titles(settings):
    """The titles of all stages of a recipe, in the order of their keys."""
    from ecg.systems.plan import first_round_title, planned_networks, pretraining_plans

    titles = [plan.title for plan in pretraining_plans(settings)]
    titles += [rule.title for rule in settings.cleaning.rules] + [first_round_title(settings)] * settings.cleaning.masks
    for network in planned_networks(settings):
        titles += [network.peaks_title] * network.learns_peaks + [network.title]
    return titles


def predict_stage(stage):
    """What a network would answer that sees every class in every other recording that its stage asks about."""
    sure = np.where(np.arange(len(stage.to_predict)) % 2, 0.05, 0.95).astype(np.float32)
    return np.repeat(sure[:, np.newaxis], stage.targets.shape[1], axis=1)


def make_results(seed=0, rate=0.15, count=COUNT):
    """Random results: every second recording is for validation, and those of Georgia are scored."""
    random = np.random.default_rng(seed)
    sources = random.choice(["CPSC", "Georgia", "Ningbo"], count)
    labels = random.random((count, 26)) < rate
    labels[:, CLASS_INDEX["PR"]] = False  # a class that never occurs
    names = np.array([f"R{place:03}" for place in range(count)])
    dropped = (("A0001", "the reason, with a comma"), ("S0001", "source PTB is not trained on"))
    additional, lengths = np.zeros((count, 2), bool), np.ones(count, int)
    samples = Samples([np.zeros((count, 12), np.int16)], np.zeros(count, int), np.arange(count), lengths)
    demographics = draw_demographics(seed, count)
    frequencies, recorded_leads = np.where(sources == "CPSC", 500.0, 257.0), np.ones((count, 12), bool)
    recorded_leads[::8, 2:] = False
    came = labels.copy()
    relabellings = make_relabellings(labels, sources, random)
    store = Store(
        names, names, sources, came, came, additional, demographics, ~came.any(axis=1), lengths,
        frequencies, recorded_leads, samples, dropped, REPAIRED, "digest",
        unknown_codes=(("251238007", 3), ("x,y", 1)),
    )  # fmt: skip
    validation = np.arange(0, count, 2)
    scored = sources[validation] == "Georgia"
    masks = (random.random((count, 22)) < 0.9).astype(np.float32)
    validated, searches, calibrations = {}, {}, {}
    for leads in (12, 2):
        noise = random.normal(0.35, 0.2, (len(validation), 22))
        validated[leads] = np.clip(0.3 * labels[validation][:, TRAINED] + noise, 0, 1).astype(np.float32)
        chosen = validation[scored]
        wide = CHALLENGE_CLASSES.expand(validated[leads][scored])
        searches[leads] = search_thresholds(labels[chosen], wide, WEIGHTS, resamples=5)
        calibrations[leads] = fit_calibration(labels[chosen], wide, wide > 0)
    epochs = [
        Epoch(key=stage, title=stage, epoch=1, rate=1e-4, loss=0.5, validation_loss=0.4, scores=scores, best=True)
        for stage, scores in (("round 1", {"score at 0.5": -0.1}), ("round 2", {"score at 0.5": 0.1, "optimised": 0.2}))
    ]
    disagreements = [
        Disagreement(
            Path(f"{name}.hea"),
            name,
            "Georgia",
            CLASS_INDEX[abbreviation],
            labelled,
            probability,
            np.full(26, 0.5, np.float32),
        )
        for name, abbreviation, labelled, probability in (("R004", "AF", False, 0.99), ("R006", "SB", True, 0.03))
    ]
    return Results(store, labels, np.arange(1, count, 2), validation, scored, epochs, relabellings, masks,
                   disagreements, searches, calibrations, validated, Settings(), ENDS)  # fmt: skip


def make_corrected_results():
    """Random results in which reviewers have corrected AF in every third recording, before relabelling."""
    results, column = make_results(count=200), CLASS_INDEX["AF"]
    chosen = np.arange(0, len(results.store), 3)
    is_present = results.store.labels[chosen, column]
    votes = {
        (str(results.store.names[row]), "AF"): LabelVotes(0, 2) if present else LabelVotes(2)
        for row, present in zip(chosen.tolist(), is_present.tolist(), strict=True)
    }
    labels = results.labels.copy()
    labels[chosen, column] = ~is_present
    return replace(results, store=results.store.correct(votes), labels=labels)


def draw_demographics(seed, count):
    """Ages from 20 to 89, and sexes; one in ten of each is unknown."""
    random = np.random.default_rng((seed, 1))
    ages = np.where(random.random(count) < 0.1, np.nan, random.integers(20, 90, count))
    return np.array([
        encode_demographics(age, sex)
        for age, sex in zip(ages, random.choice(["Female", "Male", "Unknown"], count, p=[0.45, 0.45, 0.1]), strict=True)
    ])  # fmt: skip


def make_relabellings(labels, sources, random):
    """Relabel at random, in place, and return what was done; a third rule cannot be applied."""
    made = []
    for rule in (ConflatedClasses(), PartiallyLabelledSource()):
        judged = rule.candidates(labels, sources)
        probabilities = random.random((len(judged), 1 if rule == ConflatedClasses() else 15), np.float32)
        if rule == ConflatedClasses():
            probabilities = np.hstack([1 - probabilities, probabilities])
        after = rule.update_labels(labels, sources, probabilities)
        made.append(Relabelling(rule.title, judged, rule.find_columns(), probabilities, labels[judged], after[judged]))
        labels[:] = after
    none = labels[:0]
    made.append(
        Relabelling(
            "SB or NSR in Mine", judged[:0], rule.find_columns(), np.empty((0, 15), np.float32), none, none, "no Mine"
        )
    )
    return made


@pytest.fixture(scope="module")
def results():
    return make_results()


def table(results, name):
    header, *rows = training_tables(results)[name]
    return [dict(zip(header, row, strict=True)) for row in rows]


def make_voting_results(count=COUNT):
    """Results of two networks that vote. Each has validated two thirds of the recordings, one of them all."""
    results, random = make_results(count=count), np.random.default_rng(2)
    votes = {}
    for leads, validated in results.validated.items():
        members = validated + random.normal(0, 0.05, (2, *validated.shape))
        members[0, ::3] = members[1, 1::3] = np.nan
        votes[leads] = Votes(random.uniform(0.3, 0.7, (2, 26)), members)
    return replace(results, votes=votes, settings=replace(results.settings, decision="vote"))


def make_exclusive_results(count=COUNT):
    """Results of a system that answers one of four classes; STE is not scored. Each recording has one of them."""
    results, classes = make_results(count=count), ("NSR", "AF", "STE", "PVC")
    random, columns = np.random.default_rng(1), CHALLENGE_CLASSES.indices(classes)
    chosen = np.eye(4, dtype=bool)[random.integers(0, 4, count)]
    store, labels = replace(results.store, labels=results.store.labels.copy()), results.labels.copy()
    for table in (store.labels, labels):
        table[:, [CLASS_INDEX[name] for name in ("NSR", "AF", "PVC")]] = chosen[:, [0, 1, 3]]
    store.additional[:, 1] = chosen[:, 2]
    results = replace(results, store=store, labels=labels, scored=np.ones_like(results.scored))
    probabilities = random.dirichlet(np.ones(4), len(results.validation)) + chosen[results.validation]
    probabilities = (probabilities / probabilities.sum(axis=1, keepdims=True)).astype(np.float32)
    wide = CHALLENGE_CLASSES.expand(probabilities[results.scored], columns)
    search = search_thresholds(results.scored_labels, wide, WEIGHTS)
    calibration = fit_calibration(results.store.labels[results.scored_rows], wide, wide > 0)
    masks = (random.random((count, 4)) < 0.9).astype(np.float32)
    settings = replace(AS_IS, classes=classes, exclusive=True, decision="argmax")
    return replace(results, masks=masks, settings=settings, validated={12: probabilities},
                   searches={12: search}, calibrations={12: calibration})  # fmt: skip
