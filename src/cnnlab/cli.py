"""The `cnnlab` command: everything that is not a stage of the pipeline."""

import os
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from cnnlab import errors, params


class _Commands(TyperGroup):
    """Commands that report a user's error in one line, with the exit statuses of the pipeline's stages."""

    def invoke(self, ctx: Any) -> None:
        errors.run(partial(super().invoke, ctx))


main = typer.Typer(
    cls=_Commands,
    help="Train, compare, explain and use small convolutional networks. The pipeline itself is DVC's: dvc repro.",
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Variant = Annotated[str, typer.Argument(help="A variant in params.yaml.")]
OfVariant = Annotated[str | None, typer.Option("--variant", help="Use the network of this variant.")]
Champion = Annotated[str | None, typer.Option("--data", help="Use the champion of this data set (default: cifar10).")]
Seeds = Annotated[int | None, typer.Option(help="Number of seeds (default: the budget's).")]


def _port(server: str) -> Any:
    return typer.Option(help=f"Port of {server}, on this machine only.")


def _load_network(variant: str | None, data: str | None) -> Any:
    """The trained network that the options select; invalid options are reported before TensorFlow is imported."""
    if variant is not None and data is not None:
        raise typer.BadParameter("--variant and --data are mutually exclusive.")
    parameters = params.load()
    from cnnlab.use import network

    return network.load(parameters, variant, data or "cifar10")


@main.command(epilog="Example: cnnlab train speedrun --seeds 3")
def train(variant: Variant, seeds: Seeds = None) -> None:
    """Train and evaluate one variant on data prepared by stage preprocess."""
    parameters = params.load()
    runs = params.runs(parameters, variant, seeds)
    from cnnlab.evaluation.evaluate import evaluate_variant
    from cnnlab.train.experiment import train_variant

    train_variant(runs, parameters.strategy, parameters.train, parameters.report.language)
    evaluate_variant(runs)


@main.command(epilog="Example: cnnlab predict --top 5 cat.jpg 'my images' -- -odd-name.png")
def predict(
    images: Annotated[list[str], typer.Argument(help="Files, folders, patterns; - for standard input.")],
    variant: OfVariant = None,
    data: Champion = None,
    top: Annotated[int, typer.Option(min=1, max=1000, help="Number of classes per image.")] = 3,
) -> None:
    """Classify images with a trained network."""
    network = _load_network(variant, data)
    from cnnlab.use.predict import predict

    predict(network.classifier, images, top)


@main.command(epilog="Example: cnnlab demo --port 7860")
def demo(port: Annotated[int, _port("the page")] = 7860) -> None:
    """Serve a page that classifies an image dropped on it and shows what the network sees."""
    parameters = params.load()
    from cnnlab.use.demo import serve

    serve(parameters, port)


@main.command(epilog="Example: cnnlab export --variant improved")
def export(variant: OfVariant = None, data: Champion = None) -> None:
    """Export a trained network to exports/ as SavedModel and LiteRT, and check that the logits agree."""
    network = _load_network(variant, data)
    from cnnlab.use.export import export

    print(export(network))


@main.command(epilog="Example: cnnlab serve --data mnist --port 5001")
def serve(
    data: Annotated[str, typer.Option(help="The data set.")] = "cifar10",
    port: Annotated[int, _port("the server")] = 5001,
) -> None:
    """Serve the champion of a data set over HTTP with MLflow's scoring server."""
    from cnnlab.use.serve import serve

    serve(data, port)


@main.command(epilog="Example: cnnlab see improved cat.jpg")
def see(
    variant: Variant,
    image: Annotated[Path | None, typer.Argument(help="An image of your own.")] = None,
) -> None:
    """Plot what a variant's trained network sees, into reports/portraits/<variant>."""
    parameters = params.load()
    params.variant(parameters, variant)
    from cnnlab.files import REPORTS
    from cnnlab.report.language import Language
    from cnnlab.see.portrait import look

    for path in look(parameters, variant, image, REPORTS / "portraits" / variant, Language(parameters.report.language)):
        print(path)


@main.command(epilog="Example: cnnlab anatomy improved")
def anatomy(network: Annotated[str, typer.Argument(help="A variant, or a network of the lesson.")]) -> None:
    """Print a network layer by layer: output sizes, parameters, FLOPs, receptive fields."""
    parameters = params.load()
    from cnnlab.course.lesson_networks import network_named
    from cnnlab.nets.anatomy import layer_table, table_text

    model = network_named(parameters, network)
    print(table_text(layer_table(model.layers, model.input_shape[1:])))


@main.command(epilog="Example: cnnlab compare")
def compare() -> None:
    """Print the accuracies of variants, as the reports cite them, of other recipes in MLflow, and of transfers."""
    from cnnlab.evaluation.compare import compare

    print(compare())


@main.command(epilog="Example: cnnlab doctor")
def doctor() -> None:
    """Check the requirements of a run: ok, or a warning with advice, one line per check."""
    from cnnlab.use.doctor import examine, line

    for finding in examine(params.load()):
        print(line(finding), flush=True)


@main.command(epilog="Example: cnnlab sweep-status --study wide")
def sweep_status(
    study: Annotated[str | None, typer.Option(help="Name of the study (default: sweep.base).")] = None,
    budget: Annotated[str | None, typer.Option(help="A section of sweep.budgets (default: budget).")] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="Number of trials (default: the budget's).")] = None,
) -> None:
    """Print the progress of a sweep, from the storage in CNNLAB_STORAGE or else the journal file."""
    parameters = params.load()
    from cnnlab.studies.progress import status
    from cnnlab.studies.search.plan import make_plan

    status(make_plan(parameters, budget, trials, study, os.environ.get("CNNLAB_STORAGE", "")))


@main.command(epilog="Example: cnnlab sweep-ui --port 8080")
def sweep_ui(port: Annotated[int, _port("the dashboard")] = 8080) -> None:
    """Serve Optuna's dashboard of the sweeps; other users cannot see the storage's password."""
    from optuna_dashboard import run_server

    from cnnlab.studies.storage import open_storage
    from cnnlab.use.port import HOST, check_free

    check_free(port)
    storage = open_storage(os.environ.get("CNNLAB_STORAGE", ""))
    print(f"Optuna's dashboard: http://{HOST}:{port} (Ctrl-C stops it)", flush=True)
    run_server(storage, host=HOST, port=port)


@main.command(epilog="Example: cnnlab sync")
def sync() -> None:
    """Upload queued MLflow records."""
    from cnnlab.tracking.runs import sync

    sync()


if __name__ == "__main__":
    main(prog_name="cnnlab")
