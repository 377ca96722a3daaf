"""A real MRML scene and Slicer's slice pipeline without the application: for the demo and the MRML tests."""
