"""The device's forward model, which predicts the scan from the result: learned, exported."""
