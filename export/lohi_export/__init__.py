"""The workstation: networks, pairs of scans, training, ONNX, bundles."""
