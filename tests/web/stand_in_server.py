"""A server of a data folder, with predictions that are made up: DATA REVIEWS ADDRESS [NAME=VALUE ...].

The names are constants of the modules `protocol` and `access`, in lower case, which get other values. On this machine
it has no token. It prints its port and its token.
"""

import sys
from pathlib import Path

import numpy as np
from web.conftest import StandInRunner

from ecg.commands.serve import answer_requests, open_listener
from ecg.data.labels import TRAINED_CLASSES
from ecg.models.decision import Rule
from ecg.runtime.executors import ONE_PROCESS
from ecg.web import access as access_module
from ecg.web import protocol
from ecg.web.access import make_access
from ecg.web.catalogue import load_catalogue
from ecg.web.prediction_worker import LeadSetModel, ModelFacts
from ecg.web.predictions import PredictionTable
from ecg.web.review_book import ReviewBook
from ecg.web.sessions import load_signer
from ecg.web.workbench import ReviewSettings, Workbench


def main(data, reviews, host, *options):
    reviews = Path(reviews)
    for name, _, value in (option.partition("=") for option in options):
        module = protocol if hasattr(protocol, name.upper()) else access_module
        assert hasattr(module, name.upper()), name
        setattr(module, name.upper(), float(value))
    listener = open_listener(host, 0)
    catalogue = load_catalogue(Path(data), reviews / ".cache", executor=ONE_PROCESS)
    model = LeadSetModel(TRAINED_CLASSES, Rule(np.full(26, 0.6)), False, False)
    facts = ModelFacts("cai2021", {12: model}, "key", {})
    table = PredictionTable(catalogue, reviews / ".cache" / "predictions", "key", np.empty(0, int))
    settings = ReviewSettings("Ann")
    signer = load_signer(reviews)
    bench = Workbench(catalogue, table, facts, ReviewBook(reviews), signer, settings, StandInRunner())
    address, port = listener.getsockname()[:2]
    access = make_access(host, port, address, has_token=host != "127.0.0.1")
    answer_requests(bench, access, listener, lambda: print(port, access.token, flush=True))


if __name__ == "__main__":
    main(*sys.argv[1:])
