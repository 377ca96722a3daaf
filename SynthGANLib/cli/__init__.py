"""The command ``synthgan``."""
