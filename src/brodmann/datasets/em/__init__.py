"""Electron microscopy: public volumes with neuron ids, and a user's own files."""

from brodmann.datasets.em.files import em_files
from brodmann.datasets.em.windows import Box, as_box, centred

__all__ = ["Box", "as_box", "centred", "em_files"]
