"""The network of one stage of the method: trained, or what it came to where that is done already."""

import re
from dataclasses import dataclass
from importlib.metadata import version
from typing import NamedTuple

import keras
import numpy as np

from ecg.checkpoint import Epoch, listed, numbered, read_epochs, written_epochs
from ecg.devices import accelerators, together
from ecg.leads import LEAD_SETS, LEADS
from ecg.losses import MaskableLoss
from ecg.networks import computing_in
from ecg.stages import StageFolder, fingerprint, program
from ecg.training import PROGRESS, Examples, out_of_memory_told, predict, seeds, train_network

# Modules that decide what a network comes to.
PROGRAM = ("layers", "networks", "losses", "batches", "devices", "work", "checkpoint", "training", "fitting")
SAVED = "float32"  # precision in which a saved model answers
RESULT = "result"  # what a StageFolder keeps of a stage that is done


@dataclass(frozen=True)
class Stage:
    """A network to be trained: n recordings of a store, K classes.

    records (n,) places in the store, targets (n, K), masks (n, K): what each label counts, training and validation:
    places among the records, asked (m,): places in the store of the recordings that it is to answer for.
    """

    title: str
    leads: int
    loss: MaskableLoss
    records: np.ndarray
    targets: np.ndarray
    masks: np.ndarray
    training: np.ndarray
    validation: np.ndarray
    asked: np.ndarray


class Outcome(NamedTuple):
    """What a stage came to: its epochs, the network's weights, its probabilities (m, K) for what it was asked, its end.

    The end is a text: what ended the epochs.
    """

    epochs: list[Epoch]
    weights: list[np.ndarray]
    probabilities: np.ndarray
    ended: str


def fitted(stage, store, stages, settings, score, log, budget, left):
    """Train the network of a stage from fresh weights, and return its Outcome; of one that is done already, that.

    The stage's own folder in `stages` keeps it, under the fingerprint of all that decides what it comes to. `score`
    and `log` are those of ecg.training.train_network; the Budget is shared by the stages that are `left`, this one
    included.
    """
    columns = columns_of(stage.leads)
    backend = keras.backend.backend()
    makers = (program(*PROGRAM), keras.version(), backend, version(backend), type(stage.loss).__name__)
    parts = (stage.records, stage.targets, stage.masks, stage.training, stage.validation, stage.asked)
    mark = fingerprint(store.digest, *makers, stage.title, stage.leads, settings.seed, settings.network,
                       settings.training, settings.proxy_least, *parts)  # fmt: skip
    folder = StageFolder(stages / re.sub(r"[^a-z0-9]+", "_", stage.title.lower()), mark)
    result = folder.recall(RESULT)
    if result is None:
        budget.begin(left, len(stage.validation) + len(stage.asked))
        learnt, checked = (
            Examples(store, stage.records[part], columns, stage.targets[part], stage.masks[part])
            for part in (stage.training, stage.validation)
        )
        with out_of_memory_told(stage.title), together(accelerators()):
            keras.utils.set_random_seed(int(seeds(settings.seed, f"{stage.title}, weights", 0, 1)[0]))
            network = built(stage, settings, settings.training.precision)
            epochs, ended = train_network(network, stage.loss, learnt, checked, settings.training, settings.seed,
                                          stage.title, score, log, folder, budget)  # fmt: skip
            if settings.training.precision != SAVED:  # thresholds and scores are to be those of the saved model
                trained, network = network, built(stage, settings, SAVED)
                network.set_weights(trained.get_weights())
                network.jit_compile = keras.backend.backend() == "jax"
            probabilities = predict(
                network, store, stage.asked, columns, f"{stage.title}, answers", settings.training.batch
            )
        result = {
            "epochs": written_epochs(epochs), "ended": np.array(ended), "probabilities": probabilities,
            **numbered("weights", network.get_weights()),
        }  # fmt: skip
        folder.keep(RESULT, result)
        folder.discard(PROGRESS)
    else:
        log(f"{stage.title}: done before")
    weights, ended = listed("weights", result), str(result["ended"])
    return Outcome(read_epochs(result["epochs"]), weights, result["probabilities"], ended)


def built(stage, settings, precision):
    """Return the network of a stage, untrained, that computes in a precision."""
    with computing_in(precision):
        return settings.network.build(stage.leads, None, stage.targets.shape[1])


def columns_of(count):
    """Return the columns of a lead set in the store."""
    return tuple(LEADS.index(lead) for lead in LEAD_SETS[count])
