"""Measures of images: against a truth, and without one; and the verdict they lead to."""
