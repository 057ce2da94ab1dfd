"""Benchmarks: tasks with their data, splits, scores and faults, and a board of results."""

from brodmann.bench.records import Box, CubeRecord, DataRecord, Metric, Split, Task
from brodmann.bench.results import Evidence, Result, read_result, write_result
from brodmann.bench.tasks import Benchmark, benchmarks, find_task, read_benchmark

__all__ = [
    "Benchmark",
    "Box",
    "CubeRecord",
    "DataRecord",
    "Evidence",
    "Metric",
    "Result",
    "Split",
    "Task",
    "benchmarks",
    "find_task",
    "read_benchmark",
    "read_result",
    "write_result",
]
