"""The systems that can be trained, each a recipe: the default, four others of the literature, and all without a part.

A recipe is data: everything that decides what a training comes to, beside the recordings.
"""

from dataclasses import dataclass, field, fields, replace

from ecg.data.batches import DEFAULT_VIEW, REPEATED, View, Window
from ecg.data.labels import ABBREVIATIONS, CPSC_SCORED, TRAINED_CLASSES
from ecg.data.leads import LEAD_SETS, LEADS
from ecg.data.resampling import Preprocessing
from ecg.models.dcnet import DCNetSettings
from ecg.models.decision import Rule
from ecg.models.resnets import SOURCE_GATE, LeadWeightedSettings, LiSettings, NetworkSettings, RhythmSettings
from ecg.runtime.limits import check_limits
from ecg.systems.label_cleaning import CleaningSettings, PartiallyLabelledSource
from ecg.training.losses import LOSSES
from ecg.training.trainer import TrainingSettings

SEARCHED, HALVES = "searched", "halves"  # where thresholds come from: those that maximise the score, or all 0.5


@dataclass(frozen=True)
class Gate:
    """A source whose recordings networks of their own answer, of the classes that it labels (Li et al. 2021).

    network: settings of what tells that a recording is of it. Raises ValueError where a class is not a scored one.
    """

    source: str = "CPSC"
    classes: tuple[str, ...] = CPSC_SCORED
    network: object = SOURCE_GATE

    def __post_init__(self):
        if unknown := set(self.classes) - set(ABBREVIATIONS):
            raise ValueError(f"{', '.join(sorted(unknown))}: no scored class")


@dataclass(frozen=True)
class Settings:
    """Everything that decides what a training comes to, beside the data; the defaults are the method's.

    Raises ValueError where a part is not one of those that there are.
    """

    system: str = "cai2021"
    seed: int = 2021
    # Labels.
    classes: tuple[str, ...] = TRAINED_CLASSES  # that the networks tell, by their abbreviations
    exclusive: bool = False  # whether they exclude each other: recordings with none or several of them are not used
    implies: tuple[tuple[str, str], ...] = ()  # the second class of a pair counts as labelled wherever the first is
    cleaning: CleaningSettings = field(default_factory=CleaningSettings)
    source_masks: bool = (
        False  # whether classes that a source does not label are masked there (ecg.systems.label_cleaning)
    )
    # What networks see, and what they are.
    views: tuple[View, ...] = (DEFAULT_VIEW,)  # a network for each; the mean of their probabilities counts
    leads_used: tuple[tuple[int, tuple[str, ...]], ...] = ()  # by the size of a lead set, the leads that are used of it
    configurations: bool = False  # whether training leaves out leads at random, such that those of a smaller set stay
    network: object = field(default_factory=NetworkSettings)
    gate: Gate | None = None
    # How they are trained.
    loss: str = "asymmetric"  # one of ecg.training.losses.LOSSES; that of round 1, if there is one, is the focal loss
    training: TrainingSettings = field(default_factory=TrainingSettings)
    peaks: float | None = None  # the share of finding peaks in the loss, where the network does, ...
    pretraining: TrainingSettings | None = None  # ... and how it is first trained for them alone, if it is
    validation_share: float = 0.2
    folds: int | None = None  # into which the recordings are parted in place of that; a network for each to validate
    title: str = "round 2, {}"  # of a network's stage, by its leads
    # How probabilities become answers.
    thresholds: str = SEARCHED  # or HALVES
    proxy_least: int | None = 200  # recordings of Georgia to validate, from which on they alone score; None: never
    resamples: int = 100  # of the recordings that give the score, over which the thresholds are averaged; 0: none
    answer_pairs: tuple[tuple[str, str], ...] = ()  # the second class of a pair is answered wherever the first is
    fallback: str | None = None  # class declared where none is answered, such as NSR; None in the paper
    # What is done with it.
    lead_sets: tuple[int, ...] = tuple(LEAD_SETS)
    keep_stages: bool = False  # leave the stores and the stages' folders in the model folder
    hours: float | None = None  # that all may take, counted anew when a training is taken up; no limit where None
    jobs: int | None = None  # processes that read recordings; one a core where None

    def __post_init__(self):
        Rule(None, self.exclusive, self.answer_pairs, self.fallback).check(self.classes)
        check_limits(seed=self.seed, hours=self.hours, folds=self.folds, resamples=self.resamples, jobs=self.jobs)
        if self.loss not in LOSSES or self.thresholds not in (SEARCHED, HALVES):
            raise ValueError(f"loss {self.loss!r} or thresholds {self.thresholds!r} are not among those that there are")
        if self.cleaning.masks and self.classes != TRAINED_CLASSES:
            raise ValueError("labels are masked by round 1 where the classes are those of the method alone")
        if bool(self.peaks) != getattr(self.network, "peaks", False) or self.pretraining and not self.peaks:
            raise ValueError("peaks have a share in the loss where the network finds them, and pretraining is for them")
        if self.gate and self.exclusive:
            raise ValueError("a gate's networks answer some of the classes, which here exclude each other")
        if self.gate and (unknown := set(self.gate.classes) - set(self.classes)):
            raise ValueError(f"the gate's networks answer {', '.join(sorted(unknown))}, which the others do not tell")

    def leads_of(self, count):
        """Return the leads that are used of a lead set, by its size: a tuple of names."""
        return dict(self.leads_used).get(count, LEAD_SETS[count])

    @property
    def output_activation(self):
        """Return the activation by which networks answer."""
        return "softmax" if self.exclusive else "sigmoid"

    @property
    def preparations(self):
        """Return how recordings are prepared: a list of Preparation, the first view's first, each once."""
        return list(dict.fromkeys(view.preparation for view in self.views))


