"""Translation of images into other stains, by a generator trained on the pool itself."""

from brodmann.problems.synthesis.translate.method import Translate

__all__ = ["Translate"]
