"""Speed as ratios of alternating pairs; ``nox -s perf``. Figures go to the README, nothing here can fail on speed."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from torchvision import datasets, transforms
from torchvision.transforms import v2

from bench.comparison import analysis, scores
from bench.latency.cold_start import noise
from bench.latency.protocol import measure
from bench.processes.starting import STEADY_MEMORY, limited
from bench.records.store import read_records
from imgcls.config import ArchitectureConfig, Augmentation, LoaderConfig, TrainConfig
from imgcls.data import crops
from imgcls.data.audit import audit_dataset
from imgcls.data.auditing.duplicates import near_groups
from imgcls.data.augment import POLICIES, Normalisation, normalise
from imgcls.data.decode import load_square
from imgcls.data.loaders import Source, train_batches
from imgcls.data.sources.registry import load_dataset
from imgcls.inference.card import preprocess
from imgcls.inference.export import export_onnx
from imgcls.inference.predict import classify, open_classifier
from imgcls.inference.runtimes import ONNX, open_session
from imgcls.models.building import build_model
from imgcls.models.registry import resolve_spec
from imgcls.models.weights import random_weights
from imgcls.parallel import usable_cores
from imgcls.training.loop import use_threads
from imgcls.training.precision import decide
from tests.benchmarks.training_steps import BATCHES, bare_step, epoch_s, seconds, training_of
from tests.helpers import examples
from tests.helpers.images import frames, smooth_image

CPU = torch.device("cpu")
PLAIN = Normalisation(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
ROUNDS = 5


def alternate(benchmark: Any, ours: Callable[[], object], other: Callable[[], object], rounds: int = ROUNDS) -> None:
    """Time a pair in turn, in one process; ``extra_info`` gets the median of the rounds' other/ours ratios."""
    ratios: list[float] = []

    def pair() -> None:
        if len(ratios) % 2:
            took = seconds(ours)
            ratios.append(seconds(other) / took)
        else:
            ratios.append(seconds(other) / seconds(ours))

    benchmark.pedantic(pair, rounds=rounds, warmup_rounds=1)
    benchmark.extra_info["speed of ours over the other, median"] = round(statistics.median(ratios[1:]), 3)
    benchmark.extra_info["least and most"] = [round(min(ratios[1:]), 3), round(max(ratios[1:]), 3)]
    print(benchmark.name, benchmark.extra_info)  # noqa: T201


@pytest.mark.benchmark
@pytest.mark.parametrize(
    ("model", "augmentation"),
    [
        ("resnet50", "report"),
        ("efficientnet_b0", "report"),
        ("inception_v3", "report"),
        ("efficientnet_b0", "crop"),
        ("efficientnet_b0", "trivialaugment"),
    ],
)
def test_whole_training_loop_over_the_bare_step(
    benchmark: Any, tmp_path: Path, model: str, augmentation: Augmentation
) -> None:
    """Images a second of ``train`` from a warm cache over those of the same step on one tensor in memory.

    Validation is left out on both sides: the loop's own seconds of training are what is compared.
    """
    spec, setting = training_of(model, tmp_path, TrainConfig(epochs=1, augmentation=augmentation))
    bare = bare_step(spec, setting)
    whole = build_model(spec, ArchitectureConfig(), num_classes=6, aux_head=spec.has_aux_head)
    ratios: list[float] = []

    def pair() -> None:
        loop_s = epoch_s(whole, setting)
        bare_s = seconds(lambda: [bare() for _ in range(BATCHES)])
        ratios.append(bare_s / loop_s)

    benchmark.pedantic(pair, rounds=ROUNDS, warmup_rounds=1)
    benchmark.extra_info["loop over bare step, median"] = round(statistics.median(ratios[1:]), 3)
    benchmark.extra_info["least and most"] = [round(min(ratios[1:]), 3), round(max(ratios[1:]), 3)]
    print(model, augmentation, benchmark.extra_info)  # noqa: T201


