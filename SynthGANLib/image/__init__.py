"""A volume, its grid and its values; nothing here reads a file."""
