"""What the systems of a comparison have in common: which recordings are held out, the lead sets, the time."""

from dataclasses import dataclass, replace

import numpy as np

from ecg.folds import folds
from ecg.headers import RecordError
from ecg.limits import check_limits
from ecg.plan import known_labels, parted
from ecg.recipes import SYSTEMS, Settings, sized


@dataclass(frozen=True)
class Protocol:
    """How systems (ecg.recipes.Settings) are compared: all get these lead sets, seed and processes.

    folds: into how many parts the recordings are parted, each of which is held out once; leave_out: a source that is
    held out in their place; hours: that all trainings may take together, parted equally, no limit where None. epochs,
    batch: of each training at the most, precision: that networks are trained in, width and depth: of the networks that
    have such; as the systems have them where None. Raises ValueError where a number is out of its range, no system has
    such a network, or one cannot have that size.
    """

    systems: tuple[Settings, ...] = tuple(SYSTEMS.values())
    lead_sets: tuple[int, ...] = (12, 6, 4, 3, 2)
    folds: int = 5
    leave_out: str | None = None
    hours: float | None = None
    epochs: int | None = None
    batch: int | None = None
    precision: str | None = None
    width: int | None = None
    depth: int | None = None
    seed: int = 2021
    jobs: int | None = None

    def __post_init__(self):
        named = ("folds", "hours", "epochs", "batch", "width", "depth", "seed", "jobs")
        check_limits(**{name: getattr(self, name) for name in named})
        if self.leave_out is not None and not self.leave_out.strip():
            raise ValueError("leave_out: expected the name of a source, received an empty one")
        adjusted = [self.settings(system) for system in self.systems]
        for name, size in self.sizes.items():
            if size not in [getattr(system.network, name, None) for system in adjusted]:
                raise ValueError(f"no network of {', '.join(one.system for one in adjusted)} has a {name}")

    @property
    def sizes(self):
        """The sizes of networks that are given: a dict by name."""
        return {name: getattr(self, name) for name in ("width", "depth") if getattr(self, name) is not None}

    @property
    def titles(self):
        """What the parts are called that are held out, one after the other."""
        if self.leave_out:
            return [f"without {self.leave_out}"]
        return [f"fold {number + 1} of {self.folds}" for number in range(self.folds)]

    @property
    def keys(self):
        """What the program calls these parts, in the names of folders."""
        if self.leave_out:
            return [f"without_{self.leave_out}"]
        return [f"fold{number + 1}" for number in range(self.folds)]

    def share(self, systems):
        """Return the hours of each of so many systems for each part, None where there is no limit."""
        return self.hours and self.hours / (systems * len(self.titles))

    def settings(self, system):
        """Return the settings that a system is trained with here."""

        def limited(training):
            return training and replace(training, epochs=min(self.epochs or training.epochs, training.epochs),
                                        batch=min(self.batch or training.batch, training.batch),
                                        precision=self.precision or training.precision)  # fmt: skip

        system = sized(system, self.sizes)
        return replace(system, lead_sets=self.lead_sets, seed=self.seed, jobs=self.jobs,
                       training=limited(system.training), pretraining=limited(system.pretraining))  # fmt: skip

    def own(self, sources):
        """Return which recordings are of the source that is left out: (n,) bool, of sources (n,) text.

        Raises RecordError where nothing of it is there, or nothing else, or there are more folds than recordings.
        """
        if self.leave_out is None:
            if len(sources) < self.folds:
                raise RecordError(f"{len(sources):,} recordings are too few for {self.folds} folds")
            return np.zeros(len(sources), bool)
        own = np.char.lower(np.asarray(sources, str)) == self.leave_out.lower()
        names = ", ".join(np.unique(sources).tolist())
        if not own.any():
            raise RecordError(f"no recording that is used is of {self.leave_out}; the sources are {names}")
        if own.all():
            raise RecordError(f"all {len(own):,} recordings are of {names}: nothing else is there to learn from")
        return own

    def held_out(self, store):
        """Return the places of the recordings that are held out together, a list of (n,). Raises RecordError as `own`.

        It is of the titles' length.
        """
        own = self.own(store.sources)
        if self.leave_out:
            return [np.flatnonzero(own)]
        parts = folds(store.labels, self.folds, self.seed)
        return [np.flatnonzero(parts == part) for part in range(self.folds)]

    def lacking(self, system, store, parts):
        """Return why a system cannot learn from all but one of the parts, with the part's title, empty where it can."""
        for title, part in zip(self.titles, parts, strict=True):
            known = np.delete(known_labels(store, system), part, axis=0)
            if not known.any():
                return f"{title}: none of {len(known):,} recordings has a diagnosis that is trained"
            try:
                parted(known, system)
            except RecordError as error:
                return f"{title}: {error}"
        return ""
