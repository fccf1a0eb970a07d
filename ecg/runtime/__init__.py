"""The process and the machine: files, caches, subprocesses, the console."""
