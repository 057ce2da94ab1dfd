"""Layers of Neuroglancer: served from this machine, or written as a folder for any server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from brodmann.core import DataError, RecipeError, Volume
from brodmann.core.files import make_folder, write_json
from brodmann.io import read_volume, stem_of
from brodmann.io.precomputed import NM_PER_UM, read_precomputed, write_precomputed

RGB_SHADER = """#uicontrol float brightness slider(min=0, max=2, default=1)
void main() {
  emitRGB(brightness * vec3(toNormalized(getDataValue(2)), toNormalized(getDataValue(1)),
                            toNormalized(getDataValue(0))));
}
"""
"""Affinities along x, y, z as red, green, blue."""
METRES_PER_UM = 1e-6


@dataclass(frozen=True, eq=False)
class Layer:
    """A volume with a name and a way to be shown."""

    name: str
    kind: Literal["image", "labels", "affinities"]
    volume: Volume

    @property
    def shader(self) -> str | None:
        if self.kind == "affinities" and self.volume.num_channels >= 3:
            return RGB_SHADER
        if self.kind == "labels":
            return None
        low, high = _range(self.volume)
        return (
            f"#uicontrol invlerp normalized(range=[{low:g}, {high:g}])\n"
            "void main() { emitGrayscale(normalized()); }\n"
        )


def open_layers(
    image: str | Path,
    labels: Sequence[str | Path] = (),
    affinities: Sequence[str | Path] = (),
    spacing: Sequence[float] | None = None,
) -> list[Layer]:
    """Open the volumes to be shown; precomputed folders too.

    Raises
    ------
    DataError
        If one cannot be read, is not 3D, or labels are no ids.
    """
    layers: list[Layer] = []
    wanted = [("image", image), *(("labels", p) for p in labels)]
    wanted += [("affinities", p) for p in affinities]
    for kind, path in wanted:
        if (Path(path) / "info").is_file():
            volume = read_precomputed(path)
        else:
            volume = read_volume(path, spacing=spacing)
        if volume.ndim != 3 or (kind == "affinities") > volume.axes.startswith("c"):
            need = "czyx" if kind == "affinities" else "zyx"
            raise DataError(f"{kind} to be shown have axes {need}", path, repr(volume.axes))
        if kind == "labels" and (volume.dtype.kind not in "iu" or volume.num_channels != 1):
            raise DataError("segment ids are whole numbers in one channel", path, volume.dtype)
        if volume.dtype.name in ("float64", "float16", "bool"):
            raise DataError(
                "the viewer shows whole numbers and float32", path, volume.dtype, "convert it"
            )
        name = stem_of(path) or kind
        while any(name == layer.name for layer in layers):
            name += f" {kind}"
        layers.append(Layer(name, kind, volume))  # type: ignore[arg-type]
    return layers


def _range(volume: Volume) -> tuple[float, float]:
    """Values from black to white: percentiles of the middle of the volume."""
    middle = tuple(
        slice(max(0, n // 2 - h), n // 2 + h) for n, h in zip(volume.spatial_shape, (4, 128, 128))
    )
    low, high = np.percentile(volume.read(middle), (0.5, 99.5))
    return float(low), float(max(high, low + 1e-6))


def _zoom(volume: Volume) -> tuple[float, float]:
    """Voxels a pixel of the sections, and voxels across the 3D view: so that all is seen."""
    longest = max(n * s for n, s in zip(volume.spatial_shape, volume.spacing))
    voxels = longest / min(volume.spacing)
    return voxels / PANEL_PIXELS, 1.5 * voxels


PANEL_PIXELS = 400
"""A panel's height on a usual screen."""


def start_viewer(layers: Sequence[Layer], port: int = 0) -> Any:
    """Serve the layers on 127.0.0.1; returns a neuroglancer.Viewer, which serves while it lives.

    Raises
    ------
    RecipeError
        If the extra `view` is missing, or the port is taken.
    """
    try:
        import neuroglancer
    except ImportError:
        raise RecipeError(
            "the viewer is not installed",
            fix="pip install 'brodmann[view]', or write a folder with --export DIR",
        ) from None
    neuroglancer.set_server_bind_address("127.0.0.1", bind_port=port)
    try:
        viewer = neuroglancer.Viewer()
    except OSError as error:
        raise RecipeError("this port cannot be used", "--port", port, str(error)) from error
    with viewer.txn() as state:
        state.dimensions = neuroglancer.CoordinateSpace(
            names=["x", "y", "z"],
            units="nm",
            scales=[s * NM_PER_UM for s in reversed(layers[0].volume.spacing)],
        )
        state.position = [n / 2 for n in reversed(layers[0].volume.spatial_shape)]
        state.layout = "4panel"
        state.cross_section_scale, state.projection_scale = _zoom(layers[0].volume)
        state.show_slices = False
        for layer in layers:
            _add(neuroglancer, state, layer)
    return viewer


