"""Files to volumes and volumes to files."""
