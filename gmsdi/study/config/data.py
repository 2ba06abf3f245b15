"""The sections `data` and `training_data`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from annotated_types import Len

from gmsdi.data.settings import Activity, Limits, MidiConfig, MiniConfig, Splits, Variety
from gmsdi.settings import Bounded, Count, Natural, NonNegative, Number
from gmsdi.study.config.base import Changes, Model, Unique, about, choice, model_of, section
from gmsdi.study.data_kinds import KINDS

Rate = Annotated[int, Bounded(whole=True, ge=1000)]
Window = Annotated[int, Bounded(whole=True, ge=1024)]
Shards = Annotated[list[Annotated[int, Bounded(whole=True, ge=0, le=99)]], Len(2, 2)]
Members = Annotated[list[str | Annotated[int, Bounded(whole=True)]], Len(1)]
Texts = Annotated[list[str], Len(1)]
Addresses = Annotated[list[str], Unique]

MINI = MiniConfig()
TRAIN, VALIDATION, TEST = "for the train split", "for the validation split", "for the test split"

if TYPE_CHECKING:

    class VarietySettings(Model):
        """Created below; this is for type checkers."""

    class LimitSettings(Model):
        """Created below; this is for type checkers."""

    class ActivitySettings(Model):
        """Created below; this is for type checkers."""

    class SplitSettings(Model):
        """Created below; this is for type checkers."""

    class MiniSettings(Model):
        """Created below; this is for type checkers."""

    class PlayedSettings(Model):
        """Created below; this is for type checkers."""

    DataKinds: TypeAlias = str

else:
    DataKinds = Literal[tuple(KINDS)]
    VarietySettings, LimitSettings, ActivitySettings = model_of(Variety), model_of(Limits), model_of(Activity)
    SplitSettings = model_of(Splits, omit=frozenset({"seed"}))
    MiniSettings = model_of(MiniConfig, omit=frozenset({"sample_rate", "tracks"}))
    PlayedSettings = model_of(
        MidiConfig,
        omit=frozenset({"classes", "soundfonts", "sample_rate", "versions", "variety", "split_shares", "limits"}),
    )


class FirstTracks(Model):
    """Limits on the tracks of each split; null means all."""

    train: Count | None = choice(None, TRAIN)
    validation: Count | None = choice(None, VALIDATION)
    test: Count | None = choice(None, TEST)


class MiniTracks(Model):
    """Number of tracks in each split."""

    train: Count = choice(MINI.tracks["train"], TRAIN)
    validation: Count = choice(MINI.tracks["validation"], VALIDATION)
    test: Count = choice(MINI.tracks["test"], TEST)


class Mini(MiniSettings):
    """The composed data set."""

    tracks: MiniTracks = section(MiniTracks, "number of tracks in each split")


class Download(Model):
    """How archives are downloaded."""

    folder: str = choice(
        "results/downloads",
        "folder for archives and unpacked tracks, shared by all runs; an archive already there is verified and used",
    )
    archive: Literal["keep", "remove", "stream"] = choice(
        "keep",
        "keep: keep it, so that other splits and classes can be unpacked later; remove: delete it once it is unpacked; "
        "stream: unpack while downloading, without storing it; a killed job then starts again from the first byte",
    )
    mirrors: Addresses = choice([], "URLs of folders with the same archive; tried first")
    registry: str | None = choice(None, "table of published files to use instead of gmsdi/data/registry.csv")


class ShardDownload(Download):
    """How the archives of shards are downloaded."""

    archive: Literal["keep", "remove", "stream"] = choice(
        "remove",
        "remove: delete it once it is unpacked; keep: keep it, so that other tracks can be unpacked later; stream: "
        "unpack while downloading, without storing it; a killed job then starts again from the shard's first byte",
    )


class Stems(Model):
    """Your own multi-tracks."""

    splits: SplitSettings = section(
        SplitSettings,
        "which tracks are in which split. A list names tracks by their folders below `root`; a folder stands for all "
        "tracks below it, and patterns are allowed. A number is a share, drawn from the tracks that the lists of "
        "validation and test do not name; each track is drawn independently",
    )
    activity: ActivitySettings = section(ActivitySettings, "how a stem's audio is judged to sound or to be silent")
    gain_db: Number = choice(
        0.0,
        "gain applied to all files before they are summed and stored as 16-bit integers; make it negative if the job "
        "warns that sums exceed full scale",
    )


class SongTracks(Changes):
    """Number of songs in each split."""

    train: Natural = choice(0, TRAIN)
    validation: Natural = choice(0, VALIDATION)
    test: Natural = choice(0, TEST)


class Songs(Changes):
    """A source of songs."""

    kind: Literal["files", "arranged", "composed", "drawn"] = about(
        "files: MIDI files and game archives below a folder; arranged: chord charts composed by gmsdi and arranged by "
        "the program MMA, which must be installed; composed: pieces by gmsdi's own composer; drawn: notes drawn at "
        "random"
    )
    root: str = choice(None, "files: the folder; sub-folders named train, validation and test are kept as splits")
    tracks: SongTracks = choice(None, "all kinds but files: number of songs in each split")


class SoundFonts(Model):
    """SoundFonts of each split."""

    train: Texts = choice(["TimGM6mb"], TRAIN)
    validation: Texts = choice(["TimGM6mb"], VALIDATION)
    test: Texts = choice(["TimGM6mb"], TEST)


class Versions(Model):
    """Number of versions of each song."""

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

    songs: list[Songs] = choice([], "where the songs come from; several entries are mixed")
    soundfonts: SoundFonts = section(
        SoundFonts, ".sf2 or .sf3 files, one drawn at random for each part; TimGM6mb comes with the pretty_midi package"
    )
    versions: Versions = section(Versions, "number of versions of each song")
    variety: VarietySettings = section(VarietySettings, "how versions differ from their song; by default they do not")
    split_shares: SplitShares = section(
        SplitShares, "shares of the splits, for songs from files that are not sorted into splits by folders"
    )
    limits: LimitSettings = section(LimitSettings, "upper limits for a song; songs beyond them are left out")


class Data(Model):
    """The data set, and how it is cut into windows."""

    kind: DataKinds = choice("mini", "; ".join(f"{name}: {kind.TOLD}" for name, kind in KINDS.items()))
    source: Literal["slakh2100", "slakh2100_redux", "babyslakh"] = choice(
        "slakh2100_redux",
        "slakh: the data set and its splits. slakh2100: the original splits by number, 1500/375/225 tracks; "
        "slakh2100_redux: without the tracks in omitted/, 1289/270/151 tracks, no two of which share a MIDI file; "
        "babyslakh: 20 tracks at 16 kHz, to try things out",
    )
    root: str | None = choice(
        None,
        "slakh: the folder of the data set (with train, validation, test and omitted) if you have it; null downloads "
        "it. stems: the folder with your tracks",
    )
    tracks: FirstTracks = section(
        FirstTracks,
        "use only the first N tracks of each split: by number for slakh and midi, by name for stems; null means all",
    )
    download: Download = section(
        Download,
        "slakh: how its archive is downloaded, if root is null; 104 GB for both versions of Slakh2100, 0.9 GB for "
        "BabySlakh",
    )
    seed: Natural = choice(
        1, "mini and midi: seed of everything composed or drawn at random; midi and stems: seed of the splits"
    )
    sample_rate: Rate = choice(MINI.sample_rate, "in Hz")
    window: Window = choice(32768, "length of a window in samples")
    channels: Literal[1, 2] = choice(
        1, "channels of the windows; mono files are used for both of two channels, other files are averaged to one"
    )
    min_active: NonNegative = choice(
        0.5, "seconds for which a stem must sound in a window to be active, that is, named in its prompt"
    )
    classes: Annotated[dict[str, Members], Len(2)] = about(
        "maps each stem label to what is summed into that stem. slakh and mini: instrument classes (inst_class); midi: "
        'General MIDI programs counted from 0 ("32-39"), drums (the drum channel) or rest (everything in no other '
        "class); stems: file patterns relative to the track's folder, such as `bass.wav`, `vocals/*.wav` or `lead*`, "
        "ignoring case. Tables list the stems in this order"
    )
    stems: Stems = section(Stems, "stems: how your multi-tracks are read (gmsdi.data.multitracks)")
    mini: Mini = section(Mini, "mini: the composed data set (gmsdi.data.mini)")
    midi: Midi = section(Midi, "midi: MIDI songs and how they are played (gmsdi.data.midi_dataset)")


class ShardSplits(Model):
    """The shards of each split."""

    train: Shards = choice([0, 97], TRAIN)
    validation: Shards = choice([98, 99], VALIDATION)


class TrainingData(Model):
    """What the text-conditioned model is trained on."""

    kind: Literal["same", "jamendo"] = choice(
        "same",
        "same: the train and validation splits of `data`; jamendo: MTG-Jamendo (raw_30s, audio-low), mixtures without "
        "labels",
    )
    root: str | None = choice(
        None, "jamendo: the folder of the data set (with 00 to 99) if you have it; null downloads it"
    )
    shards: ShardSplits = section(ShardSplits, "jamendo: the first and the last shard of each split, from 0 to 99")
    tracks: Count | None = choice(
        None, "jamendo: number of tracks to use from each shard, those with the lowest identifiers; null means all"
    )
    download: ShardDownload = section(
        ShardDownload, "jamendo: how its archives are downloaded, if root is null; 1.6 GB per shard"
    )
