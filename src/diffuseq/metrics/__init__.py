"""Metrics as plain functions of texts: a number a sentence, or counts a sentence that add up to a corpus."""
