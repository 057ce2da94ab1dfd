"""Candidates of a detector told apart: labels for training, and the stage on whole brains."""

from brodmann.pipeline.candidates.answers import all_candidates, uncertain, write_uncertain
from brodmann.pipeline.candidates.brain import channels_of, find_classified
from brodmann.pipeline.candidates.labels import candidates, label_candidates

__all__ = [
    "all_candidates",
    "candidates",
    "channels_of",
    "find_classified",
    "label_candidates",
    "uncertain",
    "write_uncertain",
]
