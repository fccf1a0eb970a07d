"""A stand-in for the Challenge's script: it calls the entry's training function."""

import sys

from team_code import training_code

if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit("usage: python train_model.py DATA MODEL")
    training_code(sys.argv[1], sys.argv[2])
    print("Done.")
