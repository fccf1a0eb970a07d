"""All systems as settings: six published ones, apprentice, and ablations."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import numpy as np

from ecg.data.augmentation import AUGMENTATIONS, MIXUP
from ecg.data.batches import DEFAULT_VIEW, REPEATED, ZEROS_IN_FRONT, View, Window
from ecg.data.class_tables import ClassTable, WeightTable
from ecg.data.labels import ABBREVIATIONS, CHALLENGE_CLASSES, CHALLENGE_SOURCES, CPSC_SCORED, TRAINED_CLASSES
from ecg.data.leads import LEAD_SETS, LEADS
from ecg.data.resampling import BUTTERWORTH, Preprocessing
from ecg.data.source_tables import SourceTable
from ecg.data.synthetic import SyntheticSettings
from ecg.evaluation.calibration import Calibration
from ecg.models.decision import ARGMAX, EXPECTED_CREDIT, HALVES, THRESHOLDS, VOTE, Rule
from ecg.models.network_settings import (
    SOURCE_GATE,
    AnyNetworkSettings,
    AttentionSettings,
    DCNetSettings,
    LeadWeightedSettings,
    LiSettings,
    NetworkSettings,
    RhythmSettings,
)
from ecg.runtime.limits import check_limits
from ecg.systems.folds import ITERATIVE, STRATIFICATIONS
from ecg.systems.label_cleaning import CleaningSettings, PartiallyLabelledSource
from ecg.training.checkpoint import AUPRC
from ecg.training.losses import LOSSES, MaskableLoss
from ecg.training.settings import TrainingSettings


@dataclass(frozen=True)
class Gate:
    """A source with separate networks for the classes that it labels.

    This is the source gate of Li et al. 2021.

    Attributes:
        source: Name of the source.
        classes: Abbreviations of the scored classes that these networks predict.
        network: Settings of the network that predicts whether a recording is of the source.
    """

    source: str = "CPSC"
    classes: tuple[str, ...] = CPSC_SCORED
    network: LiSettings = SOURCE_GATE


@dataclass(frozen=True)
class SyntheticPretraining:
    """A first training of each network, on synthetic recordings.

    Attributes:
        recordings: Number of recordings, at least 2.
        kind: What they are like.
        loss: Name of the loss in `ecg.training.losses.LOSSES`; None: that of the system.
        training: Settings of the training.
        augmentations: Names of random changes (ecg.data.augmentation).
    """

    recordings: int = 6000
    kind: SyntheticSettings = field(default_factory=lambda: SyntheticSettings(
        cpsc_omits=False, ningbo_flutter=False, clean=True, realistic=True))  # fmt: skip
    loss: str | None = None
    training: TrainingSettings = field(default_factory=lambda: TrainingSettings(
        batch=32, smallest_batch=32, first_epochs=0, patience=4, epochs=4))  # fmt: skip
    augmentations: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_limits(pretrain=self.recordings)
        if self.recordings < 2:
            raise ValueError(f"pretraining needs two recordings or more, received {self.recordings}")
        check_names("loss", [self.loss] if self.loss else [], LOSSES)
        check_names("augmentations", self.augmentations, AUGMENTATIONS)


def check_names(field_name: str, names: Iterable[str], known: Collection[str]) -> None:
    """Raise ValueError if a name is unknown.

    Args:
        field_name: Name of the field, for the message.
        names: The names.
        known: All names that are known.
    """
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"{field_name}: expected one of {', '.join(known)}, received {', '.join(map(repr, unknown))}")


@dataclass(frozen=True)
class Settings:
    """Everything that decides the result of a training, except the data.

    The defaults are those of Cai et al. 2021.

    Attributes:
        system: Name of the system.
        seed: Seed of the split, the weights, the order of recordings, dropout and bootstrap.
        class_table: All C classes that are scored, and A additional ones.
        sources: The sources of records, by their names.
        classes: Abbreviations of the classes to predict.
        exclusive: Whether the classes exclude each other; then only recordings with exactly one of them are used.
        implies: Pairs of classes; the second is added wherever the first is labelled.
        cleaning: Relabelling and masking of doubtful labels.
        source_masks: Whether to mask classes that a recording's source does not label.
        views: Preprocessing and window of each network; the mean of their probabilities counts.
        leads_used: Leads used of a lead set, if not all, by its number of leads.
        configurations: Sets of leads. For each recording in training, one that is drawn keeps its leads, and all
            others are 0. Empty: all leads are kept.
        network: Settings of the networks.
        gate: A source with separate networks.
        loss: Name of the loss in `ecg.training.losses.LOSSES`. Round 1 uses the focal loss.
        training: Settings of the training.
        peaks: Weight of the loss over wave peaks, if the network predicts these.
        peak_training: Settings of a first training for wave peaks alone.
        pretraining: A first training of each network on synthetic recordings.
        initial_model: Model folder whose networks the networks start from instead.
        augmentations: Names of random changes of the training recordings (ecg.data.augmentation).
        validation_share: Share of the validation set.
        folds: Number of folds instead of one split; each has its network.
        splits: Number of random stratified splits instead of one split; each has its network.
        validation_fold: Published fold that validates, instead of a random split.
        stratification: How folds and random splits are stratified, one of `ecg.systems.folds.STRATIFICATIONS`.
        title: Title of a network's stage, with a gap for its leads.
        decision: How classes are chosen, one of `ecg.models.decision.DECISIONS`.
        weights: Credit of each prediction in the metric, (C, C), labels by row; None: that of the classes.
        proxy_least: Minimum number of Georgia's validation recordings. From this number on, these alone give the
            score, unless there are folds; None: never.
        resamples: Bootstrap resamples over which thresholds are averaged; 0: no averaging.
        answer_pairs: Pairs of classes; the second is predicted wherever the first is.
        fallback: Class to predict if no other is; None as in the paper.
        lead_sets: Lead sets, by their numbers of leads.
        keep_stages: Whether to keep stores and caches in the model folder.
        hours: Time limit, which starts anew when a training is resumed.

    Raises:
        ValueError: A value is out of range, or values contradict each other.
    """

    system: str = "cai2021"
    seed: int = 2021
    class_table: ClassTable = CHALLENGE_CLASSES
    sources: SourceTable = CHALLENGE_SOURCES
    classes: tuple[str, ...] = TRAINED_CLASSES
    exclusive: bool = False
    implies: tuple[tuple[str, str], ...] = ()
    cleaning: CleaningSettings = field(default_factory=CleaningSettings)
    source_masks: bool = False
    views: tuple[View, ...] = (DEFAULT_VIEW,)
    leads_used: tuple[tuple[int, tuple[str, ...]], ...] = ()
    configurations: tuple[tuple[str, ...], ...] = ()
    network: AnyNetworkSettings = field(default_factory=NetworkSettings)
    gate: Gate | None = None
    loss: str = "asymmetric"
    training: TrainingSettings = field(default_factory=TrainingSettings)
    peaks: float | None = None
    peak_training: TrainingSettings | None = None
    pretraining: SyntheticPretraining | None = None
    initial_model: str | None = None
    augmentations: tuple[str, ...] = ()
    validation_share: float = 0.2
    folds: int | None = None
    splits: int | None = None
    validation_fold: int | None = None
    stratification: str = ITERATIVE
    title: str = "round 2, {}"
    decision: str = THRESHOLDS
    weights: WeightTable | None = None
    proxy_least: int | None = 200
    resamples: int = 100
    answer_pairs: tuple[tuple[str, str], ...] = ()
    fallback: str | None = None
    lead_sets: tuple[int, ...] = tuple(LEAD_SETS)
    keep_stages: bool = False
    hours: float | None = None

    def __post_init__(self) -> None:
        if unknown := set(self.classes).difference(self.class_table.all_abbreviations):
            raise ValueError(f"{', '.join(sorted(unknown))}: not in the table of classes")
        self.decision_rule(np.zeros(len(self.class_table))).check(self.classes)
        self.cleaning.check(self.class_table)
        check_limits(seed=self.seed, hours=self.hours, folds=self.folds, splits=self.splits,
                     resamples=self.resamples, validation_fold=self.validation_fold)  # fmt: skip
        if self.folds and self.splits:
            raise ValueError(f"{self.folds} folds and {self.splits} splits: expected only one of them")
        if self.validation_fold and (self.folds or self.splits):
            raise ValueError("validation_fold: not possible with folds or splits")
        check_names("loss", [self.loss], LOSSES)
        check_names("stratification", [self.stratification], STRATIFICATIONS)
        if LOSSES[self.loss].outputs_per_label > 1 and not getattr(self.network, "second_head", False):
            raise ValueError(f"loss: {self.loss!r} needs a network with a second head")
        check_names("augmentations", self.augmentations, AUGMENTATIONS)
        if MIXUP in self.augmentations and self.peaks:
            raise ValueError(f"{MIXUP}: not possible for a network that predicts wave peaks")
        if self.initial_model is not None and self.pretraining:
            raise ValueError("networks start from a saved model or from pretraining, not from both")
        if self.cleaning.masks and self.classes != self.class_table.trained_classes:
            raise ValueError("round 1 can mask labels only if the classes are those of the default system")
        if bool(self.peaks) != getattr(self.network, "peaks", False) or self.peak_training and not self.peaks:
            raise ValueError("peaks and peak_training need a network that predicts wave peaks")
        if self.gate and self.decision == VOTE:
            raise ValueError("gate: not possible if networks vote, because its two groups have other networks")
        if self.gate and self.exclusive:
            raise ValueError("gate: not possible if the classes of the system exclude each other")
        if self.gate and (unknown := set(self.gate.classes) - set(self.class_table.select_scored(self.classes))):
            raise ValueError(f"gate: {', '.join(sorted(unknown))} not among the classes of the system")

    def leads_of(self, count: int) -> tuple[str, ...]:
        """Return the leads used of a lead set, by its number of leads."""
        return dict(self.leads_used).get(count, LEAD_SETS[count])

    def make_loss(self, classes: Sequence[str], targets: np.ndarray, masks: np.ndarray) -> MaskableLoss:
        """Return the loss for a training set.

        Args:
            classes: Abbreviations of the K classes. Predicting an additional class gives no credit.
            targets: Labels of the training recordings as 0 or 1, (n, K).
            masks: Weights of the labels, (n, K).
        """
        columns, size = self.class_table.indices(classes), len(self.class_table)
        credit = np.zeros((len(self.class_table.diagnoses),) * 2)
        credit[:size, :size] = self.weight_array
        return LOSSES[self.loss].for_labels(targets, masks, credit[np.ix_(columns, columns)])

    def decision_rule(
        self, thresholds: np.ndarray, calibration: Calibration | None = None, members: np.ndarray | None = None
    ) -> Rule:
        """Return the rule that turns probabilities into predictions.

        Args:
            thresholds: Thresholds of the scored classes, (C,).
            calibration: Calibration of the scored classes.
            members: Thresholds of each of M networks, (M, C), if their majority decides.
        """
        return Rule(thresholds, self.decision, self.answer_pairs, self.fallback, calibration, self.weights, members,
                    self.class_table)  # fmt: skip

    @cached_property
    def weight_array(self) -> np.ndarray:
        """Credit of each prediction in the metric, (C, C), labels by row."""
        return self.class_table.make_weight_array(self.weights)

    @cached_property
    def columns(self) -> np.ndarray:
        """Indices of the classes to predict (`ClassTable.indices`), (K,)."""
        return self.class_table.indices(self.classes)

    @property
    def n_parts(self) -> int:
        """Number of folds, of splits, or 1: how many networks of each kind are trained."""
        return self.folds or self.splits or 1

    @property
    def output_activation(self) -> str:
        """Activation of the networks' output."""
        return "softmax" if self.exclusive else "sigmoid"

    @property
    def preparations(self) -> list[Preprocessing]:
        """Ways of preprocessing, each once, that of the first view first."""
        return list(dict.fromkeys(view.preparation for view in self.views))


