"""Stands in for the interface to StarCraft II."""
