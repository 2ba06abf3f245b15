"""Names of files that are made from values of a configuration."""

from gmsdi.study.names import digest, slug, training_id


def test_digest_ignores_the_order_of_keys():
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})


def test_slug_makes_file_names():
    assert slug("Synth Lead/é") == "Synth_Lead__"


def test_a_training_of_other_data_has_another_checkpoint():
    def named(train="data/mini-1/train", codec=None, **training):
        return training_id({"unet": {}}, {"steps": 4, **training}, 1, folders=[train, "data/validation"], codec=codec)

    names = [named(), named(train="data/mini-2/train"), named(codec="0a"), named(codec="0b"), named(steps=5)]
    assert len(set(names)) == len(names)
    assert named() == names[0]
