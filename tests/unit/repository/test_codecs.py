"""The published comparison of codecs."""

import pandas as pd

from benchmarks.codecs import FILE, PAGE


def test_the_page_shows_the_file_and_says_what_additivity_brings():
    table = pd.read_csv(FILE).set_index(["codec", "stem"])
    page = PAGE.read_text(encoding="utf-8")
    for codec in dict.fromkeys(table.index.get_level_values("codec")):
        stems = table.loc[codec, "si_sdr"].drop("mixture")
        mixture = table.loc[(codec, "mixture")]
        numbers = [*stems, mixture["si_sdr"], mixture["encoder"], mixture["decoder"]]
        assert f"| {codec} | 4000 | {' | '.join(f'{number:.1f}' for number in numbers)} |" in page
    plain, additive = (table.loc[(codec, "mixture")] for codec in ("plain", "additive_30"))
    gains = [plain[part] - additive[part] for part in ("encoder", "decoder")]
    assert f"{gains[0]:.0f} dB nearer to the sum" in page
    assert f"decoded sums {gains[1]:.0f} dB nearer" in page
