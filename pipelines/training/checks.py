"""Whether settings, features and a checkpoint to begin with fit together."""

from actors.raw_clips import AUX_NAMES, SYNC_NAMES
from model.preprocessor_config import PreprocessorConfig
from model.tasks import TASKS
from pipelines.checkpoint import Checkpoint, load_checkpoint
from pipelines.config import differences
from pipelines.storage import strip_credentials
from pipelines.train_errors import TrainInputError
from pipelines.training.config import TrainConfig
from pipelines.training.data import TrainData
from pipelines.training.variant_columns import VARIANT_COLUMNS

# Settings that may differ between a checkpoint and what goes on from it: no weight depends on them.
_FREE_SETTINGS = ("dropout", "modality_dropout", "gradient_checkpointing")


def begun_with(config: TrainConfig, data: TrainData) -> Checkpoint | None:
    """Load the checkpoint that ``init`` names, None without one.

    Raises:
        TrainInputError: It cannot be used, or does not fit the features or the settings.
    """
    if config.init is None:
        return None
    start = load_checkpoint(config.init)
    start.check_features(data.index.fingerprint, data.index.uri)
    same = start.config.model_copy(
        update={name: getattr(config.evaluator, name) for name in _FREE_SETTINGS}
    )
    if same != config.evaluator:
        raise TrainInputError(
            f"init: {strip_credentials(config.init)} holds an evaluator of other settings than "
            f"this run's ({start.config.family}, width {start.config.width}, "
            f"{start.config.layers} layers, streams {', '.join(start.config.streams)}): use its "
            "preset"
        )
    fitted = start.preprocessor.config
    if config.preprocessor not in (fitted, PreprocessorConfig()):
        changes = differences(fitted.model_dump(), config.preprocessor.model_dump())
        raise TrainInputError(
            "init: the preprocessor of the checkpoint is kept, so its settings cannot be others "
            f"({'; '.join(changes)}): leave preprocessor.* out"
        )
    return start


def learned_tasks(data: TrainData, start: Checkpoint | None) -> tuple[str, ...]:
    """Return the tasks that were learned here, or before in the checkpoint begun with."""
    before = () if start is None else start.details["learned_tasks"]
    return tuple(task for task in TASKS if task in data.learned or task in before)


def check_streams(config: TrainConfig, data: TrainData) -> None:
    """Refuse settings that ask for what the features or the labels do not hold.

    Raises:
        TrainInputError: Names what is missing.
    """
    have = data.index.streams
    missing = [name for name in config.evaluator.streams if name not in have]
    if missing:
        raise TrainInputError(
            f"evaluator.streams asks for {', '.join(missing)}, which the features in "
            f"{data.index.uri} do not hold (they hold {', '.join(have)}): extract them, or leave "
            "them out with --set evaluator.streams=[…]"
        )
    _check_variants(config, data)
    unaligned = {"visual", "audio"} - set(config.evaluator.streams)
    if config.loss.alignment.weight and unaligned:
        raise TrainInputError(
            "loss.alignment compares sound and picture, but evaluator.streams lacks "
            f"{' and '.join(sorted(unaligned))}: --set loss.alignment.weight=0, or add them"
        )
    if config.evaluator.aux and not aux_names(config, data):
        raise TrainInputError(
            f"evaluator.aux is on, but the features in {data.index.uri} hold neither sync nor "
            "descriptors: extract them, or --set evaluator.aux=false"
        )


def _check_variants(config: TrainConfig, data: TrainData) -> None:
    ranking = config.loss.ranking
    asked = [
        name
        for name, asks in (
            ("loss.ranking.pairs: source", ranking.weight > 0 and ranking.pairs == "source"),
            ("training.batches: by_source", config.training.batches == "by_source"),
        )
        if asks
    ]
    if asked and data.labels.variants is None:
        labels = data.videos.labels
        missing = [name for name in VARIANT_COLUMNS if name not in labels.extra]
        raise TrainInputError(
            f"{labels.where}: no column {', '.join(missing)}, which {' and '.join(asked)} "
            f"need{'s' if len(asked) == 1 else ''}: tables of controlled damage have them. For "
            "others: --set loss.ranking.pairs=all --set loss.ranking.tie_weight=0 --set "
            "training.batches=shuffled"
        )


def aux_names(config: TrainConfig, data: TrainData) -> tuple[str, ...]:
    """Return the auxiliary values that the features hold, none when the evaluator reads none."""
    if not config.evaluator.aux:
        return ()
    have = data.index.columns
    return tuple(
        name for name in AUX_NAMES if ("sync" if name in SYNC_NAMES else "descriptors") in have
    )
