"""A package, so that `tests.unit` is found here even where a dependency has installed a `tests` of its own."""
