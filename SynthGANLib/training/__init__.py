"""Training code: how the bundled models are made. Never imported by inference."""
