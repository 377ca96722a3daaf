"""The sections of the panel."""
