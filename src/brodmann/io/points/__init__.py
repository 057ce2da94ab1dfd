"""Points in and out: CSV, Parquet, cellfinder XML, WEBKNOSSOS NML, Neuroglancer annotations."""

from brodmann.io.points.formats import read_points, write_points
from brodmann.io.points.rows import outside

__all__ = ["outside", "read_points", "write_points"]
