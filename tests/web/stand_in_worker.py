"""A prediction process without Keras, for tests: it echoes, sleeps, fails or ends."""

import os
import signal
import time

from web.conftest import make_prediction

from ecg.web.prediction_worker import TaskError, _do_task


class StandInState:
    def echo(self, value):
        return value, os.getpid()

    def sleep(self, seconds):
        time.sleep(seconds)
        return seconds

    def explain_record(self, name, seconds):
        time.sleep(seconds)
        return name

    def fail(self, reason):
        raise TaskError(reason)

    def end(self):
        os._exit(1)

    def predict_record(self, path):
        if "deadly" in str(path):
            os._exit(1)
        if "slow" in str(path):
            time.sleep(60)
        if "locked" in str(path):
            raise TaskError("Permission denied")
        return make_prediction(NSR=0.7)


def run_worker(connection, model):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection.send(True)
    while True:
        try:
            task, arguments = connection.recv()
        except EOFError:
            return
        connection.send(_do_task(getattr(StandInState(), task), arguments))