@pytest.mark.benchmark
@pytest.mark.parametrize("model", ["resnet50", "efficientnet_b0", "inception_v3", "mobilenetv2_100"])
def test_training_loop_with_precision_auto_over_fp32(benchmark: Any, tmp_path: Path, model: str) -> None:
    """Images a second of ``train`` at 128 px in the precision that ``auto`` decides on, over those in float32."""
    auto = TrainConfig(epochs=1, device="cpu", train_threads=usable_cores(), precision="auto")
    spec = resolve_spec(model, LoaderConfig(image_size=128), random_weights)
    decided = decide(spec, LoaderConfig(image_size=128), auto, cache=tmp_path / "cache")
    network = build_model(spec, ArchitectureConfig(), num_classes=6, aux_head=spec.has_aux_head)
    exact, chosen = (
        training_of(model, tmp_path, TrainConfig(epochs=1, precision=name))[1] for name in ("fp32", decided)
    )
    ratios: list[float] = []

    def pair() -> None:
        exact_s = epoch_s(network, exact)
        ratios.append(exact_s / epoch_s(network, chosen))

    benchmark.pedantic(pair, rounds=ROUNDS, warmup_rounds=1)
    benchmark.extra_info["decided"] = decided
    benchmark.extra_info["auto over fp32, median"] = round(statistics.median(ratios[1:]), 3)
    benchmark.extra_info["least and most"] = [round(min(ratios[1:]), 3), round(max(ratios[1:]), 3)]
    print(model, benchmark.extra_info)  # noqa: T201


@pytest.mark.benchmark
def test_input_pipeline_over_imagefolder_and_pil_on_one_core_at_224(benchmark: Any, tmp_path: Path) -> None:
    """From a warm cache, augmentation included, against ImageFolder and PIL with the same augmentation."""
    use_threads(1)
    count, size = 64, 224
    for number in range(count):
        path = tmp_path / str(number % 2) / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        photo(number).save(path, quality=92)
    same = transforms.Compose(
        [
            transforms.Resize((size, size), transforms.InterpolationMode.BILINEAR),
            transforms.RandomHorizontalFlip(),
            transforms.RandomRotation(15, transforms.InterpolationMode.BILINEAR),
            transforms.ColorJitter(brightness=0.2),
            transforms.ToTensor(),
            transforms.Normalize(PLAIN.mean, PLAIN.std),
        ]
    )
    folder = datasets.ImageFolder(str(tmp_path), same)
    pixels = np.stack([np.asarray(Image.open(path).resize((size, size))) for path, _ in folder.samples])
    np.save(tmp_path / "cache.npy", pixels)
    cached = np.load(tmp_path / "cache.npy", mmap_mode="r")
    source = Source(pixels=cached, indices=np.arange(count), labels=np.zeros(count, dtype=np.int64))

    def ours() -> None:
        generator = torch.Generator().manual_seed(0)
        for _ in train_batches(source, batch_size=32, normalisation=PLAIN, device=CPU, generator=generator):
            pass

    def other() -> None:
        for _ in torch.utils.data.DataLoader(folder, batch_size=32, shuffle=True):
            pass

    alternate(benchmark, ours, other, rounds=9)


@pytest.mark.benchmark
@pytest.mark.parametrize("other", ["torchvision's transform of each image", "no crop"])
def test_crop_of_a_batch_on_one_core_at_160(benchmark: Any, other: str) -> None:
    """Augmented and normalised, against torchvision's transform and against the normalisation alone."""
    use_threads(1)
    images = torch.randint(0, 256, (32, 160, 160, 3), dtype=torch.uint8)
    generator = torch.Generator().manual_seed(0)
    transform = v2.Compose([v2.RandomResizedCrop(160, scale=crops.SCALE), v2.RandomHorizontalFlip()])

    def by_transform() -> None:
        views = torch.stack([transform(image) for image in images.permute(0, 3, 1, 2)])
        normalise(views.permute(0, 2, 3, 1), PLAIN)

    others = {"torchvision's transform of each image": by_transform, "no crop": lambda: normalise(images, PLAIN)}
    alternate(benchmark, lambda: POLICIES["crop"](images, generator, PLAIN, hflip=True), others[other], rounds=31)


