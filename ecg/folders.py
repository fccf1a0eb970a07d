"""List the files of a folder and of all folders nested below it."""

import os
from typing import NamedTuple


class Listing(NamedTuple):
    """What one folder holds.

    Attributes:
        files: Paths of everything that is not a folder.
        folders: Paths of the folders, without links.
        links: Paths of the links to folders.
        errors: An OSError for each link that leads nowhere.
    """

    files: list[str]
    folders: list[str]
    links: list[str]
    errors: list[OSError]


def walk_files(folder: str | os.PathLike) -> tuple[list[str], list[OSError]]:
    """List all files in a folder and nested below it, but no hidden ones.

    A path is hidden if a part of it, relative to the folder, begins with a dot. Links to folders are followed. Each
    real folder is read once, so a loop of links ends. Its own path is used if it can also be reached by a link;
    otherwise links directly below come before those found behind other links, each in sorted order. Only folders and
    links are looked up on the disk, not each file.

    Args:
        folder: Where to begin. It may be a link itself.

    Returns:
        The paths of everything that is not a folder, relative to the folder, with "/" between their parts, sorted.
        Then an OSError for each folder below that could not be listed and each link that leads nowhere; its filename
        is the full path.

    Raises:
        OSError: The folder itself cannot be listed.
    """
    root = os.fsdecode(folder)
    found: list[str] = []
    failures: list[OSError] = []
    visited: set[tuple[int, int]] = set()
    starts = [""]  # the folder itself, then the links found there, then the links found behind these
    while starts:
        next_starts: list[str] = []
        for start in sorted(starts):
            waiting = [start]
            while waiting:
                path = waiting.pop()
                full = os.path.join(root, path) if path else root
                try:
                    state = os.stat(full)
                    if (state.st_dev, state.st_ino) in visited:
                        continue
                    visited.add((state.st_dev, state.st_ino))
                    files, folders, links, errors = _list_folder(full, f"{path}/" if path else "")
                except OSError as error:
                    if not path:
                        raise
                    failures.append(error)
                    continue
                found += files
                failures += errors
                next_starts += links
                waiting += sorted(folders, reverse=True)
        starts = next_starts
    return sorted(found), failures


def _list_folder(folder: str, prefix: str) -> Listing:
    """List one folder without the names that begin with a dot, and put the prefix before each name."""
    listing = Listing([], [], [], [])
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if not entry.is_symlink():
                (listing.folders if entry.is_dir() else listing.files).append(prefix + entry.name)
                continue
            try:
                entry.stat()  # is_dir alone is False for a link that leads nowhere
                (listing.links if entry.is_dir() else listing.files).append(prefix + entry.name)
            except OSError as error:
                listing.errors.append(error)
    return listing