CAI2021 = Settings()
# Labels are used as they are.
AS_LABELLED = CleaningSettings((), (PartiallyLabelledSource(relabel=False),), masks=False)

# In the other systems these choices are ours: on small data the batch shrinks and epochs repeat the recordings as in
# the default system (TrainingSettings). The epoch with the lowest validation loss counts; in nejedly2021 that with the
# highest AUPRC.

# Li et al. 2021. The paper does not give the following, so that they are ours: the maximum number of epochs, the weight
# decay, the quantity that early stopping watches (the loss over labels and peaks together), and the thresholds. The
# paper's random choice of lead configurations is read as leads dropped from the input; a network of 2 leads has no such
# choice. The networks for CPSC are trained for peaks on CPSC alone. The window may leave 32 samples of a recording
# unread, one cell of the peak grid. Otherwise recordings of 5,000 samples would be predicted in two segments.
LI_TRAINING = TrainingSettings(first_rate=None, first_epochs=3, rate=6e-4, cosine=True, optimizer="adamw", decay=0.01,
                               patience=5, epochs=50, averaging=0.0)  # fmt: skip
EIGHT_LEADS = ("I", "II", *LEADS[6:])  # the others follow from these
LI2021 = Settings(
    system="li2021", title="{}", classes=ABBREVIATIONS, implies=(("LBBB", "BBB"), ("RBBB", "BBB")),
    cleaning=replace(AS_LABELLED, partially_labelled=(PartiallyLabelledSource(labelled=CPSC_SCORED, relabel=False),)),
    source_masks=True,
    views=tuple(View(Preprocessing(rate, None), Window(length, slack=32))
                for rate, length in ((500, 4992), (250, 4992), (500, 7488))),
    leads_used=((12, EIGHT_LEADS), (6, ("I", "II")), (4, ("I", "II", "V2"))),
    configurations=(EIGHT_LEADS, ("I", "II"), ("I", "II", "V2")),
    network=LiSettings(peaks=True), gate=Gate(), loss="margin", training=LI_TRAINING,
    peaks=0.1, peak_training=replace(LI_TRAINING, epochs=20),
    decision=HALVES, proxy_least=None, resamples=0, answer_pairs=(("TInv", "TAb"),), fallback="NSR",
)  # fmt: skip