CAI2021 = Settings()
AS_LABELLED = CleaningSettings(
    conflated_classes=(), partially_labelled=(PartiallyLabelledSource(relabel=False),), masks=False
)  # every label is believed

# What is not the papers' but ours, in all of the four: on small data batches shrink and epochs take recordings
# repeatedly as the default's do (TrainingSettings), and the epoch of the lowest loss on the validation set counts.

# Li et al. 2021. Of the training the paper does not say how many epochs there are at the most, nor how much the weights
# decay, nor what its early stopping looks at, which here is the loss of labels and peaks together: all are ours, and so
# are the thresholds, for it names none. Its random choice of lead configurations is read as leads left out of what a
# network of more leads sees, so that one of 2 leads has no such choice. CPSC's own networks are trained for peaks on
# CPSC alone. Of a recording 32 samples more than the window, a cell of the grid of peaks, are left out, for else each
# of 5,000 was answered twice.
LI_TRAINING = TrainingSettings(first_rate=None, first_epochs=3, rate=6e-4, cosine=True, optimizer="adamw", decay=0.01,
                               patience=5, epochs=50, averaging=0.0)  # fmt: skip
LI2021 = Settings(
    system="li2021",
    classes=ABBREVIATIONS,
    implies=(("LBBB", "BBB"), ("RBBB", "BBB")),
    cleaning=CleaningSettings(conflated_classes=(), partially_labelled=(PartiallyLabelledSource(labelled=CPSC_SCORED, relabel=False),), masks=False),
    source_masks=True,
    views=(
        View(Preprocessing(500, None), Window(4992, slack=32)),
        View(Preprocessing(250, None), Window(4992, slack=32)),
        View(Preprocessing(500, None), Window(7488, slack=32)),
    ),
    leads_used=((12, ("I", "II", *LEADS[6:])), (6, ("I", "II")), (4, ("I", "II", "V2"))),
    configurations=True,
    network=LiSettings(peaks=True),
    gate=Gate(),
    loss="margin",
    training=LI_TRAINING,
    peaks=0.1,
    pretraining=replace(LI_TRAINING, epochs=20),
    title="{}",
    thresholds=HALVES,
    proxy_least=None,
    resamples=0,
    answer_pairs=(("TInv", "TAb"),),
    fallback="NSR",
)  # fmt: skip

# Zhao et al. 2022. The five networks of the cross-validation answer together; the paper does not say what did. Ours,
# too: thresholds by class from 0.20 to 0.80, as the default's, from what each network says of the fold that it has not
# seen, pieces that are spread evenly, so that they overlap by 256 samples or more, 100 years as the age that is 1, and
# ReLU after the layer that age and sex go through.
ZHAO2022 = Settings(
    system="zhao2022",
    classes=tuple(name for name in ABBREVIATIONS if name not in ("BBB", "PRWP")),  # the 24 of the Challenge of 2020
    cleaning=AS_LABELLED,
    views=(View(Preprocessing(257, None, linear=True), Window(4096, overlap=256)),),
    network=LeadWeightedSettings(),
    loss="cross-entropy",
    training=TrainingSettings(batch=64, first_epochs=0, rate=3e-3, drops=(20, 40), patience=50, epochs=50,
                              averaging=0.0),
    folds=5,
    title="{}",
    proxy_least=None,
    resamples=0,
)  # fmt: skip

