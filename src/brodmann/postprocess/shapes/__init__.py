"""Boxes, surfaces and centre lines of segments."""

from brodmann.postprocess.shapes.boxes import Boxes, check_ids, segment_boxes
from brodmann.postprocess.shapes.files import read_swc, write_mesh, write_swc
from brodmann.postprocess.shapes.meshes import Mesh, mesh_mask, mesh_segment, mesh_segments
from brodmann.postprocess.shapes.skeletons import (
    Skeleton,
    skeleton_mask,
    skeleton_segment,
    skeleton_segments,
)

__all__ = [
    "Boxes",
    "Mesh",
    "Skeleton",
    "check_ids",
    "mesh_mask",
    "mesh_segment",
    "mesh_segments",
    "read_swc",
    "segment_boxes",
    "skeleton_mask",
    "skeleton_segment",
    "skeleton_segments",
    "write_mesh",
    "write_swc",
]
