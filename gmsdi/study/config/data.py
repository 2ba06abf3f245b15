"""The sections `data` and `training_data`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Len

from gmsdi.data.settings import Activity, Limits, MidiConfig, MiniConfig, Splits, Variety
from gmsdi.settings import Bounded, Count, Natural, NonNegative, Number
from gmsdi.study.config.base import Changes, Model, Unique, about, choice, model_of, section

Rate = Annotated[int, Bounded(whole=True, ge=1000)]
Window = Annotated[int, Bounded(whole=True, ge=1024)]
Shards = Annotated[list[Annotated[int, Bounded(whole=True, ge=0, le=99)]], Len(2, 2)]
Members = Annotated[list[str | Annotated[int, Bounded(whole=True)]], Len(1)]
Texts = Annotated[list[str], Len(1)]
Addresses = Annotated[list[str], Unique]

MINI = MiniConfig()
TRAIN, VALIDATION, TEST = "of the train split", "of the validation split", "of the test split"

if TYPE_CHECKING:

    class VarietySettings(Model):
        """Made below."""

    class LimitSettings(Model):
        """Made below."""

    class ActivitySettings(Model):
        """Made below."""

    class SplitSettings(Model):
        """Made below."""

    class MiniSettings(Model):
        """Made below."""

    class PlayedSettings(Model):
        """Made below."""

else:
    VarietySettings, LimitSettings, ActivitySettings = model_of(Variety), model_of(Limits), model_of(Activity)
    SplitSettings = model_of(Splits, omit=frozenset({"seed"}))
    MiniSettings = model_of(MiniConfig, omit=frozenset({"sample_rate", "tracks"}))
    PlayedSettings = model_of(
        MidiConfig,
        omit=frozenset({"classes", "soundfonts", "sample_rate", "versions", "variety", "split_shares", "limits"}),
    )


class FirstTracks(Model):
    """Tracks of each split, among its first; null is all."""

    train: Count | None = choice(None, TRAIN)
    validation: Count | None = choice(None, VALIDATION)
    test: Count | None = choice(None, TEST)


class MiniTracks(Model):
    """Tracks of each split."""

    train: Count = choice(MINI.tracks["train"], TRAIN)
    validation: Count = choice(MINI.tracks["validation"], VALIDATION)
    test: Count = choice(MINI.tracks["test"], TEST)


class Mini(MiniSettings):
    """The composed dataset."""

    tracks: MiniTracks = section(MiniTracks, "tracks of each split")


class Download(Model):
    """How archives are fetched."""

    folder: str = choice(
        "results/downloads",
        "where archive and unpacked tracks lie, for all runs; an archive that is put there is verified and used",
    )
    archive: Literal["keep", "remove", "stream"] = choice(
        "keep",
        "keep: other splits and classes can be unpacked later; remove: once it is unpacked; stream: never stored, "
        "but a killed job starts again with the first byte",
    )
    mirrors: Addresses = choice([], "URLs of folders that have the same archive; they are asked first")
    registry: str | None = choice(None, "table of published files instead of gmsdi/data/registry.csv")


class ShardDownload(Download):
    """How the archives of shards are fetched."""

    archive: Literal["keep", "remove", "stream"] = choice(
        "remove",
        "remove: once it is unpacked; keep: other tracks can be unpacked later; stream: never stored, but a killed job "
        "starts again with the shard's first byte",
    )


class Stems(Model):
    """Your own multi-tracks."""

    splits: SplitSettings = section(
        SplitSettings,
        "which tracks make a split; a list names tracks by their folder below `root`, or all tracks below a folder, "
        "and may have patterns; a number is a share, drawn for each track by itself among those that no list of "
        "validation and test names",
    )
    activity: ActivitySettings = section(ActivitySettings, "how it is told from a stem's audio where it sounds")
    gain_db: Number = choice(
        0.0,
        "of all files, before they are summed and stored with 16 bits; negative where sums exceed full scale, of which "
        "the job warns",
    )


class SongTracks(Changes):
    """Songs of each split."""

    train: Natural = choice(0, TRAIN)
    validation: Natural = choice(0, VALIDATION)
    test: Natural = choice(0, TEST)


class Songs(Changes):
    """A source of songs."""

    kind: Literal["files", "arranged", "composed", "drawn"] = about(
        "files: MIDI files and game archives below a folder; arranged: chord charts composed here, arranged by MMA, a "
        "program that must be installed; composed: pieces of our own composer; drawn: notes drawn at random"
    )
    root: str = choice(
        None, "files: the folder; one that has the folders train, validation and test keeps them as splits"
    )
    tracks: SongTracks = choice(None, "of all but files: songs of each split")


class SoundFonts(Model):
    """SoundFonts of each split."""

    train: Texts = choice(["TimGM6mb"], TRAIN)
    validation: Texts = choice(["TimGM6mb"], VALIDATION)
    test: Texts = choice(["TimGM6mb"], TEST)


class Versions(Model):
    """Versions of each song."""

    train: Count = choice(1, TRAIN)
    validation: Count = choice(1, VALIDATION)
    test: Count = choice(1, TEST)


class SplitShares(Model):
    """Shares of the splits."""

    train: NonNegative = choice(0.8, TRAIN)
    validation: NonNegative = choice(0.1, VALIDATION)
    test: NonNegative = choice(0.1, TEST)


class Midi(PlayedSettings):
    """MIDI songs and how they are played."""

    songs: list[Songs] = choice([], "where the songs come from; those of several sources are mixed")
    soundfonts: SoundFonts = section(
        SoundFonts, ".sf2 or .sf3 files, one drawn for each part; TimGM6mb is that of the pretty_midi package"
    )
    versions: Versions = section(Versions, "versions of each song")
    variety: VarietySettings = section(
        VarietySettings, "how a version differs from its song; with the defaults it does not"
    )
    split_shares: SplitShares = section(
        SplitShares, "shares of the splits among the songs of files without splits of their own"
    )
    limits: LimitSettings = section(LimitSettings, "what a song may be at most; larger ones are left out")


class Data(Model):
    """The dataset, and how it is cut into chunks."""

    kind: Literal["mini", "midi", "slakh", "stems"] = choice(
        "mini",
        "mini: composed and rendered here; midi: MIDI songs, found in folders or composed here, rendered with "
        "SoundFonts; slakh: Slakh2100, downloaded or in a folder; stems: your own multi-tracks, any folder of them in "
        "`root`",
    )
    source: Literal["slakh2100", "slakh2100_redux", "babyslakh"] = choice(
        "slakh2100_redux",
        "slakh: the data set and its split; slakh2100: the original split by number, 1500/375/225 tracks; "
        "slakh2100_redux: without the tracks in omitted/, 1289/270/151, none of which shares its MIDI file with "
        "another; babyslakh: 20 tracks at 16 kHz, to try things out",
    )
    root: str | None = choice(
        None,
        "slakh: the folder of the data set (with train, validation, test and omitted) where you have it; null "
        "downloads it; stems: the folder that holds your tracks",
    )
    tracks: FirstTracks = section(
        FirstTracks,
        "slakh and midi: of each split only the tracks among its first so many numbers; stems: only its first so many "
        "tracks, in order of name; null is all",
    )
    download: Download = section(
        Download,
        "slakh: how its archive is fetched, if root is null; 104 GB for both splits of Slakh2100, 0.9 GB for BabySlakh",
    )
    seed: Natural = choice(1, "mini and midi: seed of what is composed and drawn; midi and stems: of the split")
    sample_rate: Rate = choice(MINI.sample_rate, "Hz")
    window: Window = choice(32768, "samples of a chunk")
    channels: Literal[1, 2] = choice(
        1, "of the chunks; files of one channel count for both of two, and others are averaged to one"
    )
    min_active: NonNegative = choice(0.5, "seconds that a stem must sound in a chunk to be one of its labels")
    classes: Annotated[dict[str, Members], Len(2)] = about(
        "stem label to what it sums: instrument classes (inst_class) of Slakh and mini; of midi General MIDI programs "
        'from 0 ("32-39"), drums (the drum channel) or rest (all that is in no other class); of stems patterns of '
        "files "
        "relative to the track's folder, such as `bass.wav`, `vocals/*.wav` or `lead*`, upper and lower case alike; "
        "the order is that of every table"
    )
    stems: Stems = section(Stems, "stems: how your multi-tracks are read, see gmsdi.data.multitracks")
    mini: Mini = section(Mini, "the composed dataset, see gmsdi.data.mini")
    midi: Midi = section(Midi, "MIDI songs and how they are played, see gmsdi.data.midi_dataset")


class ShardSplits(Model):
    """The shards of each split."""

    train: Shards = choice([0, 97], TRAIN)
    validation: Shards = choice([98, 99], VALIDATION)


class TrainingData(Model):
    """What the text-conditioned model learns from."""

    kind: Literal["same", "jamendo"] = choice(
        "same",
        "same: the train and validation splits of `data`; jamendo: MTG-Jamendo (raw_30s, audio-low), mixtures without "
        "labels",
    )
    root: str | None = choice(
        None, "jamendo: the folder of the data set (with 00 to 99) where you have it; null downloads it"
    )
    shards: ShardSplits = section(ShardSplits, "jamendo: the first and the last of the shards of each split, 0 to 99")
    tracks: Count | None = choice(
        None, "jamendo: of each shard only so many tracks, those of the lowest identifiers; null is all"
    )
    download: ShardDownload = section(
        ShardDownload, "jamendo: how its archives are fetched, if root is null; 1.6 GB a shard"
    )
