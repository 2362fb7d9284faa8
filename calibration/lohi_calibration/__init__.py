"""Precision: calibration slices, INT8 and FP16 forms of a generator, sensitivity."""
