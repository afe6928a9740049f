"""Predictions to scores, tables and plots."""
