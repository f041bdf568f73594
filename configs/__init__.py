"""Recipes: differences from the table of keys."""
