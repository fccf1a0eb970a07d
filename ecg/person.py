"""Age and sex as numbers for a network, with what is unknown said so."""

import math

import numpy as np

INPUTS = 5  # numbers that a person is
OLDEST = 100.0  # years that count as 1, as do more
SEXES = ("Female", "Male")


def person(age, sex):
    """Return age (years, NaN where unknown) and sex (Female, Male or any other text) as numbers: (5,) float32.

    Age from 0 to 1, female, male, age unknown, sex unknown; what is unknown is 0 otherwise (Zhao et al. 2022).
    """
    unknown = math.isnan(age)
    years = 0.0 if unknown else min(max(age, 0.0), OLDEST) / OLDEST
    return np.array([years, *(sex == one for one in SEXES), unknown, sex not in SEXES], np.float32)
