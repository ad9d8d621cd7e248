"""Where documents come from: one module or package for each kind of system."""