def _add(neuroglancer: Any, state: Any, layer: Layer) -> None:
    volume = layer.volume
    nm = [s * NM_PER_UM for s in volume.spacing]
    names, units, scales = ["z", "y", "x"], ["nm"] * 3, nm
    if volume.axes.startswith("c"):
        names, units, scales = ["c^", *names], ["", *units], [1, *nm]
    space = neuroglancer.CoordinateSpace(names=names, units=units, scales=scales)
    data: Any = volume.data
    if layer.kind == "labels":
        local = _labels_source(neuroglancer, volume, space)
        state.layers.append(name=layer.name, layer=neuroglancer.SegmentationLayer(source=local))
        return
    local = neuroglancer.LocalVolume(data, dimensions=space, volume_type="image")
    state.layers.append(
        name=layer.name, layer=neuroglancer.ImageLayer(source=local, shader=layer.shader)
    )


def _labels_source(neuroglancer: Any, volume: Volume, space: Any) -> Any:
    """Ids by window, and surfaces made when they are asked for, from the segment's box alone."""
    import threading

    from neuroglancer.local_volume import InvalidObjectIdForMesh

    from brodmann.postprocess.shapes import Boxes, mesh_segment, segment_boxes

    lock = threading.Lock()
    found: list[Boxes] = []

    class Source(neuroglancer.LocalVolume):
        def get_object_mesh(self, object_id: int) -> bytes:
            with lock:
                if not found:
                    found.append(segment_boxes(volume))
            try:
                mesh = mesh_segment(volume, object_id, found[0], smooth=5)
            except DataError:
                raise InvalidObjectIdForMesh from None
            # As the package's own surfaces: metres from the first voxel's corner, in the order of
            # the array's axes, faces outwards in that order.
            metres = (mesh.vertices + np.array(volume.spacing) / 2) * METRES_PER_UM
            head = np.uint32(len(metres)).astype("<u4").tobytes()
            faces = mesh.faces[:, ::-1].astype("<u4")
            return head + metres.astype("<f4").tobytes() + faces.tobytes()

    data = _Unsigned(volume.data) if volume.dtype.kind == "i" else volume.data
    return Source(data, dimensions=space, volume_type="segmentation")


class _Unsigned:
    """Ids as the client knows them: it has no int64."""

    def __init__(self, data: Any) -> None:
        self.data, self.shape = data, tuple(data.shape)
        self.dtype = np.dtype(f"u{np.dtype(data.dtype).itemsize}")

    def __getitem__(self, window: Any) -> np.ndarray:
        return np.asarray(self.data[window]).astype(self.dtype)


def export_layers(
    layers: Sequence[Layer],
    folder: Path,
    url: str = "http://127.0.0.1:9000",
    report: Callable[[str, int, int, str], None] = lambda what, done, total, note="": None,
) -> dict[str, Any]:
    """Write each layer as a precomputed folder, and state.json for a Neuroglancer anywhere.

    Parameters
    ----------
    url : str
        Where the folder will be served, with CORS.
    """
    folder = make_folder(Path(folder))
    entries = []
    for layer in layers:
        segmentation = layer.kind == "labels"
        name = layer.name.replace("/", "_").replace(" ", "_")
        write_precomputed(
            folder / name,
            layer.volume,
            segmentation=segmentation,
            report=lambda done, total, name=name: report(name, done, total, ""),
        )
        entry: dict[str, Any] = {
            "type": "segmentation" if segmentation else "image",
            "source": f"precomputed://{url.rstrip('/')}/{name}",
            "name": layer.name,
        }
        if layer.shader:
            entry["shader"] = layer.shader
        entries.append(entry)
    first = layers[0].volume
    metres = [float(f"{s * METRES_PER_UM:.9g}") for s in reversed(first.spacing)]
    state = {
        "dimensions": {axis: [step, "m"] for axis, step in zip("xyz", metres)},
        "position": [n / 2 for n in reversed(first.spatial_shape)],
        "layers": entries,
        "crossSectionScale": _zoom(first)[0],
        "projectionScale": _zoom(first)[1],
        "showSlices": False,
        "layout": "4panel",
    }
    path = write_json(folder / "state.json", state)
    return {"state": str(path), "layers": [entry["source"] for entry in entries]}
