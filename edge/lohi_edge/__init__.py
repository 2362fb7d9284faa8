"""lohi-edge: synthetic 3 T-like images from portable 64 mT head scans. Research use only."""
