"""The graph of ops that layers build, its gradient, and the rewrites of it."""
