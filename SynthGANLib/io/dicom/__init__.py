"""DICOM series: header, stack, SUV, contrast agent."""
