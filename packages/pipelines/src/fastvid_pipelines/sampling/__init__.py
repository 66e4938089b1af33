"""Noise schedules, solvers and guidance: pure functions on sigma."""
