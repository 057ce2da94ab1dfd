"""Points in and out: CSV, Parquet, cellfinder XML, WEBKNOSSOS NML, Neuroglancer annotations."""

from brodmann.io.points.formats import read_points, write_points

__all__ = ["read_points", "write_points"]
