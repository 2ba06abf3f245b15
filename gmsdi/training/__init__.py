"""Training of models, on mixtures and their labels or on their stems."""
