"""Points: cells, or anything else that has a place and no extent."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from brodmann.core.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

COORDINATES = ("z", "y", "x")
OPTIONAL = ("score", "region", "marker")


class Points:
    """A table of points in voxels of a volume; voxel centres are whole numbers.

    Parameters
    ----------
    table : DataFrame
        Columns y, x, and z in 3D, as finite numbers; optional score, region and marker.
        Other columns are kept.
    where : str, optional
        What to call the table in an error.

    Raises
    ------
    DataError
        Names the missing column, or the line of the first bad value.

    Example
    -------
    >>> import pandas as pd
    >>> cells = Points(pd.DataFrame({"y": [1.0, 4.5], "x": [2.0, 3.0]}))
    >>> cells.coordinates.tolist(), cells.axes
    ([[1.0, 2.0], [4.5, 3.0]], 'yx')
    """

    def __init__(self, table: pd.DataFrame, where: str = "points") -> None:
        missing = {"y", "x"} - set(table.columns)
        if missing:
            raise DataError(f"points need columns {sorted(missing)}", where, list(table.columns))
        self.axes = "".join(axis for axis in COORDINATES if axis in table.columns)
        for axis in self.axes:
            try:
                values = table[axis].to_numpy(dtype=float)
            except (TypeError, ValueError) as error:
                raise DataError(
                    f"column {axis!r} holds something that is no number", where, error
                ) from None
            bad = np.flatnonzero(~np.isfinite(values))
            if len(bad):
                raise DataError(
                    f"column {axis!r} is not finite", f"{where} line {bad[0] + 2}", values[bad[0]]
                )
        self.table = table.reset_index(drop=True)

    def __len__(self) -> int:
        return len(self.table)

    @property
    def coordinates(self) -> np.ndarray:
        """(n, 2 or 3) float64 in (z, y, x) order."""
        return self.table[list(self.axes)].to_numpy(dtype=np.float64)

    @classmethod
    def from_csv(cls, path: Path) -> Points:
        """Read a CSV with a header; columns in any order."""
        import pandas as pd

        try:
            table = pd.read_csv(path)
        except (OSError, ValueError) as error:
            raise DataError("cannot read the points", path, error) from error
        return cls(table, str(path))

    def to_csv(self, path: Path) -> None:
        self.table.to_csv(path, index=False)
