"""Studies: tables that compare methods, as recipes."""

from brodmann.pipeline.study.recipe import Study, is_study, load_study
from brodmann.pipeline.study.run import run_study

__all__ = ["Study", "is_study", "load_study", "run_study"]