# Xie, Qin et al. The paper's recordings are CPSC's of 2018; here all that have one label of the nine. Longer ones than
# 30 s are cut at random to learn, and answered by the mean of their pieces, which is ours.
XIE2022 = Settings(
    system="xie2022",
    classes=("NSR", "AF", "IAVB", "LBBB", "RBBB", "PAC", "PVC", "STD", "STE"),
    exclusive=True,
    cleaning=AS_LABELLED,
    views=(View(Preprocessing(250, None), Window(7500, REPEATED)),),
    network=DCNetSettings(),
    loss="categorical",
    training=TrainingSettings(batch=8, smallest_batch=8, first_epochs=0, rate=1e-4, optimizer="sgd", momentum=0.5,
                              patience=100, epochs=100, averaging=0.0),
    validation_share=0.25,
    title="{}",
    thresholds=HALVES,
    proxy_least=None,
    resamples=0,
)  # fmt: skip

# Korea University Anam Hospital. Batch and patience are ours, and what shorter recordings are filled up with; signals
# are scaled to [0, 1] by window, of which a longer recording has several.
SE_RESNET_RHYTHM = Settings(
    system="se_resnet_rhythm",
    classes=("NSR", "AF", "AFL", "IAVB", "SB", "STach", "PVC"),
    exclusive=True,
    cleaning=AS_LABELLED,
    views=(View(Preprocessing(200, None), Window(2000, REPEATED)),),
    leads_used=tuple((count, ("II",)) for count in LEAD_SETS),
    network=RhythmSettings(),
    loss="categorical",
    training=TrainingSettings(batch=64, first_epochs=0, rate=1e-4, patience=10, averaging=0.0),
    title="{}",
    thresholds=HALVES,
    proxy_least=None,
    resamples=0,
)

SYSTEMS = {each.system: each for each in (CAI2021, LI2021, ZHAO2022, XIE2022, SE_RESNET_RHYTHM)}


def resize_networks(settings, sizes):
    """Return settings whose networks, a gate's too, have these sizes, a dict by name, where they have such."""

    def changed(network):
        own = {field.name for field in fields(network)} & sizes.keys()
        return replace(network, **{name: sizes[name] for name in own})

    gate = settings.gate and replace(settings.gate, network=changed(settings.gate.network))
    return replace(settings, network=changed(settings.network), gate=gate)


def with_early_gains(settings: Settings) -> Settings:
    """Return settings by which the wrong gains of early-2020 headers are corrected in every recording."""
    views = (replace(view, preparation=replace(view.preparation, early_gains=True)) for view in settings.views)
    return replace(settings, views=tuple(views))


def make_ablation(recipe, name, **changes):
    """Return a recipe without one of its parts, as a system of its own."""
    return replace(recipe, system=f"{recipe.system}-{name}", **changes)


BELIEVED = CleaningSettings(
    tuple(replace(rule, relabel=False) for rule in CAI2021.cleaning.conflated_classes),
    tuple(replace(rule, relabel=False) for rule in CAI2021.cleaning.partially_labelled),
)
ABLATIONS = {  # of the default
    each.system: each
    for each in (
        make_ablation(CAI2021, "focal", loss="focal"),
        make_ablation(CAI2021, "no-masks", cleaning=CleaningSettings(masks=False)),
        make_ablation(CAI2021, "no-relabelling", cleaning=BELIEVED),
        make_ablation(CAI2021, "no-filter", views=(View(Preprocessing(band=None)),)),
        make_ablation(CAI2021, "relu", network=NetworkSettings(activation="relu")),
        make_ablation(CAI2021, "no-se", network=NetworkSettings(squeeze_ratio=None)),
        make_ablation(CAI2021, "halves", thresholds=HALVES),
    )
}
VARIANTS = {  # of others, each without what its paper adds
    each.system: each
    for each in (
        make_ablation(LI2021, "no-masks", source_masks=False),
        make_ablation(LI2021, "no-peaks", network=LiSettings(), peaks=None, pretraining=None),
        make_ablation(LI2021, "no-rules", answer_pairs=(), fallback=None),
        make_ablation(LI2021, "no-gate", gate=None),
        make_ablation(XIE2022, "plain", network=DCNetSettings(deformable=False)),
        make_ablation(SE_RESNET_RHYTHM, "no-se", network=RhythmSettings(squeeze=False)),
    )
}
RECIPES = SYSTEMS | ABLATIONS | VARIANTS
