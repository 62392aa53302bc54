"""Frontends: models that were made elsewhere, as layers. One folder a system; each imports its library when used."""
