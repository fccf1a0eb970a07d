"""Serve the workbench without a model: python page_server.py ARGUMENTS. Predictions follow from the labels."""

import argparse
import threading
import time
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import uvicorn

from ecg.data.labels import ABBREVIATIONS, CLASS_INDEX, TRAINED_CLASSES
from ecg.data.leads import LEADS
from ecg.models.decision import Rule
from ecg.runtime.executors import ONE_PROCESS
from ecg.web.access import Access
from ecg.web.app import create_app
from ecg.web.catalogue import load_catalogue
from ecg.web.prediction_worker import BIN_SECONDS, LeadSetModel, ModelFacts, PackedEvidence
from ecg.web.predictions import UNKNOWN, PredictionTable, RecordPrediction
from ecg.web.review_book import ReviewBook
from ecg.web.sessions import load_signer
from ecg.web.workbench import ReviewSettings, Workbench

COVERED = np.isin(ABBREVIATIONS, TRAINED_CLASSES)
THRESHOLD = 0.6
METHODS = {"NSR": ("integrated_gradients", "occlusion")}
# Evidence in all leads from 6 to 7 s.
EVIDENCE = np.zeros((12, round(10 / BIN_SECONDS)), np.uint8)
EVIDENCE[:, round(6 / BIN_SECONDS) : round(7 / BIN_SECONDS)] = 255


def predict(labels, row):
    """Predict what is labelled, and the left axis deviation of every third recording."""
    values = np.where(labels, 0.9, 0.1) * COVERED
    if row % 3 == 0:
        values[CLASS_INDEX["LAD"]] = 0.97
    return RecordPrediction(values.astype(np.float32), (values >= THRESHOLD) & COVERED, COVERED, 12)


class StandIn:
    """Predicts in the background, so many recordings per second, and at once if asked."""

    def __init__(self, rate):
        self.rate, self.bench = rate, None

    def follow(self, bench):
        """Predict the recordings of a workbench one after another."""
        self.bench = bench
        for row in range(len(bench.catalogue)):
            if self.rate < 1000:
                time.sleep(1 / self.rate)
            if bench.predictions.state[row] == UNKNOWN:
                bench.predictions.store(row, predict(bench.catalogue.columns["labels"][row], row))

    def submit(self, name, *arguments):
        future = Future()
        if name == "predict_record":
            paths = [self.bench.catalogue.path(row) for row in range(len(self.bench.catalogue))]
            row = paths.index(arguments[0])
            future.set_result(predict(self.bench.catalogue.columns["labels"][row], row))
        elif name == "explain_record":
            future.set_result(PackedEvidence(LEADS, EVIDENCE, BIN_SECONDS, np.arange(12) / 12))
        else:
            future.set_exception(NotImplementedError(name))
        return future

    def wake(self):
        pass

    def close(self):
        pass


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("reviews", type=Path)
    parser.add_argument("port", type=int)
    parser.add_argument("--reviewer", default="", help="name that the page proposes")
    parser.add_argument("--blinded", action="store_true")
    parser.add_argument("--ask", default="", help="class to review in the first five recordings")
    parser.add_argument("--rate", type=float, default=1e6)
    arguments = parser.parse_args()
    catalogue = load_catalogue(arguments.data, arguments.reviews / ".cache", executor=ONE_PROCESS)
    model = LeadSetModel(TRAINED_CLASSES, Rule(np.full(26, THRESHOLD)), False, False)
    facts = ModelFacts("cai2021", {12: model}, "key", METHODS)
    table = PredictionTable(catalogue, arguments.reviews / ".cache" / "predictions", "key", np.empty(0, int))
    book, signer = ReviewBook(arguments.reviews), load_signer(arguments.reviews)
    runner = StandIn(arguments.rate)
    review_list = [(row, arguments.ask) for row in range(5)] if arguments.ask else None
    settings = ReviewSettings(arguments.reviewer, blinded=arguments.blinded, review_list=review_list)
    bench = Workbench(catalogue, table, facts, book, signer, settings, runner)
    threading.Thread(target=runner.follow, args=(bench,), daemon=True).start()
    uvicorn.run(create_app(bench, Access(port=arguments.port)), port=arguments.port, log_level="warning", ws="none")


if __name__ == "__main__":
    main()
