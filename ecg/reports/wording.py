"""The settings of systems in words, and those in which they differ."""

from dataclasses import fields

from ecg.data.batches import REPEATED
from ecg.data.labels import ABBREVIATIONS
from ecg.data.leads import LEAD_SETS
from ecg.models.dcnet import DCNetSettings
from ecg.models.resnets import RATIO, LeadWeightedSettings, LiSettings, NetworkSettings, RhythmSettings
from ecg.systems.recipes import HALVES

NONE = "none"
# What settings have short names for.
NETWORKS = {
    NetworkSettings: "{}ResNet, two fully connected layers",
    LiSettings: "{}ResNet",
    LeadWeightedSettings: "{}ResNet, told age and sex",
    DCNetSettings: "DCNet, leads as the rows of an image",
    RhythmSettings: "pre-activation {}ResNet",
}
LOSSES = {"margin": "asymmetric with a margin", "categorical": "cross-entropy of one class of many"}
OPTIMIZERS = {"adam": "Adam", "adamw": "AdamW", "sgd": "SGD"}
ACTIVATIONS = {"mish": "Mish", "relu": "ReLU"}
SIZES = {"hidden": "hidden units", "plain": "plain convolutions"}
# Of a network's settings, those that have rows of their own.
ALONE = ("activation", "squeeze", "squeeze_ratio", "dropout", "peaks")


def differing(systems):
    """Return as a table the settings in which systems (ecg.systems.recipes.Settings) differ, in words.

    A row for each of them, a column for each system.
    """
    told = [in_words(system) for system in systems]
    rows = [(name, *(each[name] for each in told)) for name in told[0]]
    return [("setting", *(system.system for system in systems)), *(row for row in rows if len(set(row[1:])) > 1)]


def in_words(settings):
    """Return what decides what a system comes to, beside the seed and the lead sets: a dict of words by their title."""
    cleaning, gate = settings.cleaning, settings.gate
    masks = ["those that round 1 is sure are wrong"] * cleaning.masks
    masks += [f"of classes that a source does not label{labelled_in_words(cleaning)}"] * settings.source_masks
    return (
        {
            "classes": classes_in_words(settings.classes),
            "classes exclude each other": "yes" if settings.exclusive else "no",
            "labels implied by others": implied_in_words(settings.implies),
            "labels cleaned by a network": listed(rule_in_words(rule) for rule in cleaning.rules),
            "labels masked": listed(masks),
            "signals": listed(map(view_in_words, settings.views)),
            "leads used": leads_in_words(settings),
            "leads left out at random in training": "yes" if settings.configurations else "no",
        }
        | network_in_words(settings.network)
        | {
            "networks for one source": gate_in_words(gate) if gate else NONE,
            "loss": loss_in_words(settings),
            "waves' peaks in the loss": f"with a share of {settings.peaks:g}" if settings.peaks else NONE,
        }
        | training_in_words(settings.training)
        | {
            "first training, for peaks alone": pretraining_in_words(settings),
            "validation": f"{settings.folds} folds, a network for each" if settings.folds else
            f"{settings.validation_share:.0%} of the recordings",
            "recordings that give the score": "all of the validation" if settings.proxy_least is None else
            f"Georgia's of the validation, where there are {settings.proxy_least}",
            "thresholds": thresholds_in_words(settings),
            "rules for answers": listed(rules_in_words(settings)),
        }
    )  # fmt: skip


def listing(names):
    """Return names one after another."""
    return ", ".join(map(str, names))


def listed(parts):
    """Return parts of a sentence one after another, or that there is none."""
    return "; ".join(parts) or NONE


def classes_in_words(classes):
    """Return how many classes there are, and which, or where they are most of the scored ones, which are not there."""
    missing = [name for name in ABBREVIATIONS if name not in classes]
    beside = [name for name in classes if name not in ABBREVIATIONS]
    if len(classes) <= len(missing):
        return f"{len(classes)}: {listing(classes)}"
    return (
        f"{len(classes)}: all that are scored"
        + f" but {listing(missing)}" * bool(missing)
        + "".join(f", and {name}" for name in beside)
    )


def implied_in_words(pairs):
    """Return which class counts wherever which others are, for pairs of abbreviations."""
    by_second = {}
    for first, second in pairs:
        by_second.setdefault(second, []).append(first)
    return listed(f"{second} where {' or '.join(firsts)}" for second, firsts in by_second.items())


def labelled_in_words(cleaning):
    """Return which classes sources label, of those of which it is said and which are believed."""
    known = [
        f"{listing(rule.sources)} labels {listing(rule.labelled)}"
        for rule in cleaning.partially_labelled
        if not rule.relabel
    ]
    return f" ({'; '.join(known)}; others what is found in them)" if known else ""


def rule_in_words(rule):
    """Return what a rule of ecg.systems.label_cleaning decides."""
    labelled = getattr(rule, "labelled", ())
    return rule.title + (f", which labels {listing(labelled)}" if labelled else "")


