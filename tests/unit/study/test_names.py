"""Names of files that are made from values of a configuration."""

from gmsdi.study.names import digest, slug


def test_digest_ignores_the_order_of_keys():
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})


def test_slug_makes_file_names():
    assert slug("Synth Lead/é") == "Synth_Lead__"
