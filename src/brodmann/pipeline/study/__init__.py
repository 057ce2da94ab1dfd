"""Studies: tables that compare methods, as recipes."""

from brodmann.pipeline.study.recipe import Study, load_study
from brodmann.pipeline.study.run import run_study

__all__ = ["Study", "load_study", "run_study"]
