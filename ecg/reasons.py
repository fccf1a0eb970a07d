"""Why recordings are left out, grouped by kind."""

import re

VARYING = re.compile(r"'[^']*'|\b[0-9]+(?:[.,][0-9]+)*\b")  # in reasons of one kind


def grouped(dropped):
    """Group pairs of a record's name and why it is left out by kind, the most frequent first: pairs of it and a list.

    Reasons are of one kind that differ only in the record's name and place, in numbers and in what is quoted. The
    name reads NAME in the kind, and where they differ in the others, these read ... .
    """
    kinds = {}
    for name, reason in dropped:
        place, _, rest = reason.partition(": ")
        reason = re.sub(rf"\b{re.escape(name)}\b", "NAME", rest if rest and name in place else reason)
        kinds.setdefault(VARYING.sub("...", reason), []).append((name, reason))
    groups = []
    for kind, members in kinds.items():
        names, texts = zip(*members, strict=True)
        groups.append((texts[0] if len(set(texts)) == 1 else kind, list(names)))
    return sorted(groups, key=lambda group: -len(group[1]))