def photo(seed: int) -> Image.Image:
    """A picture with the size and roughly the detail of TrashNet's photos (512 x 384)."""
    rng = np.random.default_rng(seed)
    smooth = np.asarray(smooth_image(seed, size=512).resize((512, 384))).astype(int)
    return Image.fromarray(np.clip(smooth + rng.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8))


@pytest.mark.benchmark
@pytest.mark.parametrize(
    ("busy", "model", "px"),
    [
        (0, "mobilenetv2_100", 96),
        (1, "mobilenetv2_100", 96),
        (0, "mobilenetv2_100", 160),
        (0, "resnet50", 160),
    ],
)
def test_training_in_the_environment_of_our_processes(
    benchmark: Any, monkeypatch: pytest.MonkeyPatch, busy: int, model: str, px: int
) -> None:
    """Training steps on all cores in the environment of our processes, over those in that of a plain process."""
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", *STEADY_MEMORY):
        monkeypatch.delenv(name, raising=False)
    cores = usable_cores()
    ours, plain = {**os.environ, **limited(cores)}, dict(os.environ)
    speeds: dict[str, list[float]] = {"ours": [], "plain": []}

    def steps(name: str, environment: dict[str, str]) -> None:
        command = [sys.executable, "-m", "tests.benchmarks.steps", str(cores), model, str(px)]
        speeds[name].append(float(subprocess.check_output(command, env=environment)))

    def pair() -> None:
        both = [("ours", ours), ("plain", plain)]
        for name, environment in both if len(speeds["ours"]) % 2 else reversed(both):
            steps(name, environment)

    beside = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
    try:
        benchmark.pedantic(pair, rounds=ROUNDS)
    finally:
        for process in beside:
            process.kill()
            process.wait()
    benchmark.extra_info["images/s"] = {name: [round(one) for one in sorted(each)] for name, each in speeds.items()}
    ratios = [ours / plain for ours, plain in zip(speeds["ours"], speeds["plain"], strict=True)]
    benchmark.extra_info["ours over plain, median"] = round(statistics.median(ratios), 2)


@pytest.mark.benchmark
def test_audit_over_a_plain_decoding_loop(benchmark: Any, tmp_path: Path) -> None:
    """An audit on all cores, with duplicates, over decoding alone on one core; 600 photos of 1024 px."""
    root = tmp_path / "photos"
    for number in range(600):
        folder = root / f"class-{number % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        smooth_image(number, size=1024).save(folder / f"{number}.jpg")
    files = sorted(root.rglob("*.jpg"))
    caches = (tmp_path / f"cache-{number}" for number in range(100))

    def decode_all() -> None:
        for file in files:
            with Image.open(file) as image:
                image.convert("RGB").load()

    def audit() -> None:
        audit_dataset(load_dataset(str(root)), cache=next(caches))

    alternate(benchmark, audit, decode_all)
    benchmark.extra_info["photos/s"] = round(len(files) / seconds(audit))


@pytest.mark.benchmark
@pytest.mark.parametrize("other", ["parts", "plain loop"])
def test_predict(benchmark: Any, tmp_path: Path, other: str) -> None:
    """``classify`` of 200 photos by MobileNetV2 at 128 px, opening the model included.

    The parts are decoding of the photos divided by the cores, and then a session on all cores with batches of 32; the
    goal is 0.9. The plain loop decodes and runs one photo at a time, in a session on all cores.
    """
    spec = resolve_spec("mobilenetv2_100", LoaderConfig(image_size=128), random_weights)
    model, file = build_model(spec, ArchitectureConfig(), num_classes=6).eval(), tmp_path / ONNX
    export_onnx(model, spec, class_names=tuple("abcdef"), path=file)
    photos = [tmp_path / f"{number}.jpg" for number in range(200)]
    for number, path in enumerate(photos):
        photo(number).save(path, quality=92)
    cores = usable_cores()
    opened = open_classifier(file, threads=cores)
    images = preprocess(np.stack([load_square(path, spec.resize) for path in photos]), opened.card)

    def parts() -> None:
        for path in photos[::cores]:
            load_square(path, spec.resize)
        for start in range(0, len(images), 32):
            opened.session.run(None, {"images": images[start : start + 32]})

    def plain() -> None:
        for path in photos:
            opened.logits(load_square(path, spec.resize)[None])

    alternate(benchmark, lambda: list(classify(file, photos)), {"parts": parts, "plain loop": plain}[other], rounds=9)