# Zhao et al. 2022. The prediction is the mean of the five networks of the cross-validation, because the paper names no
# networks that predict. Also our choice: thresholds by class from 0.20 to 0.80, as in the default system, searched on
# the predictions of each network for its validation fold; segments that are spread evenly and overlap by at least 256
# samples; an age of 100 years as 1; and ReLU after the layer for age and sex.
ZHAO2022 = Settings(
    system="zhao2022", title="{}",
    classes=tuple(name for name in ABBREVIATIONS if name not in ("BBB", "PRWP")),  # the 24 of the Challenge of 2020
    cleaning=AS_LABELLED, views=(View(Preprocessing(257, None, linear=True), Window(4096, overlap=256)),),
    network=LeadWeightedSettings(), loss="cross-entropy",
    training=TrainingSettings(batch=64, first_epochs=0, rate=3e-3, drops=(20, 40), patience=50, epochs=50,
                              averaging=0.0),
    folds=5, proxy_least=None, resamples=0,
)  # fmt: skip

# Xie, Qin et al. The paper uses the CPSC recordings of 2018; this system uses all recordings with exactly one of the
# nine labels. Ours: recordings above 30 s are cropped at random in training, and predicted by the mean of their
# segments.
XIE2022 = Settings(
    system="xie2022", title="{}", classes=("NSR", "AF", "IAVB", "LBBB", "RBBB", "PAC", "PVC", "STD", "STE"),
    exclusive=True, cleaning=AS_LABELLED, views=(View(Preprocessing(250, None), Window(7500, REPEATED)),),
    network=DCNetSettings(), loss="categorical",
    training=TrainingSettings(batch=8, smallest_batch=8, first_epochs=0, rate=1e-4, optimizer="sgd", momentum=0.5,
                              patience=100, epochs=100, averaging=0.0),
    validation_share=0.25, decision=ARGMAX, proxy_least=None, resamples=0,
)  # fmt: skip

