"""predict -> extract -> score -> report: each step reads a file and writes a file; scoring never uses a model."""