@pytest.mark.benchmark
def test_help(benchmark: Any) -> None:
    """``python -m bench --help`` in a fresh process; the goal is half a second."""
    benchmark.pedantic(
        lambda: subprocess.run([sys.executable, "-m", "bench", "--help"], check=True, capture_output=True),
        rounds=7,
        warmup_rounds=1,
    )


@pytest.mark.benchmark
def test_import_of_the_library(benchmark: Any) -> None:
    """``import imgcls`` in a fresh process; the goal is a tenth of a second."""
    code = "import time; began = time.perf_counter(); import imgcls; print(time.perf_counter() - began)"
    took_ms: list[float] = []

    def load() -> None:
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
        took_ms.append(1e3 * float(done.stdout))

    benchmark.pedantic(load, rounds=7, warmup_rounds=1)
    benchmark.extra_info["import alone, median, ms"] = round(statistics.median(took_ms[1:]), 1)
    print(benchmark.name, benchmark.extra_info)  # noqa: T201


@pytest.mark.benchmark
def test_grouping_of_the_frames_of_one_scene(benchmark: Any) -> None:
    """Seconds for 8,000 near-duplicates over those for 2,000: 4 if the time is linear, 16 if all pairs are compared."""
    hashes, thumbnails = frames(8000)
    ratios: list[float] = []

    def pair() -> None:
        few_s, many_s = (
            seconds(lambda count=count: near_groups(hashes[:count], thumbnails[:count], largest=20))  # type: ignore[misc]
            for count in (2000, 8000)
        )
        ratios.append(many_s / few_s)

    benchmark.pedantic(pair, rounds=ROUNDS, warmup_rounds=1)
    benchmark.extra_info["8,000 over 2,000, median"] = round(statistics.median(ratios[1:]), 2)
    print(benchmark.name, benchmark.extra_info)  # noqa: T201


@pytest.mark.benchmark
def test_leaderboard_from_1000_records(benchmark: Any, tmp_path: Path) -> None:
    """``python -m bench leaderboard`` in a fresh process: 50 models, 20 seeds each, 200 test images."""
    rng, labels = np.random.default_rng(0), np.arange(200) % 5
    info = examples.data_of(labels, tuple("abcde"))
    for model in range(50):
        for seed in range(20):
            predictions = examples.predictions_of(rng.random(200) < 0.5 + model / 120, labels, classes=5)
            examples.keep(tmp_path, f"model {model}", predictions, info, seed=seed)
    command = [sys.executable, "-m", "bench", "leaderboard", "--results", str(tmp_path)]
    benchmark.pedantic(lambda: subprocess.run(command, check=True, capture_output=True), rounds=5, warmup_rounds=1)


@pytest.mark.benchmark
@pytest.mark.parametrize("classes", [10, 100])
def test_bootstrap_of_ten_models_on_ten_thousand_images(benchmark: Any, tmp_path: Path, classes: int) -> None:
    """Intervals of macro-F1 and balanced accuracy, 10,000 resamples, accuracy 80 %; the goal is 2 s."""
    rng, labels = np.random.default_rng(0), np.arange(10_000) % classes
    info = examples.data_of(labels, tuple(map(str, range(classes))))
    for model in range(10):
        predicted = np.where(rng.random(10_000) < 0.8, labels, rng.integers(0, classes, 10_000)).astype(np.int32)
        right = predicted == labels
        predictions = examples.predictions_of(right, labels, classes=classes, predicted=predicted)
        examples.keep(tmp_path, f"model {model}", predictions, info)
    (found,) = analysis.read(tmp_path)
    checkpoints = [one for row in found.table.rows for one in row.checkpoints]
    benchmark.pedantic(lambda: scores.bootstrapped(checkpoints), rounds=5)


