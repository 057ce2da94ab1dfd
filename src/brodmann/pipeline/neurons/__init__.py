"""Neurons: recipes, training and segmentation of volumes of any size."""
