"""Other people's dataset layouts, read and written."""

from brodmann.datasets.convert.coco import read_coco, write_coco
from brodmann.datasets.convert.layouts import convert, detect, open_dataset
from brodmann.datasets.convert.nifti_tree import read_nifti_tree, write_nifti_tree
from brodmann.datasets.convert.nnunet import read_nnunet, write_nnunet

__all__ = [
    "convert",
    "detect",
    "open_dataset",
    "read_coco",
    "read_nifti_tree",
    "read_nnunet",
    "write_coco",
    "write_nifti_tree",
    "write_nnunet",
]
