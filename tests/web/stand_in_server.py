"""A server of a data folder, with predictions that are made up: DATA REVIEWS ADDRESS SECONDS.

It waits so many seconds for the first lines of a request. It prints its port and its token.
"""

import sys
from pathlib import Path

import numpy as np
from web.conftest import StandInRunner

from ecg.commands.serve import answer_requests, open_listener
from ecg.data.labels import TRAINED_CLASSES
from ecg.models.decision import Rule
from ecg.runtime.executors import ONE_PROCESS
from ecg.web import protocol
from ecg.web.access import make_access
from ecg.web.catalogue import load_catalogue
from ecg.web.prediction_worker import LeadSetModel, ModelFacts
from ecg.web.predictions import PredictionTable
from ecg.web.review_book import ReviewBook
from ecg.web.sessions import load_signer
from ecg.web.workbench import ReviewSettings, Workbench


def main(data, reviews, host, head_seconds):
    reviews, protocol.HEAD_SECONDS = Path(reviews), float(head_seconds)
    listener = open_listener(host, 0)
    catalogue = load_catalogue(Path(data), reviews / ".cache", executor=ONE_PROCESS)
    model = LeadSetModel(TRAINED_CLASSES, Rule(np.full(26, 0.6)), False, False)
    facts = ModelFacts("cai2021", {12: model}, "key", {})
    table = PredictionTable(catalogue, reviews / ".cache" / "predictions", "key", np.empty(0, int))
    settings = ReviewSettings("Ann")
    signer = load_signer(reviews)
    bench = Workbench(catalogue, table, facts, ReviewBook(reviews), signer, settings, StandInRunner())
    address, port = listener.getsockname()[:2]
    access = make_access(host, port, address)
    print(port, access.token, flush=True)
    answer_requests(bench, access, listener)


if __name__ == "__main__":
    main(*sys.argv[1:])
