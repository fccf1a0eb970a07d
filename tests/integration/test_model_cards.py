"""The model card of each system agrees with the models that are saved next to it."""

import argparse
import re
import shlex
from dataclasses import replace

import numpy as np
import pytest

import ecg.commands.train
from ecg.commands.options import add_settings
from ecg.commands.settings import training_settings
from ecg.commands.train import train
from ecg.data.labels import ABBREVIATIONS
from ecg.data.leads import LEAD_SETS
from ecg.data.records import find_records, read_record
from ecg.data.synthetic import SyntheticSettings, synthesize
from ecg.models.bundle import load_bundle
from ecg.models.network_settings import (
    AttentionSettings,
    DCNetSettings,
    LeadWeightedSettings,
    LiSettings,
    NetworkSettings,
    RhythmSettings,
)
from ecg.reports import training_charts, training_report
from ecg.runtime.executors import ONE_PROCESS
from ecg.systems.recipes import SYSTEMS, SyntheticPretraining
from ecg.systems.stage_runner import Outcome, StageRunner

N_RECORDINGS = 160
NETWORKS = {
    "cai2021": NetworkSettings(width=4, kernels=(), hidden=8),
    "li2021": LiSettings(stages=(1, 1, 1, 1), width=4, peaks=True),
    "zhao2022": LeadWeightedSettings(widths=(4, 4, 8, 8, 8, 8, 8, 8), squeeze_ratio=2),
    "xie2022": DCNetSettings(filters=(4,), plain=1),
    "se_resnet_rhythm": RhythmSettings(depth=18, width=4),
    "nejedly2021": AttentionSettings(width=4, blocks=1),
    "apprentice": NetworkSettings(width=4, kernels=(), hidden=8),
}


class GuessingRunner(StageRunner):
    """Trains nothing; its predictions are better than chance."""

    def train_or_load(self, stage):
        """Return random weights, and probabilities near the labels."""
        random = np.random.default_rng(len(stage.key))
        network = stage.network.build(len(stage.leads), stage.view.window.length, stage.targets.shape[1],
                                      stage.output_activation)  # fmt: skip
        shape = (max(len(stage.lead_sets), 1), len(stage.to_predict), stage.targets.shape[1])
        logits = 3 * stage.targets[stage.to_predict] - 2 + random.normal(size=shape)
        probabilities = 1 / (1 + np.exp(-logits))
        if stage.output_activation == "softmax":
            probabilities /= probabilities.sum(axis=-1, keepdims=True)
        probabilities = probabilities.astype(np.float32)
        return Outcome([], network.get_weights(), probabilities if stage.lead_sets else probabilities[0], "guessed")

    def predict_peaks(self, stage, weights, records):
        """Return no example."""
        return []


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Recordings of three sources, of which a fifth each is for a gate."""
    folder = tmp_path_factory.mktemp("data")
    sources = {"CPSC": 0.4, "Georgia": 0.3, "PTB-XL": 0.3}
    synthesize(folder, N_RECORDINGS, seed=1, settings=SyntheticSettings(sources=sources), executor=ONE_PROCESS)
    return folder


def rows_below(card, caption):
    """The rows of a table of the card, as lists of cells."""
    lines = card[card.index(f"**{caption}**") :].splitlines()[4:]
    end = lines.index("")
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[:end]]


@pytest.mark.slow
@pytest.mark.parametrize("system", SYSTEMS)
def test_the_card_agrees_with_the_models(system, data, tmp_path, monkeypatch):
    monkeypatch.setattr(training_report, "draw_training", lambda results: iter(()))
    monkeypatch.setattr(training_charts, "draw_disagreements", lambda *arguments, **options: None)
    changes = {"pretraining": SyntheticPretraining(4)} if SYSTEMS[system].pretraining else {}
    settings = replace(SYSTEMS[system], network=NETWORKS[system], lead_sets=(3, 2), resamples=0, **changes)
    results = train(data, tmp_path / "model", settings, GuessingRunner)
    card = (tmp_path / "model/model_card.md").read_text("utf-8")
    assert card.startswith(f"# Model card: {system} for 3, 2 leads\n")

    predictable = set(re.findall(r"(\w+) \(", card[card.index("- It predicts: ") :].splitlines()[0]))
    n_networks = int(re.search(r"^- (\d+) networks? for", card, re.MULTILINE)[1])
    for leads in settings.lead_sets:
        bundle = load_bundle(tmp_path / "model", LEAD_SETS[leads])
        assert len(bundle.ensemble.general.members) == n_networks
        assert ("A further network tells whether" in card) == (bundle.ensemble.gate is not None)
        used = re.search(rf"^- {leads} leads: the networks use (.*)\.$", card, re.MULTILINE)[1].split(", ")
        assert tuple(used) == settings.leads_of(leads)
        for path in find_records(data)[:3]:
            header, signal = path.read_text(), read_record(path)[1]
            outputs = np.array(bundle.predict(header, signal)[1], bool)
            assert set(np.array(ABBREVIATIONS)[outputs]) <= predictable
        ((_, n_scored, _, metric, *_), *_) = rows_below(card, f"Scores with {leads} leads")
        assert int(n_scored) == results.scored.sum()
        assert metric == "too few" or 0 < float(metric.split()[0]) <= 1
        assert len(rows_below(card, f"Sensitivity with {leads} leads")) == len(settings.classes)

    ((_, n_used, n_training, n_validation, _), *_) = rows_below(card, "Recordings by source, age and sex")
    assert [int(n_used), int(n_training), int(n_validation)] == [
        len(np.union1d(results.training, results.validation)), len(results.training), len(results.validation)
    ]  # fmt: skip
    assert ("by those networks alone that were not trained on it" in card) == (settings.n_parts > 1)

    language, _, code = card[card.index("## How to reproduce") :].split("```")[1].partition("\n")
    if language == "sh":
        parser = argparse.ArgumentParser()
        add_settings(parser)
        assert training_settings(parser.parse_args(shlex.split(code)[6:])) == settings
    else:
        received = []
        monkeypatch.setattr(ecg.commands.train, "train", lambda *values: received.append(values))
        exec(code, {})
        assert received == [("DATA", "MODEL", settings)]