@pytest.mark.benchmark
def test_timing_harness_over_a_bare_session_run_loop(
    benchmark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ``measure`` adds to a loop of ``session.run``; EfficientNet-B0 at 64 px, batch 1; the goal is under 1 %."""
    spec = resolve_spec("efficientnet_b0", LoaderConfig(image_size=64), random_weights)
    model = build_model(spec, ArchitectureConfig(), num_classes=6).eval()
    export_onnx(model, spec, class_names=tuple("abcdef"), path=tmp_path / ONNX)
    opened, real = [], onnxruntime.InferenceSession

    def kept(*arguments: Any, **options: Any) -> Any:
        opened.append(real(*arguments, **options))
        return opened[-1]

    monkeypatch.setattr(onnxruntime, "InferenceSession", kept)
    session = open_session("onnxruntime-cpu", tmp_path, threads=1)
    (bare,) = opened  # the very same session: two of one model differ by more than the harness adds
    images = noise(1, 64)
    queries = 10

    def ours() -> None:
        measure(lambda: session.run(images), session.synchronize, min_queries=queries, min_duration_s=0, warm_up=0)

    def other() -> None:
        for _ in range(queries):
            bare.run(None, {"images": images})

    alternate(benchmark, ours, other, rounds=800)


@pytest.mark.benchmark
def test_what_timing_itself_adds_to_a_query(benchmark: Any) -> None:
    """Seconds of 100,000 timed queries that do nothing, over those of calling the same function in a bare loop."""
    queries = 100_000

    def nothing() -> None:
        return None

    added_us: list[float] = []

    def pair() -> None:
        timed_s = seconds(lambda: measure(nothing, nothing, min_queries=queries, min_duration_s=0, warm_up=0))
        bare_s = seconds(lambda: [nothing() for _ in range(queries)])
        added_us.append((timed_s - bare_s) / queries * 1e6)

    benchmark.pedantic(pair, rounds=20, warmup_rounds=1)
    benchmark.extra_info["added to a query, median, microseconds"] = round(statistics.median(added_us), 3)
    print(benchmark.name, benchmark.extra_info)  # noqa: T201


@pytest.mark.benchmark
def test_whole_run_over_training_evaluation_export_and_measuring(benchmark: Any, tmp_path: Path) -> None:
    """A whole ``run`` at 128 px over the time from its first training step to its last measurement.

    Before that are the start of two processes, audit, planning and cache; after it the leaderboard. The first run finds
    an empty cache, and also chooses the precision; the second, of another seed, finds both.
    """
    flags = ["run", "mobilenetv2_100", "--weights", "none", "--image-size", "128", "--recipe", "finetune"]
    environment = {**os.environ, "IMGCLS_CACHE": str(tmp_path / "cache")}
    ratios = []

    def run() -> None:
        results = tmp_path / str(len(ratios))
        command = [sys.executable, "-m", "bench", *flags, "--seeds", str(len(ratios)), "--results", str(results)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        began, seen = time.perf_counter(), {}
        with subprocess.Popen(command, text=True, env=environment, **pipes) as child:
            assert child.stdout is not None
            for line in child.stdout:
                seen[" ".join(line.split()[:2])] = time.perf_counter()
        whole_s = time.perf_counter() - began
        (record,) = read_records(results)
        assert record.outcome is not None
        first = record.outcome.training.history[0]
        started = seen["epoch 1/5:"] - first.train_time_s - first.eval_time_s
        measured = max(at for words, at in seen.items() if words.startswith("measuring"))
        ratios.append((round(whole_s / (measured - started), 3), round(whole_s)))

    benchmark.pedantic(run, rounds=2)
    benchmark.extra_info["whole over its parts, and seconds: empty cache, then warm"] = ratios
    print(benchmark.extra_info)  # noqa: T201
