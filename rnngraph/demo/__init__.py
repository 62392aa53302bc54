"""Trained models that show the compiler at work."""
