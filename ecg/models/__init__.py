"""Networks, ensembles of them, and the files in which they are saved."""
