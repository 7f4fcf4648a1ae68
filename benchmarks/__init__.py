"""Measurements, printed as ratios of one run and written to results/ with the machine's details."""
