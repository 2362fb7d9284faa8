"""This device: which models it runs, how fast it must be, and whether it is fit."""
