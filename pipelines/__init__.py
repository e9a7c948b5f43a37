"""Recipes, and the runner that takes one from images to pictures; composes pfgdata and pfgtrain."""
