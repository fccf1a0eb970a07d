"""Load each model of a folder once, when a recording first needs it."""

from dataclasses import dataclass, field
from pathlib import Path

from ecg.data.leads import find_lead_sets
from ecg.models.bundle import Bundle, load_bundle
from ecg.models.config import ModelError


@dataclass
class BundleCache:
    """The models of a folder that have been loaded.

    Attributes:
        folder: The folder.
    """

    folder: Path
    _bundles: dict[tuple, Bundle | Exception] = field(default_factory=dict, repr=False)

    def load(self, leads: tuple[str, ...]) -> Bundle:
        """Return the model for a recording; see `load_bundle`.

        An error is kept, so that no other recording of the same lead sets tries again.

        Args:
            leads: Names of the recording's leads.

        Raises:
            ModelError: There is no model for them, or it cannot be used.
            OSError: A file cannot be read.
        """
        key = find_lead_sets(leads) or leads
        if key not in self._bundles:
            try:
                self._bundles[key] = load_bundle(self.folder, leads)
            except (ModelError, OSError) as error:
                self._bundles[key] = error
        if isinstance(bundle := self._bundles[key], Exception):
            raise bundle.with_traceback(None)
        return bundle
