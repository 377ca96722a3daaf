"""Results as files and DICOM series."""
