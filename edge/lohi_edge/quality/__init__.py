"""Measures of images: against a truth, and (to come) without one."""
