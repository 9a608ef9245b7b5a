"""Data sets: reading, checking, drawing and batching of samples."""