# Korea University Anam Hospital. Ours: batch, patience and the padding of shorter recordings. Each window is scaled to
# [0, 1]; a longer recording has several windows.
SE_RESNET_RHYTHM = Settings(
    system="se_resnet_rhythm", title="{}", classes=("NSR", "AF", "AFL", "IAVB", "SB", "STach", "PVC"),
    exclusive=True, cleaning=AS_LABELLED, views=(View(Preprocessing(200, None), Window(2000, REPEATED)),),
    leads_used=tuple((count, ("II",)) for count in LEAD_SETS), network=RhythmSettings(), loss="categorical",
    training=TrainingSettings(batch=64, first_epochs=0, rate=1e-4, patience=10, averaging=0.0),
    decision=ARGMAX, proxy_least=None, resamples=0,
)  # fmt: skip

# Nejedly et al. 2021, first in the Challenge. The following is ours. The credit in the loss does not depend on the size
# of the batch (CreditLoss). Each lead is scaled within the window also in prediction; the original code scales the
# whole recording there. All recordings validate; in the original code only those that are no longer than the window.
# Thresholds are searched for each lead set; the original code takes those of 12 leads for all. The probabilities in
# outputs are the means of the three networks; the original code gives those of the last. A lead that is flat throughout
# the window counts as absent.
NEJEDLY2021 = Settings(
    system="nejedly2021", title="{}", classes=ABBREVIATIONS, cleaning=AS_LABELLED,
    views=(View(Preprocessing(500, (1.0, 47.0), kind=BUTTERWORTH),
                Window(8192, ZEROS_IN_FRONT, first_only=True, standardised=True)),),
    configurations=(LEADS, EIGHT_LEADS, *(LEAD_SETS[count] for count in (6, 4, 3, 2))),
    network=AttentionSettings(), loss="credit",
    training=TrainingSettings(batch=128, first_epochs=0, rate=1e-3, drops=(20, 40), optimizer="clipped_adam", l2=1e-4,
                              clip_norm=10.0, criterion=AUPRC, patience=50, epochs=50, averaging=0.0),
    splits=3, decision=VOTE, proxy_least=None, resamples=0,
)  # fmt: skip

