"""The versions of packages that the lock files pin."""

import re
from pathlib import Path

from packaging.requirements import Requirement

LOCKS = Path(__file__).parents[1] / "locks"
PIN = re.compile(
    r"^([a-z0-9.-]+)(?:\[[a-z-]+\])?==(\S+)( ; [^\\]+)? \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.M
)


def read_lock(name, python="3.11.7"):
    """Read the versions of the packages that a lock file installs on Linux with a version of Python."""
    environment = {"python_full_version": python, "sys_platform": "linux"}
    environment |= {"implementation_name": "cpython", "platform_python_implementation": "CPython"}
    versions = {}
    for package, version, marker, _ in PIN.findall((LOCKS / f"{name}.txt").read_text()):
        requirement = Requirement(f"{package}=={version}{marker}")
        if requirement.marker is None or requirement.marker.evaluate(environment):
            assert package not in versions, f"{package} is pinned twice for Python {python}"
            versions[package] = version
    return versions
