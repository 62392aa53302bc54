"""Real models from published packages: fetched, loaded and checked. Their files are never part of this repository."""