# The strongest system: the default's network and label cleaning, with the parts that raised the score on real
# recordings (benchmarks/README.md). All of it is ours. Networks are pretrained on synthetic recordings. The mean of
# five networks counts, one for each fold. Their predictions for the recordings that they were not trained on give the
# calibration, and the expected credit decides.
APPRENTICE = replace(
    CAI2021, system="apprentice", title="{}", pretraining=SyntheticPretraining(20_000), loss="cross-entropy",
    folds=5, decision=EXPECTED_CREDIT, proxy_least=None,
)  # fmt: skip

SYSTEMS = {
    system.system: system for system in (CAI2021, LI2021, ZHAO2022, XIE2022, SE_RESNET_RHYTHM, NEJEDLY2021, APPRENTICE)
}


def resize_networks(settings: Settings, sizes: dict[str, int]) -> Settings:
    """Change the sizes of those networks of a system that have such a size."""

    def resize(network: Any) -> Any:
        names = {field.name for field in fields(network)} & sizes.keys()
        return replace(network, **{name: sizes[name] for name in names})

    gate = settings.gate and replace(settings.gate, network=resize(settings.gate.network))
    return replace(settings, network=resize(settings.network), gate=gate)


def make_variants(settings: Settings, changes: dict[str, dict[str, Any]]) -> dict[str, Settings]:
    """Return variants of a system by name, given the changes by name suffix."""
    systems = (replace(settings, system=f"{settings.system}-{suffix}", **change) for suffix, change in changes.items())
    return {system.system: system for system in systems}


NO_RELABELLING = CleaningSettings(
    tuple(replace(rule, relabel=False) for rule in CAI2021.cleaning.conflated_classes),
    tuple(replace(rule, relabel=False) for rule in CAI2021.cleaning.partially_labelled),
)
ABLATIONS = make_variants(CAI2021, {
    "focal": {"loss": "focal"},
    "no-masks": {"cleaning": CleaningSettings(masks=False)},
    "no-relabelling": {"cleaning": NO_RELABELLING},
    "no-filter": {"views": (View(Preprocessing(band=None)),)},
    "relu": {"network": NetworkSettings(activation="relu")},
    "no-se": {"network": NetworkSettings(squeeze_ratio=None)},
    "halves": {"decision": HALVES},
})  # fmt: skip
VARIANTS = make_variants(LI2021, {  # the other systems without an addition of their paper
    "no-masks": {"source_masks": False},
    "no-peaks": {"network": LiSettings(), "peaks": None, "peak_training": None},
    "no-rules": {"answer_pairs": (), "fallback": None},
    "no-gate": {"gate": None},
})  # fmt: skip
VARIANTS |= make_variants(XIE2022, {"plain": {"network": DCNetSettings(deformable=False)}})
VARIANTS |= make_variants(SE_RESNET_RHYTHM, {"no-se": {"network": RhythmSettings(squeeze=False)}})
VARIANTS |= make_variants(NEJEDLY2021, {"no-attention": {"network": AttentionSettings(attention=False)}})
RECIPES = SYSTEMS | ABLATIONS | VARIANTS