def view_in_words(view):
    """Return how a network sees a recording: '500 Hz, unfiltered, 10 s (4992 samples), padded with zeros'."""
    preparation, window = view.preparation, view.window
    words = [f"{preparation.rate} Hz" + " by straight lines" * preparation.linear]
    words.append("{:g} to {:g} Hz".format(*preparation.band) if preparation.band else "unfiltered")
    if window.length is None:
        return listing([*words, "whole recordings"])
    words.append(time_in_words(window.length, preparation.rate))
    words.append("padded by repetition" if window.fill == REPEATED else "padded with zeros")
    words += [f"in one piece up to {window.slack} samples more"] * bool(window.slack)
    if window.overlap:
        words.append(f"pieces overlap by {time_in_words(window.overlap, preparation.rate)}")
    return listing(words)


def time_in_words(samples, rate):
    """Return how long samples at a sampling frequency last, to the second, and how many they are."""
    return f"{samples / rate:.0f} s ({samples} samples)"


def leads_in_words(settings):
    """Return which leads are used of the lead sets."""
    by_leads = {}
    for count in settings.lead_sets:
        if settings.leads_of(count) != LEAD_SETS[count]:
            by_leads.setdefault(settings.leads_of(count), []).append(count)
    return "; ".join(f"{listing(leads)} of {listing(counts)}" for leads, counts in by_leads.items()) or "all"


def network_in_words(network):
    """Return what a network is, by the titles of rows."""
    squeeze = getattr(network, "squeeze_ratio", RATIO * getattr(network, "squeeze", False))
    dropout = getattr(network, "dropout", 0)
    return {
        "network": NETWORKS[type(network)].format("SE-" if squeeze else ""),
        "sizes of the network": sizes_in_words(network),
        "squeeze-and-excitation": f"ratio {squeeze}" if squeeze else NONE,
        "activation": ACTIVATIONS[getattr(network, "activation", "relu")],
        "dropout": f"{dropout:g}" if dropout else NONE,
    }


def sizes_in_words(network):
    """Return what a network's settings say beside what has rows of its own: 'width 32, kernels 11 9 7 5'."""
    sizes = {each.name: getattr(network, each.name) for each in fields(network) if each.name not in ALONE}
    if not getattr(network, "peaks", False):
        sizes = {name: size for name, size in sizes.items() if not name.startswith("peak")}
    texts = ((name, " ".join(map(str, size)) if isinstance(size, tuple) else size) for name, size in sizes.items())
    words = (f"not {name}" if size is False else name if size is True else f"{SIZES.get(name, name)} {size}"
             for name, size in texts)  # fmt: skip
    return listing(words).replace("_", " ")


def gate_in_words(gate):
    """Return which recordings networks of their own answer, of which classes, and what tells those recordings."""
    kind, sizes, *others = network_in_words(gate.network).items()
    told = [kind[1], sizes[1], *(f"{name} {word}" for name, word in others)]
    return f"for {listing(gate.classes)} of what looks like {gate.source}'s, told by: {listing(told)}"


def loss_in_words(settings):
    """Return the loss, and where there are two rounds, in which it is."""
    loss = LOSSES.get(settings.loss, settings.loss)
    if not settings.cleaning.masks:
        return loss
    return f"{loss} in both rounds" if loss == "focal" else f"focal in round 1, {loss} in round 2"


def training_in_words(training):
    """Return how a network is trained, by the titles of rows."""
    return {
        "optimizer": listing([
            OPTIMIZERS[training.optimizer],
            *[f"momentum {training.momentum:g}"] * bool(training.momentum),
            *[f"decay of weights {training.decay:g}"] * bool(training.decay),
        ]),
        "learning rate": rate_in_words(training),
        "recordings in a batch": f"{training.smallest_batch} to " * (training.smallest_batch < training.batch)
        + f"{training.batch}, for about {training.steps} steps an epoch",
        "epochs": f"at most {training.epochs}, patience {training.patience}",
        "weights that count": f"running average, momentum {training.averaging:g}" if training.averaging else "the last",
        "computed in": training.precision,
    }  # fmt: skip


def rate_in_words(training):
    """Return how the learning rate goes from epoch to epoch."""
    words = [f"{training.rate:g}"]
    if training.first_epochs and training.first_rate is None:
        words = [f"rising for {training.first_epochs} epochs to {training.rate:g}"]
    elif training.first_epochs:
        words = [f"{training.first_rate:g} for {training.first_epochs} epochs", f"then {training.rate:g}"]
    words += ["falling by half a cosine"] * training.cosine
    words += [f"divided by 10 at epoch {drop + 1}" for drop in training.drops]
    return listing(words)


def pretraining_in_words(settings):
    """Return how networks are first trained for peaks alone: what differs from the training after it."""
    if settings.pretraining is None:
        return NONE
    first, then = training_in_words(settings.pretraining), training_in_words(settings.training)
    return "; ".join(f"{name} {word}" for name, word in first.items() if word != then[name]) or "as for the labels"


def thresholds_in_words(settings):
    """Return how probabilities become answers, before the rules."""
    if settings.exclusive:
        return "none: the likeliest class is answered"
    if settings.thresholds == HALVES:
        return "0.5 for every class"
    means = f", means over {settings.resamples} resamples" * bool(settings.resamples)
    return f"those that maximise the metric{means}"


def rules_in_words(settings):
    """Return the rules for answers: a list of words."""
    pairs = [implied_in_words(settings.answer_pairs)] if settings.answer_pairs else []
    return pairs + [f"{settings.fallback} where nothing else"] * bool(settings.fallback)
