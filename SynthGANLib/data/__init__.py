"""What a training sees: lists, cases, patches."""
