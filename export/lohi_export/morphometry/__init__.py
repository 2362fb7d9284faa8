"""Training and proof of the segmenter that measures regions on the device."""
