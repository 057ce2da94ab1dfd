"""Phantom brain sections: procedural, seeded, with exact truth."""

from brodmann.datasets.phantoms.damage import DAMAGE, damage_rates
from brodmann.datasets.phantoms.sections import phantom_section, phantom_sections
from brodmann.datasets.phantoms.tree import ZONES, phantom_tree

__all__ = ["DAMAGE", "ZONES", "damage_rates", "phantom_section", "phantom_sections", "phantom_tree"]
