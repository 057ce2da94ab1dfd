"""What a run leaves to look at and to keep."""

from brodmann.report.areas import measure_areas, write_areas
from brodmann.report.outlines import trace_regions
from brodmann.report.page import write_report
from brodmann.report.polygons import region_features, write_polygons
from brodmann.report.view import MappedSection, RunView

__all__ = [
    "MappedSection",
    "RunView",
    "measure_areas",
    "region_features",
    "trace_regions",
    "write_areas",
    "write_polygons",
    "write_report",
]
