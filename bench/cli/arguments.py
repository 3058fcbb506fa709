"""The flags of every command as dataclasses, which tyro turns into parsers; the docstrings are the help."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from bench.config import DEFAULT_MODELS, RunConfig
from bench.tuning.space import DEFAULT_SPACE
from imgcls.config import RuntimeConfig, StoreConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanArgs:
    """Flags of all commands that plan runs."""

    data: str = "digits"
    """Folder with one subfolder per class, or with train/, val/ and test/; table of labels (.csv or .tsv with columns
    path, label and optionally split); hf:FOLDER or hf:NAME; wds:SHARDS, a pattern of WebDataset's tar files; the URL
    of such a folder or of shards (s3://, gs://, az://); or data set name (python -m bench data)."""
    labels: str | None = None
    """Table of labels of the images in the folder of --data, with paths relative to that folder."""
    verify: bool = False
    """Read all bytes of all files to find out whether the data have changed; otherwise their names, sizes, times,
    inodes, and first and last 4 KB are compared."""
    recipe: str | None = None
    """Recipe that sets the defaults of the groups below: quick, finetune, standard or report; None: finetune, but quick
    for the digits. The defaults shown there are those of quick for ResNet50."""
    seeds: tuple[int, ...] = (0,)
    """Training seeds; each is one run of every model."""
    weights: str = "auto"
    """Initial weights: auto, pretrained, pretrained@REVISION (a branch, tag or commit of their repositories), none
    (random), or a folder with MODEL/config.json and MODEL/model.safetensors. With auto they are pretrained; if the hub
    cannot be reached and its cache on this machine lacks those of a model, all are random, with a warning."""
    results: Path = Path("results")
    """Folder for records, artifacts and the leaderboard."""
    pixels: StoreConfig = field(default_factory=StoreConfig)
    run: RunConfig = field(default_factory=RunConfig)

    @property
    def planned_models(self) -> tuple[str, ...]:
        """The models to plan runs for."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True, slots=True)
class RunArgs(PlanArgs):
    """Train, evaluate, export and measure one model."""

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")] = "resnet50"
    """Name of the model: one that python -m bench models lists, any other timm name,
    hf-hub:OWNER/NAME or local-dir:FOLDER."""
    force: bool = False
    """Repeat runs that are already done."""

    @property
    def planned_models(self) -> tuple[str, ...]:
        """The one model."""
        return (self.name,)


@dataclass(frozen=True, kw_only=True, slots=True)
class LearningCurveArgs(RunArgs):
    """Train one model on 25, 50 and 100 % of train, test each on the same images, and say whether more would help."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """Training seeds, which also draw the images of each share."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchArgs(PlanArgs):
    """Flags of all commands that can carry out studies."""

    space: tuple[str, ...] = DEFAULT_SPACE
    """Hyperparameters to search, each as NAME or NAME=LOW:HIGH.
    Known: lr, dropout, epochs, weight_decay, label_smoothing, layer_decay, warmup, ema, batch_size, image_size."""
    storage: str = ""
    """Optuna storage URL of the studies, of SQLite or PostgreSQL; if empty, an SQLite file in the results folder."""
    launcher: str = "local"
    """Where to train: local (processes on this machine) or ray (a Ray cluster)."""
    ray_address: str = ""
    """Address of the Ray cluster, as HOST:PORT or auto; if empty, a cluster is started on this machine."""
    jobs: int = 1
    """Number of trials that are trained at the same time, each on its own GPU if there are enough; with ray, and on
    GPUs, also of runs."""
    force_new: bool = False
    """Start a new study if one of the same name has a different search space, data set or setting."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepArgs(SearchArgs):
    """Search a model's hyperparameters by validation accuracy with Optuna; the test split is not read."""

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")] = "resnet50"
    """Name of the model: one that python -m bench models lists, any other timm name,
    hf-hub:OWNER/NAME or local-dir:FOLDER."""
    trials: int | None = None
    """Budget: number of finished and pruned trials (20 if no budget is given); a larger number continues the study."""
    minutes: float | None = None
    """Budget: duration in minutes, summed over all trials."""
    tmacs: float | None = None
    """Budget: training compute of all trials in 1e12 multiply-accumulate operations, as 3 x forward x images."""

    @property
    def planned_models(self) -> tuple[str, ...]:
        """The one model."""
        return (self.name,)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunAllArgs(SearchArgs):
    """Train, evaluate, export and measure several models under one budget, and write the leaderboard."""

    models: tuple[str, ...] = DEFAULT_MODELS
    """Names of the models: those that python -m bench models lists, any other timm names,
    hf-hub:OWNER/NAME or local-dir:FOLDER."""
    force: bool = False
    """Repeat runs that are already done."""
    tuned: bool = False
    """Also run the best setting of each model's finished study."""
    tune_trials: int | None = None
    """Tune every model first with this number of trials per model, and also run the tuned settings."""
    tune_minutes: float | None = None
    """As --tune-trials, with a budget in minutes per model, summed over its trials."""
    tune_tmacs: float | None = None
    """As --tune-trials, with a budget in 1e12 multiply-accumulate operations of training per model."""

    @property
    def planned_models(self) -> tuple[str, ...]:
        """All models."""
        return self.models


@dataclass(frozen=True, kw_only=True, slots=True)
class SelectArgs(SearchArgs):
    """Select among many models, in a number of minutes, which to fine-tune; the finalists are rows of a table."""

    minutes: float = 60.0
    """Minutes of the whole command, from its start to the page."""
    candidates: tuple[str, ...] = ()
    """Models: names or patterns of timm's list ('mobilenet*'), files with one a line, or all-under-10M. None: all of
    the folder of --weights, or about thirty that span cost and kind."""
    sizes: tuple[int, ...] = ()
    """Image sizes in pixels, each with every model; none: the recipe's size, or --image-size."""
    finalists: int = 3
    """Number of candidates that become rows of the table, 1 to 5."""
    max_latency_ms: float | None = None
    """Maximum p90 latency in ms at batch 1: candidates that are slower are never trained."""
    runtime: str = "onnxruntime-cpu"
    """Runtime in which the model will be used, and in which the untrained networks are measured."""
    tune: bool = False
    """Use a quarter of the minutes for a study of the best finalist's hyperparameters."""
    dry_run: bool = False
    """Only print the candidates, each with the estimate of plan."""

    @property
    def planned_models(self) -> tuple[str, ...]:
        """The models of the candidates."""
        from bench.selection.candidates import models_of  # noqa: PLC0415 - loads timm, which no other flag needs

        return models_of(self.candidates, weights=self.weights)


@dataclass(frozen=True, kw_only=True, slots=True)
class EstimateArgs(RunAllArgs):
    """Estimate minutes, memory and disk of run-all with the same flags, from 20 steps of each model."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ResultsArgs:
    """Write the leaderboard from the records in a results folder, and print it."""

    results: Path = Path("results")
    """Results folder to read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VerifyArgs(ResultsArgs):
    """Verify that the files of a results folder agree with each other; nothing is changed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TablesArgs(ResultsArgs):
    """Flags of all commands that read the tables of a results folder."""

    data: str | None = None
    """Read only the tables of the data set with this name; None: of all data sets."""
    table: str | None = None
    """Read only the table with this id, which its heading shows; None: all tables."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportArgs(TablesArgs):
    """Write one HTML page with tables, plots and galleries that loads nothing from the network."""

    no_images: bool = False
    """Omit all images of the data set."""
    to: Path | None = None
    """Output folder; None: report/ in the results folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CompareArgs(TablesArgs):
    """Compare two rows of the leaderboard, or two runs, on the same test images."""

    first: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="A")]
    """A row by its name, such as resnet50, or a run by the first characters of its id."""
    second: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="B")]
    """The row or run to compare with it, in the same form."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EnsembleArgs(TablesArgs):
    """Combine the networks of finished runs of one table into one network, as a row of it; nothing is trained."""

    names: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="A B ...")] = ()
    """Rows by name, such as resnet50; none: all rows of the table."""
    rule: str = "fitted"
    """Weights of the networks' probabilities: soft (equal), fitted (lowest log loss on val), or greedy (selection with
    replacement by accuracy on val)."""
    greedy: bool = False
    """The same as --rule greedy."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RecommendArgs(TablesArgs):
    """Recommend the most accurate model within all limits or, with --margin, the fastest that is nearly as accurate."""

    margin: str | None = None
    """Accept a row that is less accurate than the best one by less than this, in percentage points, such as 1."""
    max_latency_ms: float | None = None
    """Maximum p90 latency in ms at batch 1."""
    runtime: str = "onnxruntime-cpu"
    """Runtime in which the model will be used."""
    min_recall: tuple[str, ...] = ()
    """Minimum recall of classes on test, each as CLASS=SHARE, such as glass=0.8."""
    max_size_mb: float | None = None
    """Maximum size in MB of the model file that the runtime reads."""
    limit: tuple[str, ...] = ()
    """Limits on measures of a row over its seeds, each as MEASURE=VALUE, such as gmacs=0.5: at most, or at least where
    high values are better. Known: top1, macro_f1, worst (%), log_loss (nats), params (M), gmacs, training (s)."""
    machine: str | None = None
    """Machine whose latency counts; None: the machine that trained, or another one if that has measured nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasureArgs:
    """Measure the latency of finished runs on this machine by the full protocol, from their artifacts."""

    results: Path = Path("results")
    """Results folder with the records and artifacts."""
    artifacts: Path | None = None
    """Measure copied artifacts instead: a folder artifacts/TRAIN_ID of another machine's results, or one above several.
    The latency goes to measurements/ in the results folder; neither records nor images are needed."""
    every_run: bool = False
    """Measure every run, and not each network once: only this judges the int8 accuracy of the weights of each run."""
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditArgs:
    """Decode every image of a data set, and report unusable files and duplicates."""

    folder: tyro.conf.Positional[str]
    """A folder, a table of labels, hf:FOLDER, or the name of a data set, as for --data."""
    labels: str | None = None
    """Table of labels of the images in the folder."""
    verify: bool = False
    """Read all bytes of all files to find out whether the data have changed; otherwise their names, sizes, times,
    inodes, and first and last 4 KB are compared."""
    group_by: str | None = None
    """Count the groups of images by this value of --group-by."""
    results: Path = Path("results")
    """Results folder; the audit is written to its folder audits/ as JSON."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictArgs:
    """Predict the classes of photos with exported models; needs neither torch nor the data set.

    Flags come before the models or after the photos. A photo that cannot be used is a row with the reason, and the exit
    status is then 1; the others are predicted.
    """

    paths: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="MODEL.onnx... IMAGE...")] = ()
    """One ONNX file or more that runs have exported, then the photos: files, folders, patterns such as 'new/**/*.jpg',
    or tables (.csv, .tsv) with a column path, relative to the table."""
    top_k: int = 1
    """Number of classes per photo, the most probable first."""
    csv: bool = False
    """Write CSV to standard output: a header, then a line for each photo and model as soon as it is known."""
    json: bool = False
    """Write JSON to standard output: an object in a line of its own for each photo and model as soon as it is known."""

    @property
    def data_only(self) -> bool:
        """Whether standard output gets nothing but data."""
        return self.csv or self.json


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelsArgs:
    """List the known models with their pretrained weights and image sizes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataArgs:
    """List the named data sets, or download some."""

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """Names of the data sets to download."""
