"""Which methods explain which class, by the tests of benchmarks/explanations.py."""

from ecg.data.class_tables import ClassTable
from ecg.data.labels import CHALLENGE_CLASSES
from ecg.data.synthetic_evidence import INTERVALS

INTEGRATED_GRADIENTS, SMOOTHGRAD, OCCLUSION = "integrated_gradients", "smoothgrad", "occlusion"
METHOD_NAMES = INTEGRATED_GRADIENTS, SMOOTHGRAD, OCCLUSION
# Methods that are offered for each class, the best first: those that benchmarks/explanations.py has found to point at
# the evidence more often than chance. It prints this table.
OFFERED: dict[str, tuple[str, ...]] = {
    "PAC": (OCCLUSION,),
    "PVC": (INTEGRATED_GRADIENTS, SMOOTHGRAD, OCCLUSION),
    "RBBB": (SMOOTHGRAD, INTEGRATED_GRADIENTS, OCCLUSION),
    "IRBBB": (INTEGRATED_GRADIENTS, SMOOTHGRAD),
    "LBBB": (INTEGRATED_GRADIENTS, SMOOTHGRAD, OCCLUSION),
    "NSIVCB": (SMOOTHGRAD, INTEGRATED_GRADIENTS),
    "QAb": (INTEGRATED_GRADIENTS, SMOOTHGRAD),
    "PR": (INTEGRATED_GRADIENTS, SMOOTHGRAD, OCCLUSION),
    "LAD": (INTEGRATED_GRADIENTS, SMOOTHGRAD, OCCLUSION),
    "RAD": (INTEGRATED_GRADIENTS, SMOOTHGRAD),
    "LAnFB": (INTEGRATED_GRADIENTS, SMOOTHGRAD, OCCLUSION),
    "LQRSV": (SMOOTHGRAD,),
}


class ExplanationError(ValueError):
    """A prediction cannot be explained; the message says why."""


def find_tested_class(class_name: str, classes: ClassTable = CHALLENGE_CLASSES) -> str | None:
    """Return the class of the Challenge that a class of a table is.

    The tests of explanations are about the classes of the Challenge. A class of another table is one of them if all its
    SNOMED CT codes are. Other codes, such as words, do not count.

    Args:
        class_name: Abbreviation of the class.
        classes: The table.

    Returns:
        The abbreviation of the Challenge; None if the class is none of the Challenge's, so that it has no tests.
    """
    if classes == CHALLENGE_CLASSES:
        return class_name
    codes = classes.diagnoses[classes.all_abbreviations.index(class_name)].codes
    columns = {CHALLENGE_CLASSES.class_of_code.get(code) for code in codes if code.isdigit()}
    column = columns.pop() if len(columns) == 1 else None
    return None if column is None else CHALLENGE_CLASSES.abbreviations[column]


def offered_methods(class_name: str, classes: ClassTable = CHALLENGE_CLASSES) -> tuple[str, ...]:
    """Return the names of the methods that are offered for a class, the best first.

    All methods are offered for a class that is none of the Challenge's. None of them is tested for it.

    Args:
        class_name: Abbreviation of the class.
        classes: The table of the class.
    """
    tested_class = find_tested_class(class_name, classes)
    return METHOD_NAMES if tested_class is None else OFFERED.get(tested_class, ())


def choose_method(class_name: str, method: str | None = None, classes: ClassTable = CHALLENGE_CLASSES) -> str:
    """Return a method that is offered for a class.

    Args:
        class_name: Abbreviation of the class.
        method: Name of the method; None: the best one.
        classes: The table of the class.

    Raises:
        ExplanationError: The method is not offered for the class, or no method is.
    """
    offered = offered_methods(class_name, classes)
    if not offered and find_tested_class(class_name, classes) not in INTERVALS:
        raise ExplanationError(f"{class_name} is not explained: no part of a synthetic beat is known to show it, so "
                               f"that explanations of it cannot be tested")  # fmt: skip
    if not offered:
        raise ExplanationError(f"{class_name} is not explained: no method has passed the tests for it")
    if method is not None and method not in offered:
        raise ExplanationError(f"{class_name} is explained by {' or '.join(offered)}, received {method!r}")
    return method or offered[0]
