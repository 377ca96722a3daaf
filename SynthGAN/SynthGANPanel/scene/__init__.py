"""Nodes, views and masks of the MRML scene."""
