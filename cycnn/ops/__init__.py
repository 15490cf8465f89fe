"""What each op means: one file a family says its shapes, gradient, cost and kernels."""
