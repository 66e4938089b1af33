"""Reducio-VAE, the video autoencoder that decodes with the help of a content frame."""
