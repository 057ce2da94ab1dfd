"""Classifiers of candidates, trained on some brains and scored on the others."""

from brodmann.pipeline.candidates.study.recipe import CandidateRecipe, load_candidate_recipe
from brodmann.pipeline.candidates.study.run import run_candidates

__all__ = ["CandidateRecipe", "load_candidate_recipe", "run_candidates"]
