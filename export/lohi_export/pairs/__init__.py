"""Pairs of 64 mT and 3 T scans: simulated, or read from a data set."""
