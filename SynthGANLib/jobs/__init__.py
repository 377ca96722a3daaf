"""The child process that runs jobs for the panel."""
