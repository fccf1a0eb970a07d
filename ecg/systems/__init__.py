"""The published methods, as recipes, and how they are carried out."""
