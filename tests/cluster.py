"""The cluster of the benchmarks, under the name by which tests import it."""

from benchmarks.local_cluster import LocalCluster, run_cluster

__all__ = ["LocalCluster", "run_cluster"]
