"""Everything about a pair that floats show."""
