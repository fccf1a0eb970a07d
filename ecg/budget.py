"""A time budget, shared out over the stages of a training that are still to come."""

import math
import time

import numpy as np

# What comes after the last stage, thresholds, tables and pictures, has a share of the budget, but not less than this.
CLOSING, LEAST_CLOSING = 0.02, 60.0  # s
FIRST_ANSWERS = 0.3  # share of a stage's time for its answers, as long as it is not known how long one takes


class Budget:
    """The hours that a training may take; None: as many as it needs.

    The stages are begun one after another, and what one leaves over is shared by those after it. A stage has to give
    so many answers, on its validation set and in the end, and what they take is kept for them. Where it is `lasting`,
    the hours are those of the stages alone, of which what was used before the training was cut off counts; else what
    comes after them is in it, too, and they are counted anew when it is taken up.
    """

    def __init__(self, hours, clock=time.monotonic, lasting=False):
        self.clock, self.lasting = clock, lasting
        seconds = math.inf if hours is None else 3600 * hours
        closing = 0.0 if lasting or hours is None else max(seconds * CLOSING, LEAST_CLOSING)
        self.end = clock() + seconds - closing
        self.begun, self.until, self.answers = clock(), self.end, 0
        self.for_answers = 0.0  # seconds
        self.each = None  # seconds that an answer takes, the longest seen

    def begin(self, to_come, answers):
        """Begin a stage that has so many answers to give; `to_come` counts it and the stages after it."""
        now = self.begun = self.clock()
        self.until, self.answers = now + (self.end - now) / to_come, answers
        if math.isfinite(self.end):
            self.for_answers = FIRST_ANSWERS * (self.until - now) if self.each is None else self.each * answers

    def answered(self, count, seconds):
        """Take note of how long it took to give so many answers."""
        self.each = max(self.each or 0.0, seconds / max(count, 1))
        self.for_answers = self.each * self.answers

    @property
    def used(self):
        """What the present stage has used, and an answer takes, in seconds, for `resume` and `skip`: (2,)."""
        return np.array([self.clock() - self.begun, self.each or 0.0])

    def resume(self, used):
        """Take up the present stage, which has used so much before it was cut off."""
        seconds, each = map(float, used)
        self.begun -= seconds
        if self.lasting:
            self.until -= seconds
        self._counted(seconds, each)
        if self.each is not None:
            self.for_answers = self.each * self.answers

    def skip(self, used):
        """Pass over a stage that is done already and used so much."""
        self._counted(*map(float, used))

    def _counted(self, seconds, each):
        if self.lasting:
            self.end -= seconds
        if each:
            self.each = max(self.each or 0.0, each)

    @property
    def over(self):
        """Whether the present stage has to come to its answers."""
        return self.clock() + self.for_answers >= self.until
