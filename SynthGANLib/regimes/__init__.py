"""Training regimes: how the networks of a method are trained, one file each, readable like the paper."""
