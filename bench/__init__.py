"""Measurements, always as ratios or differences of two things measured side by side in one run."""
