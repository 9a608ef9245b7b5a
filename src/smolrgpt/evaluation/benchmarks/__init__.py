"""The benchmarks, one per file: name -> benchmark."""

from __future__ import annotations

from smolrgpt.evaluation.benchmarks.base import Benchmark
from smolrgpt.evaluation.benchmarks.frames import FramesBenchmark
from smolrgpt.evaluation.benchmarks.plain import PlainBenchmark
from smolrgpt.evaluation.benchmarks.sizes import SizesBenchmark
from smolrgpt.evaluation.benchmarks.spatial_bench import SpatialBenchmark
from smolrgpt.evaluation.benchmarks.templates import TemplatesBenchmark
from smolrgpt.evaluation.benchmarks.warehouse import WarehouseBenchmark

__all__ = ["BENCHMARKS", "Benchmark"]

_ALL: tuple[Benchmark, ...] = (
    WarehouseBenchmark(),
    SpatialBenchmark(),
    SizesBenchmark(),
    PlainBenchmark(),
    TemplatesBenchmark(),
    FramesBenchmark(),
)
#: Name -> benchmark.
BENCHMARKS: dict[str, Benchmark] = {benchmark.name: benchmark for benchmark in _ALL}
