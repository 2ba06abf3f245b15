"""Names of files that are made from values of a configuration."""

from gmsdi.study.names import digest, slug, training_id


def test_digest_ignores_the_order_of_keys():
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})


def test_slug_makes_file_names():
    assert slug("Synth Lead/é") == "Synth_Lead__"


def test_a_training_of_other_data_or_code_has_another_checkpoint():
    def named(train="data/mini-1/train", code="0", codec=None, initial=None, **training):
        folders = [train, "data/validation"]
        settings = {"steps": 4, **training}
        return training_id({"unet": {}}, settings, 1, folders=folders, code=code, codec=codec, initial=initial)

    digests = [{"codec": "0a"}, {"codec": "0b"}, {"initial": "0a"}, {"initial": "0b"}, {"code": "1"}]
    names = [named(), named(train="data/mini-2/train"), named(steps=5), *(named(**one) for one in digests)]
    assert len(set(names)) == len(names)
    assert named() == names[0]
