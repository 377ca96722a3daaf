"""Runs of the child process."""
